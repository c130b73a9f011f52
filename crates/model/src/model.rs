//! A model, opened.

use crate::arch::gptneox::{self, GptNeoX};
use crate::backend::{Backend, Tensor};
use crate::context::{Context, ContextShape};
use crate::cpu::CpuBackend;
use crate::error::Error;
use crate::hook::{Edits, Hook};
use crate::loaded::{Loaded, On};
use crate::options::Options;
use pythia_gguf::{AnyType, Gguf, TensorInfo};
use pythia_kernels::{Cpu, Gelu, KvType};
use pythia_schema::{Hparams, TensorId};
use pythia_tensor::FileMap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Weights and the device that runs them. Opening for the processor reads the headers only, and weights are paged in as
/// they are used, unless [a copy](crate::Residence) is made.
#[derive(Clone)]
pub struct Model {
    hparams: Hparams,
    gguf: Arc<Gguf>,
    paths: Vec<PathBuf>,
    file_bytes: u64,
    options: Options,
    cpu: Arc<Cpu>,
    device: String,
    is_copied: bool,
    pub(crate) loaded: Arc<dyn Loaded>,
    edits: Option<Arc<dyn Edits>>,
}

/// What a backend is made from.
#[derive(Debug)]
pub struct Source {
    /// The model's files, in the order that tensors number them by.
    pub files: Vec<FileMap>,
    /// All tensors, in no order.
    pub tensors: Vec<Tensor>,
    /// The model's dimensions.
    pub hparams: Hparams,
}

impl Model {
    /// Opens a GGUF file of architecture `gptneox`, or the first of the files that one is split over, for the processor.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or does not hold exactly the tensors that its metadata asks for; if it is one
    /// part of a split model and not the first, or another part is missing or does not fit.
    pub fn open(path: &Path, options: &Options) -> Result<Arc<Self>, Error> {
        let cpu = Arc::new(Cpu::new(options.threads, options.isa)?);
        let make = |source: Source| CpuBackend::new(Arc::clone(&cpu), path, source.files, &source.tensors, options);
        Self::with(path, options, Arc::clone(&cpu), make)
    }

    /// As [`open`](Self::open), for the device that `make` returns. What is computed on the host, such as divergences,
    /// still runs on the processor.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), of `make`, and of the device.
    pub fn open_on<B: Backend>(
        path: &Path,
        options: &Options,
        make: impl FnOnce(Source) -> Result<B, Error>,
    ) -> Result<Arc<Self>, Error> {
        Self::with(path, options, Arc::new(Cpu::new(options.threads, options.isa)?), make)
    }

    fn with<B: Backend>(
        path: &Path,
        options: &Options,
        cpu: Arc<Cpu>,
        make: impl FnOnce(Source) -> Result<B, Error>,
    ) -> Result<Arc<Self>, Error> {
        let (gguf, files) = pythia_gguf::open(path)?;
        let parse = |source| Error::Gguf { path: path.to_owned(), source };
        let hparams = Hparams::from_metadata(&gguf.metadata).map_err(parse)?;
        let infos = pythia_schema::bind(&hparams, &gguf).map_err(parse)?;
        let mut tensors = HashMap::new();
        for (id, info) in TensorId::all(hparams.n_layer).zip(infos) {
            let tensor = prepared(info).map_err(|problem| Error::Tensor {
                path: files[info.file].path.clone(),
                name: info.name.clone(),
                problem,
            })?;
            tensors.insert(id, tensor);
        }
        let (paths, files): (_, Vec<FileMap>) = files.into_iter().map(|file| (file.path, file.map)).unzip();
        let file_bytes = files.iter().map(|file| file.len() as u64).sum();
        let all = tensors.values().cloned().collect();
        let mut backend = make(Source { files, tensors: all, hparams: hparams.clone() })?;
        let find = |id: TensorId| {
            let unbound = || Error::Tensor { path: path.to_owned(), name: id.gguf(), problem: "missing".into() };
            tensors.get(&id).cloned().ok_or_else(unbound)
        };
        let gelu = options.gelu.unwrap_or(if hparams.gelu_tanh { Gelu::Tanh } else { Gelu::Erf });
        let options = Options { gelu: Some(gelu), ..options.clone() };
        let weights = GptNeoX::load(&mut backend, &hparams, gelu, find)?;
        let (device, is_copied) = (backend.name(), backend.is_copied());
        let loaded = Arc::new(On { backend, weights, cpu: Arc::clone(&cpu) });
        let gguf = Arc::new(gguf);
        Ok(Arc::new(Self { hparams, gguf, paths, file_bytes, options, cpu, device, is_copied, loaded, edits: None }))
    }

