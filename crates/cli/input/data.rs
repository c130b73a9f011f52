//! Datasets of tasks: local ones, or those of the Hub.

use crate::exit::Failure;
use pythia_eval::Data;
use std::path::Path;

/// Where datasets come from: `path` if there is one, else the Hub.
///
/// # Errors
/// If a setting of the environment is invalid.
pub(crate) fn datasets(path: Option<&Path>, offline: bool, quiet: bool) -> Result<Data, Failure> {
    match path {
        Some(path) => Ok(Data::local(path)),
        #[cfg(feature = "hub")]
        None => super::hub::datasets(offline, quiet),
        // Enough for tasks that name their own files.
        #[cfg(not(feature = "hub"))]
        None => {
            let _ = (offline, quiet);
            Ok(Data::default())
        }
    }
}
