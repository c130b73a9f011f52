//! Strings that would command a terminal, forge a line or hide something, in every field of every command that shows
//! text from elsewhere: nothing of them may come out as it is.

use super::checkpoint::{Weights, config, file, tokenizer, valid};
use super::model::{Model, changed, with_key};
use super::{none, write};
use crate::common::file;
use crate::common::torch::{self, Member, Pickle};
use crate::common::{PYTHIA_QUANT, PYTHIA_RUN};
use pythia_gguf::{Metadata, Value, keys};
use pythia_tensor::TensorType;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The attacks. Short enough to be shown whole: messages cut what is long.
const ATTACKS: &[&str] = &[
    // Commands of terminals, by ESC and by the C1 controls; a bell, a backspace, a delete.
    "a\u{1b}[2J\u{1b}]0;x\u{7}\u{8}\u{7f}\u{9b}31m\u{85}",
    // A line of its own that looks like ours.
    "b\r\nFORGED\tx\u{2028}c\u{2029}d\u{b}e\u{c}",
    // Another order, or nothing to be seen.
    "c\u{202e}fugg\u{202c}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}",
    "d\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{34f}\u{fe0f}\u{3164}\u{e0041}\u{e007f}",
];

/// One place that a string can stand in, and the command that shows it.
struct Field {
    name: &'static str,
    /// Writes the files into an empty folder, the attack in them.
    build: fn(&Path, &str),
    /// Program and arguments; `{}` is the attack.
    command: &'static str,
}

const fn field(name: &'static str, build: fn(&Path, &str), command: &'static str) -> Field {
    Field { name, build, command }
}

const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf";
const TOKENIZE: &str = "pythia-run tokenize m.gguf -p hello";
const INSPECT: &str = "pythia-quant inspect m.gguf --tensors";

