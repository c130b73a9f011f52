//! A quantizer of the caller in a conversion: what it makes is in the files, the rest is as without it, and the files
//! say so.

use crate::common::{self, Impatient, checkpoint, quant};
use pythia_convert::{
    CheckpointSource, Error, Level, Plan, QuantizeJob, Quantizer, Request, RunOptions, Source, Written, metadata, plan,
    run,
};
use pythia_gguf::{Gguf, Limits, Value};
use pythia_schema::block_part;
use pythia_task::{Cancel, ErrorKind, Progress};
use pythia_tensor::TensorType;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Encodes the matrices of the blocks closer to zero than they are, the first in the file first. Leaves the embedding
/// and the output matrix.
#[derive(Default)]
pub(crate) struct Shrinking {
    /// Changes the final norm too.
    vectors: bool,
    /// Stops with an error of this kind after the first layer.
    fails: Option<ErrorKind>,
    /// Makes a byte too many.
    too_long: bool,
    /// Records this key.
    key: Option<&'static str>,
    /// The levels that it was asked for.
    asked: Mutex<Vec<Level>>,
}

impl Shrinking {
    /// One that changes the final norm too.
    pub(crate) fn with_vectors() -> Self {
        Self { vectors: true, ..Self::default() }
    }

    const FACTOR: f32 = 0.96;

    /// What it makes of a tensor in `ty`.
    fn encoded(source: &dyn Source, plan: &Plan, tensor: usize, ty: TensorType) -> Vec<u8> {
        let tensor = &plan.tensors[tensor].source;
        let (mut bytes, mut values) = (Vec::new(), vec![0.0; tensor.n_rows() * tensor.row_elems()]);
        source.read_rows(tensor, 0..tensor.n_rows(), &mut bytes).unwrap();
        tensor.ty.decode(&bytes, &mut values);
        values.iter_mut().for_each(|value| *value *= Self::FACTOR);
        let mut encoded = vec![0; values.len() / ty.block_elems() * ty.block_bytes()];
        ty.encode(&values, &mut encoded);
        encoded
    }
}

impl Quantizer for Shrinking {
    fn name(&self) -> &str {
        "shrinking"
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let factor = (format!("{}factor", metadata::QUANTIZER_DETAILS), Self::FACTOR.into());
        let text = (format!("{}text", metadata::CALIBRATION), "none".into());
        let more = self.key.map(|key| (key.to_owned(), true.into()));
        [factor, text].into_iter().chain(more).collect()
    }

    fn changes_vectors(&self) -> bool {
        self.vectors
    }

    fn quantize(&self, job: &QuantizeJob<'_>) -> Result<(), Error> {
        self.asked.lock().unwrap().push(job.file_plan().level);
        job.options.progress.expect(Some(6));
        for (index, tensor) in job.plan.tensors.iter().enumerate() {
            let ty = job.file_plan().choices[index].ty;
            let is_wanted = block_part(&tensor.name).is_some() && ty.is_quantized();
            if is_wanted || (self.vectors && tensor.name == "output_norm.bias") {
                let mut bytes = Self::encoded(job.source, job.plan, index, ty);
                bytes.extend(self.too_long.then_some(0));
                job.put(index, &bytes)?;
            }
            if tensor.name.ends_with("ffn_down.weight") {
                let layer = tensor.name.split('.').nth(1).unwrap().parse::<usize>().unwrap();
                job.options.progress.advance(&format!("layer {} of 6", layer + 1), 1);
                if job.options.cancel.is_raised() {
                    return Err(Error::Cancelled);
                }
                if let Some(kind) = self.fails {
                    return Err(Error::quantizer(kind, "layer 0 has no inputs"));
                }
            }
        }
        Ok(())
    }
}

fn request(folder: &Path, levels: &[Level], quantizer: Option<Arc<dyn Quantizer>>) -> Request {
    let files = levels.iter().map(|level| (*level, folder.join(format!("{level}.gguf")))).collect();
    Request { files, quantizer, ..Request::default() }
}

