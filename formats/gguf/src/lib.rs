//! GGUF files: reader, writer, metadata, vocabulary keys and per-architecture schemas.
