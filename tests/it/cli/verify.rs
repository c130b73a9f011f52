//! `pythia-quant verify`: sound files pass, and each kind of damage is named.

use crate::common::{self, Outcome, checkpoint, file, gguf, names, quant};
use pythia_convert::Level;
use pythia_gguf::{Gguf, TensorInfo};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of the fixture's Q4_0 file, and what its header says.
fn damaged(folder: &Path, damage: impl FnOnce(&mut Vec<u8>, &Gguf)) -> PathBuf {
    let path = folder.join("x.gguf");
    let mut bytes = fs::read(gguf("Q4_0")).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    damage(&mut bytes, &header);
    fs::write(&path, bytes).unwrap();
    path
}

fn tensor<'a>(header: &'a Gguf, name: &str) -> &'a TensorInfo {
    header.tensor(name).unwrap()
}

fn verify(folder: &Path, file: &Path, more: &[&str]) -> Outcome {
    let file = file.to_str().unwrap();
    quant(folder, ["verify", file].into_iter().chain(more.iter().copied()))
}

/// The messages about a file that is not sound: as JSON on stdout, the first one as an error on stderr.
fn problems(outcome: &Outcome) -> Vec<String> {
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["sound"], false);
    let messages = report["problems"].as_array().unwrap().iter().map(|p| p["message"].as_str().unwrap().to_owned());
    let messages: Vec<String> = messages.collect();
    assert!(outcome.stderr.starts_with("pythia-quant: error: "), "{outcome:?}");
    assert!(outcome.stderr.contains(&messages[0]) && outcome.stderr.lines().count() == 1, "{outcome:?}");
    messages
}

#[test]
fn what_convert_writes_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    for level in ["F32", "Q8_0", "Q4_0"] {
        let text = verify(dir.path(), &gguf(level), &[]).ok();
        assert!(text.contains(": sound; 76 tensors"), "{text}");
        assert_eq!(verify(dir.path(), &gguf(level), &["-q"]).ok(), "");
        let report: Value = serde_json::from_str(&verify(dir.path(), &gguf(level), &["--json"]).ok()).unwrap();
        assert_eq!((&report["sound"], &report["problems"]), (&true.into(), &serde_json::json!([])));
    }
}

#[test]
fn bad_blocks_are_counted_and_located() {
    let dir = tempfile::tempdir().unwrap();
    let name = "blk.4.attn_output.weight";
    let mut place = 0;
    let file = damaged(dir.path(), |bytes, header| {
        // The scales of blocks 33 and 500: infinity, and not a number.
        place = tensor(header, name).offset as usize + 33 * 18;
        bytes[place..place + 2].copy_from_slice(&0x7c00u16.to_le_bytes());
        let other = place + (500 - 33) * 18;
        bytes[other..other + 2].copy_from_slice(&0x7e01u16.to_le_bytes());
    });
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    let wanted = format!(
        "tensor {name:?}: 2 of 2048 Q4_0 blocks hold values that are not finite, the first is block 33 at byte {place}"
    );
    assert_eq!(messages, [wanted]);
    let text = verify(dir.path(), &file, &[]);
    assert_eq!(text.code, Some(65));
    assert!(text.stdout.contains("WRONG: tensor") && text.stdout.contains("1 problem"), "{text:?}");
}

#[test]
fn damage_outside_of_the_values_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), |bytes, _| bytes.extend(b"junk"));
    let size = fs::metadata(&file).unwrap().len();
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    assert_eq!(messages, [format!("4 bytes from byte {} on, wanted none after the last tensor", size - 4)]);

    // A model with a block less than the tensors say.
    let file = damaged(dir.path(), |bytes, _| {
        let key = b"gptneox.block_count";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        assert_eq!(bytes[at], 6);
        bytes[at] = 5;
    });
    let messages = problems(&verify(dir.path(), &file, &["--json", "--against", checkpoint().to_str().unwrap()]));
    assert!(messages[0].contains("blk.5.") && messages[0].contains("5 blocks"), "{messages:?}");

    // Cut off: the header itself is then wrong.
    let file = damaged(dir.path(), |bytes, _| bytes.truncate(bytes.len() - 1000));
    verify(dir.path(), &file, &["--json"]).fails("pythia-quant", 65, &["x.gguf", "output.weight"]);
    // As a writer leaves it that was killed: sound by itself, but there is nothing in it.
    let file = damaged(dir.path(), |bytes, header| {
        let t = tensor(header, "output.weight");
        bytes[t.offset as usize..][..t.n_bytes as usize].fill(0);
    });
    assert!(verify(dir.path(), &file, &[]).ok().contains("warning: tensor \"output.weight\": all values are zero"));
}

