//! The progress of a comparison on stderr: a bar per stage at a terminal, lines elsewhere.

use crate::exit;
use crate::progress::{Bar, Log, Unit};
use pythia_compare::{Observer, Stage};
use pythia_show::number;
use pythia_task::Progress;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shows the progress of a comparison.
pub(in crate::quant) struct Watch {
    log: Log,
    quiet: bool,
}

impl Watch {
    /// Starts now. Shows only warnings if `quiet`.
    pub(in crate::quant) fn new(quiet: bool) -> Self {
        Self { log: Log::new(quiet), quiet }
    }
}

impl Observer for Watch {
    fn warn(&self, line: &str) {
        super::super::warn(line);
    }

    fn note(&self, line: &str) {
        if !self.quiet {
            exit::note(line);
        }
    }

    fn step(&self, line: &str) {
        self.log.line(line);
    }

    fn begin(&self, stage: Stage) -> Box<dyn Progress + '_> {
        let unit = match stage {
            Stage::Convert => Unit::Bytes,
            Stage::Score { .. } => Unit::Items("chunks"),
            Stage::Tasks => Unit::Share,
            Stage::Measure => Unit::Items("levels timed"),
            _ => Unit::Items("steps"),
        };
        let bar = Bar::new(0, unit, self.quiet);
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(UNKNOWN));
        Box::new(StageWatch { stage, bar, log: &self.log, part: Mutex::default(), done, total })
    }
}

/// The total is unknown.
const UNKNOWN: u64 = u64::MAX;

struct StageWatch<'w> {
    stage: Stage,
    bar: Bar,
    log: &'w Log,
    /// The part of the stage that is under way, if it has several.
    part: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress for StageWatch<'_> {
    fn expect(&self, total: Option<u64>) {
        self.total.store(total.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.bar.expect(total);
    }

    fn stage(&self, name: &str) {
        Progress::stage(&self.bar, name);
        name.clone_into(&mut self.part.lock().unwrap_or_else(PoisonError::into_inner));
        self.done.store(0, Ordering::Relaxed);
        self.total.store(UNKNOWN, Ordering::Relaxed);
    }

    fn advance(&self, item: &str, units: i64) {
        Progress::advance(&self.bar, item, units);
        let units = u64::try_from(units).unwrap_or(0);
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|&total| total != UNKNOWN);
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.stage {
            Stage::Convert if !part.is_empty() => self.log.tick(|| match total {
                Some(total) if total > 0 => format!("{part}: {} %, {item}", 100 * done / total),
                _ => format!("{part}: {item}"),
            }),
            Stage::Convert => self
                .log
                .tick(|| format!("made from {} of {}", number::bytes(done), number::bytes(total.unwrap_or_default()))),
            Stage::Score { group, n_groups } => self.log.tick(|| {
                let groups = if n_groups > 1 { format!("group {} of {n_groups}, ", group + 1) } else { String::new() };
                let total = total.map_or(String::new(), |total| format!(" of {total}"));
                format!("{groups}chunk {done}{total}: {item}")
            }),
            _ => {}
        }
    }

    fn note(&self, line: &str) {
        Progress::note(&self.bar, line);
    }
}
