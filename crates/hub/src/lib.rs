//! Checkpoints and datasets from the Hugging Face Hub: found in its cache, or downloaded into it.
//!
//! 1. [`ModelId`] parses what a user types: `EleutherAI/pythia-70m@step3000`.
//! 2. [`Settings`] come from the environment: the cache, the server, the token, whether to stay offline. The names of
//!    the variables are those of the Python library `huggingface_hub`.
//! 3. [`fetch()`] asks the server for the commit of the revision, downloads the files that the cache lacks, and returns
//!    the folder.
//!
//! The cache is shared with all programs that use the Hub, so its layout is theirs (`cache`). A download consists of
//! the config, the tokenizer, the model card and one set of weights (`select`). Each file has its own thread, resumes
//! where an earlier run stopped, and is checked against its SHA-256 (`download`).
//!
//! [`fetch_dataset`] does the same for one split of a dataset: [`DatasetId`] names the repository, and `split` knows which
//! of its files belong to the split.
//!
//! For work on many checkpoints, [`survey()`] lists what the Hub has at many revisions without a download, with the
//! digests that tell which have the same weights, and [`evict()`] removes weights from the cache.
//!
//! ```no_run
//! use pythia_hub::{ModelId, Settings, fetch};
//! use pythia_task::Cancel;
//! use std::sync::Arc;
//!
//! let id = ModelId::parse("EleutherAI/pythia-70m@step3000")?.expect("an id");
//! let settings = Settings::from_env(|name| std::env::var_os(name))?;
//! let snapshot = fetch(&settings, &id, &Cancel::new(), Arc::new(()))?;
//! println!("{}", snapshot.path.display());
//! # Ok::<(), pythia_hub::Error>(())
//! ```

#![forbid(unsafe_code)]

mod api;
mod blob;
mod cache;
mod client;
mod dataset;
mod download;
mod error;
mod evict;
mod fetch;
mod id;
mod list;
mod lock;
mod own;
mod pace;
mod retry;
mod secret;
mod select;
mod settings;
mod space;
mod split;
mod suite;
mod survey;
mod transfer;
mod url;
mod workers;

pub use dataset::{DatasetFiles, fetch_dataset};
pub use error::Error;
pub use evict::evict;
pub use fetch::{Snapshot, fetch, find};
pub use id::{DatasetId, ModelId};
pub use settings::{Settings, Token};
pub use suite::{published_steps, suite};
pub use survey::{Listed, ListedFile, Revisions, branched_steps, survey};