#[test]
fn padding_must_be_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let mut metadata = pythia_gguf::Metadata::new();
    metadata.insert("general.architecture", "other");
    let ty = pythia_tensor::TensorType::F32;
    let tensors = vec![("a".to_owned(), ty, vec![1]), ("b".to_owned(), ty, vec![1])];
    let layout = pythia_gguf::Layout::new(&metadata, tensors).unwrap();
    let mut bytes = layout.header().to_vec();
    bytes.resize(layout.total_bytes() as usize, 0);
    let at = layout.tensors()[0].offset as usize + 7;
    bytes[at] = 1;
    let file = dir.path().join("x.gguf");
    fs::write(&file, bytes).unwrap();
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    assert!(messages[0].contains("general.architecture"), "{messages:?}");
    assert_eq!(messages[1..], [format!("padding after tensor \"a\": byte {at} is not zero")]);
}

#[test]
fn sidecars_are_compared_and_tell_which_tensor_changed() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let convert = ["convert", source.to_str().unwrap(), "-t", "Q4_0", "-o", "x.gguf", "--sha256", "-q"];
    quant(dir.path(), convert).ok();
    assert_eq!(names(dir.path()), ["x.gguf", "x.gguf.sha256"]);
    let file = dir.path().join("x.gguf");
    let text = verify(dir.path(), Path::new("x.gguf"), &[]).ok();
    assert!(text.contains("sound") && text.contains("compared with x.gguf.sha256"), "{text}");
    // The digests of the report are those of the sidecar.
    let sidecar = fs::read_to_string(dir.path().join("x.gguf.sha256")).unwrap();
    let text = verify(dir.path(), Path::new("x.gguf"), &["--sha256"]).ok();
    assert!(sidecar.lines().all(|line| text.contains(line.trim_start_matches("# "))), "{text}");

    let mut bytes = fs::read(&file).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    bytes[tensor(&header, "blk.1.ffn_down.weight").offset as usize + 5] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    assert_eq!(messages.len(), 2);
    assert!(messages[0].starts_with("the whole file: found SHA-256 "), "{messages:?}");
    assert!(messages[1].starts_with("tensor \"blk.1.ffn_down.weight\": found SHA-256 "), "{messages:?}");

    fs::write(dir.path().join("x.gguf.sha256"), "no digest\n").unwrap();
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    assert!(messages[0].ends_with("x.gguf.sha256: contains no SHA-256 of the file"), "{messages:?}");
}

#[test]
fn errors_against_the_source_are_those_of_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let report = |level: &str, source: &Path| -> Value {
        let json = verify(dir.path(), &gguf(level), &["--json", "--against", source.to_str().unwrap()]).ok();
        serde_json::from_str(&json).unwrap()
    };
    let errors = |report: &Value| -> Vec<(String, Value)> {
        let tensors = report["tensors"].as_array().unwrap().iter();
        tensors.map(|t| (t["name"].as_str().unwrap().to_owned(), t["error"].clone())).collect()
    };
    // QKV rows included: they lie elsewhere in the checkpoint.
    let f32 = errors(&report("F32", &source));
    assert_eq!(f32.len(), 76);
    assert!(f32.iter().all(|(_, error)| error["identical"] == true), "{f32:?}");

    let from_checkpoint = report("Q4_0", &source);
    for (name, error) in errors(&from_checkpoint) {
        let is_matrix = error["identical"] == false;
        assert_eq!(is_matrix, name.ends_with(".weight") && !name.contains("norm"), "{name}");
        assert_eq!(error["suspect"], false, "{name}");
        if is_matrix {
            let [relative, cosine] = ["relative_rms", "cosine"].map(|key| error[key].as_f64().unwrap());
            let range = if name == "output.weight" { 0.01..0.03 } else { 0.05..0.15 };
            assert!(range.contains(&relative), "{name}: {relative}");
            // The error is all but orthogonal to what is left.
            assert!((1.0 - cosine - relative * relative / 2.0).abs() < 2e-3, "{name}: {cosine}");
        }
    }
    // A GGUF file of the same values is as good a source.
    let from_gguf = report("Q4_0", &gguf("F32"));
    for ((name, a), (_, b)) in errors(&from_checkpoint).iter().zip(errors(&from_gguf)) {
        assert_eq!((&a["max_abs"], &a["rms"]), (&b["max_abs"], &b["rms"]), "{name}");
    }
    let text = verify(dir.path(), &gguf("Q4_0"), &["--against", source.to_str().unwrap()]).ok();
    assert!(text.contains("attn_qkv.weight") && !text.contains("blk.3.attn_qkv.bias"), "{text}");
    assert!(text.contains("50 of 76 tensors identical"), "{text}");
    let all = verify(dir.path(), &gguf("Q4_0"), &["--tensors", "--against", source.to_str().unwrap()]).ok();
    assert!(all.contains("blk.3.attn_qkv.bias"), "{all}");
}