#[rustfmt::skip] // a table
const FIELDS: &[Field] = &[
    // GGUF: what makes the reader refuse.
    field("architecture", |f, a| with_key(f, keys::ARCHITECTURE, Some(a)), "pythia-quant verify m.gguf"),
    field("tokenizer model", |f, a| with_key(f, keys::TOKENIZER_MODEL, Some(a)), TOKENIZE),
    field("pre-tokenizer", |f, a| with_key(f, keys::TOKENIZER_PRE, Some(a)), TOKENIZE),
    field("alignment", patched_key, "pythia-quant inspect m.gguf"),
    field("a token twice", |f, a| tokens(f, |t| { t[3] = a.into(); t[4] = a.into(); }), TOKENIZE),
    field("a token that is no byte", |f, a| tokens(f, |t| t[3] = a.into()), TOKENIZE),
    field("merge without a space", |f, a| with_key(f, keys::MERGES, Some(vec![a.replace(' ', "")])), TOKENIZE),
    field("merge of unknown pieces", |f, a| with_key(f, keys::MERGES, Some(vec![format!("{a} he")])), TOKENIZE),
    field("name of a key", key_named, "pythia-quant inspect m.gguf"),
    field("unknown tensor", tensor_named, "pythia-run info m.gguf"),
    field("unknown tensor, verified", tensor_named, "pythia-quant verify m.gguf"),
    field("unknown tensor, verified, JSON", tensor_named, "pythia-quant verify m.gguf --json --sha256"),
    field("unknown tensor, converted", tensor_named, "pythia-quant quantize m.gguf out.gguf Q8_0"),
    field("tensor not finite", |f, a| { tensor_named(f, a); not_finite(f); }, "pythia-quant verify m.gguf"),
    field("embedded tokenizer: no JSON", embed, TOKENIZE),
    field("embedded tokenizer: model", |f, a| embed_changed(f, |t| t["model"]["type"] = json!(a)), TOKENIZE),
    field("embedded tokenizer: normalizer", |f, a| embed_changed(f, |t| t["normalizer"]["type"] = json!(a)), TOKENIZE),
    field("embedded tokenizer: merge", |f, a| embed_changed(f, |t| t["model"]["merges"][0][0] = json!(a)), TOKENIZE),
    field("embedded tokenizer: token", |f, a| embed_changed(f, |t| t["model"]["vocab"][a] = json!(3)), TOKENIZE),
    field("embedded tokenizer: added", |f, a| embed_changed(f, |t| t["added_tokens"][0]["content"] = json!(a)), TOKENIZE),
    field("imatrix kind", |f, a| { changed(f, |_| ()); imatrix(f, |m| m.insert("general.type", a)); }, QUANTIZE),
    field("imatrix text", |f, a| { changed(f, |_| ()); imatrix(f, |m| m.insert("imatrix.datasets", vec![a.to_owned()])); }, QUANTIZE),
    field("sidecar", |f, a| { changed(f, |_| ()); write(f, "m.gguf.sha256", format!("{}  {a}\n# {}  {a}\n", "0".repeat(64), "0".repeat(64))); }, "pythia-quant verify m.gguf"),
    // Checkpoints.
    field("model_type", |f, a| set(f, "model_type", a), CONVERT),
    field("hidden_act", |f, a| set(f, "hidden_act", a), CONVERT),
    field("a number", |f, a| set(f, "hidden_size", a), CONVERT),
    field("rope_scaling", |f, a| { valid(f); config_with(f, "rope_scaling", json!({"type": a})); }, CONVERT),
    field("unknown key", |f, a| set(f, a, "x"), CONVERT),
    field("a key twice", |f, a| { valid(f); write(f, "config.json", format!("{{{0}: 1, {0}: 2}}", json!(a))); }, CONVERT),
    field("config of another kind", |f, a| { valid(f); write(f, "config.json", json!([a]).to_string()); }, CONVERT),
    field("tensor name", |f, a| header(f, |t| format!("{{{}:{{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}},{}", json!(a), &t[1..])), CONVERT),
    field("tensor type", |f, a| header(f, |t| t.replacen("\"F16\"", &json!(a).to_string(), 1)), CONVERT),
    field("tensor offsets", |f, a| header(f, |t| format!("{{{}:{{\"dtype\":\"F16\",\"shape\":[9],\"data_offsets\":[0,0]}},{}", json!(a), &t[1..])), CONVERT),
    field("metadata", |f, a| header(f, |t| format!("{{\"__metadata__\":{{{0}:{0}}},{1}", json!(a), &t[1..])), CONVERT),
    field("metadata of another kind", |f, a| header(f, |t| format!("{{\"__metadata__\":{{{}:1}},{}", json!(a), &t[1..])), CONVERT),
    field("shard", |f, a| index(f, "x", a), CONVERT),
    field("tensor in the index", |f, a| index(f, a, "model.safetensors"), CONVERT),
    field("tokenizer: kind", |f, a| tokenizer_with(f, |t| t["model"]["type"] = json!(a)), CONVERT),
    field("tokenizer: normalizer", |f, a| tokenizer_with(f, |t| t["normalizer"]["type"] = json!(a)), CONVERT),
    field("tokenizer: split", |f, a| tokenizer_with(f, |t| t["pre_tokenizer"]["type"] = json!(a)), CONVERT),
    field("tokenizer: merge", |f, a| tokenizer_with(f, |t| t["model"]["merges"][0] = json!([a, "e"])), CONVERT),
    field("tokenizer: token twice", |f, a| tokenizer_with(f, |t| t["model"]["vocab"][a] = json!(3)), CONVERT),
    field("tokenizer: token too high", |f, a| tokenizer_with(f, |t| t["model"]["vocab"][a] = json!(99_999)), CONVERT),
    field("tokenizer: added token", |f, a| tokenizer_with(f, |t| { t["added_tokens"][0]["content"] = json!(a); t["added_tokens"][0]["id"] = json!(2); }), CONVERT),
    field("tokenizer: unk_token", |f, a| tokenizer_with(f, |t| t["model"]["unk_token"] = json!(a)), CONVERT),
    field("tokenizer_config", |f, a| { valid(f); write(f, "tokenizer_config.json", json!({"bos_token": a, "eos_token": a}).to_string()); }, CONVERT),
    field("pickle: global", |f, a| pickled(f, Pickle::new().global(&a.replace(['\n', ' '], ""), "x").op(b".")), CONVERT),
    field("pickle: key", |f, a| pickled(f, Pickle::new().op(b"}").text(a).int(1).op(b"s.")), CONVERT),
    field("pickle: storage", |f, a| pickled(f, Pickle::new().op(b"(").text(a).op(b"tQ.")), CONVERT),
    field("zip: member", |f, a| zip(f, Member::new(&format!("{a}/x"), vec![])), CONVERT),
    field("zip: member twice", |f, a| { let m = Member::new(&format!("m/{a}"), vec![]); binary(f, &torch::archive(&[m.clone(), m])); }, CONVERT),
    field("zip: byte order", |f, a| zip(f, Member::new("m/byteorder", a.as_bytes().to_vec())), CONVERT),
    field("adapter: kind", |f, a| adapter(f, json!({"peft_type": a}), "x"), LORA),
    field("adapter: bias", |f, a| adapter(f, json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "bias": a}), "x"), LORA),
    field("adapter: modules", |f, a| adapter(f, json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": [a], "rank_pattern": {a: 2}}), "x"), LORA),
    field("adapter: tensor", |f, a| adapter(f, json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1}), a), LORA),
    field("adapter: module", |f, a| adapter(f, json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1}), &format!("base_model.model.{a}.lora_A.weight")), LORA),
    // Names of files and folders.
    field("file that is not there", |_, _| (), "pythia-run info {}.gguf"),
    field("file that is none", |f, a| write(f, a, "x"), "pythia-quant inspect {}"),
    field("file that is none, JSON", |f, a| write(f, a, "x"), "pythia-quant verify {} --json"),
    field("folder", |f, a| drop(fs::create_dir(f.join(a))), "pythia-quant convert ./{} -t F16"),
    field("folder of a valid checkpoint", |f, a| { fs::create_dir(f.join(a)).unwrap(); valid(&f.join(a)); }, "pythia-quant convert ./{} -t F16 -v"),
    field("output", |f, _| valid(f), "pythia-quant convert . -t F16 -o {}"),
    field("output, JSON", |f, _| valid(f), "pythia-quant convert . -t F16 -o {} --json"),
    field("output that exists", |f, a| { valid(f); write(f, a, "x"); }, "pythia-quant convert . -t F16 -o {}"),
    field("output in a folder that is none", |f, a| { valid(f); write(f, a, "x"); }, "pythia-quant convert . -t F16 -o {}/x/y"),
    field("folder of weights", |f, _| changed(f, |_| ()), "pythia-quant dequantize m.gguf {}"),
    field("model, verified", |f, a| { changed(f, |_| ()); fs::rename(f.join("m.gguf"), f.join(a)).unwrap(); }, "pythia-quant verify {} --sha256"),
    field("model, split", |f, a| { changed(f, |m| split(&mut m.metadata)); fs::rename(f.join("m.gguf"), f.join(format!("{a}-00001-of-00002.gguf"))).unwrap(); }, "pythia-quant inspect {}-00001-of-00002.gguf"),
    field("model, run", |f, a| { changed(f, |_| ()); fs::rename(f.join("m.gguf"), f.join(a)).unwrap(); }, "pythia-run info {}"),
    field("model, measured", |f, a| { changed(f, |_| ()); fs::rename(f.join("m.gguf"), f.join(a)).unwrap(); }, "pythia-run bench -m {} -p 2 -n 0 -r 1 -o csv"),
    field("text", |f, a| { changed(f, |_| ()); write(f, a, "hello ".repeat(40)); }, "pythia-run perplexity m.gguf -f {} -c 16"),
    field("text that is none", |f, a| { changed(f, |_| ()); write(f, a, b"\xff"); }, "pythia-run perplexity m.gguf -f {} -c 16"),
    field("text, counted", |f, a| { changed(f, |_| ()); write(f, a, "hello ".repeat(40)); }, "pythia-quant imatrix m.gguf -f {} -c 16 -o {}.gguf"),
    // Command lines.
    field("command", |_, _| (), "pythia-run {}"),
    field("name of the program", |_, _| (), "pythia-run --help"),
    field("option", |_, _| (), "pythia-quant inspect --{}"),
    field("number", |_, _| (), "pythia-run info m.gguf --threads {}"),
    field("number, after an empty line", |_, _| (), "pythia-run info m.gguf --threads 1\n\nFORGED{}"),
    field("size", |f, _| valid(f), "pythia-quant convert . -t F16 --split-max-size {}"),
    field("type", |_, _| (), "pythia-quant convert . -t {}"),
    field("rule", |_, _| (), "pythia-quant convert . -t F16 --tensor-type {}=Q4_0"),
    field("rule of a bad expression", |_, _| (), "pythia-quant convert . -t F16 --tensor-type ({}=Q4_0"),
    field("file of rules", |_, _| (), "pythia-quant convert . -t F16 --tensor-type-file {}"),
    field("rule in a file", |f, a| { valid(f); write(f, "rules", a); }, "pythia-quant convert . -t F16 -o o --tensor-type-file rules"),
    field("quantizer", |_, _| (), "pythia-quant convert . -t F16 --quantizer {}"),
    field("calibration", |_, _| (), "pythia-quant convert . -t F16 --quantizer feedback --calibration {}"),
    field("calibration that is none", |f, a| { valid(f); write(f, a, "x"); }, "pythia-quant convert . -t Q4_0 -o o --quantizer feedback --calibration {}"),
    field("text of a calibration", |f, _| valid(f), "pythia-quant convert . -t Q4_0 -o o --quantizer feedback --calibrate {}"),
    field("budget", |_, _| (), "pythia-quant convert . -t Q4_0 --quantizer feedback --calibrate x --budget {}"),
    field("budget of a level", |_, _| (), "pythia-quant convert . -t Q4_0 --quantizer feedback --calibrate x --budget same-as:{}"),
    field("what a budget leaves", |_, _| (), "pythia-quant convert . -t Q4_0 --quantizer feedback --calibrate x --budget 4MB --keep ({}"),
    field("report on a quantizer", |f, a| { valid(f); write(f, "x", ""); write(f, a, ""); }, "pythia-quant convert . -t Q4_0 -o o --quantizer feedback --calibrate x --report {}"),
    field("rule without effect", |f, _| valid(f), "pythia-quant convert . -t F16 -o o --tensor-type {}=Q4_0"),
    field("activations", |_, _| (), "pythia-run info m.gguf --activations {}"),
    field("instruction set", |_, _| (), "pythia-run info m.gguf --isa {}"),
    field("device", |_, _| (), "pythia-run info m.gguf --device {}"),
    field("ids", |f, _| changed(f, |_| ()), "pythia-run tokenize m.gguf --decode {}"),
    field("flag of llama.cpp", |_, _| (), "pythia-run generate -m m.gguf -hf {}"),
    field("value of a flag of llama.cpp", |_, _| (), "pythia-run generate -m m.gguf -ngl {} -p x"),
    field("cache", |_, _| (), "pythia-quant cache list --cache {}"),
    field("model in the cache", |_, _| (), "pythia-quant cache clear {} --cache ."),
    field("adapter that is none", |f, _| valid(f), "pythia-quant convert . -t F16 --lora {}"),
    field("id of the Hub", |_, _| (), "pythia-quant convert someone/{} -t F16 --offline"),
    field("revision", |_, _| (), "pythia-quant convert someone/thing@{} -t F16 --offline"),
    field("prompt", |f, _| changed(f, |_| ()), "pythia-run tokenize m.gguf -p {}"),
    field("prompt, JSON", |f, _| changed(f, |_| ()), "pythia-run tokenize m.gguf --json -p {}"),
    field("stop", |f, _| changed(f, |_| ()), "pythia-run generate m.gguf -p he -n 1 --json --stop {}"),
];

