//! From a checkpoint, or from a GGUF file, to GGUF files.

use crate::error::Problem;
use crate::names::Names;
use crate::options::threads;
use crate::source::Named;
use crate::work::{self, Notes};
use pyo3::prelude::*;
use pythia_calibrate::calibration::Calibration;
use pythia_convert::output::MadeFolders;
use pythia_convert::{
    CheckpointSource, GgufSource, ImatrixFile, Level, LoraSource, Provenance, Quantizer, Recipe, Request, RunOptions,
    Source, Targets, TypeRule, check_checkpoint, check_file, check_gguf, model_name,
};
use pythia_gguf::Limits;
use pythia_quantizer::{Feedback, Settings};
use pythia_task::Cancel;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How tensors are encoded, and how files are written, as `convert` and `quantize` share it.
struct Wanted {
    output: Option<PathBuf>,
    levels: Vec<Level>,
    recipe: Recipe,
    imatrix: Option<PathBuf>,
    calibration: Option<PathBuf>,
    strict: bool,
    allow_requantize: bool,
    allow_nonfinite: bool,
    sha256: bool,
    limits: Limits,
    threads: usize,
    force: bool,
}

/// The levels of these names.
pub(crate) fn levels(names: &Names) -> Result<Vec<Level>, Problem> {
    Ok(names.list().iter().map(|name| name.parse()).collect::<Result<_, pythia_convert::Error>>()?)
}

/// The keyword arguments that `convert` and `quantize` share.
#[derive(FromPyObject)]
pub(crate) struct Given {
    #[pyo3(item("tensor_types"))]
    tensor_types: Vec<String>,
    #[pyo3(item("output_tensor_type"))]
    output_tensor_type: Option<String>,
    #[pyo3(item("token_embedding_type"))]
    token_embedding_type: Option<String>,
    #[pyo3(item("pure"))]
    pure: bool,
    #[pyo3(item("strict"))]
    strict: bool,
    #[pyo3(item("imatrix"))]
    imatrix: Option<PathBuf>,
    #[pyo3(item("calibration"))]
    calibration: Option<PathBuf>,
    #[pyo3(item("allow_nonfinite"))]
    allow_nonfinite: bool,
    #[pyo3(item("sha256"))]
    sha256: bool,
    #[pyo3(item("split_max_bytes"))]
    split_max_bytes: Option<u64>,
    #[pyo3(item("split_max_tensors"))]
    split_max_tensors: Option<usize>,
    #[pyo3(item("threads"))]
    threads: Option<usize>,
    #[pyo3(item("force"))]
    force: bool,
}

