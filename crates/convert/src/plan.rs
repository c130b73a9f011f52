//! The plan of a conversion: everything is decided before the first byte is written.

use crate::metadata::{self, Facts};
use crate::recipe::{self, Choice};
use crate::{Error, ImatrixFile, Level, LoraFacts, Provenance, Quantizer, Recipe, Source, SourceTensor, imatrix};
use pythia_gguf::{Layout, Limits, Metadata, TensorInfo, shard_name};
use pythia_schema::{Hparams, TensorSpec};
use pythia_tensor::TensorType;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A request for a conversion.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Levels with the files to write; at least one. A split model is written to `NAME-00001-of-00003.gguf` and so on
    /// instead of `NAME.gguf`.
    pub files: Vec<(Level, PathBuf)>,
    /// Changes to the levels' mixes, the same for all files.
    pub recipe: Recipe,
    /// Origin of the checkpoint, for the metadata. A GGUF source has its own.
    pub provenance: Provenance,
    /// Importances of the matrices' columns, for the encoders that use them.
    pub imatrix: Option<ImatrixFile>,
    /// Rounds the quantized matrices instead of the encoders, all of a file together.
    pub quantizer: Option<Arc<dyn Quantizer>>,
    /// Fail if a tensor cannot have its type because its rows are not whole blocks, instead of using another type.
    pub strict: bool,
    /// Accept tensors that are already in a block format: decode and encode them again.
    pub allow_requantize: bool,
    /// Limits above which a model is split into several files.
    pub limits: Limits,
}

/// Everything [`run`](crate::run()) needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The model.
    pub hparams: Hparams,
    /// The tensors, in the order in which they are read and stored. Each shard continues where the previous one ends.
    pub tensors: Vec<PlannedTensor>,
    /// The files.
    pub files: Vec<FilePlan>,
    /// Rounds the files that [ask for it](FilePlan::by_quantizer).
    pub quantizer: Option<Arc<dyn Quantizer>>,
    /// The adapter that is merged on the way, if there is one.
    pub lora: Option<LoraFacts>,
    /// The files that are read. None of them is overwritten.
    pub inputs: Vec<PathBuf>,
    /// Warnings about the result, one line each.
    pub warnings: Vec<String>,
}

/// A tensor, with its encodings for all files.
#[derive(Debug)]
pub struct PlannedTensor {
    /// Its name in GGUF.
    pub name: String,
    /// `[rows, cols]` or `[n]`.
    pub shape: Vec<usize>,
    /// Its source.
    pub source: SourceTensor,
    /// Importance of each column, if known: its mean squared input. One per element of a row.
    pub importance: Option<Vec<f32>>,
    /// The distinct types that it is encoded in.
    pub encodings: Vec<Encoding>,
}

/// An encoding of a tensor, and the positions where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The type.
    pub ty: TensorType,
    /// The places.
    pub places: Vec<Slot>,
}

/// A position in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index into [`Plan::files`].
    pub file: usize,
    /// Index into its [`shards`](FilePlan::shards).
    pub shard: usize,
    /// Bytes from the start of that shard.
    pub offset: u64,
}

/// A model to write: one file, or several if it exceeds the [limits](Request::limits).
#[derive(Debug)]
pub struct FilePlan {
    /// Its level.
    pub level: Level,
    /// Its metadata, without the keys of shards.
    pub metadata: Metadata,
    /// Its files, at least one.
    pub shards: Vec<Shard>,
    /// The type of every tensor, in the order of [`Plan::tensors`].
    pub choices: Vec<Choice>,
    /// Whether the quantizer rounds it: there is one, and a matrix to quantize.
    pub by_quantizer: bool,
}

/// A file of a model.
#[derive(Debug)]
pub struct Shard {
    /// Its path: the requested one, or one with a number before the extension.
    pub path: PathBuf,
    /// Its header, and the position and size of every tensor in it.
    pub layout: Layout,
}

/// A tensor that gets another type, because its rows are not whole blocks of the intended type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback<'a> {
    /// Its name in GGUF.
    pub tensor: &'a str,
    /// The intended type.
    pub wanted: TensorType,
    /// The type used.
    pub used: TensorType,
    /// Elements of a row.
    pub row_elems: u64,
}

impl std::fmt::Display for Fallback<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tensor, wanted, used, row_elems } = self;
        write!(
            f,
            "{tensor}: {used} instead of {wanted}, whose blocks of {} do not divide rows of {row_elems}",
            wanted.block_elems()
        )
    }
}

impl FilePlan {
    /// The file to open: the only one, or the first shard.
    pub fn path(&self) -> &Path {
        &self.shards[0].path
    }

