//! Importance matrices in both forms: what is read, what is written, and what is refused.

use crate::raw::{Raw, array, pair, string, tensor};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use pythia_gguf::{Imatrix, ImatrixEntry};
use std::path::Path;

fn golden() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/imatrix.gguf")).unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn imatrix_pair() -> Vec<u8> {
    pair("general.type", 8, &string("imatrix"))
}

/// A GGUF file of these tensors (name, dimensions, values), with the pair that makes it an importance matrix.
fn file(tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    file_with(imatrix_pair(), tensors)
}

fn file_with(pair: Vec<u8>, tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    let mut raw = Raw::empty().with_pair(pair);
    for (name, dims, values) in tensors {
        raw.data.resize(raw.data.len().next_multiple_of(32), 0);
        raw.tensors.push(tensor(name, dims, 0, raw.data.len() as u64));
        raw.data.extend(floats(values));
    }
    raw.build()
}

/// One matrix `m` of as many columns as there are sums.
fn matrix(sums: &[f32], count: f32) -> Vec<u8> {
    file(&[("m.in_sum2", &[sums.len() as u64], sums), ("m.counts", &[1], &[count])])
}

/// An entry of the `.dat` form.
fn dat_entry(name: &[u8], chunks: i32, n_values: i32, values: &[f32]) -> Vec<u8> {
    let name_bytes = (name.len() as i32).to_le_bytes();
    [&name_bytes[..], name, &chunks.to_le_bytes(), &n_values.to_le_bytes(), &floats(values)].concat()
}

fn dat(n_entries: i32, rest: &[Vec<u8>]) -> Vec<u8> {
    [&n_entries.to_le_bytes()[..], &rest.concat()].concat()
}

#[test]
fn a_file_of_llama_cpp_means_what_it_says_and_is_rewritten_to_the_same_bytes() {
    let bytes = golden();
    let imatrix = Imatrix::parse(&bytes).unwrap();
    assert_eq!((imatrix.entries.len(), imatrix.chunk_count, imatrix.chunk_size), (25, 40, 512));
    assert_eq!(imatrix.datasets, ["calib.txt"]);
    assert_eq!(imatrix.warnings(), [""; 0]);
    let entry = imatrix.entry("blk.5.ffn_down.weight").unwrap();
    assert_eq!((entry.cols(), entry.counts()), (1024, &[20480.0][..]));
    let importance = imatrix.importance("output.weight", 256).unwrap().unwrap();
    assert_eq!(importance[0], imatrix.entry("output.weight").unwrap().sums()[0] / 20480.0);
    assert_eq!(imatrix.importance("token_embd.weight", 256), Ok(None));
    assert!(imatrix.to_gguf().unwrap() == bytes);
}

#[test]
fn the_old_form_is_read() {
    let entries = [dat_entry(b"b", 4, 2, &[8.0, 2.0]), dat_entry(b"a", 2, 3, &[1.0, 0.0, 3.0])];
    let chunks = 7i32.to_le_bytes();
    let text = [&4i32.to_le_bytes()[..], b"wiki"].concat();
    let oldest = dat(2, &entries);
    let older = [&oldest[..], &chunks].concat();
    let newest = [&older[..], &text].concat();
    for (file, chunk_count, datasets) in [(&oldest, 0, &[][..]), (&older, 7, &[]), (&newest, 7, &["wiki"])] {
        let imatrix = Imatrix::parse(file).unwrap();
        assert_eq!((imatrix.chunk_count, imatrix.chunk_size), (chunk_count, 0));
        assert_eq!(imatrix.datasets, datasets);
        assert_eq!(imatrix.entries.iter().map(ImatrixEntry::name).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(imatrix.importance("b", 2), Ok(Some(vec![2.0, 0.5])));
        assert_eq!(imatrix.importance("a", 3), Ok(Some(vec![0.5, 0.0, 1.5])));
        assert_eq!(Imatrix::parse(&imatrix.to_gguf().unwrap()).unwrap(), imatrix);
    }
    for n in 0..newest.len() {
        let whole = n == oldest.len() || n == older.len();
        assert_eq!(Imatrix::parse(&newest[..n]).is_ok(), whole, "the first {n} of {} bytes", newest.len());
    }
}

#[test]
fn what_never_saw_input_is_uniform_and_named() {
    let stack = ImatrixEntry::new("experts", vec![1.0; 6], vec![3.0, 0.0]).unwrap();
    let unseen = ImatrixEntry::new("unseen", vec![0.0, 5.0], vec![0.0]).unwrap();
    let seen = ImatrixEntry::new("seen", vec![0.0, 5.0], vec![1.0]).unwrap();
    let imatrix = Imatrix { entries: vec![stack, unseen, seen], ..Imatrix::default() };
    assert_eq!(imatrix.importance("unseen", 2), Ok(Some(vec![1.0, 1.0])));
    assert_eq!(imatrix.importance("seen", 2), Ok(Some(vec![0.0, 5.0])));
    let warnings = imatrix.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("tensor 'experts': ") && warnings[1].starts_with("tensor 'unseen': "));
}

