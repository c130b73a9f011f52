//! What will be written where, decided before the first byte is.

use crate::metadata::{self, Facts};
use crate::qkv::QkvOrder;
use crate::recipe::Choice;
use crate::{Error, Level, Provenance, Recipe};
use pythia_checkpoint::{Checkpoint, HiddenAct, SourceTensor, Wanted};
use pythia_gguf::schema::gptneox::{self, Hparams, Transform};
use pythia_gguf::{Layout, Metadata};
use pythia_tensor::TensorType;
use std::path::PathBuf;

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A level, and the file to write it to. At least one.
    pub files: Vec<(Level, PathBuf)>,
    /// Changes to the levels' mixes, the same for all files.
    pub recipe: Recipe,
    /// Where the checkpoint came from; goes into the metadata.
    pub provenance: Provenance,
}

/// Everything [`run`](crate::run()) needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The model.
    pub hparams: Hparams,
    /// The tensors, in the order they are read and lie in the files.
    pub tensors: Vec<PlannedTensor>,
    /// The files.
    pub files: Vec<FilePlan>,
    /// What a user should know about the result; one line each.
    pub warnings: Vec<String>,
}

/// One tensor on its way into every file.
#[derive(Debug)]
pub struct PlannedTensor {
    /// Its name in GGUF.
    pub name: String,
    /// `[rows, cols]` or `[n]`.
    pub shape: Vec<usize>,
    /// Where it comes from.
    pub source: SourceTensor,
    /// The types it is needed in, each once.
    pub encodings: Vec<Encoding>,
    /// How its rows are permuted, if they are.
    pub(crate) order: Option<QkvOrder>,
}

/// One encoding of a tensor, and everywhere it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// How the elements are stored.
    pub ty: TensorType,
    /// The places.
    pub places: Vec<Place>,
}

/// A position in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Plan::files`].
    pub file: usize,
    /// Bytes from the start of that file.
    pub offset: u64,
}

/// One file to write.
#[derive(Debug)]
pub struct FilePlan {
    /// Its level.
    pub level: Level,
    /// Where it goes.
    pub path: PathBuf,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its header, and the place and size of every tensor.
    pub layout: Layout,
    /// The type of every tensor, in the order of [`Plan::tensors`].
    pub choices: Vec<Choice>,
}

/// A tensor whose rows the wanted type's blocks do not divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback<'a> {
    /// Its name in GGUF.
    pub tensor: &'a str,
    /// What was wanted.
    pub wanted: TensorType,
    /// What it is stored as.
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
    /// Bytes of the whole file.
    pub fn n_bytes(&self) -> u64 {
        self.layout.total_bytes()
    }

    /// Bits per weight over all tensors; metadata does not count.
    pub fn bits_per_weight(&self) -> f64 {
        self.bits(|_| true)
    }

    /// Bits per weight of the transformer blocks alone: without embedding, head and final norm.
    pub fn block_bits_per_weight(&self) -> f64 {
        self.bits(|name| name.starts_with("blk."))
    }

    fn bits(&self, included: impl Fn(&str) -> bool) -> f64 {
        let mut total = (0u64, 0u64);
        for tensor in self.layout.tensors().iter().filter(|tensor| included(&tensor.name)) {
            total.0 += tensor.n_bytes;
            total.1 += tensor.n_elems();
        }
        8.0 * total.0 as f64 / total.1 as f64
    }

    /// The tensors that are not in the type they should be.
    pub fn fallbacks(&self) -> impl Iterator<Item = Fallback<'_>> {
        self.layout.tensors().iter().zip(&self.choices).filter_map(|(tensor, choice)| {
            let wanted = choice.wanted?;
            Some(Fallback { tensor: &tensor.name, wanted, used: choice.ty, row_elems: tensor.dims[0] })
        })
    }
}

impl Plan {
    /// Bytes that will be read from the checkpoint.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.source.n_bytes()).sum()
    }
}

