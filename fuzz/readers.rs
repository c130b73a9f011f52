//! What every fuzz target does with its bytes: it reads and checks a file as a command does, and then reads weights.
//! What a reader accepts must keep the reader's promises. Each target returns whether every step succeeded, up to the
//! plan of a conversion where the kind of file allows one.
//!
//! The ordinary tests replay inputs through the same functions, so nothing here needs libFuzzer.

use pythia_calibrate::{Calibration, METRIC_ROWS, MetricBlock};
use pythia_checkpoint::{Config, WeightFile, to_f32};
use pythia_convert::{CheckpointSource, GgufSource, Level, Plan, Provenance, Request, Source, plan};
use pythia_gguf::{AnyType, FileType, Gguf, Imatrix, Layout, Merge, Metadata, keys, shard_name};
use pythia_schema::{Hparams, TensorId, TensorSpec};
use pythia_tokenizer::{Tokenizer, Vocab};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Stands between the files of an input that is several. An input without it is one file, as it is.
pub const CUT: &[u8] = b"\xffCUT";

/// A GGUF model in one file, or the files of a split one.
pub fn gguf(bytes: &[u8]) -> bool {
    let files = parts(bytes);
    let headers: Vec<_> = files.iter().filter_map(|file| ok(Gguf::parse(file))).collect();
    if headers.len() < files.len() {
        return false;
    }
    for (header, file) in headers.iter().zip(&files) {
        container(header, file);
    }
    let n_files = headers.len() as u32;
    let merged = || {
        let mut headers = headers.into_iter();
        let Some(first) = headers.next() else { unreachable!("an input is a file at least") };
        let mut merge = Merge::new(first, &shard_name("m", 0, n_files))?;
        for header in headers {
            merge.add(header)?;
        }
        merge.finish()
    };
    let Some(merged) = ok(merged()) else { return false };
    let sound = model(&merged);
    if !sound || n_files > 1 {
        return sound;
    }
    SCRATCH.with(|scratch| {
        scratch.put("m.gguf", bytes);
        let source = GgufSource::open(&scratch.path("m.gguf")).expect("a model whose parts are sound");
        planned(&source, true)
    })
}

/// Weights as safetensors beside a fixed config: a file, or an index and two shards.
pub fn safetensors(bytes: &[u8]) -> bool {
    const NAMES: [&str; 4] = ["model.safetensors", "model.safetensors.index.json", "a.safetensors", "b.safetensors"];
    let (n_bytes, whole) = weights("safetensors", NAMES, bytes);
    // Safetensors do not overlap.
    assert!(n_bytes <= bytes.len() as u64, "{n_bytes} bytes of tensors");
    whole
}

/// The same as PyTorch saves them.
pub fn torch(bytes: &[u8]) -> bool {
    const NAMES: [&str; 4] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "a.bin", "b.bin"];
    let (n_bytes, whole) = weights("torch", NAMES, bytes);
    // Two tensors may share a storage; more than that would be a bomb.
    assert!(n_bytes <= 2 * bytes.len() as u64, "{n_bytes} bytes of tensors");
    whole
}

/// `config.json`, `tokenizer.json` and `tokenizer_config.json`, the last two not always there.
pub fn config(bytes: &[u8]) -> bool {
    let files = parts(bytes);
    SCRATCH.with(|scratch| {
        for (name, file) in ["config/config.json", "config/tokenizer.json", "config/tokenizer_config.json"]
            .into_iter()
            .zip(files.iter().map(Some).chain([None, None]))
        {
            match file {
                Some(file) => scratch.put(name, file),
                None => scratch.remove(name),
            }
        }
        let folder = scratch.path("config");
        let Some(config) = ok(Config::open(&folder.join("config.json"))) else { return false };
        if !embedding(scratch, "config/model.safetensors", config.n_vocab, config.n_embd) {
            return false;
        }
        let Some(source) = ok(CheckpointSource::open(&folder)) else { return false };
        assert_eq!(source.checkpoint().config(), &config);
        if ok(source.hparams().check()).is_none() {
            return false;
        }
        let Some(metadata) = ok(source.metadata(&Provenance::default())) else { return false };
        if let Some(layout) = ok(Layout::new(&metadata, Vec::new())) {
            let read = Gguf::parse(layout.header()).expect("what was written is read");
            assert_eq!(read.metadata, metadata);
        }
        let sound = hyperparameters(&metadata).is_some();
        let Some(tokenizer) = source.tokenizer() else { return sound };
        assert_eq!(tokenizer.vocab.tokens.len(), config.n_vocab);
        vocabulary(&metadata) && sound
    })
}