impl Wanted {
    fn new(output: Option<PathBuf>, names: &Names, allow_requantize: bool, given: Given) -> Result<Self, Problem> {
        let levels = levels(names)?;
        if levels.is_empty() {
            return Err(Problem::usage("type: found no type, wanted at least one"));
        }
        let tensor_type = |name: &'static str, given: Option<String>| {
            let parsed = given.map(|text| text.parse()).transpose();
            parsed.map_err(|error| Problem::usage(format_args!("{name}: {error}")))
        };
        let rules = given.tensor_types.iter().map(|rule| rule.parse::<TypeRule>()).collect::<Result<_, _>>();
        let recipe = Recipe {
            pure: given.pure,
            output: tensor_type("output_tensor_type", given.output_tensor_type)?,
            token_embd: tensor_type("token_embedding_type", given.token_embedding_type)?,
            rules: rules.map_err(|error| Problem::usage(format_args!("tensor_types: {error}")))?,
        };
        Ok(Self {
            output,
            levels,
            recipe,
            imatrix: given.imatrix,
            calibration: given.calibration,
            strict: given.strict,
            allow_requantize,
            allow_nonfinite: given.allow_nonfinite,
            sha256: given.sha256,
            limits: Limits { max_bytes: given.split_max_bytes, max_tensors: given.split_max_tensors },
            threads: threads(given.threads)?,
            force: given.force,
        })
    }

    /// Writes the files. Returns the path of each: of a split model, of the first.
    fn write(
        self,
        source: &dyn Source,
        provenance: Provenance,
        stem: &str,
        notes: &Notes,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, Problem> {
        let targets = Targets::new(self.output.as_deref(), stem, &self.levels)?;
        let imatrix = self.imatrix.as_deref().map(|path| check_file(path).and_then(|()| ImatrixFile::open(path)));
        let feedback = self.calibration.as_deref().map(feedback).transpose()?;
        notes.extend(feedback.iter().filter_map(|feedback| feedback.doubt()));
        let request = Request {
            files: targets.files.clone(),
            recipe: self.recipe,
            provenance,
            imatrix: imatrix.transpose()?,
            quantizer: feedback.map(|feedback| feedback as Arc<dyn Quantizer>),
            strict: self.strict,
            allow_requantize: self.allow_requantize,
            limits: self.limits,
        };
        let mut plan = pythia_convert::plan(source, &request)?;
        plan.inputs.extend(self.calibration);
        notes.extend(plan.warnings.iter().cloned());
        let made = targets.folder.as_deref().map(MadeFolders::create).transpose()?;
        let options = RunOptions {
            threads: self.threads,
            force: self.force,
            allow_nonfinite: self.allow_nonfinite,
            sha256: self.sha256,
            cancel,
            progress: notes,
        };
        pythia_convert::run(source, &plan, &options)?;
        made.map_or(Ok(()), MadeFolders::keep)?;
        Ok(plan.files.iter().map(|file| file.path().to_owned()).collect())
    }
}

/// The quantizer by a calibration file.
pub(crate) fn feedback(path: &Path) -> Result<Arc<Feedback>, Problem> {
    check_file(path)?;
    Ok(Arc::new(Feedback::new(Calibration::open(path)?, Settings::default())))
}

/// See `__init__.py`.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the arguments of the function that calls it")]
pub(crate) fn convert(
    py: Python<'_>,
    source: PathBuf,
    output: Option<PathBuf>,
    names: Names,
    lora: Option<PathBuf>,
    provenance_sha: bool,
    variant: Option<String>,
    offline: bool,
    given: Given,
) -> PyResult<Vec<PathBuf>> {
    let named = Named { name: source, variant, offline };
    noted(py, |notes, cancel| {
        let wanted = Wanted::new(output, &names, false, given)?;
        let located = named.locate(notes, cancel)?;
        check_checkpoint(&located.path)?;
        let checkpoint = CheckpointSource::open_variant(&located.path, named.variant.as_deref())?;
        let provenance = Provenance::gather(checkpoint.checkpoint(), provenance_sha, cancel)?;
        checkpoint.check_tokenizer(&provenance)?;
        let stem = located.stem.unwrap_or_else(|| provenance.name.clone());
        match lora {
            None => wanted.write(&checkpoint, provenance, &stem, notes, cancel),
            Some(adapter) => {
                let merged = LoraSource::open(checkpoint, &adapter, cancel)?;
                let stem = merged.file_stem(&stem);
                wanted.write(&merged, provenance, &stem, notes, cancel)
            }
        }
    })
}

/// See `__init__.py`.
#[pyfunction]
pub(crate) fn quantize(
    py: Python<'_>,
    source: PathBuf,
    output: PathBuf,
    names: Names,
    allow_requantize: bool,
    given: Given,
) -> PyResult<Vec<PathBuf>> {
    noted(py, |notes, cancel| {
        let wanted = Wanted::new(Some(output), &names, allow_requantize, given)?;
        check_gguf(&source)?;
        let gguf = GgufSource::open(&source)?;
        wanted.write(&gguf, Provenance::default(), &model_name(&source), notes, cancel)
    })
}

/// Runs `job`; then warns of what it has noted.
fn noted<T: Send>(py: Python<'_>, job: impl FnOnce(&Arc<Notes>, &Cancel) -> Result<T, Problem> + Send) -> PyResult<T> {
    let notes = Arc::new(Notes::default());
    let result = work::run(py, |cancel| job(&notes, cancel))?;
    notes.warn(py)?;
    Ok(result)
}