#[test]
fn no_format_is_suspect_of_being_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let [source, imatrix] = [checkpoint(), common::data("goldens/imatrix.gguf")];
    let [source, imatrix] = [source.to_str().unwrap(), imatrix.to_str().unwrap()];
    let types = Level::ALL.iter().map(|level| level.name()).collect::<Vec<_>>().join(",");
    // Weighted errors are what an importance makes small; those measured here grow by it.
    quant(dir.path(), ["convert", source, "-t", &types, "--imatrix", imatrix, "-o", ".", "-q"]).ok();
    assert_eq!(names(dir.path()).len(), Level::ALL.len());
    for name in names(dir.path()) {
        let json = verify(dir.path(), Path::new(&name), &["--json", "--against", source, "--imatrix", imatrix]).ok();
        let report: Value = serde_json::from_str(&json).unwrap();
        for tensor in report["tensors"].as_array().unwrap() {
            let error = &tensor["error"];
            let [relative, limit] = ["relative_rms", "limit"].map(|key| error[key].as_f64().unwrap());
            // And the limits are no more than a few times what is measured: else they would find nothing.
            assert!(relative == 0.0 || limit / relative < 12.0, "{name}: {tensor}");
            assert_eq!(error["encoded"], "equal", "{name}: {tensor}");
        }
    }
    // Without the importances no block is wrong all the same.
    for name in ["Q4_0", "Q4_K_M", "IQ4_XS", "Q2_K", "IQ3_XXS", "IQ2_XXS"] {
        let file = format!("pythia-docs-6m-{name}.gguf");
        let text = verify(dir.path(), Path::new(&file), &["--against", source]).ok();
        assert!(text.contains(" encoded differently, with errors that are normal for their types"), "{text}");
    }
    let types = ["Q5_1", "Q4_1", "Q6_K", "Q5_K_S", "Q3_K_S", "IQ4_NL", "IQ3_S"];
    quant(dir.path(), ["convert", source, "-t", &types.join(","), "-o", ".", "-q", "--force"]).ok();
    for name in types {
        let file = format!("pythia-docs-6m-{name}.gguf");
        let text = verify(dir.path(), Path::new(&file), &["--against", source, "--imatrix", imatrix]).ok();
        assert!(text.contains("re-encoded: every byte equal\n"), "{text}");
    }
}

/// The fixture's Q4_0 file as another program would have written it, then changed.
fn of_another_program(folder: &Path, damage: impl FnOnce(&mut Vec<u8>, &Gguf)) -> PathBuf {
    let path = folder.join("x.gguf");
    let bytes = fs::read(gguf("Q4_0")).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    let ours: Vec<String> =
        header.metadata.iter().map(|(key, _)| key.to_owned()).filter(|k| k.starts_with("pythia_")).collect();
    assert!(ours.len() > 3);
    let mut file = file::with_metadata(&bytes, |metadata| ours.iter().for_each(|key| drop(metadata.remove(key))));
    let header = Gguf::parse(&file).unwrap();
    damage(&mut file, &header);
    fs::write(&path, file).unwrap();
    path
}