    /// Whether it is more than one file.
    pub fn is_split(&self) -> bool {
        self.shards.len() > 1
    }

    /// Bytes of the whole file, or of all shards.
    pub fn n_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.layout.total_bytes()).sum()
    }

    /// Bytes before the first tensor, of all shards.
    pub fn header_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.layout.header().len() as u64).sum()
    }

    /// Bytes of the tensors, with what lies between them.
    pub fn tensor_bytes(&self) -> u64 {
        self.n_bytes() - self.header_bytes()
    }

    /// The tensors in the order of [`Plan::tensors`], with the index of the shard that each is in.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &TensorInfo)> {
        let shards = self.shards.iter().enumerate();
        shards.flat_map(|(index, shard)| shard.layout.tensors().iter().map(move |tensor| (index, tensor)))
    }

    /// Bits per weight over all tensors; metadata does not count.
    pub fn bits_per_weight(&self) -> f64 {
        self.bits(|_| true)
    }

    /// Bits per weight of the transformer blocks alone: without embedding, head and final norm.
    pub fn block_bits_per_weight(&self) -> f64 {
        self.bits(|name| pythia_schema::block_part(name).is_some())
    }

    fn bits(&self, included: impl Fn(&str) -> bool) -> f64 {
        let mut total = (0u64, 0u64);
        for (_, tensor) in self.tensors().filter(|(_, tensor)| included(&tensor.name)) {
            total.0 += tensor.n_bytes;
            total.1 += tensor.n_elems();
        }
        8.0 * total.0 as f64 / total.1 as f64
    }

    /// The tensors that do not have their intended type.
    pub fn fallbacks(&self) -> impl Iterator<Item = Fallback<'_>> {
        self.tensors().zip(&self.choices).filter_map(|((_, tensor), choice)| {
            let wanted = choice.wanted?;
            Some(Fallback { tensor: &tensor.name, wanted, used: choice.ty, row_elems: tensor.dims[0] })
        })
    }

    fn check_strict(&self) -> Result<(), Error> {
        let Some(first) = self.fallbacks().next() else { return Ok(()) };
        let (level, n) = (self.level, self.fallbacks().count());
        Err(Error::Request(format!("{level}: {n} tensors cannot have their types, the first is {first}")))
    }
}

impl Plan {
    /// Bytes of weights that will be read.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.source.n_bytes()).sum()
    }
}

/// Decides everything about a conversion. Pure: reads nothing but the opened source, writes nothing.
///
/// # Errors
/// If GGUF cannot express the source, or the request does not fit it.
pub fn plan(source: &dyn Source, request: &Request) -> Result<Plan, Error> {
    if request.files.is_empty() {
        return Err(Error::Request("no type was asked for".to_owned()));
    }
    request.quantizer.as_deref().map_or(Ok(()), check_recorded)?;
    let hparams = source.hparams();
    // Checked before anything is sized by them, because a config may say anything.
    hparams.check()?;
    let specs = pythia_schema::tensors(&hparams);
    let sources = source.resolve(&specs)?;
    let importance = match &request.imatrix {
        Some(imatrix) => imatrix.importance(&specs)?,
        None => vec![None; specs.len()],
    };
    let model = source.metadata(&request.provenance)?;
    let draft = Draft { request, specs: &specs, sources: &sources, importance: &importance, model: &model };
    let files = request.files.iter().map(|(level, path)| draft.file(*level, path)).collect::<Result<Vec<_>, _>>()?;
    check_distinct(&files)?;
    let inputs = request.imatrix.iter().map(|imatrix| imatrix.path().to_owned());
    let inputs = source.inputs().into_iter().chain(inputs).collect();
    let mut warnings = source.warnings();
    warnings.extend(draft.warnings(&files));
    let tensors = specs.into_iter().zip(sources).zip(importance).zip(encodings(&files));
    let tensors = tensors.map(|(((spec, source), importance), encodings)| PlannedTensor {
        name: spec.gguf,
        shape: spec.shape,
        source,
        importance,
        encodings,
    });
    let (quantizer, lora) = (request.quantizer.clone(), source.lora().cloned());
    Ok(Plan { tensors: tensors.collect(), hparams, files, quantizer, lora, inputs, warnings })
}

/// Refuses a quantizer that would change what a file says of its model.
fn check_recorded(quantizer: &dyn Quantizer) -> Result<(), Error> {
    match quantizer.metadata().iter().find(|(key, _)| !metadata::is_of_quantizer(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let (details, calibration) = (metadata::QUANTIZER_DETAILS, metadata::CALIBRATION);
            let wanted = format!("wanted one that begins with {details} or {calibration}");
            Err(Error::Request(format!("the quantizer {} records the key '{key}', {wanted}", quantizer.name())))
        }
    }
}

