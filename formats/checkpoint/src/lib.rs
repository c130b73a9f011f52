//! Hugging Face checkpoints: safetensors folders, config.json and tokenizer.json.