/// Sets the scale of a Q4_0 block to eight times what it is: the exponent of an f16 is in its upper byte.
fn scale_block(bytes: &mut [u8], tensor: &TensorInfo, block: usize) -> usize {
    let at = tensor.offset as usize + 18 * block + 1;
    bytes[at] += 3 << 2;
    at
}

#[test]
fn a_file_of_known_origin_is_compared_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let against = ["--against", source.to_str().unwrap()];
    let name = "blk.2.ffn_up.weight";
    let report = |file: &Path| problems(&verify(dir.path(), file, &[&against[..], &["--json"]].concat()));
    let mut at = 0;
    let file = damaged(dir.path(), |bytes, header| {
        for block in [77, 78, 1000, 2000] {
            let place = scale_block(bytes, tensor(header, name), block);
            at = if block == 77 { place } else { at };
        }
    });
    let wanted = format!(
        "tensor {name:?}: 4 of 8192 Q4_0 blocks differ from those that encoding the source gives, the first is block 77, at byte {at}"
    );
    assert_eq!(report(&file), [wanted]);
    // The last bit of a code changes the error of one weight by less than the format makes.
    let file = damaged(dir.path(), |bytes, header| {
        at = tensor(header, name).offset as usize + 18 * 8191 + 17;
        bytes[at] ^= 1;
    });
    let messages = report(&file);
    assert!(
        messages[0].contains("1 of 8192") && messages[0].ends_with(&format!("block 8191, at byte {at}")),
        "{messages:?}"
    );
    let text = verify(dir.path(), &gguf("Q4_0"), &against).ok();
    assert!(text.contains("; re-encoded: every byte equal\n"), "{text}");
}

#[test]
fn in_files_of_others_blocks_that_are_far_off_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let against = ["--against", source.to_str().unwrap(), "--json"];
    let name = "blk.2.ffn_up.weight";
    let sound = of_another_program(dir.path(), |_, _| ());
    let text = verify(dir.path(), &sound, &against[..2]).ok();
    assert!(text.contains("; re-encoded: every byte equal\n"), "{text}");
    let file = of_another_program(dir.path(), |bytes, header| {
        scale_block(bytes, tensor(header, name), 5);
    });
    let messages = problems(&verify(dir.path(), &file, &against));
    let wanted = "1 of 8192 Q4_0 blocks have more than twice the error that encoding the source makes";
    assert!(messages.len() == 1 && messages[0].contains(wanted), "{messages:?}");
    // Other builds of the same encoder differ by as little as this.
    let file = of_another_program(dir.path(), |bytes, header| {
        bytes[tensor(header, name).offset as usize + 18 * 5 + 3] ^= 1;
    });
    let text = verify(dir.path(), &file, &against[..2]).ok();
    assert!(text.contains("re-encoded: 75 of 76 tensors byte-equal, 1 encoded differently"), "{text}");
}

#[test]
fn where_importances_are_not_at_hand_impossible_errors_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let [source, imatrix] = [checkpoint(), common::data("goldens/imatrix.gguf")];
    let [source, imatrix] = [source.to_str().unwrap(), imatrix.to_str().unwrap()];
    quant(dir.path(), ["convert", source, "-t", "Q4_0", "--imatrix", imatrix, "-o", "x.gguf", "-q"]).ok();
    let file = dir.path().join("x.gguf");
    let mut bytes = fs::read(&file).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    scale_block(&mut bytes, tensor(&header, "blk.3.attn_output.weight"), 9);
    fs::write(&file, &bytes).unwrap();
    let wanted = "tensor \"blk.3.attn_output.weight\": 1 of 2048 Q4_0 blocks ";
    for (more, fault) in [
        (&[][..], "have errors of more than twice their largest weight"),
        (&["--imatrix", imatrix], "differ from those that encoding the source gives"),
    ] {
        let args = [&["--against", source, "--json"], more].concat();
        let messages = problems(&verify(dir.path(), &file, &args));
        assert!(messages.len() == 1 && messages[0].starts_with(&format!("{wanted}{fault}")), "{messages:?}");
    }
    let other = dir.path().join("other.gguf");
    let mut bytes = fs::read(imatrix).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&other, bytes).unwrap();
    verify(dir.path(), &file, &["--against", source, "--imatrix", "other.gguf"]).fails(
        "pythia-quant",
        2,
        &["other.gguf: has SHA-256 ", ", the file was made with "],
    );
    assert_eq!(verify(dir.path(), &file, &["--imatrix", imatrix]).code, Some(2));
}

