//! Every form a GPT-NeoX checkpoint comes in, converted to F32 and run: the logits are those of a plain forward pass in
//! f64 over the checkpoint's own weights, and forms that say the same give the same bytes.

mod people;
mod same;

use half::{bf16, f16};
use pythia_convert::{CheckpointSource, Level, Provenance, Request, RunOptions, plan, run};
use pythia_gguf::Gguf;
use pythia_model::{Activations, ContextShape, KvType, Model, Options, Span};
use pythia_task::Cancel;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const N_LAYER: usize = 2;
const N_EMBD: usize = 96;
const N_HEAD: usize = 3;
const HEAD_DIM: usize = N_EMBD / N_HEAD;
const N_FF: usize = 160;
const N_VOCAB: usize = 29;
const N_ROT: usize = 16;
// Neither is what a loader would assume.
const ROTARY_PCT: f64 = 0.5;
const ROPE_BASE: f64 = 100.0;
const NORM_EPS: f64 = 1e-3;

/// One of them twice: only its position then tells it apart.
const TOKENS: [u32; 6] = [3, 28, 0, 17, 3, 9];

/// What the model computes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Architecture {
    parallel_residual: bool,
    tied: bool,
    rope_factor: f64,
    gelu_tanh: bool,
}

const PYTHIA: Architecture = Architecture { parallel_residual: true, tied: false, rope_factor: 1.0, gelu_tanh: false };

const ARCHITECTURES: [Architecture; 7] = [
    PYTHIA,
    Architecture { parallel_residual: false, ..PYTHIA },
    Architecture { tied: true, ..PYTHIA },
    Architecture { parallel_residual: false, tied: true, ..PYTHIA },
    Architecture { rope_factor: 2.0, ..PYTHIA },
    Architecture { gelu_tanh: true, ..PYTHIA },
    Architecture { parallel_residual: false, rope_factor: 2.5, gelu_tanh: true, ..PYTHIA },
];

/// How the checkpoint says it.
#[derive(Clone, Copy, Debug)]
struct Form {
    dtype: Dtype,
    /// The config and the name of the head as Transformers 5 writes them.
    transformers_5: bool,
    /// Weight files; an index joins them if there are several.
    n_files: usize,
}

const FORMS: [Form; 5] = [
    Form { dtype: Dtype::F32, transformers_5: false, n_files: 1 },
    Form { dtype: Dtype::F16, transformers_5: false, n_files: 1 },
    Form { dtype: Dtype::BF16, transformers_5: false, n_files: 1 },
    Form { dtype: Dtype::F16, transformers_5: true, n_files: 1 },
    Form { dtype: Dtype::BF16, transformers_5: true, n_files: 3 },
];

/// A tensor of the checkpoint.
struct Weight {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The weights by the names of Transformers 4, the head always among them.
struct Weights(BTreeMap<String, Weight>);

impl Weights {
    /// Multiples of 1/128 below 1, around 1 for the scales of norms: 8 significant bits, so exact in every dtype.
    fn random() -> Self {
        let mut state = 1u64;
        let mut weights = BTreeMap::new();
        for (name, shape) in shapes() {
            let centre = if name.contains("norm.weight") { 1.0 } else { 0.0 };
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                centre + ((state >> 33) % 127) as f32 / 128.0 - 63.0 / 128.0
            };
            let values = (0..shape.iter().product()).map(|_| draw()).collect();
            weights.insert(name, Weight { shape, values });
        }
        Self(weights)
    }

    /// `matrix * x`, plus the bias if there is one.
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let rows = self.0[&format!("{name}.weight")].values.chunks(x.len());
        let products = rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>());
        match self.0.get(&format!("{name}.bias")) {
            Some(bias) => products.zip(&bias.values).map(|(y, b)| y + f64::from(*b)).collect(),
            None => products.collect(),
        }
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let [gamma, beta] = ["weight", "bias"].map(|part| &self.0[&format!("{name}.{part}")].values);
        let scaled = x.iter().map(|x| (x - mean) / (variance + NORM_EPS).sqrt());
        scaled.zip(gamma).zip(beta).map(|((x, g), b)| x * f64::from(*g) + f64::from(*b)).collect()
    }
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("gpt_neox.embed_in.weight".to_owned(), vec![N_VOCAB, N_EMBD]),
        ("gpt_neox.final_layer_norm.weight".to_owned(), vec![N_EMBD]),
        ("gpt_neox.final_layer_norm.bias".to_owned(), vec![N_EMBD]),
        ("embed_out.weight".to_owned(), vec![N_VOCAB, N_EMBD]),
    ];
    for layer in 0..N_LAYER {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            for part in ["weight", "bias"] {
                shapes.push((format!("gpt_neox.layers.{layer}.{norm}.{part}"), vec![N_EMBD]));
            }
        }
        let matrices = [
            ("attention.query_key_value", 3 * N_EMBD, N_EMBD),
            ("attention.dense", N_EMBD, N_EMBD),
            ("mlp.dense_h_to_4h", N_FF, N_EMBD),
            ("mlp.dense_4h_to_h", N_EMBD, N_FF),
        ];
        for (name, rows, cols) in matrices {
            shapes.push((format!("gpt_neox.layers.{layer}.{name}.weight"), vec![rows, cols]));
            shapes.push((format!("gpt_neox.layers.{layer}.{name}.bias"), vec![rows]));
        }
    }
    shapes
}

