//! An HTTP server for GPT-NeoX models, with the endpoints that OpenAI's completions, lm-evaluation-harness and
//! llama-server's users know.
//!
//! axum and hyper are the edge. Models run on the threads of their [engines](pythia_runtime::engine); a handler submits
//! jobs and waits for what comes of them. [`Server`] is all that a program needs: it starts the engines, listens,
//! answers until it is told to stop, and lets running requests end.
//!
//! A client may be anybody, also a page in the user's browser. Everything that a request can make grow has a limit
//! (`limits.rs`), and `docs/server.md` tells what is refused and how.

#![forbid(unsafe_code)]

mod app;
mod body;
mod completion;
mod connection;
mod error;
mod fields;
mod guard;
mod limits;
mod logprobs;
mod names;
mod openapi;
mod page;
mod prompt;
mod refusal;
mod routes;
mod server;
mod status;
mod tokenize;
mod tokens;

pub use error::Error;
pub use server::{NamedModel, Options, Server};
