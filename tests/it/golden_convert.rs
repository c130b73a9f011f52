//! The converter as a library. Its files against llama.cpp's, tensor by tensor: same types, same shapes, same bytes;
//! and what it promises about threads, metadata and being stopped.

#[path = "../../tools/synth/make.rs"]
mod synth;

use crate::common::{self, Impatient};
use clap::Parser;
use pythia_convert::{
    CheckpointSource, Error, ImatrixFile, Level, Provenance, Request, RunOptions, Written, plan, run,
};
use pythia_gguf::{Gguf, Imatrix, ImatrixEntry};
use pythia_schema::{Hparams, Kind, TensorSpec};
use pythia_task::{Cancel, Progress};
use pythia_text::hex;
use pythia_tokenizer::Vocab;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Converts the fixture to `levels` in one pass; files are named after the levels.
fn convert(folder: &Path, levels: &[Level], threads: usize) {
    try_convert(folder, levels, threads, &Cancel::new(), &()).unwrap();
}

fn try_convert(
    folder: &Path,
    levels: &[Level],
    threads: usize,
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<Vec<Written>, Error> {
    let checkpoint = CheckpointSource::open(&common::checkpoint()).unwrap();
    let provenance = Provenance::gather(checkpoint.checkpoint(), true, cancel).unwrap();
    let plan = plan(&checkpoint, &Request { provenance, ..request(folder, levels) }).unwrap();
    let options = RunOptions { threads, force: false, allow_nonfinite: false, sha256: false, cancel, progress };
    run(&checkpoint, &plan, &options)
}

/// Files named after their levels.
fn request(folder: &Path, levels: &[Level]) -> Request {
    Request { files: levels.iter().map(|level| (*level, folder.join(level.name()))).collect(), ..Request::default() }
}

fn write(checkpoint: &CheckpointSource, request: &Request, threads: usize) -> Result<Vec<Written>, Error> {
    let cancel = Cancel::new();
    let options =
        RunOptions { threads, force: false, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(checkpoint, &plan(checkpoint, request).unwrap(), &options)
}

/// Holds the files of `source` at every level to the list in `tests/data/goldens` made by `tools/goldens.py`.
fn every_tensor_is_llama_cpps(source: &Path, goldens: &str, imatrix: Option<ImatrixFile>) {
    let goldens: Value = serde_json::from_slice(&fs::read(common::data("goldens").join(goldens)).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let makeable = |level: &&Level| imatrix.is_some() || !level.needs_importance();
    let levels: Vec<Level> = Level::ALL.iter().filter(makeable).copied().collect();
    let request = Request { imatrix, ..request(dir.path(), &levels) };
    write(&CheckpointSource::open(source).unwrap(), &request, 0).unwrap();
    for level in levels {
        let bytes = fs::read(dir.path().join(level.name())).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        // Matrices by type; vectors are F32.
        let types = goldens["levels"][level.name()].as_object().unwrap_or_else(|| panic!("no list for {level}"));
        for tensor in gguf.tensors() {
            let name = tensor.name.as_str();
            let listed = types.iter().find(|(_, names)| names.as_array().unwrap().contains(&name.into()));
            let ty = listed.map_or("F32", |(ty, _)| ty);
            let golden = &goldens["tensors"][name];
            assert_eq!(tensor.ty.name(), ty, "{level}: type of {name}");
            assert_eq!(serde_json::json!(tensor.dims), golden["dims"], "{level}: dimensions of {name}");
            let digest = hex(&Sha256::digest(gguf.data(&bytes, tensor)));
            assert_eq!(golden["sha256"][ty], digest, "{level}: bytes of {name} as {ty}");
        }
        assert_eq!(gguf.tensors().len(), goldens["tensors"].as_object().unwrap().len(), "{level}: number of tensors");
    }
}

#[test]
fn every_tensor_of_every_level_is_llama_cpps() {
    every_tensor_is_llama_cpps(&common::checkpoint(), "llama_cpp_sha256.json", None);
}

#[test]
fn every_tensor_of_every_level_is_llama_cpps_with_importances() {
    let imatrix = ImatrixFile::open(&common::data("goldens/imatrix.gguf")).unwrap();
    every_tensor_is_llama_cpps(&common::checkpoint(), "llama_cpp_imatrix_sha256.json", Some(imatrix));
}

/// Rows of 320 are no multiple of 256, so that most matrices fall back; with eight layers, the mixes' first eighth is
/// one.
#[test]
fn where_rows_are_not_whole_blocks_types_give_way_as_in_llama_cpp() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("synth-320");
    let args = ["synth", "--custom", "8,320,8", "--vocab", "512", "--context", "64"].map(OsStr::new);
    synth::synthesize(&synth::Args::parse_from(args.into_iter().chain([folder.as_os_str()]))).unwrap();
    every_tensor_is_llama_cpps(&folder, "llama_cpp_320_sha256.json", None);

    // What `tools/goldens.py --imatrix ramp` gives the columns.
    let specs = pythia_schema::tensors(
        &plan(&CheckpointSource::open(&folder).unwrap(), &request(&folder, &[Level::F16])).unwrap().hparams,
    );
    let matrices = specs.iter().filter(|spec| spec.id.is_matrix() && spec.id.kind != Kind::TokenEmbd);
    let ramp = |spec: &TensorSpec| {
        let sums = (0..spec.shape[1]).map(|column| (1 + column % 7) as f32).collect();
        ImatrixEntry::new(&spec.gguf, sums, vec![1.0]).unwrap()
    };
    let ramp = Imatrix { entries: matrices.map(ramp).collect(), ..Imatrix::default() };
    let path = dir.path().join("ramp.gguf");
    fs::write(&path, ramp.to_gguf().unwrap()).unwrap();
    every_tensor_is_llama_cpps(&folder, "llama_cpp_320_imatrix_sha256.json", Some(ImatrixFile::open(&path).unwrap()));
}

#[test]
fn bytes_do_not_depend_on_threads_or_on_what_else_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let levels = [Level::Q4_0, Level::F16, Level::Q8_0];
    for threads in [1, 2, 5] {
        let folder = dir.path().join(threads.to_string());
        fs::create_dir(&folder).unwrap();
        convert(&folder, &levels, threads);
    }
    let alone = dir.path().join("alone");
    fs::create_dir(&alone).unwrap();
    convert(&alone, &levels[..1], 3);
    for level in levels {
        let one = fs::read(dir.path().join("1").join(level.name())).unwrap();
        for folder in ["2", "5"] {
            assert!(one == fs::read(dir.path().join(folder).join(level.name())).unwrap(), "{level}: {folder} threads");
        }
    }
    let [together, alone] = ["1", "alone"].map(|folder| fs::read(dir.path().join(folder).join("Q4_0")).unwrap());
    assert!(together == alone, "Q4_0 alone differs from Q4_0 beside others");
}

#[test]
fn metadata_says_what_the_model_is_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &[Level::Q4_0, Level::F16], 0);
    let bytes = fs::read(dir.path().join("Q4_0")).unwrap();
    let metadata = Gguf::parse(&bytes).unwrap().metadata;
    let text = |key: &str| metadata.str(key).unwrap().unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(text("general.architecture"), "gptneox");
    assert_eq!(text("general.name"), "pythia-docs-6m");
    assert_eq!(text("general.size_label"), "6M");
    assert_eq!(text("pythia_quant.source.name"), "pythia-docs-6m");
    let config = fs::read(common::checkpoint().join("config.json")).unwrap();
    assert_eq!(text("pythia_quant.source.config_sha256"), hex(&Sha256::digest(config)));
    let weights = fs::read(common::checkpoint().join("model.safetensors")).unwrap();
    let digests = metadata.strings("pythia_quant.source.weights_sha256").unwrap().unwrap();
    assert_eq!(digests, [hex(&Sha256::digest(weights))]);
    assert_eq!(metadata.u32("general.file_type").unwrap(), Some(2));
    assert_eq!(metadata.u32("general.quantization_version").unwrap(), Some(2));
    // The path the checkpoint was opened by is nobody's business.
    assert!(!metadata.iter().any(|(_, value)| format!("{value:?}").contains(env!("CARGO_MANIFEST_DIR"))));

    let hparams = Hparams::from_metadata(&metadata).unwrap();
    assert_eq!((hparams.n_layer, hparams.n_head, hparams.n_rot, hparams.n_ctx), (6, 8, 8, 512));
    assert!(hparams.parallel_residual);
    // Total, and without the two vocabulary matrices of 4096 x 256.
    assert_eq!(pythia_schema::parameter_counts(&hparams), (6_836_224, 6_836_224 - 2 * 4096 * 256));
    let vocab = Vocab::from_metadata(&metadata).unwrap();
    assert_eq!((vocab.tokens.len(), vocab.pre.as_str(), vocab.eos), (4096, "olmo", Some(0)));
    let json = fs::read_to_string(common::checkpoint().join("tokenizer.json")).unwrap();
    assert!(vocab.huggingface_json == Some(json), "tokenizer.json travels unchanged");

    let f16 = fs::read(dir.path().join("F16")).unwrap();
    assert_eq!(Gguf::parse(&f16).unwrap().metadata.get("general.quantization_version"), None);
}

#[test]
fn no_file_gets_its_name_unless_all_can() {
    /// Takes the name of the second file while the first is being written.
    struct Rival<'a>(&'a Path);
    impl Progress for Rival<'_> {
        fn advance(&self, _tensor: &str, _source_bytes: i64) {
            fs::write(self.0, "theirs").unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let rival = dir.path().join("Q4_0");
    let result = try_convert(dir.path(), &[Level::Q8_0, Level::Q4_0], 2, &Cancel::new(), &Rival(&rival));
    assert!(matches!(&result, Err(Error::Exists(_))), "{result:?}");
    assert_eq!(common::names(dir.path()), ["Q4_0"]);
    assert_eq!(fs::read(&rival).unwrap(), b"theirs");
}

#[test]
fn a_run_that_is_cancelled_half_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let result = try_convert(dir.path(), &Level::ALL[..8], 2, &cancel, &Impatient(&cancel));
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(common::names(dir.path()), [""; 0]);
}