/// Logits after each of `TOKENS`, straight from the definition of `GPTNeoXForCausalLM`.
fn reference(weights: &Weights, architecture: Architecture) -> Vec<f64> {
    let embedding = &weights.0["gpt_neox.embed_in.weight"].values;
    let row = |token: &u32| embedding[*token as usize * N_EMBD..][..N_EMBD].iter().map(|x| f64::from(*x)).collect();
    let mut stream: Vec<Vec<f64>> = TOKENS.iter().map(row).collect();
    for layer in 0..N_LAYER {
        let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
        let attended = attention(weights, architecture, &name, &stream);
        for (x, attended) in stream.iter_mut().zip(attended) {
            let after_attention = add(x, &attended);
            let input = if architecture.parallel_residual { x.as_slice() } else { &after_attention };
            let inner =
                weights.linear(&name("mlp.dense_h_to_4h"), &weights.norm(&name("post_attention_layernorm"), input));
            let gelu = if architecture.gelu_tanh { gelu_tanh } else { gelu };
            let inner: Vec<f64> = inner.into_iter().map(gelu).collect();
            *x = add(&after_attention, &weights.linear(&name("mlp.dense_4h_to_h"), &inner));
        }
    }
    let head = if architecture.tied { "gpt_neox.embed_in" } else { "embed_out" };
    stream.iter().flat_map(|x| weights.linear(head, &weights.norm("gpt_neox.final_layer_norm", x))).collect()
}

/// Attention with its output projection. The rows of the first matrix are grouped by head: q, k, v of each.
fn attention(
    weights: &Weights,
    architecture: Architecture,
    name: &dyn Fn(&str) -> String,
    stream: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let qkv = stream.iter().enumerate().map(|(position, x)| {
        let mut qkv = weights.linear(&name("attention.query_key_value"), &weights.norm(&name("input_layernorm"), x));
        for head in qkv.chunks_mut(3 * HEAD_DIM) {
            let (q, kv) = head.split_at_mut(HEAD_DIM);
            rotate(q, position as f64 / architecture.rope_factor);
            rotate(&mut kv[..HEAD_DIM], position as f64 / architecture.rope_factor);
        }
        qkv
    });
    let qkv: Vec<Vec<f64>> = qkv.collect();
    let mut outputs = Vec::new();
    for position in 0..qkv.len() {
        let mut merged = Vec::new();
        for head in 0..N_HEAD {
            let part = |at: usize, part: usize| &qkv[at][(3 * head + part) * HEAD_DIM..][..HEAD_DIM];
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let score = |at| (dot(part(position, 0), part(at, 1)) / (HEAD_DIM as f64).sqrt()).exp();
            let scores: Vec<f64> = (0..=position).map(score).collect();
            let total: f64 = scores.iter().sum();
            merged.extend(
                (0..HEAD_DIM)
                    .map(|i| scores.iter().enumerate().map(|(at, score)| score / total * part(at, 2)[i]).sum::<f64>()),
            );
        }
        outputs.push(weights.linear(&name("attention.dense"), &merged));
    }
    outputs
}