    /// The same model, whose passes are changed by `edits` from now on, and no longer by those of this one: all that is
    /// computed with it is of the changed model. It shares the weights.
    #[must_use]
    pub fn edited(&self, edits: Arc<dyn Edits>) -> Arc<Self> {
        Arc::new(Self { edits: Some(edits), ..self.clone() })
    }

    /// What changes its passes.
    pub fn edits(&self) -> Option<&Arc<dyn Edits>> {
        self.edits.as_ref()
    }

    /// Checks that its device shows these hooks: a GPU keeps what happens inside attention to itself.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_shows(&self, hooks: &[Hook]) -> Result<(), Error> {
        match hooks.iter().find(|hook| hook.site.needs_host() && !self.loaded.shows_attention()) {
            None => Ok(()),
            Some(hook) => {
                Err(Error::Request(format!("{hook} can be seen on the processor only, not on {}", self.device)))
            }
        }
    }

    /// Its dimensions.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// Its metadata and tensor table.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Its files: one unless it is split.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Size of its files together.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How it runs; which GELU is decided, be it the file's.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether the processor reads its weights in a copy, and not in the mapped files.
    pub fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// Where it runs: `cpu`, or the name of a device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The processor, for work on the host.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Name of the ISA level in use.
    pub fn isa_name(&self) -> &'static str {
        self.cpu().level().name()
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.cpu().threads()
    }

    /// Bytes that a context takes on the processor, as far as they are known beforehand: cache, rotary table and
    /// activations. `None` if they cannot be counted.
    pub fn context_bytes(&self, shape: ContextShape) -> Option<usize> {
        self.loaded.spec(self.options.kv, shape).bytes()
    }

    /// Checks that `n` such contexts fit what is left of [`Options::memory`] now. Nothing is reserved.
    ///
    /// # Errors
    /// If they do not.
    pub fn check_memory(&self, shape: ContextShape, n: usize) -> Result<(), Error> {
        crate::context::check_memory(self, shape, n)
    }

    /// Allocates a context.
    ///
    /// # Errors
    /// If a dimension is 0, the cache's size cannot be counted, or the context does not fit [`Options::memory`].
    pub fn context(self: &Arc<Self>, shape: ContextShape) -> Result<Context, Error> {
        Context::new(Arc::clone(self), shape)
    }
}

/// Bytes that a context of a model of these dimensions takes on the processor: what
/// [`Model::context_bytes`] says, without a file.
pub fn context_bytes(hparams: &Hparams, kv: KvType, shape: ContextShape) -> Option<usize> {
    gptneox::spec(hparams, kv, shape).bytes()
}

/// Bytes of keys and values of all layers that each token of such a context takes, with its share of scales and padding.
pub fn kv_bytes_per_token(hparams: &Hparams, kv: KvType) -> Option<usize> {
    let spec = gptneox::spec(hparams, kv, ContextShape { n_seq: 1, n_ctx: 1, n_batch: 1 });
    spec.kv.bytes_per_position()?.checked_mul(spec.n_layer)
}

/// Inputs of a product come in activation blocks of this many.
const INPUT_MULTIPLE: usize = 32;

/// A tensor whose shape and type the schema has checked, as a backend takes it.
fn prepared(info: &TensorInfo) -> Result<Tensor, String> {
    let AnyType::Known(ty) = info.ty else {
        return Err(format!("type {} cannot be run", info.ty.name()));
    };
    let mut dims = info.dims.iter().map(|&d| d as usize);
    let (cols, rows) = (dims.next().unwrap_or(1), dims.next().unwrap_or(1));
    if rows > 1 && !cols.is_multiple_of(INPUT_MULTIPLE) {
        return Err(format!("rows of {cols} elements, wanted a multiple of {INPUT_MULTIPLE}"));
    }
    if rows == 1 && !cols.is_multiple_of(LANES) {
        return Err(format!("{cols} elements, wanted a multiple of {LANES}"));
    }
    let too_large = |_| "beyond this machine's address space".to_owned();
    let start = usize::try_from(info.offset).map_err(too_large)?;
    let len = usize::try_from(info.n_bytes).map_err(too_large)?;
    Ok(Tensor { ty, rows, cols, file: info.file, bytes: start..start + len })
}

/// Norms and biases are taken this many elements at a time.
const LANES: usize = 16;

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("hparams", &self.hparams).field("options", &self.options).finish_non_exhaustive()
    }
}
