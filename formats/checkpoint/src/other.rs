//! Folders and files that are not checkpoints but may be mistaken for one. Each kind is recognised by a name, with a
//! message that says what it is and what to do.

use crate::config::Config;
use crate::folder::is_shard;
use std::fs;
use std::path::Path;

/// The file that identifies a LoRA folder.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Maximum number of names in a folder that are checked. Hundreds are usual.
const LIMIT_NAMES: usize = 10_000;

/// The names in a folder, sorted. Empty if it cannot be read.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(LIMIT_NAMES);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// A kind of file: the test of its name, and the message, in which `{}` is the name.
type Sign = (fn(&str) -> bool, &'static str);

/// The first one that matches a folder decides.
const SIGNS: [Sign; 9] = [
    (
        |name| name == ADAPTER_CONFIG || name.starts_with("adapter_model."),
        "a LoRA adapter ({}), not a whole model: pythia-quant convert BASE --lora FOLDER merges it into the model it was \
         trained for",
    ),
    (
        |name| has_extension(name, &["gguf"]),
        "a GGUF file ({}), which is converted already: pythia-quant quantize IN.gguf OUT.gguf TYPE stores it as another type",
    ),
    (
        |name| name.starts_with("flax_model") || has_extension(name, &["msgpack"]),
        "weights of Flax ({}), which are not read: load them with from_flax=True in Transformers 4 and save them with \
         save_pretrained",
    ),
    (
        |name| name.starts_with("tf_model") || has_extension(name, &["h5"]),
        "weights of TensorFlow ({}), which are not read: load them with from_tf=True in Transformers 4 and save them with \
         save_pretrained",
    ),
    (
        |name| name.starts_with("layer_") && name.contains("-model_") && name.ends_with("_states.pt"),
        "a raw checkpoint of the GPT-NeoX library ({}): its tools/ckpts/convert_neox_to_hf.py makes a Hugging Face folder \
         of it",
    ),
    (
        |name| {
            let starts = ["global_step", "mp_rank_", "zero_pp_rank_", "bf16_zero_pp_rank_", "zero_to_fp32"];
            // DeepSpeed does not save safetensors, so such a file is a renamed model.
            !has_extension(name, &["safetensors"]) && starts.iter().any(|start| name.starts_with(start))
        },
        "a checkpoint of DeepSpeed ({}), parts of the weights with the state of their optimizer: its zero_to_fp32.py joins \
         them into a pytorch_model.bin",
    ),
    (
        |name| name.ends_with(".distcp") || name.starts_with("pytorch_model_fsdp"),
        "a distributed checkpoint of PyTorch ({}): `accelerate merge-weights` joins it into a model.safetensors",
    ),
    (
        |name| has_extension(name, &["safetensors", "bin"]) && is_shard(Path::new(name)),
        "weights in several files ({}) without their index (as model.safetensors.index.json): download it too",
    ),
    (
        |name| {
            let starts = ["optimizer.", "scheduler.", "rng_state", "trainer_state.", "training_args."];
            starts.iter().any(|start| name.starts_with(start))
        },
        "the state of a training run ({}) without the model's weights: save the model itself, with save_pretrained",
    ),
];

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|found| extensions.iter().any(|wanted| found.eq_ignore_ascii_case(wanted)))
}

/// The kind of a folder with these `names`.
pub(crate) fn by_name(names: &[String]) -> Option<String> {
    let (sentence, name) = SIGNS.iter().find_map(|(is_it, sentence)| {
        let name = names.iter().find(|name| is_it(name))?;
        Some((sentence, name))
    })?;
    Some(sentence.replacen("{}", name, 1))
}

/// The kind of a folder without weights, if it can be recognised.
pub(crate) fn by_folder(folder: &Path, names: &[String]) -> Option<String> {
    // In the folder of a step, its files show which program wrote it.
    let step = names.iter().find(|name| name.starts_with("global_step") && folder.join(name).is_dir());
    if let Some(step) = step
        && let Some(sentence) = by_name(&self::names(&folder.join(step)))
        && by_name(names).is_none_or(|sentence| sentence.starts_with("a checkpoint of DeepSpeed"))
    {
        return Some(sentence);
    }
    // A training run keeps its models in subfolders.
    let is_saved = |name: &&String| {
        let marks = ["config.json", ADAPTER_CONFIG];
        name.starts_with("checkpoint-") && marks.iter().any(|mark| folder.join(name).join(mark).exists())
    };
    match names.iter().rev().find(is_saved) {
        Some(name) if !names.iter().any(|name| name == ADAPTER_CONFIG) => {
            Some(format!("no weights here, but in {name}: name that folder"))
        }
        _ => by_name(names),
    }
}

/// Endings of the names of packed quantized weights.
const PACKED: [&str; 12] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".SCB",
    ".weight_format",
    ".weight_packed",
    ".weight_scale",
    ".quant_state.bitsandbytes__nf4",
];

/// Prefixes of heads other than language-model heads.
const HEADS: [(&str, &str); 4] = [
    ("score.", "GPTNeoXForSequenceClassification, a model with a head for sequence classification"),
    ("classifier.", "GPTNeoXForTokenClassification, a model with a head for token classification"),
    ("qa_outputs.", "GPTNeoXForQuestionAnswering, a model with a head for question answering"),
    ("v_head.", "a model with a value head of reinforcement learning"),
];

/// The kind of a model with tensors of these canonical names, if it is not a language model.
pub(crate) fn by_tensors<'n>(names: impl Iterator<Item = &'n str> + Clone, config: &Config) -> Option<String> {
    let is_lora = |name: &&str| name.contains(".lora_") || name.contains(".base_layer.");
    if let Some(name) = names.clone().find(is_lora) {
        return Some(format!(
            "weights of a LoRA adapter that is not merged ({name}): pythia-quant convert BASE --lora FOLDER merges an \
             adapter, merge_and_unload() does it in PEFT"
        ));
    }
    let packed = names.clone().find(|name| PACKED.iter().any(|end| name.ends_with(end)));
    if config.quantization.is_some() || packed.is_some() {
        let method = config.quantization.as_deref().unwrap_or("a method that config.json does not name");
        return Some(match packed {
            Some(name) => format!(
                "weights quantized already, by {method} ({name}): convert the model they were made from, or dequantize() \
                 them in Transformers and save that"
            ),
            None => format!(
                "config.json has a quantization_config, of {method}: remove it if the weights are floats, else convert \
                 the model they were made from"
            ),
        });
    }
    let (name, what) = HEADS.iter().find_map(|(start, what)| {
        let name = names.clone().find(|name| name.starts_with(start))?;
        Some((name, what))
    })?;
    Some(format!("{what} ({name}), which has no output matrix for tokens: convert a GPTNeoXForCausalLM"))
}