/// An importance matrix in either form.
pub fn imatrix(bytes: &[u8]) -> bool {
    let Some(imatrix) = ok(Imatrix::parse(bytes)) else { return false };
    assert!(!imatrix.entries.is_empty());
    for entry in &imatrix.entries {
        assert_eq!(entry.sums().len(), entry.counts().len() * entry.cols());
        assert_eq!(imatrix.entry(entry.name()), Some(entry), "names are unique");
        if let Some(Some(importance)) = ok(imatrix.importance(entry.name(), entry.cols())) {
            assert_eq!(importance.len(), entry.cols());
            assert!(importance.iter().all(|x| x.is_finite() && *x >= 0.0));
        }
        assert!(imatrix.importance(entry.name(), entry.cols() + 1).is_err());
    }
    imatrix.warnings().iter().for_each(one_line);
    let written = imatrix.to_gguf().expect("what was read can be written");
    assert_eq!(Imatrix::parse(&written).as_ref(), Ok(&imatrix));
    true
}

/// A calibration file: its header, then every metric and moment.
pub fn calibration(bytes: &[u8]) -> bool {
    SCRATCH.with(|scratch| {
        scratch.put("c.gguf", bytes);
        let Some(file) = ok(Calibration::open(&scratch.path("c.gguf"))) else { return false };
        let hparams = file.hparams();
        assert!(!file.tokens().is_empty() && file.tokens().len().is_multiple_of(file.n_ctx()));
        assert!(file.tokens().iter().all(|&token| (token as usize) < hparams.n_vocab));
        let mut sound = ok(file.embedding_metric()).is_some_and(|metric| square(&metric.values, hparams.n_embd));
        for id in TensorId::all(hparams.n_layer) {
            let rows = |blocks: Vec<MetricBlock>| {
                let all = blocks.iter().all(|block| block.rows <= METRIC_ROWS && square(&block.values, block.rows));
                assert!(all);
                blocks.iter().fold(0, |next, block| if block.first_row == next { next + block.rows } else { 0 })
            };
            let wanted = TensorSpec::new(id, hparams).shape;
            let in_block = id.is_matrix() && id.layer.is_some();
            let metric = ok(file.output_metric(id)).map(rows);
            assert!(metric.is_none_or(|rows| in_block && rows == wanted[0]));
            let moment = ok(file.input_moment(id)).flatten();
            assert!(moment.as_ref().is_none_or(|moment| square(moment, wanted[1])));
            sound &= metric.is_some() || !in_block;
        }
        sound
    })
}

/// Whether values are those of a symmetric square of finite values. They must be.
fn square(values: &[f32], rows: usize) -> bool {
    assert_eq!(values.len(), rows * rows);
    for i in 0..rows {
        for j in 0..=i {
            let [value, mirrored] = [values[i * rows + j], values[j * rows + i]];
            assert!(value.is_finite() && value.to_bits() == mirrored.to_bits());
        }
    }
    true
}

/// The files of an input, at most four.
fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while parts.len() < 3
        && let Some(at) = rest.windows(CUT.len()).position(|window| window == CUT)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + CUT.len()..];
    }
    parts.push(rest);
    parts
}

/// The value; of an error, checks the message.
fn ok<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| one_line(&error)).ok()
}

fn one_line(message: &impl Display) {
    let line = message.to_string();
    assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?}");
    assert!(line.len() < 1 << 15, "a line of {} bytes", line.len());
}

/// A container that was accepted: its tensors lie where they may, some of their values decode, and what is written from
/// it is read as the same.
fn container(gguf: &Gguf, file: &[u8]) {
    let mut end = gguf.data_offset;
    for tensor in gguf.tensors() {
        assert!(tensor.offset >= end && tensor.offset.is_multiple_of(gguf.alignment), "{tensor:?}");
        end = tensor.offset + tensor.n_bytes;
        assert!(end <= file.len() as u64, "{tensor:?}");
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        if let AnyType::Known(ty) = tensor.ty {
            let mut values = vec![0.0; ty.block_elems()];
            ty.decode(&gguf.data(file, tensor)[..ty.block_bytes()], &mut values);
        }
    }
    let known = |t: &pythia_gguf::TensorInfo| Some((t.name.clone(), t.ty.known()?, t.dims.clone()));
    let Some(tensors) = gguf.tensors().iter().map(known).collect::<Option<Vec<_>>>() else { return };
    let layout = Layout::new(&gguf.metadata, tensors.clone()).expect("what was read can be written");
    let mut written = layout.header().to_vec();
    written.resize(layout.total_bytes() as usize, 0);
    let read = Gguf::parse(&written).expect("what was written is read");
    let again = Layout::new(&read.metadata, tensors).expect("what was read can be written");
    // The bytes and not the metadata: a NaN there is not equal to itself.
    assert_eq!(again.header(), layout.header());
}