/// Decides everything about a conversion. Pure: reads nothing but the opened checkpoint, writes nothing.
///
/// # Errors
/// If the checkpoint is not a model GGUF can express, or the request does not fit it.
pub fn plan(checkpoint: &Checkpoint, request: &Request) -> Result<Plan, Error> {
    check_distinct(request)?;
    let hparams = hparams(checkpoint);
    // Before anything is sized by them: the config may say anything.
    hparams.check()?;
    let specs = gptneox::tensors(&hparams);
    let wanted = specs.iter().map(|spec| Wanted { names: &spec.hf, shape: &spec.shape });
    let sources = checkpoint.resolve(wanted)?;
    let files = request.files.iter().map(|(level, path)| {
        let choices = request.recipe.types(*level, &specs)?;
        let quantized = choices.iter().any(|choice| choice.ty.is_quantized());
        let metadata = metadata::build(checkpoint, request, &Facts { hparams: &hparams, level: *level, quantized });
        let tensors = specs.iter().zip(&choices).map(|(spec, choice)| (spec.gguf.clone(), choice.ty, spec.dims()));
        let layout = Layout::new(&metadata, tensors.collect())?;
        Ok(FilePlan { level: *level, path: path.clone(), metadata, layout, choices })
    });
    let files = files.collect::<Result<Vec<_>, Error>>()?;
    let order = QkvOrder { n_head: hparams.n_head, head_dim: hparams.head_dim() };
    let tensors = specs.into_iter().zip(sources).enumerate().map(|(index, (spec, source))| PlannedTensor {
        name: spec.gguf,
        shape: spec.shape,
        source: source.clone(),
        encodings: encodings(&files, index),
        order: match spec.transform {
            Transform::None => None,
            Transform::RegroupQkv => Some(order),
        },
    });
    Ok(Plan { tensors: tensors.collect(), hparams, files, warnings: warnings(checkpoint) })
}

fn check_distinct(request: &Request) -> Result<(), Error> {
    for (index, (level, path)) in request.files.iter().enumerate() {
        if request.files[..index].iter().any(|(_, other)| other == path) {
            return Err(Error::Request(format!("{}: two files of this name were asked for ({level})", path.display())));
        }
    }
    if request.files.is_empty() { Err(Error::Request("no type was asked for".to_owned())) } else { Ok(()) }
}

fn hparams(checkpoint: &Checkpoint) -> Hparams {
    let config = checkpoint.config();
    Hparams {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.n_head,
        n_ff: config.n_ff,
        n_vocab: config.n_vocab,
        n_ctx: config.n_ctx,
        n_rot: config.n_rot(),
        rope_base: config.rope_base,
        norm_eps: config.norm_eps,
        parallel_residual: config.parallel_residual,
    }
}

/// The distinct types tensor `index` is needed in, and where each goes.
fn encodings(files: &[FilePlan], index: usize) -> Vec<Encoding> {
    let mut encodings: Vec<Encoding> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let ty = file.choices[index].ty;
        let place = Place { file: number, offset: file.layout.tensors()[index].offset };
        match encodings.iter_mut().find(|encoding| encoding.ty == ty) {
            Some(encoding) => encoding.places.push(place),
            None => encodings.push(Encoding { ty, places: vec![place] }),
        }
    }
    encodings
}

fn warnings(checkpoint: &Checkpoint) -> Vec<String> {
    let mut warnings = Vec::new();
    if checkpoint.tokenizer().is_none() {
        warnings.push("no tokenizer.json: the file will hold no tokenizer, and llama.cpp will not load it".to_owned());
    }
    if checkpoint.config().hidden_act == HiddenAct::GeluTanh {
        warnings
            .push("the config asks for the tanh form of GELU, which GGUF cannot say: run with --gelu tanh".to_owned());
    }
    if checkpoint.tied_head() {
        warnings.push("the output matrix is tied to the embedding: it is stored a second time".to_owned());
    }
    warnings
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
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
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