fn write(request: &Request, cancel: &Cancel, progress: &dyn Progress) -> Result<Vec<Written>, Error> {
    let source = CheckpointSource::open(&checkpoint()).unwrap();
    let options = RunOptions { threads: 2, force: false, allow_nonfinite: false, sha256: false, cancel, progress };
    run(&source, &plan(&source, request)?, &options)
}

fn made(folder: &Path, levels: &[Level], quantizer: Shrinking) -> Arc<Shrinking> {
    fs::create_dir(folder).unwrap();
    let quantizer = Arc::new(quantizer);
    write(&request(folder, levels, Some(quantizer.clone())), &Cancel::new(), &()).unwrap();
    quantizer
}

/// The metadata, and every tensor with its type and its bytes.
fn read(path: PathBuf) -> (pythia_gguf::Metadata, Vec<(String, TensorType, Vec<u8>)>) {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let tensors = gguf
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.ty.known().unwrap(), gguf.data(&bytes, tensor).to_vec()));
    let tensors = tensors.collect();
    (gguf.metadata, tensors)
}

/// A file of each level as it is without a quantizer.
fn plain(folder: &Path, levels: &[Level]) {
    fs::create_dir(folder).unwrap();
    write(&request(folder, levels, None), &Cancel::new(), &()).unwrap();
}

#[test]
fn what_a_quantizer_makes_is_in_every_file_that_quantizes_and_the_rest_is_as_without() {
    let dir = tempfile::tempdir().unwrap();
    let levels = [Level::F16, Level::Q4_0, Level::Q4_K_M];
    let [plain_in, made_in] = ["plain", "made"].map(|name| dir.path().join(name));
    plain(&plain_in, &levels);
    let quantizer = made(&made_in, &levels, Shrinking::default());
    // There is nothing to round in F16.
    assert_eq!(*quantizer.asked.lock().unwrap(), [Level::Q4_0, Level::Q4_K_M]);
    assert!(fs::read(plain_in.join("F16.gguf")).unwrap() == fs::read(made_in.join("F16.gguf")).unwrap());

    let source = CheckpointSource::open(&checkpoint()).unwrap();
    let plan = plan(&source, &request(&made_in, &levels, None)).unwrap();
    for level in &levels[1..] {
        let (plain_says, plain) = read(plain_in.join(format!("{level}.gguf")));
        let (says, found) = read(made_in.join(format!("{level}.gguf")));
        let mut n_made = 0;
        for (index, (found, plain)) in found.iter().zip(&plain).enumerate() {
            let (name, ty, bytes) = found;
            if block_part(name).is_some() && ty.is_quantized() {
                n_made += 1;
                assert!(found != plain, "{level}: {name} is as without");
                assert!(*bytes == Shrinking::encoded(&source, &plan, index, *ty), "{level}: {name}");
            } else {
                assert!(found == plain, "{level}: {name} is not as without");
            }
        }
        assert_eq!((n_made, found.len()), (24, plain.len()));
        let theirs = ["pythia_quant.quantizer", "pythia_quant.quantizer.factor", "pythia_quant.calibration.text"];
        assert_eq!(says.len(), plain_says.len() + theirs.len());
        assert!(plain_says.iter().all(|(key, value)| says.get(key) == Some(value)));
        assert_eq!(says.str(theirs[0]).unwrap(), Some("shrinking"));
        assert_eq!(says.f32(theirs[1]).unwrap(), Some(Shrinking::FACTOR));
        assert_eq!(says.str(theirs[2]).unwrap(), Some("none"));
    }
}

#[test]
fn a_split_model_holds_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    made(&dir.path().join("whole"), &[Level::Q4_0], Shrinking::default());
    let split = dir.path().join("split");
    fs::create_dir(&split).unwrap();
    let limits = Limits { max_bytes: Some(1_000_000), max_tensors: None };
    let request = Request { limits, ..request(&split, &[Level::Q4_0], Some(Arc::new(Shrinking::default()))) };
    write(&request, &Cancel::new(), &()).unwrap();
    let shards = common::names(&split);
    assert!(shards.len() > 3, "{shards:?}");
    let found: Vec<_> = shards.iter().flat_map(|name| read(split.join(name)).1).collect();
    assert!(found == read(dir.path().join("whole/Q4_0.gguf")).1);
}