#[test]
fn an_importance_of_another_size_is_refused_by_name() {
    let imatrix = Imatrix::parse(&golden()).unwrap();
    let line = imatrix.importance("output.weight", 512).unwrap_err().to_string();
    assert_eq!(line, "tensor 'output.weight': found importance of 1 x 256 columns, wanted 512 columns");
    let entries = vec![ImatrixEntry::new("experts", vec![1.0; 6], vec![3.0, 3.0]).unwrap()];
    let stack = Imatrix { entries, ..Imatrix::default() };
    for cols in [3, 6] {
        assert!(stack.importance("experts", cols).unwrap_err().to_string().contains("2 x 3 columns"));
    }
}

/// Name of the case, the file, and what the message must contain.
type Case = (&'static str, fn() -> Vec<u8>, &'static str);

const GGUF_FORM: &[Case] = &[
    ("a model", || file_with(pair("general.type", 8, &string("model")), &[]), "'general.type': found 'model', wanted"),
    ("no type", || Raw::valid().build(), "key 'general.type': found no such key, wanted 'imatrix'"),
    ("type no text", || file_with(pair("general.type", 4, &[0; 4]), &[]), "'general.type': found u32 0"),
    ("no entries", || file(&[]), "found no entries"),
    ("other tensors only", || file(&[("m.in_sum", &[2], &[1.0, 2.0])]), "found no entries"),
    ("no counts", || file(&[("m.in_sum2", &[2], &[1.0, 2.0])]), "tensor 'm.in_sum2': found no 'm.counts' with it"),
    ("no sums", || file(&[("m.counts", &[1], &[1.0])]), "tensor 'm.counts': found no 'm.in_sum2' with it"),
    ("NaN", || matrix(&[1.0, f32::NAN], 5.0), "tensor 'm': found sum NaN at 1"),
    ("infinite", || matrix(&[f32::INFINITY, 1.0], 5.0), "tensor 'm': found sum inf at 0"),
    ("negative", || matrix(&[1.0, 2.0, -3.0], 5.0), "tensor 'm': found sum -3 at 2"),
    ("NaN, not counted", || matrix(&[f32::NAN], 0.0), "found sum NaN at 0"),
    ("count NaN", || matrix(&[1.0], f32::NAN), "tensor 'm': found count NaN"),
    ("count negative", || matrix(&[1.0], -1.0), "found count -1, wanted 0, or a number of at least 1"),
    ("count infinite", || matrix(&[1.0], f32::INFINITY), "found count inf"),
    ("count tiny", || matrix(&[1.0], 1e-40), "wanted 0, or a number of at least 1"),
    (
        "two counts for a matrix",
        || file(&[("m.in_sum2", &[2], &[1.0, 2.0]), ("m.counts", &[1, 2], &[1.0, 1.0])]),
        "tensor 'm.counts': found 2 counts, wanted 1",
    ),
    (
        "a count for two matrices",
        || file(&[("m.in_sum2", &[1, 2], &[1.0, 2.0]), ("m.counts", &[1], &[1.0])]),
        "found 1 counts, wanted 2, one for each row of sums",
    ),
    ("nameless", || file(&[(".in_sum2", &[1], &[1.0]), (".counts", &[1], &[1.0])]), "a name of 0 bytes"),
    (
        "sums of another type",
        || {
            let tensors = [tensor("m.in_sum2", &[2], 1, 0), tensor("m.counts", &[1], 0, 32)];
            Raw::empty().with_pair(imatrix_pair()).with_tensors(&tensors, 36).build()
        },
        "tensor 'm.in_sum2': found type F16, wanted F32",
    ),
    (
        "datasets no texts",
        || {
            let mut file = Raw::empty().with_pair(imatrix_pair());
            file.pairs.push(pair("imatrix.datasets", 9, &array(4, 0, &[])));
            file.build()
        },
        "key 'imatrix.datasets'",
    ),
    (
        "negative chunks",
        || {
            let mut file = Raw::empty().with_pair(imatrix_pair());
            file.pairs.push(pair("imatrix.chunk_count", 5, &(-1i32).to_le_bytes()));
            file.build()
        },
        "key 'imatrix.chunk_count': found i32 -1",
    ),
];