/// Everything a program asks the header of a model for. Whether it is a model of this architecture with a tokenizer.
fn model(gguf: &Gguf) -> bool {
    let metadata = &gguf.metadata;
    if let Some(Some(id)) = ok(metadata.u32(keys::FILE_TYPE)) {
        assert!(FileType::from_id(id).is_none_or(|ty| ty.id() == id));
    }
    let tokenizes = vocabulary(metadata);
    hyperparameters(metadata).is_some_and(|h| ok(pythia_schema::bind(&h, gguf)).is_some()) && tokenizes
}

fn hyperparameters(metadata: &Metadata) -> Option<Hparams> {
    let hparams = ok(Hparams::from_metadata(metadata))?;
    let mut written = Metadata::new();
    hparams.to_metadata(&mut written);
    assert_eq!(Hparams::from_metadata(&written).as_ref(), Ok(&hparams));
    Some(hparams)
}

/// Tokenizes a text both ways that a file allows. Whether the one that counts can.
fn vocabulary(metadata: &Metadata) -> bool {
    const TEXT: &str = "he said:\n\u{e9}\u{65}\u{301}\u{1f600} 12  ab<|endoftext|>\0";
    let Some(vocab) = ok(Vocab::from_metadata(metadata)) else { return false };
    let mut written = Metadata::new();
    vocab.to_metadata(&mut written).expect("what was read can be written");
    assert_eq!(Vocab::from_metadata(&written).as_ref(), Ok(&vocab));
    let tokenizes = |tokenizer: Result<Tokenizer, _>| {
        let Some(tokenizer) = ok(tokenizer) else { return false };
        assert!(tokenizer.n_tokens() <= vocab.tokens.len());
        let ids = tokenizer.encode(TEXT).expect("any text has ids");
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_tokens()), "{ids:?}");
        tokenizer.decode(&ids, true);
        true
    };
    // The `tokenizers` crate keeps what a thread has encoded, with every tokenizer there was, until the thread ends.
    thread::scope(|scope| {
        let both = || {
            tokenizes(Tokenizer::rebuilt(&vocab));
            tokenizes(Tokenizer::from_vocab(&vocab))
        };
        scope.spawn(both).join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Plans a conversion and reads every tensor as it would be read. Whether there is a plan.
fn planned(source: &dyn Source, allow_requantize: bool) -> bool {
    let files = [Level::Q8_0, Level::Q4_K_M].map(|level| (level, PathBuf::from(level.name()).with_extension("gguf")));
    let request = Request { files: files.into(), allow_requantize, ..Request::default() };
    let Some(Plan { tensors, files, warnings, .. }) = ok(plan(source, &request)) else { return false };
    warnings.iter().for_each(one_line);
    let mut bytes = Vec::new();
    for tensor in tensors {
        let rows = 0..tensor.source.n_rows();
        if ok(source.read_rows(&tensor.source, rows, &mut bytes)).is_some() {
            assert_eq!(bytes.len() as u64, tensor.source.n_bytes());
        }
    }
    for shard in files.iter().flat_map(|file| &file.shards) {
        let mut written = shard.layout.header().to_vec();
        written.resize(shard.layout.total_bytes() as usize, 0);
        Gguf::parse(&written).expect("what was planned is read");
    }
    true
}

/// What the weights of the two checkpoint targets are weights of.
const CONFIG: &str = r#"{"model_type": "gpt_neox", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
"intermediate_size": 4, "vocab_size": 4, "max_position_embeddings": 4, "rotary_pct": 1.0, "tie_word_embeddings": true}"#;

/// Opens one file, or an index and the two files it may name, as a checkpoint. Bytes of all tensors, and whether they
/// are a model.
fn weights(format: &str, [single, index, first, second]: [&str; 4], bytes: &[u8]) -> (u64, bool) {
    let files = parts(bytes);
    let (kind, names) = match files.len() {
        1 => ("one", &[single][..]),
        _ => ("many", &[index, first, second][..]),
    };
    SCRATCH.with(|scratch| {
        let name = |file: &str| format!("{format}-{kind}/{file}");
        scratch.put(&name("config.json"), CONFIG.as_bytes());
        for (file, part) in names.iter().zip(files.iter().map(Some).chain([None, None])) {
            match part {
                Some(part) => scratch.put(&name(file), part),
                None => scratch.remove(&name(file)),
            }
        }
        let folder = scratch.path(name(""));
        ok(CheckpointSource::open(&folder)).map_or((0, false), |source| tensors(&source))
    })
}

fn tensors(source: &CheckpointSource) -> (u64, bool) {
    let checkpoint = source.checkpoint();
    let (mut all, mut last, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for tensor in checkpoint.tensors() {
        let n_rows = tensor.n_rows();
        let read = checkpoint.read_rows(tensor, 0, n_rows, &mut all);
        assert!(
            !read.as_ref().is_err_and(|error| error.kind() == pythia_task::ErrorKind::Io),
            "{tensor:?} is not within its file"
        );
        if ok(read).is_none() {
            continue;
        }
        assert_eq!(all.len() as u64, tensor.n_bytes());
        to_f32(tensor.dtype, &all, &mut values);
        if let Some(row) = n_rows.checked_sub(1) {
            checkpoint.read_rows(tensor, row, 1, &mut last).expect("a row of what was read");
            assert!(all.ends_with(&last));
        }
        assert!(checkpoint.read_rows(tensor, n_rows, 1, &mut last).is_err());
    }
    checkpoint.files().iter().for_each(|path| weight_file(path, &mut all));
    (checkpoint.tensors().map(|tensor| tensor.n_bytes()).sum(), planned(source, false))
}

/// Reads every tensor of a file of a checkpoint that was accepted.
fn weight_file(path: &Path, bytes: &mut Vec<u8>) {
    let file = WeightFile::open(path).expect("a file of a checkpoint that opens");
    for tensor in file.tensors().filter_map(ok) {
        if ok(file.read_rows(&tensor, 0, tensor.n_rows(), bytes)).is_some() {
            assert_eq!(bytes.len() as u64, tensor.n_bytes());
        }
    }
}

/// Writes weights without which no checkpoint opens: an embedding that takes no room. Not if it were too large to try.
fn embedding(scratch: &Scratch, name: &str, n_vocab: usize, n_embd: usize) -> bool {
    const LIMIT_TOKENS: usize = 1024;
    const LIMIT_BYTES: usize = 1 << 20;
    let n_bytes = n_vocab.saturating_mul(n_embd).saturating_mul(2);
    if n_vocab > LIMIT_TOKENS || n_bytes > LIMIT_BYTES {
        return false;
    }
    let header = format!(
        r#"{{"gpt_neox.embed_in.weight":{{"dtype":"F16","shape":[{n_vocab},{n_embd}],"data_offsets":[0,{n_bytes}]}}}}"#
    );
    let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    scratch.put(name, &start);
    let file = fs::File::options().write(true).open(scratch.path(name)).expect("the file just written");
    file.set_len((start.len() + n_bytes) as u64).expect("a hole in it");
    true
}

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

/// A folder of this thread, for readers that open paths. It is in `TMPDIR`, which should be in memory.
struct Scratch {
    root: PathBuf,
    /// What the files hold. Often it is the same again.
    written: RefCell<HashMap<String, Vec<u8>>>,
}

impl Scratch {
    fn new() -> Self {
        static N_FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = N_FOLDERS.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("pythia-fuzz-{}-{number}", std::process::id()));
        Self { root, written: RefCell::default() }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let mut written = self.written.borrow_mut();
        match written.get_mut(name) {
            Some(before) if before == bytes => return,
            Some(before) => {
                before.clear();
                before.extend_from_slice(bytes);
            }
            None => {
                fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("a folder to write to");
                written.insert(name.to_owned(), bytes.to_vec());
            }
        }
        fs::write(self.path(name), bytes).expect("a file to write to");
    }

    fn remove(&self, name: &str) {
        if self.written.borrow_mut().remove(name).is_some() {
            fs::remove_file(self.path(name)).expect("a file that was written");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a folder that stays, and it matters little.
        let _ = fs::remove_dir_all(&self.root);
    }
}
