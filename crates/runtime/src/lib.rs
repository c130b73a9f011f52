//! Tokenizer, sampling, generation and evaluation over a model.
