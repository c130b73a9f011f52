//! `pythia-quant inspect`: the contents of a GGUF file.

use super::value;
use crate::exit::{self, Failure, IN_JSON};
use crate::input::check_gguf;
use pythia_convert::{GgufFile, Part};
use pythia_gguf::{FileType, Gguf, TensorInfo, keys};
use pythia_schema::{TensorId, block_part};
use pythia_show::{Align, Table, Width, facts, number};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::path::PathBuf;

/// Show the metadata, tensors and sizes of a GGUF file
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file of any architecture and any tensor types, or the first file of a split model
    file: PathBuf,
    /// List every tensor (JSON always does)
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    check_gguf(&args.file)?;
    let file = GgufFile::open(&args.file)?;
    let sizes = Sizes::of(&file);
    if args.json {
        exit::print_json(&json(&file, &sizes))
    } else {
        exit::print(&text(&file, &sizes, args.tensors, Width::of_stdout()))
    }
}

/// Sizes of a model, in all and per weight.
#[derive(Debug, Serialize)]
struct Sizes {
    /// Of all its files.
    file_bytes: u64,
    tensor_bytes: u64,
    /// Elements of all tensors.
    parameters: u64,
    /// Without the two vocabulary matrices, as Pythia's model cards count.
    parameters_non_embedding: u64,
    /// Over all tensors; `null` for a file without any.
    bits_per_weight: Option<f64>,
    /// Over the tensors of the transformer blocks.
    bits_per_weight_blocks: Option<f64>,
}

impl Sizes {
    fn of(file: &GgufFile) -> Self {
        let gguf = file.gguf();
        let sum = |included: fn(&TensorInfo) -> bool| {
            let tensors = gguf.tensors().iter().filter(|tensor| included(tensor));
            tensors.fold((0u64, 0u64), |sum, tensor| (sum.0 + tensor.n_elems(), sum.1 + tensor.n_bytes))
        };
        let bits = |(elems, bytes): (u64, u64)| (elems > 0).then(|| 8.0 * bytes as f64 / elems as f64);
        let all = sum(|_| true);
        let vocabulary = sum(|tensor| TensorId::from_gguf(&tensor.name).is_some_and(|id| id.kind.is_vocab()));
        Self {
            file_bytes: file.n_bytes(),
            tensor_bytes: all.1,
            parameters: all.0,
            parameters_non_embedding: all.0 - vocabulary.0,
            bits_per_weight: bits(all),
            bits_per_weight_blocks: bits(sum(|tensor| block_part(&tensor.name).is_some())),
        }
    }
}

/// The file type by name, or by number if it is unknown. `None` if the file does not state it.
fn file_type(gguf: &Gguf) -> Option<String> {
    let id = gguf.metadata.u32(keys::FILE_TYPE).ok()??;
    Some(FileType::from_id(id).map_or_else(|| format!("unknown ({id})"), |ty| ty.name().to_owned()))
}

