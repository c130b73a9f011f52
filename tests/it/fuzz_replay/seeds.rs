//! The inputs that fuzzing starts from: small valid files of every kind, made here so that their origin is plain.

use crate::common::file::Entry;
use crate::common::tiny;
use crate::common::torch::{self, Container, Pickle, Tensor, archive, legacy, members};
use pythia_gguf::{Array, Imatrix, ImatrixEntry, Layout, Metadata, Value, keys};
use pythia_schema::{Hparams, TensorSpec};
use pythia_tensor::TensorType;
use pythia_tokenizer::{TokenKind, TokenizerExtras, Vocab};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

/// An input of a target.
pub(crate) struct Seed {
    pub(crate) target: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// All of them.
pub(crate) fn all() -> Vec<Seed> {
    let gguf = [
        ("model.gguf", gguf(&model_metadata(small_vocab()), &specs())),
        ("split.gguf", split()),
        ("vocabulary.gguf", gguf(&model_metadata(tiny::vocab()), &[])),
        ("values.gguf", values()),
        ("version-2.gguf", changed(gguf(&Metadata::new(), &specs()[..1]), 4, 2)),
        ("foreign-type.gguf", foreign()),
    ];
    let safetensors = [
        ("model.safetensors", safetensors(&specs(), "F16")),
        ("embedding.safetensors", safetensors(&specs()[..1], "BF16")),
        ("tied.safetensors", safetensors(&specs()[..specs().len() - 1], "F32")),
        ("sharded.safetensors", sharded("safetensors", |specs| safetensors(specs, "F16"))),
    ];
    let torch = [
        ("model.bin", bin(Container::Zip, &specs())),
        ("model-legacy.bin", bin(Container::Legacy, &specs())),
        ("tensors.bin", bin(Container::Zip, &specs()[..3])),
        ("tensors-64.bin", bin(Container::Zip64, &specs()[..2])),
        ("tensors-legacy.bin", bin(Container::Legacy, &specs()[..3])),
        ("unchecked.bin", unchecked()),
        ("views.bin", views(Container::Zip)),
        ("views-legacy.bin", views(Container::Legacy)),
        ("wrapped.bin", wrapped()),
        ("sharded.bin", sharded("bin", |specs| bin(Container::Zip, specs))),
    ];
    let config = [
        ("transformers-4.json", joined(&[CONFIG_4.into(), byte_tokenizer(json!(["h e"])), TOKENIZER_CONFIG.into()])),
        ("transformers-5.json", joined(&[CONFIG_5.into(), byte_tokenizer(json!([["h", "e"]]))])),
        ("alone.json", CONFIG_4.into()),
    ];
    let imatrix = [
        ("imatrix.gguf", imatrix().to_gguf().expect("a valid matrix")),
        ("imatrix.dat", dat(true)),
        ("imatrix-old.dat", dat(false)),
    ];
    let calibration = [
        ("metrics.gguf", calibration(false, true)),
        ("moments.gguf", calibration(true, true)),
        ("sequential.gguf", calibration(true, false)),
    ];
    let of = |target| move |(name, bytes)| Seed { target, name, bytes };
    let mut seeds: Vec<Seed> = gguf.into_iter().map(of("gguf")).collect();
    seeds.extend(safetensors.into_iter().map(of("safetensors")));
    seeds.extend(torch.into_iter().map(of("torch")));
    seeds.extend(config.into_iter().map(of("config")));
    seeds.extend(imatrix.into_iter().map(of("imatrix")));
    seeds.extend(calibration.into_iter().map(of("calibration")));
    seeds
}

/// The seed of this target and name.
pub(crate) fn find(target: &str, name: &str) -> Vec<u8> {
    let found = all().into_iter().find(|seed| (seed.target, seed.name) == (target, name));
    found.unwrap_or_else(|| panic!("no seed {target}/{name}")).bytes
}

/// Files as one input.
fn joined(files: &[Vec<u8>]) -> Vec<u8> {
    files.join(super::readers::CUT)
}

/// One block of width 4, four tokens: the model that the targets of checkpoints have a config of.
fn hparams() -> Hparams {
    Hparams { n_layer: 1, n_embd: 4, n_head: 2, n_ff: 4, n_vocab: 4, n_ctx: 4, n_rot: 2, ..tiny::hparams() }
}

fn specs() -> Vec<TensorSpec> {
    pythia_schema::tensors(&hparams())
}

/// `a`, `b`, `ab`, an end of text. Too few to encode any text by, so a `tokenizer.json` says what else counts.
fn small_vocab() -> Vocab {
    Vocab {
        tokens: TOKENS.map(str::to_owned).to_vec(),
        kinds: vec![TokenKind::Normal, TokenKind::Normal, TokenKind::Normal, TokenKind::Control],
        merges: vec!["a b".to_owned()],
        bos: Some(3),
        eos: Some(3),
        unk: None,
        pre: "olmo".to_owned(),
        extras: TokenizerExtras::default(),
        huggingface_json: Some(String::from_utf8(tokenizer()).expect("JSON")),
    }
}

const TOKENS: [&str; 4] = ["a", "b", "ab", "<|endoftext|>"];

fn model_metadata(vocab: Vocab) -> Metadata {
    let mut metadata = Metadata::new();
    // Less padding than usual.
    metadata.insert(keys::ALIGNMENT, 8u32);
    Hparams { n_vocab: vocab.tokens.len(), ..hparams() }.to_metadata(&mut metadata);
    metadata.insert(keys::FILE_TYPE, 0u32);
    vocab.to_metadata(&mut metadata).expect("a sound vocabulary");
    metadata
}

fn gguf(metadata: &Metadata, specs: &[TensorSpec]) -> Vec<u8> {
    written(metadata, specs.iter().map(|spec| (spec.gguf.clone(), TensorType::F32, spec.dims())).collect())
}

/// A GGUF file of bytes that count up.
fn written(metadata: &Metadata, tensors: Vec<Entry>) -> Vec<u8> {
    let layout = Layout::new(metadata, tensors).expect("a valid file");
    let mut file = layout.header().to_vec();
    file.extend((0..layout.total_bytes() - file.len() as u64).map(|i| i as u8));
    file
}

/// `file` with another number in the four bytes at `at`.
fn changed(mut file: Vec<u8>, at: usize, number: u32) -> Vec<u8> {
    file[at..at + 4].copy_from_slice(&number.to_le_bytes());
    file
}

fn split() -> Vec<u8> {
    let specs = specs();
    let (first, second) = specs.split_at(7);
    let part = |mut metadata: Metadata, no: u16, tensors| {
        metadata.insert(keys::SPLIT_NO, no);
        metadata.insert(keys::SPLIT_COUNT, 2u16);
        metadata.insert(keys::SPLIT_TENSORS_COUNT, specs.len() as i32);
        gguf(&metadata, tensors)
    };
    joined(&[part(model_metadata(small_vocab()), 0, first), part(Metadata::new(), 1, second)])
}

/// A value of every kind, a block of every type.
fn values() -> Vec<u8> {
    let mut metadata = Metadata::new();
    let values: [Value; 12] = [
        1u8.into(),
        (-1i8).into(),
        1u16.into(),
        (-1i16).into(),
        1u32.into(),
        (-1i32).into(),
        1.5f32.into(),
        1u64.into(),
        (-1i64).into(),
        1.5f64.into(),
        true.into(),
        "text".into(),
    ];
    for value in values {
        metadata.insert(value.type_name(), value);
    }
    metadata.insert("bytes", vec![1u8, 2]);
    metadata.insert("integers", vec![1i32, -2]);
    metadata.insert("floats", vec![1.5f32]);
    metadata.insert("texts", vec!["a".to_owned(), String::new()]);
    let block = |ty: &TensorType| (ty.name().to_owned(), *ty, vec![ty.block_elems() as u64]);
    written(&metadata, TensorType::ALL.iter().map(block).collect())
}

/// A tensor of a type that is known by its size only: IQ1_S, 50 bytes for 256 elements.
fn foreign() -> Vec<u8> {
    let file = written(&Metadata::new(), vec![("t".to_owned(), TensorType::F32, vec![256])]);
    // After magic, version and counts: length and byte of the name, number of dimensions, dimension.
    changed(file, 24 + 9 + 4 + 8, 19)
}

fn safetensors(specs: &[TensorSpec], dtype: &str) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let (mut end, size) = (0, if dtype == "F32" { 4 } else { 2 });
    for spec in specs {
        let start = end;
        end += size * spec.n_elems();
        let entry = json!({"dtype": dtype, "shape": spec.shape, "data_offsets": [start, end]});
        header.insert(spec.hf[0].clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let data: Vec<u8> = (0..end).map(|i| i as u8).collect();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// An index and two shards.
fn sharded(extension: &str, file: impl Fn(&[TensorSpec]) -> Vec<u8>) -> Vec<u8> {
    let specs = specs();
    let (a, b) = specs.split_at(7);
    let entries = |specs: &[TensorSpec], name: &str| -> Vec<_> {
        specs.iter().map(|spec| (spec.hf[0].clone(), json!(format!("{name}.{extension}")))).collect()
    };
    let map: Map<_, _> = entries(a, "a").into_iter().chain(entries(b, "b")).collect();
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map}).to_string();
    joined(&[index.into_bytes(), file(a), file(b)])
}

fn torch_tensors(specs: &[TensorSpec]) -> Vec<Tensor> {
    let tensor = |spec: &TensorSpec| Tensor {
        name: spec.hf[0].clone(),
        class: "Half",
        shape: spec.shape.clone(),
        bytes: (0..2 * spec.n_elems()).map(|i| i as u8).collect(),
    };
    specs.iter().map(tensor).collect()
}

fn bin(container: Container, specs: &[TensorSpec]) -> Vec<u8> {
    torch::file(container, &torch_tensors(specs))
}

/// Without checksums, so that a change of the pickle is not the end of it.
fn unchecked() -> Vec<u8> {
    let tensors = torch_tensors(&specs()[..2]);
    archive_of(torch::state_dict(Container::Zip, &tensors), &tensors)
}

fn archive_of(pickle: Vec<u8>, tensors: &[Tensor]) -> Vec<u8> {
    let members: Vec<_> = members(pickle, tensors).into_iter().map(|m| torch::Member { crc: 0, ..m }).collect();
    archive(&members)
}

/// The embedding and a matrix that is a part of it, transposed, in one storage.
fn views(container: Container) -> Vec<u8> {
    let storage = Tensor { class: "Float", bytes: (0..64).collect(), ..torch_tensors(&specs()[..1]).remove(0) };
    let view = |pickle: Pickle, name: &str, offset, shape: &[i32], strides: &[i32]| {
        let pickle = pickle.text(name).global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        pickle.storage(container, "0", "Float", 16).view(offset, shape, strides).op(b"tR")
    };
    let pickle = view(Pickle::new().op(b"}("), &storage.name, 0, &[4, 4], &[4, 1]);
    let pickle = view(pickle, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", 1, &[4, 3], &[1, 4]);
    let pickle = pickle.op(b"u.").0;
    match container {
        Container::Legacy => legacy(&pickle, &[storage]),
        _ => archive_of(pickle, &[storage]),
    }
}

/// As training programs save it: beside other things, with a prefix.
fn wrapped() -> Vec<u8> {
    let mut tensors = torch_tensors(&specs()[..1]);
    tensors[0].name.insert_str(0, "module.");
    let inner = torch::state_dict(Container::Zip, &tensors);
    let inner = &inner[2..inner.len() - 1]; // without protocol and STOP
    let pickle = Pickle::new().op(b"}(").text("epoch").int(3).text("state_dict").op(inner).op(b"u.").0;
    archive_of(pickle, &tensors)
}

const CONFIG_4: &str = r#"{"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 257, "eos_token_id": 257, "hidden_act": "gelu",
"hidden_size": 4, "initializer_range": 0.02, "intermediate_size": 4, "layer_norm_eps": 1e-05,
"max_position_embeddings": 4, "model_type": "gpt_neox", "num_attention_heads": 2, "num_hidden_layers": 1,
"rotary_emb_base": 10000, "rotary_pct": 1.0, "tie_word_embeddings": false, "torch_dtype": "float16",
"use_parallel_residual": true, "vocab_size": 260}"#;

const CONFIG_5: &str = r#"{"attention_bias": true, "dtype": "bfloat16", "eos_token_id": [257, 2], "hidden_act": "gelu_new",
"hidden_size": 4, "layer_norm_eps": 1e-05, "max_position_embeddings": 4, "model_type": "gpt_neox",
"num_attention_heads": 2, "num_hidden_layers": 1, "rope_parameters": {"partial_rotary_factor": 1.0,
"rope_theta": 10000, "rope_type": "default"}, "tie_word_embeddings": true, "vocab_size": 258}"#;