const LORA: &str = "pythia-quant convert . -t F16 -o out.gguf --lora l";
const QUANTIZE: &str = "pythia-quant quantize m.gguf out.gguf Q4_0 --imatrix i.gguf";

/// What shows the fields of a file that is sound.
const SHOWN: &[&str] = &[
    INSPECT,
    "pythia-quant inspect m.gguf --json",
    "pythia-quant verify m.gguf --sha256",
    "pythia-quant verify m.gguf --json",
    "pythia-quant verify m.gguf --against m.gguf --tensors",
    "pythia-quant diff m.gguf plain.gguf",
    "pythia-quant diff plain.gguf m.gguf --all --json",
    "pythia-run info m.gguf",
    "pythia-run info m.gguf --json",
    "pythia-run tokenize m.gguf -p hello",
    "pythia-quant quantize m.gguf out.gguf Q8_0 --force -v",
    "pythia-quant dequantize m.gguf out --force",
];

#[test]
fn no_attack_comes_out_of_any_field() {
    let mut faults = Vec::new();
    for (field, attack) in FIELDS.iter().flat_map(|field| ATTACKS.iter().map(move |attack| (field, attack))) {
        let dir = tempfile::tempdir().unwrap();
        (field.build)(dir.path(), attack);
        faults.extend(fault(dir.path(), field.command, attack).map(|fault| format!("{}: {fault}", field.name)));
    }
    none(faults.into_iter());
}

