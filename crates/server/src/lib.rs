//! An HTTP server for GPT-NeoX models.

#![forbid(unsafe_code)]
