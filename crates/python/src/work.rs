//! Long work beside the interpreter.

use crate::error::Problem;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use pythia_task::{Cancel, Progress};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two looks for signals: short for a person, long beside what a look costs.
const POLL: Duration = Duration::from_millis(20);

/// Runs `job` on a thread of its own, while other threads of Python go on. Meanwhile this thread looks for signals. If
/// a handler raises, as that of Ctrl-C does, `job` is told to stop, and its exception is the result.
///
/// # Errors
/// What `job` or the handler of a signal says.
pub(crate) fn run<T: Send, E: Into<Problem> + Send>(
    py: Python<'_>,
    job: impl FnOnce(&Cancel) -> Result<T, E> + Send,
) -> PyResult<T> {
    run_until(py, &Cancel::new(), job)
}

/// As [`run`], with the flag that tells `job` to stop. Once it is raised it stays so.
pub(crate) fn run_until<T: Send, E: Into<Problem> + Send>(
    py: Python<'_>,
    cancel: &Cancel,
    job: impl FnOnce(&Cancel) -> Result<T, E> + Send,
) -> PyResult<T> {
    let (result, raised) = py.detach(|| wait(cancel, job));
    match (raised, result) {
        (Some(error), _) => Err(error),
        (None, result) => result.map_err(|error| error.into().raise(py)),
    }
}

fn wait<T: Send, E: Send>(
    cancel: &Cancel,
    job: impl FnOnce(&Cancel) -> Result<T, E> + Send,
) -> (Result<T, E>, Option<PyErr>) {
    let mut raised = None;
    let result = thread::scope(|scope| {
        let (done, end) = mpsc::channel::<()>();
        let worker = scope.spawn(move || {
            let _until_the_end = done;
            job(cancel)
        });
        while end.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            if raised.is_none() {
                raised = Python::attach(|py| py.check_signals()).err();
                if raised.is_some() {
                    cancel.raise();
                }
            }
        }
        worker.join()
    });
    // A panic goes on here, and becomes an exception of its own kind.
    (result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), raised)
}

/// Notes of the libraries, until they become warnings.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    pub(crate) fn extend(&self, lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| self.add(line));
    }

    /// Warns of each, as `PythiaWarning`.
    ///
    /// # Errors
    /// If the caller's filters make an exception of a warning.
    pub(crate) fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if lines.is_empty() {
            return Ok(());
        }
        let class = PyModule::import(py, "pythia_quant._errors")?.getattr("PythiaWarning")?;
        let warnings = PyModule::import(py, "warnings")?;
        lines.into_iter().try_for_each(|line| warnings.call_method1("warn", (line, &class)).map(drop))
    }
}

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.add(line);
    }
}