fn rotate(head: &mut [f64], position: f64) {
    for i in 0..N_ROT / 2 {
        let angle = position * ROPE_BASE.powf(-2.0 * i as f64 / N_ROT as f64);
        let (a, b) = (head[i], head[i + N_ROT / 2]);
        head[i] = a * angle.cos() - b * angle.sin();
        head[i + N_ROT / 2] = b * angle.cos() + a * angle.sin();
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// `x * Phi(x)`, by the series of the error function whose terms all have one sign.
fn gelu(x: f64) -> f64 {
    let z = (x / 2f64.sqrt()).clamp(-6.0, 6.0); // from there on it is 1 in f64
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    let erf = 2.0 / std::f64::consts::PI.sqrt() * (-z * z).exp() * sum;
    0.5 * x * (1.0 + erf)
}

/// The approximation that Transformers calls `gelu_new`, `gelu_pytorch_tanh` and more.
fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn config(architecture: Architecture, form: Form) -> Value {
    let mut config = json!({
        "model_type": "gpt_neox", "hidden_size": N_EMBD, "num_hidden_layers": N_LAYER, "num_attention_heads": N_HEAD,
        "intermediate_size": N_FF, "vocab_size": N_VOCAB, "max_position_embeddings": 16, "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPS, "use_parallel_residual": architecture.parallel_residual,
        "tie_word_embeddings": architecture.tied,
    });
    if form.transformers_5 {
        config["rope_parameters"] =
            json!({"partial_rotary_factor": ROTARY_PCT, "rope_theta": ROPE_BASE, "rope_type": "default"});
    } else {
        config["rotary_pct"] = ROTARY_PCT.into();
        config["rotary_emb_base"] = ROPE_BASE.into();
    }
    if architecture.rope_factor != 1.0 {
        let scaling = json!({"type": "linear", "factor": architecture.rope_factor});
        if form.transformers_5 {
            config["rope_parameters"]["rope_type"] = "linear".into();
            config["rope_parameters"]["factor"] = architecture.rope_factor.into();
        } else {
            config["rope_scaling"] = scaling;
        }
    }
    if architecture.gelu_tanh {
        config["hidden_act"] = if form.transformers_5 { "gelu_pytorch_tanh" } else { "gelu_new" }.into();
    }
    config
}

/// Writes the checkpoint into `folder`.
fn write_checkpoint(folder: &Path, weights: &Weights, architecture: Architecture, form: Form) {
    let encode = |values: &[f32]| -> Vec<u8> {
        match form.dtype {
            Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    };
    let mut tensors = Vec::new();
    for (name, weight) in &weights.0 {
        let name = match name.as_str() {
            "embed_out.weight" if architecture.tied => continue,
            "embed_out.weight" if form.transformers_5 => "lm_head.weight",
            other => other,
        };
        tensors.push((name, &weight.shape, encode(&weight.values)));
    }
    let mut index = BTreeMap::new();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(form.n_files)).enumerate() {
        let file = match form.n_files {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", number + 1),
        };
        let views = part.iter().map(|(name, shape, bytes)| {
            (*name, TensorView::new(form.dtype, shape.to_vec(), bytes).expect("bytes of this shape"))
        });
        serialize_to_file(views, None, &folder.join(&file)).unwrap();
        index.extend(part.iter().map(|(name, ..)| (*name, file.clone())));
    }
    if form.n_files > 1 {
        let index = json!({"metadata": {"total_size": 0}, "weight_map": index});
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
    fs::write(folder.join("config.json"), config(architecture, form).to_string()).unwrap();
}

/// The checkpoint in `folder` as an F32 file beside it.
fn convert(folder: &Path) -> PathBuf {
    let path = folder.join("out.gguf");
    let checkpoint = CheckpointSource::open(folder).unwrap();
    let provenance = Provenance { name: "tiny".to_owned(), ..Provenance::default() };
    let request = Request { files: vec![(Level::F32, path.clone())], provenance, ..Request::default() };
    let plan = plan(&checkpoint, &request).unwrap();
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 2, force: false, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&checkpoint, &plan, &options).unwrap();
    path
}

fn logits(path: &Path) -> Vec<f32> {
    let options = Options { threads: 2, activations: Activations::F32, kv: KvType::F32, ..Options::default() };
    let model = Model::open(path, &options).unwrap();
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 16, n_batch: 16 }).unwrap();
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &TOKENS }]).unwrap();
    let mut logits = vec![0.0; TOKENS.len() * N_VOCAB];
    context.logits(0..TOKENS.len(), &mut logits).unwrap();
    logits
}

#[test]
fn every_form_of_every_architecture_computes_its_definition() {
    let weights = Weights::random();
    for architecture in ARCHITECTURES {
        let want = reference(&weights, architecture);
        let mut first: Option<Vec<u8>> = None;
        for form in FORMS {
            let dir = tempfile::tempdir().unwrap();
            write_checkpoint(dir.path(), &weights, architecture, form);
            let path = convert(dir.path());
            let got = logits(&path);
            assert_eq!(got.len(), want.len());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let (token, difference) = (i / N_VOCAB, f64::from(*got) - want);
                // Written so that NaN fails.
                assert!(difference.abs() <= 1e-4, "{architecture:?}, {form:?}, token {token}: {got}, wanted {want}");
            }
            // Nothing in the file tells the forms apart: hyperparameters, names, shapes and values are all it holds.
            let bytes = fs::read(&path).unwrap();
            let first = first.get_or_insert_with(|| bytes.clone());
            assert!(*first == bytes, "{architecture:?}, {form:?}: other bytes than {:?}", FORMS[0]);
        }
    }
}

/// Without this the comparison above could be blind to what it is about.
#[test]
fn the_architectures_are_far_apart() {
    let weights = Weights::random();
    let all = ARCHITECTURES.map(|architecture| reference(&weights, architecture));
    for (i, a) in all.iter().enumerate() {
        for b in &all[..i] {
            let largest = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // The two forms of GELU are the closest, and nine times what is tolerated above.
            assert!(largest > 5e-4, "{largest}");
        }
    }
}

#[test]
fn a_head_of_its_own_is_used_even_if_the_config_says_tied() {
    let weights = Weights::random();
    let [untied, tied] = [ARCHITECTURES[0], ARCHITECTURES[2]];
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(dir.path(), &weights, untied, FORMS[0]);
    fs::write(dir.path().join("config.json"), config(tied, FORMS[0]).to_string()).unwrap();
    let path = convert(dir.path());
    let bytes = fs::read(&path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let head = gguf.data(&bytes, gguf.tensor("output.weight").unwrap());
    let want: Vec<u8> = weights.0["embed_out.weight"].values.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(head[..want.len()] == want, "the head is not embed_out");
}