fn check_distinct(files: &[FilePlan]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for file in files {
        if let Some(shard) = file.shards.iter().find(|shard| !seen.insert(&shard.path)) {
            let (path, level) = (shard.path.display(), file.level);
            return Err(Error::Request(format!("{path}: two files of this name were requested ({level})")));
        }
    }
    Ok(())
}

/// Data shared by all files. The slices have an element per tensor.
#[derive(Clone, Copy)]
struct Draft<'a> {
    request: &'a Request,
    specs: &'a [TensorSpec],
    sources: &'a [SourceTensor],
    importance: &'a [Option<Vec<f32>>],
    model: &'a Metadata,
}

impl Draft<'_> {
    fn file(self, level: Level, path: &Path) -> Result<FilePlan, Error> {
        let Self { request, specs, .. } = self;
        let choices = request.recipe.types(level, specs, request.imatrix.is_some())?;
        self.check_importance(level, &choices)?;
        let uses_importance =
            |(choice, importance): (&Choice, &Option<Vec<f32>>)| importance.is_some() && imatrix::is_used_by(choice.ty);
        let facts = Facts {
            level,
            recipe: &request.recipe,
            quantized: choices.iter().any(|choice| choice.ty.is_quantized()),
            requantized: &self.requantized(&choices)?,
            imatrix: request.imatrix.as_ref().filter(|_| choices.iter().zip(self.importance).any(uses_importance)),
            quantizer: request.quantizer.as_deref().filter(|_| self.quantizes_a_matrix(&choices)),
        };
        let metadata = metadata::of_file(self.model, &facts);
        let tensors = specs.iter().zip(&choices).map(|(spec, choice)| (spec.gguf.clone(), choice.ty, spec.dims()));
        let layout = Layout::new(&metadata, tensors.collect())?;
        let layouts = layout.split(&metadata, &request.limits);
        let layouts = layouts.map_err(|e| Error::Request(format!("{}: cannot be split: {e}", path.display())))?;
        let by_quantizer = facts.quantizer.is_some();
        let file = FilePlan { level, metadata, shards: shards(path, layouts)?, choices, by_quantizer };
        if request.strict { file.check_strict().map(|()| file) } else { Ok(file) }
    }

    /// Whether a matrix is stored in a block format that it does not have yet.
    fn quantizes_a_matrix(self, choices: &[Choice]) -> bool {
        let mut tensors = self.specs.iter().zip(self.sources).zip(choices);
        tensors
            .any(|((spec, source), choice)| spec.id.is_matrix() && choice.ty.is_quantized() && choice.ty != source.ty)
    }

    /// Refuses levels that are useless without importances. The embedding and the output matrix do not need them, and
    /// neither does a quantizer, which has its own.
    fn check_importance(self, level: Level, choices: &[Choice]) -> Result<(), Error> {
        if self.request.quantizer.is_some() {
            return Ok(());
        }
        let Some(imatrix) = &self.request.imatrix else {
            // Options can select such types at any level.
            let forced = self.specs.iter().zip(choices).find(|(_, choice)| recipe::needs_importance(choice.ty));
            let what = match forced {
                _ if level.needs_importance() => level.to_string(),
                Some((spec, choice)) => format!("{} as {}", spec.gguf, choice.ty),
                None => return Ok(()),
            };
            return Err(Error::Request(format!("{what} needs an importance matrix (--imatrix)")));
        };
        if !level.needs_importance() {
            return Ok(());
        }
        let tensors = self.specs.iter().zip(choices).zip(self.importance);
        let mut lacking = tensors.filter(|((spec, choice), importance)| {
            choice.ty == level.base() && !spec.id.kind.is_vocab() && importance.is_none()
        });
        match lacking.next() {
            None => Ok(()),
            Some(((spec, _), _)) => {
                let path = imatrix.path().display();
                Err(Error::Request(format!("{path}: no entry for {}, which {level} needs", spec.gguf)))
            }
        }
    }

    /// The block formats that tensors are decoded from, each once.
    fn requantized(self, choices: &[Choice]) -> Result<Vec<TensorType>, Error> {
        let mut types = Vec::new();
        for (source, choice) in self.sources.iter().zip(choices) {
            if !source.ty.is_quantized() || source.ty == choice.ty {
                continue;
            }
            // F32 holds decoded values exactly, so nothing is rounded.
            if !self.request.allow_requantize && choice.ty != TensorType::F32 {
                return Err(Error::Request(format!(
                    "{}: quantized already, to {}; as {} it would be rounded twice (--allow-requantize does it)",
                    source.name, source.ty, choice.ty
                )));
            }
            if !types.contains(&source.ty) {
                types.push(source.ty);
            }
        }
        Ok(types)
    }

    fn warnings(self, files: &[FilePlan]) -> Vec<String> {
        let mut warnings = Vec::new();
        let choices = |index: usize| files.iter().map(move |file| file.choices[index].ty);
        let requantized = self.sources.iter().enumerate().filter(|(index, source)| {
            source.ty.is_quantized() && choices(*index).any(|ty| ty.is_quantized() && ty != source.ty)
        });
        let n_requantized = requantized.count();
        if n_requantized > 0 {
            warnings.push(format!("{n_requantized} tensors were quantized before and are now rounded a second time"));
        }
        if let Some(imatrix) = &self.request.imatrix {
            let needed: Vec<bool> =
                (0..self.specs.len()).map(|index| choices(index).any(imatrix::is_used_by)).collect();
            warnings.extend(imatrix.warnings(self.specs, &needed));
        }
        warnings
    }
}