#[test]
fn levels_that_need_importances_need_none_with_a_quantizer() {
    let dir = tempfile::tempdir().unwrap();
    let alone = write(&request(dir.path(), &[Level::IQ2_XS], None), &Cancel::new(), &()).unwrap_err();
    assert!(alone.to_string().contains("IQ2_XS needs an importance matrix"), "{alone}");
    made(&dir.path().join("made"), &[Level::IQ2_XS], Shrinking::default());
    assert_eq!(common::names(&dir.path().join("made")), ["IQ2_XS.gguf"]);
}

#[test]
fn quantizing_anew_forgets_the_quantizer() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made");
    made(&folder, &[Level::Q4_0], Shrinking::with_vectors());
    quant(&folder, ["quantize", "Q4_0.gguf", "again.gguf", "F32", "-q"]).ok();
    let (says, _) = read(folder.join("again.gguf"));
    let left: Vec<_> =
        says.iter().filter(|(key, _)| key.contains("quantizer") || key.contains("calibration")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_quantizer_that_stops_leaves_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let failing = |quantizer| {
        let request = request(dir.path(), &[Level::Q4_0, Level::Q8_0], Some(Arc::new(quantizer)));
        let error = write(&request, &Cancel::new(), &()).unwrap_err();
        assert_eq!(common::names(dir.path()), [""; 0]);
        error
    };
    for kind in [ErrorKind::Usage, ErrorKind::Data, ErrorKind::Io] {
        let error = failing(Shrinking { fails: Some(kind), ..Shrinking::default() });
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, "layer 0 has no inputs"));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "layer 0 has no inputs");
    }
    let error = failing(Shrinking { fails: Some(ErrorKind::Cancelled), ..Shrinking::default() });
    assert!(matches!(error, Error::Cancelled), "{error}");
    let error = failing(Shrinking { too_long: true, ..Shrinking::default() }).to_string();
    assert!(error.starts_with("tensor \"blk.0.") && error.ends_with(" of Q4_0"), "{error}");
    for key in ["general.name", "pythia_quant.quantizer", "pythia_quant.version"] {
        let error = failing(Shrinking { key: Some(key), ..Shrinking::default() });
        assert!(error.to_string().contains(&format!("'{key}'")) && error.kind() == ErrorKind::Usage, "{error}");
    }

    let cancel = Cancel::new();
    let request = request(dir.path(), &[Level::Q4_0], Some(Arc::new(Shrinking::default())));
    let error = write(&request, &cancel, &Impatient(&cancel)).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(common::names(dir.path()), [""; 0]);
}

/// The progress as it comes: stages, totals and what is done.
#[derive(Default)]
struct Noted(Mutex<Vec<(String, Option<u64>, i64)>>);

impl Progress for Noted {
    fn stage(&self, name: &str) {
        self.0.lock().unwrap().push((name.to_owned(), None, 0));
    }

    fn expect(&self, total: Option<u64>) {
        self.0.lock().unwrap().last_mut().unwrap().1 = total;
    }

    fn advance(&self, item: &str, units: i64) {
        let mut noted = self.0.lock().unwrap();
        let stage = noted.last_mut().unwrap();
        stage.2 += units;
        assert_eq!(item.starts_with("layer "), stage.0.starts_with("quantizing "), "{item}");
    }
}

#[test]
fn every_stage_of_the_progress_reaches_its_total() {
    let dir = tempfile::tempdir().unwrap();
    let noted = Noted::default();
    let levels = [Level::Q4_0, Level::Q8_0];
    write(&request(dir.path(), &levels, Some(Arc::new(Shrinking::default()))), &Cancel::new(), &noted).unwrap();
    let noted = noted.0.into_inner().unwrap();
    let stages: Vec<&str> = noted.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(stages, ["checking the weights", "quantizing Q4_0", "quantizing Q8_0", "writing"]);
    assert!(noted.iter().all(|(_, total, done)| *total == Some(*done as u64)), "{noted:?}");
    // The matrices of the blocks need not be read again.
    assert!(noted[3].2 < noted[0].2 / 2, "{noted:?}");
}

