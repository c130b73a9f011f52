//! Architectures: a file each, written over the backend trait.

pub(crate) mod gptneox;
