//! CPU kernels written once over a small set of ISA verbs.
