//! The two command lines, `pythia-quant` and `pythia-run`.
