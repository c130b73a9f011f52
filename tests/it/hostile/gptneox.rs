//! Metadata and tensors that no GPT-NeoX model has.

use super::model::{Model, changed, with_key};
use super::{Case, case, write};
use pythia_gguf::{TensorInfo, Value};
use pythia_tensor::TensorType;
use std::path::Path;

const INFO: &str = "pythia-run info m.gguf --threads 1";
const VERIFY: &str = "pythia-quant verify m.gguf --threads 1 -q";
const NONE: Option<Value> = None;

pub(crate) const VALID: &[Case] = &[
    case("M", "valid", |f| changed(f, |_| ()), INFO, ""),
    case("M15", "other integer widths", |f| with_key(f, "gptneox.block_count", Some(1u64)), INFO, ""),
    case("M", "sound", |f| changed(f, |_| ()), VERIFY, ""),
    case("M22", "sound Q4_0", |f| with_scales(f, TensorType::Q4_0, &[]), VERIFY, ""),
    case("M22", "sound Q4_K", |f| with_scales(f, TensorType::Q4_K, &[]), VERIFY, ""),
    case("M22", "sound Q6_K", |f| with_scales(f, TensorType::Q6_K, &[]), VERIFY, ""),
];

pub(crate) const CASES: &[Case] = &[
    case("M1", "no architecture", |f| with_key(f, "general.architecture", NONE), INFO, "'general.architecture'"),
    case("M2", "other architecture", |f| with_key(f, "general.architecture", Some("llama")), INFO, "found 'llama'"),
    case("M3", "architecture a number", |f| with_key(f, "general.architecture", Some(7u32)), INFO, "wanted a string"),
    case("M4", "no block count", |f| with_key(f, "gptneox.block_count", NONE), INFO, "'gptneox.block_count'"),
    case("M5", "no blocks", |f| with_key(f, "gptneox.block_count", Some(0u32)), INFO, "found 0"),
    case("M6", "513 blocks", |f| with_key(f, "gptneox.block_count", Some(513u32)), INFO, "found 513"),
    case("M6", "2^32 - 1 blocks", |f| with_key(f, "gptneox.block_count", Some(u32::MAX)), INFO, "found 4294967295"),
    case("M7", "no heads", |f| with_key(f, "gptneox.attention.head_count", Some(0u32)), INFO, "found 0"),
    case(
        "M8",
        "heads that do not divide",
        |f| with_key(f, "gptneox.attention.head_count", Some(5u32)),
        INFO,
        "a divisor",
    ),
    case("M9", "width 0", |f| with_key(f, "gptneox.embedding_length", Some(0u32)), INFO, "found 0"),
    case(
        "M10",
        "nothing rotated",
        |f| with_key(f, "gptneox.rope.dimension_count", Some(0u32)),
        INFO,
        "found 0 rotated",
    ),
    case("M10", "odd rotation", |f| with_key(f, "gptneox.rope.dimension_count", Some(3u32)), INFO, "an even count"),
    case(
        "M10",
        "rotated past the head",
        |f| with_key(f, "gptneox.rope.dimension_count", Some(18u32)),
        INFO,
        "head width 16",
    ),
    case("M11", "base 0", |f| with_key(f, "gptneox.rope.freq_base", Some(0f32)), INFO, "found 0, wanted"),
    case("M11", "base negative", |f| with_key(f, "gptneox.rope.freq_base", Some(-1f32)), INFO, "found -1"),
    case("M11", "base NaN", |f| with_key(f, "gptneox.rope.freq_base", Some(f32::NAN)), INFO, "found NaN"),
    case("M11", "base infinite", |f| with_key(f, "gptneox.rope.freq_base", Some(f32::INFINITY)), INFO, "found inf"),
    case("M12", "epsilon 0", |f| with_key(f, EPSILON, Some(0f32)), INFO, "found 0, wanted"),
    case("M12", "epsilon negative", |f| with_key(f, EPSILON, Some(-1f32)), INFO, "found -1"),
    case("M12", "epsilon NaN", |f| with_key(f, EPSILON, Some(f32::NAN)), INFO, "found NaN"),
    case("M13", "no context", |f| with_key(f, "gptneox.context_length", Some(0u32)), INFO, "found 0"),
    case("M13", "context 2^31", |f| with_key(f, "gptneox.context_length", Some(1u32 << 31)), INFO, "found 2147483648"),
    case("M14", "no residual", |f| with_key(f, "gptneox.use_parallel_residual", NONE), INFO, "no such key"),
    case(
        "M14",
        "residual a number",
        |f| with_key(f, "gptneox.use_parallel_residual", Some(1u8)),
        INFO,
        "wanted a bool",
    ),
    case("M15", "integer as text", |f| with_key(f, "gptneox.block_count", Some("1")), INFO, "found string '1'"),
    case("M15", "integer as float", |f| with_key(f, "gptneox.block_count", Some(1f32)), INFO, "found f32 1"),
    case(
        "M16",
        "tensor missing",
        |f| changed(f, |m| drop(m.tensors.pop())),
        INFO,
        "'output.weight': found no such tensor",
    ),
    case(
        "M17",
        "tensor too many",
        |f| changed(f, |m| m.tensors.push(("output.bias".into(), TensorType::F32, vec![32]))),
        INFO,
        "'output.bias': found an unknown tensor",
    ),
    case(
        "M18",
        "transposed",
        |f| changed(f, |m| tensor(m, "blk.0.ffn_up.weight").2.reverse()),
        INFO,
        "found shape [32, 64]",
    ),
    case(
        "M19",
        "quantized bias",
        |f| changed(f, |m| tensor(m, "blk.0.ffn_up.bias").1 = TensorType::Q8_0),
        INFO,
        "found type Q8_0",
    ),
    case(
        "M19",
        "half norm",
        |f| changed(f, |m| tensor(m, "output_norm.weight").1 = TensorType::F16),
        INFO,
        "found type F16",
    ),
    case(
        "M20",
        "qkv short of a row",
        |f| changed(f, |m| tensor(m, "blk.0.attn_qkv.weight").2[1] -= 1),
        INFO,
        "[95, 32]",
    ),
    case(
        "M21",
        "embedding of other rows",
        |f| changed(f, |m| tensor(m, "token_embd.weight").2[1] += 1),
        INFO,
        "[259, 32]",
    ),
    case(
        "M22",
        "scale infinite",
        |f| with_scales(f, TensorType::Q4_0, &[(0, INFINITY)]),
        VERIFY,
        "1 of 6144 Q4_0 blocks hold values that are not finite",
    ),
    case(
        "M22",
        "scale NaN",
        |f| with_scales(f, TensorType::Q4_K, &[(0, NAN)]),
        VERIFY,
        "Q4_K blocks hold values that are not finite",
    ),
    case("M22", "minimum NaN", |f| with_scales(f, TensorType::Q4_K, &[(2, NAN)]), VERIFY, "Q4_K blocks hold"),
    case(
        "M22",
        "last scale infinite",
        |f| with_scales(f, TensorType::Q6_K, &[(208, INFINITY)]),
        VERIFY,
        "Q6_K blocks hold",
    ),
    case("M23", "a type that is only known by name", with_foreign_type, INFO, "type IQ1_S, not supported yet"),
];

