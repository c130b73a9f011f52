//! Tasks of language models: their documents, how they are scored, and the metrics.

#![forbid(unsafe_code)]