const TOKENIZER_CONFIG: &str = r#"{"add_prefix_space": false, "bos_token": "<|endoftext|>",
"eos_token": {"content": "<|endoftext|>", "special": true}, "unk_token": null, "tokenizer_class": "GPTNeoXTokenizer"}"#;

fn tokenizer() -> Vec<u8> {
    tiny::tokenizer_json(&TOKENS.map(str::to_owned), json!([["a", "b"]])).to_string().into()
}

/// With the two spellings of merges.
fn byte_tokenizer(merges: serde_json::Value) -> Vec<u8> {
    tiny::tokenizer_json(&tiny::vocab().tokens, merges).to_string().into()
}

fn imatrix() -> Imatrix {
    let entry = |name: &str, counts: &[f32]| {
        let sums = (0..4 * counts.len()).map(|i| i as f32 / 3.0).collect();
        ImatrixEntry::new(name, sums, counts.to_vec()).expect("a valid entry")
    };
    Imatrix {
        entries: vec![entry("blk.0.attn_qkv.weight", &[12.0]), entry("experts", &[3.0, 0.0]), entry("unseen", &[0.0])],
        datasets: vec!["text".to_owned()],
        chunk_count: 3,
        chunk_size: 4,
    }
}

/// Of a model of one block with four rows of everything.
fn calibration(inputs: bool, parallel_residual: bool) -> Vec<u8> {
    let tokens = [3u32, 1, 0, 2];
    let digest = Sha256::digest(tokens.map(u32::to_le_bytes).concat());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let sizes =
        Hparams { n_layer: 1, n_embd: 4, n_head: 2, n_ff: 4, n_vocab: 4, n_ctx: 4, n_rot: 2, ..tiny::hparams() };
    let mut metadata = Metadata::new();
    Hparams { parallel_residual, ..sizes }.to_metadata(&mut metadata);
    for (key, value) in [
        (keys::TYPE, "calibration"),
        (keys::NAME, "tiny"),
        ("calibration.program", "tests"),
        ("calibration.model.fingerprint", "none"),
        ("calibration.text.name", "text"),
        ("calibration.tokens.sha256", &digest),
    ] {
        metadata.insert(key, value);
    }
    metadata.insert("calibration.version", 1u32);
    metadata.insert("calibration.context_length", 2u32);
    metadata.insert("calibration.seed", 7u64);
    metadata.insert("calibration.inputs", inputs);
    metadata.insert("calibration.tokens", Value::Array(Array::U32(tokens.to_vec())));
    let matrices = ["attn_qkv", "attn_output", "ffn_up", "ffn_down"].map(|name| format!("blk.0.{name}.weight"));
    let rows = |name: &str| if name.contains("qkv") { 12 } else { 4 };
    let metrics = matrices.iter().map(|name| (format!("{name}.out_metric.0"), rows(name)));
    let moments = matrices.iter().map(String::as_str).chain(["output.weight"]).filter(|_| inputs);
    let moments = moments.map(|name| (format!("{name}.in_moment"), 4));
    let squares = std::iter::once(("token_embd.weight.out_metric".to_owned(), 4)).chain(metrics).chain(moments);
    let table = squares.map(|(name, rows)| (name, TensorType::F32, vec![rows * (rows + 1) / 2])).collect();
    let layout = Layout::new(&metadata, table).expect("a valid header");
    let mut file = layout.header().to_vec();
    for tensor in layout.tensors() {
        file.resize(tensor.offset as usize, 0);
        file.extend((0..tensor.n_elems()).flat_map(|i| (i as f32 / 7.0).to_le_bytes()));
    }
    file.resize(layout.total_bytes() as usize, 0);
    file
}

fn dat(with_tail: bool) -> Vec<u8> {
    let int = |value: i32| value.to_le_bytes().to_vec();
    let floats = [1.0f32, 0.0, 2.5, 1e-3].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = int(2);
    for name in ["blk.0.attn_qkv.weight", "output.weight"] {
        file.extend([int(name.len() as i32), name.into(), int(3), int(4), floats.clone()].concat());
    }
    if with_tail {
        file.extend([int(3), int(4), b"text".to_vec()].concat());
    }
    file
}