/// All keys that are shown and refused by nothing, and a token of every attack, in one file.
#[test]
fn no_attack_comes_out_of_a_sound_file() {
    let dir = tempfile::tempdir().unwrap();
    changed(dir.path(), |_| ());
    fs::rename(dir.path().join("m.gguf"), dir.path().join("plain.gguf")).unwrap();
    for attack in ATTACKS {
        changed(dir.path(), |model| {
            let keys = ["name", "author", "license", "url", "description", "basename", "source.url", "version"];
            keys.iter().for_each(|key| model.metadata.insert(format!("general.{key}"), *attack));
            let keys = ["pythia_quant.source.name", "pythia_quant.recipe", "pythia_quant.version", "somebody.s"];
            keys.iter().for_each(|key| model.metadata.insert(*key, *attack));
            // What makes `verify` name the quantizer.
            model.metadata.insert("pythia_quant.quantizer", *attack);
            model.metadata.insert("pythia_quant.quantizer.vectors", true);
            model.metadata.insert("pythia_quant.requantized", vec!["Q8_0".to_owned()]);
            let tags: Vec<String> = ATTACKS.iter().map(|attack| (*attack).to_owned()).collect();
            model.metadata.insert("general.tags", tags);
            model.metadata.insert("somebody.long", attack.repeat(2000));
            edit_tokens(&mut model.metadata, |tokens| tokens[256] = "he".to_owned());
        });
        none(SHOWN.iter().filter_map(|command| fault(dir.path(), command, attack)));
    }
}

