//! Ids of the Hugging Face Hub: from the command line to a folder, with a progress bar.

use super::source::Located;
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use pythia_hub::{ModelId, Settings, fetch};
use pythia_task::Progress;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Finds or downloads what `text`, which is no path that exists, names.
pub(super) fn locate(text: &str, offline: bool, variant: Option<&str>, quiet: bool) -> Result<Located, Failure> {
    let Some(id) = ModelId::parse(text)? else {
        return match ModelId::suggestion(text) {
            // Not taken for the id: a folder that is not where it was thought to be should not become a download.
            Some(id) => Err(Failure::io(format_args!("{text}: no such file or folder; on the Hub it may be {id}"))),
            // Whoever opens it says what is wrong with it.
            None => Ok(Located { path: text.into(), ..Located::default() }),
        };
    };
    if !text.contains("://") && Path::new(id.owner()).is_dir() {
        let owner = id.owner();
        return Err(Failure::io(format_args!(
            "{text}: no such file or folder in {owner}/, which is here; hf://{text} names a model of the Hub"
        )));
    }
    let mut settings = Settings::from_env(|name| std::env::var_os(name))?;
    settings.offline |= offline;
    settings.variant = variant.map(str::to_owned);
    let watcher = Arc::new(Watcher { bar: OnceLock::new(), hides_bar: quiet || settings.hide_progress, quiet });
    let snapshot = fetch(&settings, &id, exit::catch_interrupts(), Arc::clone(&watcher) as Arc<dyn Progress>);
    if let Some(bar) = watcher.bar.get() {
        bar.finish();
    }
    let snapshot = snapshot?;
    let id = snapshot.id;
    Ok(Located {
        path: snapshot.path,
        stem: Some(id.file_stem()),
        owner: Some(id.owner().to_owned()),
        revision: Some(id.revision().to_owned()),
    })
}

/// One bar for all files.
struct Watcher {
    bar: OnceLock<Bar>,
    /// Whether there is no bar.
    hides_bar: bool,
    /// Whether there are no notes either.
    quiet: bool,
}

impl Progress for Watcher {
    fn expect(&self, total_bytes: Option<u64>) {
        let bar = self.bar.get_or_init(|| Bar::new(total_bytes.unwrap_or(0), Unit::Bytes, self.hides_bar));
        Progress::advance(bar, "downloading", 0);
    }

    fn advance(&self, _file: &str, bytes: i64) {
        if let Some(bar) = self.bar.get() {
            Progress::advance(bar, "downloading", bytes);
        }
    }

    fn note(&self, line: &str) {
        if self.quiet {
            return;
        }
        let write = || exit::note(format_args!("note: {line}"));
        match self.bar.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