fn verify(folder: &Path, file: &str, more: &[&str]) -> common::Outcome {
    let source = checkpoint();
    quant(folder, [&["verify", file, "--against", source.to_str().unwrap()], more].concat())
}

#[test]
fn verify_does_not_expect_the_bytes_of_an_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made");
    made(&folder, &[Level::Q4_K_M], Shrinking::default());
    let text = verify(&folder, "Q4_K_M.gguf", &[]).ok();
    let wanted = "re-encoded: 52 of 76 tensors byte-equal, 24 rounded together by the quantizer shrinking, which cannot \
                  be repeated from the source: of these only the errors were checked";
    assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(wanted), "{text}");
    let report: Json = serde_json::from_str(&verify(&folder, "Q4_K_M.gguf", &["--json"]).ok()).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    let encoded = |name: &str| tensors.iter().find(|t| t["name"] == name).unwrap()["error"]["encoded"].clone();
    assert_eq!(encoded("blk.3.ffn_up.weight"), "together");
    assert_eq!(encoded("blk.3.ffn_up.bias"), "equal");

    // A matrix from another layer is not within what rounding does, and a vector is as in the source.
    let mut bytes = fs::read(folder.join("Q4_K_M.gguf")).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    let [a, b, bias] = ["blk.2.ffn_up.weight", "blk.3.ffn_up.weight", "blk.1.ffn_up.bias"]
        .map(|name| header.tensor(name).unwrap().clone());
    bytes.copy_within(a.offset as usize..(a.offset + a.n_bytes) as usize, b.offset as usize);
    bytes[bias.offset as usize] ^= 1;
    fs::write(folder.join("bad.gguf"), bytes).unwrap();
    let report: Json = serde_json::from_str(&verify(&folder, "bad.gguf", &["--json"]).stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let tensors: Vec<_> = problems.iter().map(|problem| problem["tensor"].as_str().unwrap()).collect();
    assert_eq!(tensors, ["blk.3.ffn_up.weight", "blk.1.ffn_up.bias"], "{problems:?}");
}

#[test]
fn vectors_are_changed_by_quantizers_that_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made");
    made(&folder, &[Level::Q4_0], Shrinking::with_vectors());
    let (says, _) = read(folder.join("Q4_0.gguf"));
    assert_eq!(says.bool("pythia_quant.quantizer.vectors").unwrap(), Some(true));
    verify(&folder, "Q4_0.gguf", &[]).ok();
    let report: Json = serde_json::from_str(&verify(&folder, "Q4_0.gguf", &["--json"]).ok()).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    let error = |name: &str| tensors.iter().find(|t| t["name"] == name).unwrap()["error"].clone();
    assert_eq!(error("output_norm.bias")["encoded"], "together");
    assert_eq!(error("output_norm.weight")["encoded"], "equal");

    /// Puts a vector without a word.
    struct Silent;
    impl Quantizer for Silent {
        fn name(&self) -> &str {
            "silent"
        }
        fn metadata(&self) -> Vec<(String, Value)> {
            Vec::new()
        }
        fn quantize(&self, job: &QuantizeJob<'_>) -> Result<(), Error> {
            let norm = job.plan.tensors.iter().position(|tensor| tensor.name == "output_norm.bias").unwrap();
            let bytes = job.file_plan().tensors().nth(norm).unwrap().1.n_bytes;
            job.put(norm, &vec![0; bytes as usize])
        }
    }
    let error = write(&request(dir.path(), &[Level::Q8_0], Some(Arc::new(Silent))), &Cancel::new(), &()).unwrap_err();
    assert_eq!(error.to_string(), "tensor \"output_norm.bias\": made by a quantizer that does not change vectors");
}
