use super::*;
use crate::read::Gguf;
use crate::rules::{MAX_METADATA_BYTES, MAX_PAIRS, MAX_TENSORS};

/// The writer's answer, and the reader's to the same header where the writer is not asked. Whatever is written is read
/// back equal.
fn both(metadata: &Metadata, n_tensors: usize) -> [Result<(), String>; 2] {
    let tensors = || (0..n_tensors).map(|i| (format!("t{i}"), AnyType::Known(TensorType::F32), vec![1]));
    let unchecked = Layout::unchecked(metadata, tensors()).unwrap();
    let read = Gguf::parse_header(&unchecked.header, unchecked.total_bytes);
    let written = Layout::of(metadata, tensors());
    if let (Ok(read), Ok(written)) = (&read, &written) {
        assert_eq!((&read.metadata, read.tensors().len()), (metadata, n_tensors));
        assert_eq!(*written, unchecked);
    }
    [written.map(drop), read.map(drop)].map(|result| result.map_err(|e| e.to_string()))
}

#[test]
fn every_limit_of_the_reader_is_the_writers() {
    let pairs = |n: u64| {
        let mut metadata = Metadata::new();
        (0..n).for_each(|i| metadata.push(i.to_string(), Value::U8(0)));
        metadata
    };
    let texts = |n: u64| {
        let mut metadata = Metadata::new();
        metadata.insert("texts", vec![String::new(); n as usize]);
        metadata
    };
    let most_texts = MAX_METADATA_BYTES / size_of::<String>() as u64;
    let cases: [(&str, Metadata, u64, &str); 7] = [
        ("key", pairs(3), 2, ""),
        ("as many pairs", pairs(MAX_PAIRS), 0, ""),
        ("a pair more", pairs(MAX_PAIRS + 1), 0, "found 4097 metadata pairs, wanted at most 4096"),
        ("as many tensors", pairs(0), MAX_TENSORS, ""),
        ("a tensor more", pairs(0), MAX_TENSORS + 1, "found 65537 tensors, wanted at most 65536"),
        ("as many texts", texts(most_texts), 0, ""),
        ("a text more", texts(most_texts + 1), 0, "found too much metadata"),
    ];
    for (name, metadata, n_tensors, wanted) in cases {
        let [written, read] = both(&metadata, n_tensors as usize);
        assert_eq!(written, read, "{name}");
        match wanted {
            "" => assert_eq!(written, Ok(()), "{name}"),
            wanted => assert!(written.as_ref().is_err_and(|line| line.contains(wanted)), "{name}: {written:?}"),
        }
    }
}