const DAT_FORM: &[Case] = &[
    ("empty", Vec::new, "found an empty file, wanted an importance matrix: a GGUF file, or a .dat file"),
    ("two bytes", || vec![1, 0], "found 2 bytes up to the end of the file, wanted 4 bytes of the number of entries"),
    (
        "no entries",
        || dat(0, &[vec![0; 64]]),
        "found bytes '\\\\x00\\\\x00\\\\x00\\\\x00', wanted an importance matrix",
    ),
    ("another file", || b"PK\x03\x04 and more of a checkpoint".to_vec(), "found bytes 'PK\\\\x03\\\\x04'"),
    ("-1 entries", || dat(-1, &[vec![0; 64]]), "wanted an importance matrix"),
    ("2^31 - 1 entries", || dat(i32::MAX, &[vec![0; 64]]), "wanted an importance matrix"),
    ("an entry short", || dat(2, &[dat_entry(b"m", 1, 9, &[1.0; 9])]), "wanted 4 bytes of the length of a name"),
    ("name of 2^31 - 1 bytes", || dat(1, &[i32::MAX.to_le_bytes().into(), vec![0; 64]]), "2147483647 bytes of a name"),
    ("name of -1 bytes", || dat(1, &[(-1i32).to_le_bytes().into(), vec![0; 64]]), "found -1 as the length of a name"),
    ("empty name", || dat(1, &[dat_entry(b"", 1, 2, &[1.0; 2])]), "tensor '' at byte 4: found a name of 0 bytes"),
    ("name too long", || dat(1, &[dat_entry(&[b'n'; 56], 1, 1, &[1.0])]), "a name of 56 bytes, wanted at most 55"),
    ("name not UTF-8", || dat(1, &[dat_entry(b"m\xff", 1, 1, &[1.0])]), "at byte 4: found a name that is not UTF-8"),
    ("name with NUL", || dat(1, &[dat_entry(b"m\0", 1, 1, &[1.0])]), "found a NUL in the name"),
    (
        "-2 chunks",
        || dat(1, &[dat_entry(b"m", -2, 1, &[1.0])]),
        "tensor 'm' at byte 9: found -2 as the number of chunks",
    ),
    (
        "-1 values",
        || dat(1, &[dat_entry(b"m", 1, -1, &[1.0])]),
        "tensor 'm' at byte 13: found -1 as the number of values",
    ),
    (
        "no values",
        || dat(1, &[dat_entry(b"m", 1, 0, &[]), vec![0; 4]]),
        "tensor 'm' at byte 4: found 0 sums for 1 counts",
    ),
    (
        "2^31 - 1 values",
        || dat(1, &[dat_entry(b"m", 1, i32::MAX, &[1.0; 9])]),
        "tensor 'm' at byte 17: found 36 bytes up to the end of the file, wanted 8589934588 bytes of values",
    ),
    ("NaN", || dat(1, &[dat_entry(b"m", 1, 2, &[1.0, f32::NAN])]), "tensor 'm' at byte 4: found sum NaN at 1"),
    (
        "same name twice",
        || dat(2, &[dat_entry(b"m", 1, 1, &[1.0]), dat_entry(b"m", 1, 1, &[1.0])]),
        "tensor 'm' at byte 21: found a second entry of this name",
    ),
    (
        "text of -1 bytes",
        || dat(1, &[dat_entry(b"m", 1, 1, &[1.0]), vec![1, 0, 0, 0], vec![0xff; 4]]),
        "found -1 as the length of the text's name",
    ),
];

#[test]
fn broken_files_are_refused_by_name() {
    for (name, build, wanted) in [GGUF_FORM, DAT_FORM].concat() {
        let line = match Imatrix::parse(&build()) {
            Ok(_) => panic!("{name}: accepted"),
            Err(e) => e.to_string(),
        };
        assert!(line.contains(wanted), "{name}: {line}");
        assert!(!line.contains('\n') && line.len() < 400, "{name}: {line}");
    }
}

#[test]
fn two_entries_of_one_name_are_not_written() {
    let entry = ImatrixEntry::new("m", vec![1.0], vec![1.0]).unwrap();
    let imatrix = Imatrix { entries: vec![entry.clone(), entry], ..Imatrix::default() };
    assert!(imatrix.to_gguf().unwrap_err().to_string().contains("two tensors of this name"));
}

/// Entries by name, each a stack of some matrices.
fn imatrix() -> impl Strategy<Value = Imatrix> {
    let count = prop_oneof![Just(0.0f32), (1u32..1 << 24).prop_map(|n| n as f32)];
    let stack = (vec(count, 1..4), 1usize..9)
        .prop_flat_map(|(counts, cols)| (vec(0.0f32..1e30, counts.len() * cols), Just(counts)));
    (btree_map("[a-z][a-z0-9_.]{0,54}", stack, 1..6), vec(any::<String>(), 0..3), any::<u32>(), any::<u32>()).prop_map(
        |(stacks, datasets, chunk_count, chunk_size)| {
            let entry = |(name, (sums, counts))| ImatrixEntry::new(name, sums, counts).unwrap();
            Imatrix { entries: stacks.into_iter().map(entry).rev().collect(), datasets, chunk_count, chunk_size }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(imatrix in imatrix()) {
        prop_assert_eq!(Imatrix::parse(&imatrix.to_gguf().unwrap()).unwrap(), imatrix);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Imatrix::parse(&bytes);
        let _ = Imatrix::parse(&[&1i32.to_le_bytes()[..], &1i32.to_le_bytes(), b"m", &bytes].concat());
    }
}
