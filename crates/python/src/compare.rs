//! Levels side by side.

use crate::convert::{feedback, levels};
use crate::error::Problem;
use crate::names::Names;
use crate::object;
use crate::options::How;
use crate::source::{Located, Named};
use crate::text::{TextArg, text};
use crate::work::{self, Notes};
use pyo3::prelude::*;
use pythia_compare::{Base, CheckpointBase, Comparison, Observer, Request, Rounding, report};
use pythia_convert::{Quantizer, check_file, check_gguf, is_gguf};
use pythia_task::Progress;
use std::path::PathBuf;
use std::sync::Arc;

/// What is compared, as `compare` in `__init__.py` gives it.
#[derive(FromPyObject)]
pub(crate) struct Given {
    #[pyo3(item("types"))]
    types: Names,
    #[pyo3(item("files"))]
    files: Vec<PathBuf>,
    #[pyo3(item("base"))]
    base: Option<String>,
    #[pyo3(item("lora"))]
    lora: Option<PathBuf>,
    #[pyo3(item("imatrix"))]
    imatrix: Option<PathBuf>,
    #[pyo3(item("calibration"))]
    calibration: Option<PathBuf>,
    #[pyo3(item("quantizers"))]
    quantizers: Vec<String>,
    #[pyo3(item("allow_requantize"))]
    allow_requantize: bool,
    #[pyo3(item("ctx"))]
    ctx: usize,
    #[pyo3(item("chunks"))]
    chunks: Option<usize>,
    #[pyo3(item("report"))]
    report: Option<PathBuf>,
    #[pyo3(item("cache"))]
    cache: Option<PathBuf>,
    #[pyo3(item("fresh"))]
    fresh: bool,
    #[pyo3(item("force"))]
    force: bool,
    #[pyo3(item("threads"))]
    threads: Option<usize>,
    #[pyo3(item("activations"))]
    activations: String,
    #[pyo3(item("gelu"))]
    gelu: Option<String>,
    #[pyo3(item("device"))]
    device: String,
}

impl Given {
    fn request(&self, source: Located, variant: Option<String>, text: TextArg) -> Result<Request, Problem> {
        self.files.iter().try_for_each(|path| check_gguf(path))?;
        self.imatrix.iter().try_for_each(|path| check_file(path))?;
        Ok(Request {
            imatrix: self.imatrix.clone(),
            files: self.files.clone(),
            quantizers: self.roundings()?,
            allow_requantize: self.allow_requantize,
            n_ctx: self.ctx,
            max_chunks: self.chunks,
            options: self.how().options()?,
            cache: self.cache.clone(),
            fresh: self.fresh,
            program: ("pythia_quant.compare".to_owned(), Vec::new()),
            ..Request::new(self.base(source, variant)?, self::text(text)?)
        })
    }

    fn how(&self) -> How {
        How {
            threads: self.threads,
            activations: self.activations.clone(),
            gelu: self.gelu.clone(),
            kv: "f16".to_owned(),
            mmap: Some(true),
            isa: None,
            device: self.device.clone(),
        }
    }

    fn roundings(&self) -> Result<Vec<Rounding>, Problem> {
        let rounding = |name: &String| match name.as_str() {
            "plain" => Ok(Rounding::Plain),
            "imatrix" => Ok(Rounding::Imatrix),
            "feedback" => {
                let path = self.calibration.as_deref();
                let path = path.ok_or_else(|| Problem::usage("quantizers: feedback needs a calibration"))?;
                Ok(Rounding::By(feedback(path)? as Arc<dyn Quantizer>))
            }
            _ => Err(Problem::usage(format_args!("quantizers: found '{name}', wanted plain, imatrix or feedback"))),
        };
        self.quantizers.iter().map(rounding).collect()
    }

    fn base(&self, source: Located, variant: Option<String>) -> Result<Base, Problem> {
        let Located { path, stem: name, owner, revision } = source;
        if !is_gguf(&path)? {
            let level = self.base.as_deref().map(str::parse).transpose()?;
            let lora = self.lora.clone();
            return Ok(Base::Checkpoint(CheckpointBase { path, variant, level, lora, name, owner, revision }));
        }
        if self.base.is_some() || self.lora.is_some() {
            let path = pythia_text::path(&path);
            return Err(Problem::usage(format_args!("{path}: is a GGUF file; base and lora are for a checkpoint")));
        }
        Ok(Base::Gguf(path))
    }
}

/// See `__init__.py`.
#[pyfunction]
pub(crate) fn compare<'py>(
    py: Python<'py>,
    source: PathBuf,
    text: TextArg,
    variant: Option<String>,
    offline: bool,
    given: Given,
) -> PyResult<Bound<'py, PyAny>> {
    let notes = Arc::new(Notes::default());
    let named = Named { name: source, variant, offline };
    let report = work::run(py, |cancel| {
        let watch = Watch(&notes);
        let located = named.locate(&notes, cancel)?;
        let request = given.request(located, named.variant.clone(), text)?;
        let request = Request { levels: levels(&given.types)?, cancel: cancel.clone(), ..request };
        let mut comparison = Comparison::prepare(request)?;
        let files = match &given.report {
            None => None,
            Some(folder) => {
                report::Files::check(folder, comparison.inputs(), given.force)?;
                Some(report::Files::create(folder, &*notes)?)
            }
        };
        comparison.convert(&watch)?;
        let device = given.how().device(|_| ())?;
        let report = comparison.run(&device, &watch)?;
        if let Some(files) = files {
            files.write(&report, given.force)?;
        }
        comparison.finish();
        Ok::<_, Problem>(report)
    })?;
    notes.warn(py)?;
    object::json(py, &report)
}

/// Keeps the warnings of a comparison, and leaves its steps out.
struct Watch<'a>(&'a Notes);

impl Observer for Watch<'_> {
    fn warn(&self, line: &str) {
        self.0.note(line);
    }

    fn note(&self, _line: &str) {}
}