/// Tensors and bytes per tensor type, most bytes first.
fn by_type(gguf: &Gguf) -> Vec<(&'static str, u64, u64)> {
    let mut types: Vec<(&'static str, u64, u64)> = Vec::new();
    for tensor in gguf.tensors() {
        match types.iter_mut().find(|(name, ..)| *name == tensor.ty.name()) {
            Some(row) => (row.1, row.2) = (row.1 + 1, row.2 + tensor.n_bytes),
            None => types.push((tensor.ty.name(), 1, tensor.n_bytes)),
        }
    }
    types.sort_by_key(|row| std::cmp::Reverse(row.2));
    types
}

fn text(file: &GgufFile, sizes: &Sizes, with_tensors: bool, width: Width) -> String {
    let gguf = file.gguf();
    let show = |table: &Table| table.to_terminal(width).with_remark(width, IN_JSON) + "\n";
    let mut metadata = Table::new([("key", Align::Left, 0), ("type", Align::Left, 1), ("value", Align::Left, 0)]);
    for (key, value) in gguf.metadata.iter() {
        metadata.push(vec![value::escaped(key), value.type_name(), value::to_text(value)]);
    }
    let mut text = show(&metadata);
    if with_tensors {
        text += &show(&tensors(file));
    }
    let mut types = Table::new([("stored as", Align::Left), ("tensors", Align::Right), ("bytes", Align::Right)]);
    for (name, n, n_bytes) in by_type(gguf) {
        types.push(vec![name.to_owned(), n.to_string(), n_bytes.to_string()]);
    }
    text += &show(&types);
    if is_split(file) {
        text += &show(&parts(file));
    }
    let bits = |bits: Option<f64>| bits.map_or_else(|| "-".to_owned(), |bits| format!("{bits:.3}"));
    let rows = [
        ("container", format!("GGUF version {}, alignment {}", gguf.version, gguf.alignment)),
        ("file type", file_type(gguf).unwrap_or_else(|| "not stated".to_owned())),
        ("file size", format!("{} ({} bytes)", number::bytes(sizes.file_bytes), sizes.file_bytes)),
        ("parameters", sizes.parameters.to_string()),
        ("without vocabulary", sizes.parameters_non_embedding.to_string()),
        ("bits per weight", bits(sizes.bits_per_weight)),
        ("  in blocks", bits(sizes.bits_per_weight_blocks)),
    ];
    text + &facts(&rows, 20, width)
}

/// Whether it is more than one file.
fn is_split(file: &GgufFile) -> bool {
    file.parts().len() > 1
}

/// A row per file.
fn parts(file: &GgufFile) -> Table {
    let mut table = Table::new([("file", Align::Left), ("tensors", Align::Right), ("bytes", Align::Right)]);
    let mut n_tensors = vec![0u64; file.parts().len()];
    file.gguf().tensors().iter().for_each(|tensor| n_tensors[tensor.file] += 1);
    for (part, n_tensors) in file.parts().iter().zip(n_tensors) {
        table.push(vec![part.path().display().to_string(), n_tensors.to_string(), part.n_bytes().to_string()]);
    }
    table
}

fn tensors(file: &GgufFile) -> Table {
    let columns = [("tensor", Align::Left, 0), ("shape", Align::Left, 0), ("type", Align::Left, 0)];
    let numbers = [("bytes", Align::Right, 1), ("offset", Align::Right, 2)];
    // Files are counted as in their names.
    let number = is_split(file).then_some(("file", Align::Right, 0));
    let mut table = Table::new(columns.into_iter().chain(numbers).chain(number));
    for tensor in file.gguf().tensors() {
        let shape = tensor.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        let name = value::escaped(&tensor.name);
        let mut row =
            vec![name, shape, tensor.ty.name().to_owned(), tensor.n_bytes.to_string(), tensor.offset.to_string()];
        row.extend(is_split(file).then(|| (tensor.file + 1).to_string()));
        table.push(row);
    }
    table
}

fn json(file: &GgufFile, sizes: &Sizes) -> Json {
    let gguf = file.gguf();
    let metadata: Map<String, Json> =
        gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value::to_json(value))).collect();
    let tensors: Vec<Json> = gguf
        .tensors()
        .iter()
        .map(|tensor| {
            serde_json::json!({
                "name": tensor.name,
                "shape": tensor.shape(),
                "type": tensor.ty.name(),
                "bytes": tensor.n_bytes,
                "file": tensor.file,
                "offset": tensor.offset,
            })
        })
        .collect();
    let part = |part: &Part| serde_json::json!({"path": part.path().display().to_string(), "bytes": part.n_bytes()});
    serde_json::json!({
        "version": gguf.version,
        "alignment": gguf.alignment,
        "file_type": file_type(gguf),
        "files": file.parts().iter().map(part).collect::<Vec<_>>(),
        "sizes": sizes,
        "metadata": metadata,
        "tensors": tensors,
    })
}
