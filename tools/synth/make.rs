//! What `synth` does, for it and for tests.

#[path = "shape.rs"]
mod shape;
#[path = "tokenizer.rs"]
mod tokenizer;
#[path = "weights.rs"]
mod weights;

use clap::Parser;
use pythia_checkpoint::{Checkpoint, Config, Dtype};
use serde_json::{Value, json};
use shape::Shape;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Writes a random GPT-NeoX checkpoint of any Pythia shape.
#[derive(Debug, Parser)]
#[command(name = "synth", allow_missing_positional = true)]
pub(crate) struct Args {
    /// A Pythia size: 14m 31m 70m 160m 410m 1b 1.4b 2.8b 6.9b 12b
    #[arg(required_unless_present = "custom", conflicts_with = "custom")]
    size: Option<String>,
    /// The folder to write, created if it is not there
    out_dir: PathBuf,
    /// A shape of your own in place of a size
    #[arg(long, value_name = "LAYERS,HIDDEN,HEADS")]
    custom: Option<String>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Element type of the weights: f32, f16 or bf16
    #[arg(long, default_value = "f16", value_parser = parse_dtype)]
    dtype: Dtype,
    /// Start another weight file where one would grow past this many bytes
    #[arg(long, value_name = "BYTES")]
    shard_bytes: Option<u64>,
    /// Rows of the vocabulary matrices [default: the size's own, 50304 for a custom shape]
    #[arg(long)]
    vocab: Option<usize>,
    /// Longest context
    #[arg(long, default_value_t = 2048)]
    context: usize,
    /// Copy this tokenizer.json in place of writing a small one
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Leave the output matrix out: it is the embedding
    #[arg(long)]
    tied: bool,
    /// Attention and feed-forward one after the other, as models before Pythia
    #[arg(long)]
    sequential: bool,
    /// Write config and names as this version of Transformers does
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=5))]
    transformers: u8,
    /// Replace a checkpoint that is there already
    #[arg(long)]
    force: bool,
}

fn parse_dtype(name: &str) -> Result<Dtype, String> {
    let wanted = |dtype: &Dtype| dtype.name().eq_ignore_ascii_case(name);
    Dtype::ALL.into_iter().find(wanted).ok_or_else(|| "wanted f32, f16 or bf16".to_owned())
}

/// Writes the checkpoint, and says what it did.
pub(crate) fn synthesize(args: &Args) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let shape = match (&args.custom, &args.size) {
        (Some(text), _) => Shape::parse_custom(text)?,
        (None, Some(size)) => Shape::of_size(size)?,
        (None, None) => return Err("no shape given".into()),
    };
    let out_dir = &args.out_dir;
    let config_path = out_dir.join("config.json");
    if config_path.exists() && !args.force {
        return Err(format!("{}: exists already (--force replaces it)", config_path.display()).into());
    }
    let n_vocab = args.vocab.unwrap_or(shape.n_vocab);
    let config_text = config_json(args, &shape, n_vocab);
    // Read as any other config before the first weight is written: a custom shape may be impossible.
    let config = Config::parse(&config_path, &config_text)?;
    let tokenizer = match &args.tokenizer {
        None => tokenizer::small(n_vocab)?,
        Some(path) => fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
    };

    fs::create_dir_all(out_dir).map_err(|e| format!("{}: {e}", out_dir.display()))?;
    if args.force {
        remove_weights(out_dir)?;
    }
    write(&out_dir.join("tokenizer.json"), &tokenizer)?;
    write_tokenizer_config(args)?;
    let tensors = shape::tensors(&config, args.transformers >= 5);
    let n_bytes = weights::write(out_dir, &tensors, args.dtype, args.seed, args.shard_bytes)?;
    // Last, so that an interrupted run leaves no folder that looks like a checkpoint.
    write(&config_path, &config_text)?;

    let checkpoint = Checkpoint::open(out_dir)?;
    let n_params: usize = tensors.iter().map(|tensor| tensor.n_elems()).sum();
    println!(
        "{}: {n_params} parameters, {} tensors, {n_bytes} bytes in {} weight file(s), {:.1} s",
        out_dir.display(),
        tensors.len(),
        checkpoint.files().len(),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// The config as Transformers 4 or 5 writes it.
fn config_json(args: &Args, shape: &Shape, n_vocab: usize) -> String {
    let dtype = match args.dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
    };
    let mut config = json!({
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_size": shape.n_embd,
        "initializer_range": weights::STD,
        "intermediate_size": 4 * shape.n_embd,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": args.context,
        "model_type": "gpt_neox",
        "num_attention_heads": shape.n_head,
        "num_hidden_layers": shape.n_layer,
        "tie_word_embeddings": args.tied,
        "use_cache": true,
        "use_parallel_residual": !args.sequential,
        "vocab_size": n_vocab,
    });
    let versioned = match args.transformers {
        4 => json!({"rotary_pct": 0.25, "rotary_emb_base": 10000, "torch_dtype": dtype}),
        _ => json!({
            "rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rope_type": "default"},
            "dtype": dtype,
        }),
    };
    if let (Value::Object(config), Value::Object(versioned)) = (&mut config, versioned) {
        config.extend(versioned);
    }
    format!("{config:#}\n")
}

/// Names the special tokens. A copied tokenizer keeps what lies beside it; without that the ids in the config count.
fn write_tokenizer_config(args: &Args) -> Result<(), String> {
    const NAME: &str = "tokenizer_config.json";
    let out = args.out_dir.join(NAME);
    match &args.tokenizer {
        None => write(&out, &tokenizer::small_config()),
        Some(path) => {
            let beside = path.with_file_name(NAME);
            if beside.exists() {
                fs::copy(&beside, &out).map_err(|e| format!("{}: {e}", beside.display()))?;
            } else if out.exists() {
                fs::remove_file(&out).map_err(|e| format!("{}: {e}", out.display()))?;
            }
            Ok(())
        }
    }
}

/// Removes the weights of an earlier run, which may have had other files, and the config that makes a checkpoint.
fn remove_weights(dir: &Path) -> Result<(), String> {
    let at = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    for entry in fs::read_dir(dir).map_err(|e| at(dir, e))? {
        let path = entry.map_err(|e| at(dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_weights = name.starts_with("model") && name.ends_with(".safetensors");
        if is_weights || name == weights::INDEX || name == "config.json" {
            fs::remove_file(&path).map_err(|e| at(&path, e))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
