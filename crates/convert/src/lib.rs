//! From checkpoint to GGUF: plan, recipe and one streaming pass.
