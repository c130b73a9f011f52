//! Turns an id of the Hugging Face Hub into a local folder, with a progress bar.

use super::source::Located;
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use pythia_eval::Data;
use pythia_hub::{Settings, Snapshot, find};
use pythia_task::Progress;
use std::sync::{Arc, OnceLock};

/// Finds or downloads the model `text`, which does not exist as a path.
pub(super) fn locate(text: &str, offline: bool, variant: Option<&str>, quiet: bool) -> Result<Located, Failure> {
    let mut settings = Settings::from_env(|name| std::env::var_os(name))?;
    settings.offline |= offline;
    settings.variant = variant.map(str::to_owned);
    let watcher = Arc::new(Watcher { bar: OnceLock::new(), hides_bar: quiet || settings.hide_progress, quiet });
    let found = find(&settings, text, exit::catch_interrupts(), Arc::clone(&watcher) as Arc<dyn Progress>);
    if let Some(bar) = watcher.bar.get() {
        bar.finish();
    }
    let Some(Snapshot { path, id, .. }) = found? else {
        // Opening it will give the error message.
        return Ok(Located { path: text.into(), ..Located::default() });
    };
    Ok(Located {
        path,
        stem: Some(id.file_stem()),
        owner: Some(id.owner().to_owned()),
        revision: Some(id.revision().to_owned()),
    })
}

/// Datasets of the Hub and of its cache.
pub(super) fn datasets(offline: bool, quiet: bool) -> Result<Data, Failure> {
    let mut settings = Settings::from_env(|name| std::env::var_os(name))?;
    settings.offline |= offline;
    let watcher = Arc::new(Watcher { bar: OnceLock::new(), hides_bar: quiet || settings.hide_progress, quiet });
    Ok(Data::hub(settings, exit::catch_interrupts().clone(), watcher))
}

/// Shows the progress of a download.
pub(crate) fn downloads(quiet: bool) -> Arc<dyn Progress> {
    Arc::new(Watcher { bar: OnceLock::new(), hides_bar: quiet, quiet })
}

/// Shows one bar for all files, until it is dropped.
struct Watcher {
    bar: OnceLock<Bar>,
    /// No bar.
    hides_bar: bool,
    /// No notes.
    quiet: bool,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish();
        }
    }
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