/// Runs `command` in `folder`; what of `attack` came out as it is, or that the command line is wrong.
fn fault(folder: &Path, command: &str, attack: &str) -> Option<String> {
    let args = command.split(' ').map(|arg| arg.replace("{}", attack).into());
    let (stdout, stderr) = run(folder, args.collect());
    // A command that is refused for a flag it does not have shows no field.
    if stderr.contains("unexpected argument '-") && !command.contains("--{}") {
        return Some(format!("{command}: {stderr}"));
    }
    [stdout, stderr].iter().find_map(|out| hazard(out)).map(|line| format!("{command} with {attack:?}: {line:?}"))
}

fn run(folder: &Path, mut args: Vec<OsString>) -> (String, String) {
    let program = match args.remove(0).to_str() {
        Some("pythia-quant") => PYTHIA_QUANT,
        _ => PYTHIA_RUN,
    };
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env("HF_HOME", folder.join("hf")).env_remove("HF_ENDPOINT");
    command.env("PYTHIA_CACHE", folder.join("cache"));
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(&mut command, "\u{1b}[31m\u{202e}");
    let output = command.env("RAYON_NUM_THREADS", "1").stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.code().is_some(), "{command:?}: {:?}", output.status);
    (text(output.stdout), text(output.stderr))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// The first line with a character that [`pythia_text`] escapes, or that was forged.
fn hazard(text: &str) -> Option<String> {
    let bad = |line: &&str| line.starts_with("FORGED") || line.chars().any(|c| pythia_text::hazard(c).is_some());
    text.split('\n').find(bad).map(str::to_owned)
}

fn patched_key(folder: &Path, attack: &str) {
    let mut model = Model::tiny();
    model.metadata.insert(keys::ALIGNMENT, 32u32);
    let mut file = model.bytes();
    let key = keys::ALIGNMENT.as_bytes();
    let at = file.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // From a u32 to a text.
    file.splice(
        at..at + 8,
        [&8u32.to_le_bytes()[..], &(attack.len() as u64).to_le_bytes(), attack.as_bytes()].concat(),
    );
    write(folder, "m.gguf", file);
}

/// As the writer refuses it.
fn key_named(folder: &Path, attack: &str) {
    let mut model = Model::tiny();
    let stand_in = "k".repeat(attack.len());
    model.metadata.insert(&stand_in, 1u32);
    let mut file = model.bytes();
    let at = file.windows(stand_in.len()).position(|window| window == stand_in.as_bytes()).unwrap();
    file[at..at + attack.len()].copy_from_slice(attack.as_bytes());
    write(folder, "m.gguf", file);
}

