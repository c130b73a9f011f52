//! What each architecture stores: hyperparameter keys and the table of tensors, one file each.

pub mod gptneox;