/// The two tokenizers of a file are one.
#[test]
fn tokenizers_that_differ_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), |bytes, _| {
        // In the embedded JSON, which comes after the merges of the other keys.
        let flag = b"\"use_regex\": true";
        let at = bytes.windows(flag.len()).position(|window| window == flag).unwrap();
        bytes[at..at + flag.len()].copy_from_slice(b"\"use_regex\":false");
    });
    let messages = problems(&verify(dir.path(), &file, &["--json"]));
    let wanted = "tokenizer.huggingface.json: pre_tokenizer.use_regex is false, tokenizer.ggml.pre 'olmo' means true";
    assert_eq!(messages, [wanted]);
    let told = common::run_model(dir.path(), ["tokenize", "x.gguf", "-p", "hello"]);
    told.fails("pythia-run", 65, &["x.gguf", wanted]);
}

#[test]
fn weights_in_the_wrong_place_are_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), |bytes, header| {
        // Two layers exchanged, the bias of another with itself shifted by an element.
        let [a, b] = ["blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight"].map(|name| tensor(header, name).clone());
        let n = a.n_bytes as usize;
        let first = bytes[a.offset as usize..][..n].to_vec();
        bytes.copy_within(b.offset as usize..b.offset as usize + n, a.offset as usize);
        bytes[b.offset as usize..][..n].copy_from_slice(&first);
        let bias = tensor(header, "blk.5.ffn_up.bias");
        bytes[bias.offset as usize..][..bias.n_bytes as usize].rotate_left(4);
    });
    verify(dir.path(), &file, &["-q"]).ok();
    let messages = problems(&verify(dir.path(), &file, &["--json", "--against", gguf("F32").to_str().unwrap()]));
    assert_eq!(messages.len(), 3, "{messages:?}");
    for name in ["blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight", "blk.5.ffn_up.bias"] {
        assert!(
            messages.iter().any(|m| m.starts_with(&format!("tensor {name:?}: relative RMS error "))),
            "{messages:?}"
        );
    }
    let text = verify(dir.path(), &file, &["--against", checkpoint().to_str().unwrap()]);
    assert!(text.stdout.contains("2 SUSPECT") && text.stdout.contains("3 problems"), "{text:?}");
}

#[test]
fn sources_of_another_model_and_quantized_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let quantized = verify(dir.path(), &gguf("Q4_0"), &["--against", gguf("Q8_0").to_str().unwrap()]);
    quantized.fails("pythia-quant", 2, &["Q8_0.gguf: tensor \"token_embd.weight\" is Q8_0", "wanted F32, F16 or BF16"]);
    verify(dir.path(), &gguf("Q4_0"), &["--against", "absent"]).fails("pythia-quant", 74, &["absent"]);

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["model.safetensors", "tokenizer_config.json"] {
        fs::copy(checkpoint().join(name), other.join(name)).unwrap();
    }
    for (name, found, replacement) in [
        ("config.json", "\"rotary_emb_base\": 10000", "\"rotary_emb_base\": 500000"),
        ("tokenizer.json", "\"content\": \"<|padding|>\"", "\"content\": \"<|filling|>\""),
    ] {
        let text = fs::read_to_string(checkpoint().join(name)).unwrap();
        assert!(text.contains(found), "{name}");
        fs::write(other.join(name), text.replace("<|padding|>", "<|filling|>").replace(found, replacement)).unwrap();
    }
    let messages = problems(&verify(dir.path(), &gguf("Q4_0"), &["--json", "--against", "other"]));
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0], "key 'gptneox.rope.freq_base': found 10000, wanted 500000 as in the source");
    assert!(messages[1].starts_with("token 1: found \"<|padding|>\", wanted \"<|filling|>\""), "{messages:?}");
}