/// The paths of the files of a model that was requested as `path`.
fn shards(path: &Path, layouts: Vec<Layout>) -> Result<Vec<Shard>, Error> {
    let count = layouts.len() as u32;
    if count == 1 {
        return Ok(layouts.into_iter().map(|layout| Shard { path: path.to_owned(), layout }).collect());
    }
    // A reader derives the names of the other files from that of the first.
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::Request(format!("{}: cannot be split: not UTF-8", path.display())))?;
    let prefix = name.strip_suffix(".gguf").unwrap_or(name);
    let shard = |(layout, no)| Shard { path: path.with_file_name(shard_name(prefix, no, count)), layout };
    Ok(layouts.into_iter().zip(0..).map(shard).collect())
}

/// The distinct types of each tensor, and the positions where each is written.
fn encodings(files: &[FilePlan]) -> Vec<Vec<Encoding>> {
    let mut all: Vec<Vec<Encoding>> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        all.resize_with(file.choices.len(), Vec::new);
        for ((encodings, choice), (shard, tensor)) in all.iter_mut().zip(&file.choices).zip(file.tensors()) {
            let ty = choice.ty;
            let place = Slot { file: number, shard, offset: tensor.offset };
            match encodings.iter_mut().find(|encoding| encoding.ty == ty) {
                Some(encoding) => encoding.places.push(place),
                None => encodings.push(Encoding { ty, places: vec![place] }),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What [`plan`] says of a checkpoint with nothing but embeddings whose config has `value` for `key`.
    fn refusal(key: &str, value: u64) -> String {
        let mut config = vec![
            ("hidden_size", 64),
            ("num_hidden_layers", 2),
            ("num_attention_heads", 4),
            ("intermediate_size", 96),
            ("vocab_size", 40),
            ("max_position_embeddings", 32),
        ];
        config.retain(|(name, _)| *name != key);
        config.push((key, value));
        let fields: String = config.iter().map(|(key, value)| format!(r#", "{key}": {value}"#)).collect();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), format!(r#"{{"model_type": "gpt_neox"{fields}}}"#)).unwrap();
        let header = br#"{"gpt_neox.embed_in.weight": {"dtype": "F16", "shape": [40, 64], "data_offsets": [0, 5120]}}"#;
        let weights = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 5120]].concat();
        fs::write(dir.path().join("model.safetensors"), weights).unwrap();
        let checkpoint = crate::CheckpointSource::open(dir.path()).unwrap();
        let request = Request { files: vec![(Level::F16, "out.gguf".into())], ..Request::default() };
        plan(&checkpoint, &request).unwrap_err().to_string()
    }

    #[test]
    fn sizes_no_model_has_are_refused_before_they_size_anything() {
        let huge = (1 << 31) - 1;
        let cases = [
            ("num_hidden_layers", huge, "'gptneox.block_count': found 2147483647, wanted an integer from 1 to 512"),
            ("intermediate_size", huge, "'gptneox.feed_forward_length'"),
            ("max_position_embeddings", huge, "'gptneox.context_length'"),
            // What the format allows, but the checkpoint does not have.
            ("num_hidden_layers", 512, "is missing"),
        ];
        for (key, value, wanted) in cases {
            let message = refusal(key, value);
            assert!(message.contains(wanted) && message.len() < 1000, "{key}: {message}");
        }
    }
}
