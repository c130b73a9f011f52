//! What is written is what is read.

use crate::raw::{Raw, array, pair, string, tensor};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use pythia_gguf::{AnyType, Array, Gguf, Layout, Metadata, Value};
use pythia_tensor::TensorType;

fn arrays() -> impl Strategy<Value = Array> {
    prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any::<String>(), 0..9).prop_map(Array::String),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
        arrays().prop_map(Value::Array),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop_oneof![Just(None), (3u32..9).prop_map(|log| Some(1u32 << log))];
    (btree_map("[a-z][a-z0-9_.]{0,30}", value(), 0..8), alignment).prop_map(|(pairs, alignment)| {
        let mut metadata = Metadata::new();
        for (key, value) in pairs {
            metadata.insert(key, value);
        }
        if let Some(alignment) = alignment {
            metadata.insert("general.alignment", alignment);
        }
        metadata
    })
}

/// Names, types and dimensions; rows are whole blocks.
fn tensors() -> impl Strategy<Value = Vec<(String, TensorType, Vec<u64>)>> {
    let shape = (prop::sample::select(TensorType::ALL), vec(1u64..5, 1..=4)).prop_map(|(ty, mut dims)| {
        dims[0] *= ty.block_elems() as u64;
        (ty, dims)
    });
    btree_map("[a-z_.0-9é]{1,20}", shape, 0..8)
        .prop_map(|all| all.into_iter().rev().map(|(name, (ty, dims))| (name, ty, dims)).collect())
}

proptest! {
    #[test]
    fn files_round_trip(metadata in metadata(), tensors in tensors()) {
        let layout = Layout::new(&metadata, tensors.clone()).unwrap();
        let mut file = layout.header().to_vec();
        for (i, t) in layout.tensors().iter().enumerate() {
            prop_assert!(t.offset >= file.len() as u64, "offsets ascend");
            file.resize(t.offset as usize, 0);
            file.resize((t.offset + t.n_bytes) as usize, i as u8 + 1);
        }
        file.resize(layout.total_bytes() as usize, 0);

        let gguf = Gguf::parse(&file).unwrap();
        prop_assert_eq!(gguf.version, 3);
        prop_assert_eq!(gguf.data_offset as usize, layout.header().len());
        prop_assert_eq!(gguf.tensors(), layout.tensors());
        // By bytes, because NaN is not equal to itself.
        let again = Layout::new(&gguf.metadata, tensors.clone()).unwrap();
        prop_assert_eq!(again.header(), layout.header());
        for (i, (name, ty, dims)) in tensors.iter().enumerate() {
            let t = gguf.tensor(name).unwrap();
            prop_assert_eq!((t.ty, &t.dims, t.offset % gguf.alignment), (AnyType::Known(*ty), dims, 0));
            prop_assert!(gguf.data(&file, t).iter().all(|&b| b == i as u8 + 1));
        }
        prop_assert!(gguf.tensor("no such tensor").is_none());
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in vec(any::<u8>(), 0..200), version in 2u32..4) {
        let file = [b"GGUF".to_vec(), version.to_le_bytes().to_vec(), body].concat();
        let _ = Gguf::parse(&file);
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let one = |name: &str, ty, dims: &[u64]| vec![(name.to_owned(), ty, dims.to_vec())];
    let with = |key: &str, value: Value| {
        let mut metadata = Metadata::new();
        metadata.insert(key, value);
        metadata
    };
    let plain = Metadata::new();
    let twice = [one("t", TensorType::F32, &[1]), one("t", TensorType::F16, &[2])].concat();
    let huge = (0..5).map(|i| (format!("t{i}"), TensorType::F32, vec![1 << 60])).collect();
    let cases = [
        ("bad key", with("", 1u32.into()), vec![], "found a name of 0 bytes"),
        ("bad alignment", with("general.alignment", 48u32.into()), vec![], "found u32 48"),
        ("bad name", plain.clone(), one(&"n".repeat(64), TensorType::F32, &[1]), "found a name of 64 bytes"),
        ("no dimensions", plain.clone(), one("t", TensorType::F32, &[]), "found 0 dimensions"),
        ("part of a block", plain.clone(), one("t", TensorType::Q6_K, &[128]), "a multiple of 256"),
        ("twice", plain.clone(), twice, "two tensors of this name"),
        ("too large", plain.clone(), huge, "found an end past 2^64 bytes"),
    ];
    for (name, metadata, tensors, wanted) in cases {
        let line = Layout::new(&metadata, tensors).expect_err(name).to_string();
        assert!(line.contains(wanted), "{name}: {line}");
    }
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "gptneox");
    metadata.insert("an.integer", -2i16);
    metadata.insert("a.truth", true);
    metadata.insert("some.texts", vec!["a".to_owned(), "é".to_owned()]);
    let tensors = vec![
        ("matrix".to_owned(), TensorType::Q8_0, vec![32, 3]), // 102 bytes, padded to 128
        ("vector".to_owned(), TensorType::F32, vec![3]),      // 12, padded to 32
    ];
    let layout = Layout::new(&metadata, tensors).unwrap();

    let mut raw = Raw::empty();
    raw.pairs = vec![
        pair("general.architecture", 8, &string("gptneox")),
        pair("an.integer", 3, &[0xfe, 0xff]),
        pair("a.truth", 7, &[1]),
        pair("some.texts", 9, &array(8, 2, &[string("a"), string("é")].concat())),
    ];
    raw.tensors = vec![tensor("matrix", &[32, 3], 8, 0), tensor("vector", &[3], 0, 128)];
    let header = raw.build();
    assert_eq!(layout.header(), header);
    assert_eq!(layout.total_bytes() as usize, header.len() + 128 + 32);
    assert_eq!(layout.tensors()[1].offset as usize, header.len() + 128);
}

#[test]
fn a_file_of_llama_cpp_is_rewritten_to_the_same_bytes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/imatrix.gguf");
    let file = std::fs::read(path).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let entries = gguf.tensors().iter().map(|t| (t.name.clone(), t.ty.known().unwrap(), t.dims.clone()));
    let layout = Layout::new(&gguf.metadata, entries.collect()).unwrap();
    assert_eq!(layout.header(), &file[..gguf.data_offset as usize]);
    assert_eq!(layout.total_bytes(), file.len() as u64);
}