const EPSILON: &str = "gptneox.attention.layer_norm_epsilon";
const INFINITY: u16 = 0x7c00;
const NAN: u16 = 0x7e01;

fn tensor<'m>(model: &'m mut Model, name: &str) -> &'m mut crate::common::file::Entry {
    model.tensors.iter_mut().find(|entry| entry.0 == name).expect("a tensor of this name")
}

fn place<'l>(tensors: &'l [TensorInfo], name: &str) -> &'l TensorInfo {
    tensors.iter().find(|t| t.name == name).expect("a tensor of this name")
}

/// A model of this type with f16 `values` at these bytes of the first block of its first attention matrix.
fn with_scales(folder: &Path, ty: TensorType, values: &[(usize, u16)]) {
    let model = Model::of(256, ty);
    let start = place(model.layout().tensors(), "blk.0.attn_qkv.weight").offset as usize;
    let mut file = model.bytes();
    for (at, bits) in values {
        file[start + at..start + at + 2].copy_from_slice(&bits.to_le_bytes());
    }
    write(folder, "m.gguf", file);
}

/// A file that says its last tensor is IQ1_S: 50 bytes for 256 elements.
fn with_foreign_type(folder: &Path) {
    let model = Model::of(256, TensorType::F32);
    let mut file = model.bytes();
    let entry = "output.weight".as_bytes();
    let at = file.windows(entry.len()).rposition(|w| w == entry).expect("its entry") + entry.len() + 4 + 16;
    file[at..at + 4].copy_from_slice(&19u32.to_le_bytes());
    write(folder, "m.gguf", file);
}