fn tensor_named(folder: &Path, attack: &str) {
    changed(folder, |model| model.tensors.push((attack.to_owned(), TensorType::F32, vec![4])));
}

/// Makes the last tensor of `m.gguf` NaN.
fn not_finite(folder: &Path) {
    let path = folder.join("m.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 32..].fill(0xff);
    fs::write(path, bytes).unwrap();
}

fn edit_tokens(metadata: &mut Metadata, edit: impl FnOnce(&mut Vec<String>)) {
    let mut tokens = metadata.strings(keys::TOKENS).unwrap().unwrap().to_vec();
    edit(&mut tokens);
    metadata.insert(keys::TOKENS, tokens);
}

fn tokens(folder: &Path, edit: impl FnOnce(&mut Vec<String>)) {
    changed(folder, |model| edit_tokens(&mut model.metadata, edit));
}

fn embed(folder: &Path, json: &str) {
    with_key(folder, keys::HUGGINGFACE_JSON, Some(json));
}

fn embed_changed(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut tree = tokenizer();
    change(&mut tree);
    embed(folder, &tree.to_string());
}

fn imatrix(folder: &Path, change: impl FnOnce(&mut Metadata)) {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "imatrix");
    metadata.insert("imatrix.datasets", vec!["text".to_owned()]);
    metadata.insert("imatrix.chunk_count", 1u32);
    metadata.insert("imatrix.chunk_size", 1u32);
    change(&mut metadata);
    write(folder, "i.gguf", file::zeros(&metadata, Vec::new()));
}

fn split(metadata: &mut Metadata) {
    metadata.insert(keys::SPLIT_NO, Value::U16(0));
    metadata.insert(keys::SPLIT_COUNT, Value::U16(2));
    metadata.insert(keys::SPLIT_TENSORS_COUNT, Value::I32(99));
}

fn set(folder: &Path, key: &str, value: &str) {
    valid(folder);
    config_with(folder, key, json!(value));
}

fn config_with(folder: &Path, key: &str, value: serde_json::Value) {
    let mut config = config();
    config[key] = value;
    write(folder, "config.json", config.to_string());
}

fn header(folder: &Path, change: impl FnOnce(&str) -> String) {
    valid(folder);
    let weights = Weights::tiny();
    write(folder, "model.safetensors", file(&change(&weights.text()), &weights.data));
}

fn adapter(folder: &Path, config: serde_json::Value, tensor: &str) {
    valid(folder);
    let adapter = folder.join("l");
    fs::create_dir(&adapter).unwrap();
    write(&adapter, "adapter_config.json", config.to_string());
    let header = json!({ tensor: { "dtype": "F32", "shape": [1, 32], "data_offsets": [0, 128] } });
    write(&adapter, "adapter_model.safetensors", file(&header.to_string(), &[0; 128]));
}

fn index(folder: &Path, tensor: &str, shard: &str) {
    valid(folder);
    let index = json!({"weight_map": {tensor: shard}});
    write(folder, "model.safetensors.index.json", index.to_string());
    fs::rename(folder.join("model.safetensors"), folder.join("elsewhere")).unwrap();
}

fn tokenizer_with(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    valid(folder);
    let mut tree = tokenizer();
    change(&mut tree);
    write(folder, "tokenizer.json", tree.to_string());
}

fn binary(folder: &Path, bytes: &[u8]) {
    valid(folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    write(folder, "pytorch_model.bin", bytes);
}

fn pickled(folder: &Path, pickle: Pickle) {
    binary(folder, &torch::archive(&[Member::new("m/data.pkl", pickle.0)]));
}

fn zip(folder: &Path, member: Member) {
    binary(folder, &torch::archive(&[Member::new("m/data.pkl", b"\x80\x02}.".to_vec()), member]));
}

/// A name that is no text at all shows its bytes.
#[cfg(unix)]
#[test]
fn names_that_are_no_text_show_their_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"n\xff\x1b[2J\xed\xa0\x80");
    changed(dir.path(), |_| ());
    fs::rename(dir.path().join("m.gguf"), dir.path().join(name)).unwrap();
    for (args, shown) in
        [(&["pythia-run", "info"][..], ""), (&["pythia-quant", "verify"], r"n\xff\u{1b}[2J\xed\xa0\x80: sound")]
    {
        let args = args.iter().map(OsString::from).chain([name.to_owned()]).collect();
        let (stdout, stderr) = run(dir.path(), args);
        assert_eq!(hazard(&stdout), None);
        assert_eq!((hazard(&stderr), stderr.as_str()), (None, ""));
        assert!(stdout.contains(shown), "{stdout}");
    }
    let args = ["pythia-run", "info"].iter().map(OsString::from).chain([OsStr::from_bytes(b"none\xff\n").to_owned()]);
    let (_, stderr) = run(dir.path(), args.collect());
    assert!(stderr.contains(r"none\xff\n: "), "{stderr}");
}

/// Markup of every kind of report, and a formula.
const MARKUP: &str = "=1+cmd|'!\"a\",<script>alert`1`[x](y)*_&";

/// A report of `compare` on these files and a text of such a name, looked at for `attack`: JSON, CSV, Markdown.
fn report(folder: &Path, attack: &str, files: &[&str]) -> [String; 3] {
    let text = format!("{attack}.txt");
    write(folder, &text, "hello ".repeat(40));
    let args = ["pythia-quant", "compare"].into_iter().chain(files.iter().copied());
    let args = args.chain(["-f", &text, "-c", "16", "-o", "r", "--threads", "1"]);
    let (stdout, stderr) = run(folder, args.map(OsString::from).collect());
    let read = |name: &str| fs::read_to_string(folder.join("r").join(name)).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let [json, csv, md, html] = ["report.json", "report.csv", "report.md", "report.html"].map(read);
    for shown in [&stdout, &stderr, &json, &csv, &md, &html] {
        assert_eq!(hazard(shown), None);
    }
    let mut cells = csv.lines().flat_map(|line| line.split(','));
    assert!(!cells.any(|cell| cell.trim_start_matches('"').starts_with(['=', '@', '+'])), "{csv}");
    assert!(!html.contains("<script") && !md.replace("\\<", "").contains("<script"), "{html}\n{md}");
    [json, csv, md]
}

/// Names of a checkpoint and of a text.
#[test]
fn no_attack_comes_out_of_a_report() {
    for attack in ATTACKS.iter().copied().chain([MARKUP]) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join(attack);
        fs::create_dir(&source).unwrap();
        valid(&source);
        let [json, csv, md] = report(dir.path(), attack, &[&format!("./{attack}"), "-t", "Q8_0"]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["source"], attack);
        if attack == MARKUP {
            assert!(csv.contains(r#"F16,"'=1+cmd|'!""a"",<script>"#), "{csv}");
            assert!(md.contains(r#"\<script\>alert\`1\`\[x\](y)\*\_\&"#), "{md}");
        }
    }
}

/// What GGUF files say about where they come from.
#[test]
fn no_attack_comes_out_of_a_report_on_files() {
    for attack in ATTACKS.iter().copied().chain([MARKUP]) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["base.gguf", "level.gguf", "rounded.gguf"] {
            changed(dir.path(), |model| {
                model.metadata.insert(keys::FILE_TYPE, 0u32);
                if name == "rounded.gguf" {
                    model.metadata.insert("pythia_quant.quantizer", attack);
                    model.metadata.insert("pythia_quant.calibration.sha256", attack);
                }
                let keys =
                    ["pythia_quant.source.name", "pythia_quant.source.revision", "pythia_quant.source.config_sha256"];
                let more = ["pythia_quant.recipe", "quantize.imatrix.file", "quantize.imatrix.dataset", "general.name"];
                let keys = keys.into_iter().chain(more).chain(["pythia_quant.imatrix.sha256", "pythia_quant.version"]);
                keys.for_each(|key| model.metadata.insert(key, attack));
                for key in ["pythia_quant.source.weights", "pythia_quant.requantized"] {
                    model.metadata.insert(key, vec![attack.to_owned()]);
                }
            });
            fs::rename(dir.path().join("m.gguf"), dir.path().join(name)).unwrap();
        }
        let [json, ..] = report(dir.path(), attack, &["base.gguf", "level.gguf", "rounded.gguf"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["side_by_side"]["series"][1], attack);
    }
}
