use super::*;
use std::fs;

/// A file with this header text, padded to nothing, and `n_data` bytes counting up.
fn container(header: &str, n_data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..n_data).map(|i| i as u8));
    bytes
}

fn open(bytes: &[u8]) -> Result<WeightFile, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    fs::write(&path, bytes).unwrap();
    let opened = WeightFile::open(&path).map_err(|e| e.to_string());
    opened.map_err(|message| {
        assert!(!message.contains('\n'), "{message}");
        message.strip_prefix(&format!("{}: ", path.display())).expect("names the file").to_owned()
    })
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
    "none":{"dtype":"BF16","shape":[0,7],"data_offsets":[16,16]}}  "#;

#[test]
fn tensors_are_listed_by_offset_and_read_in_place() {
    let file = open(&container(GOOD, 16)).unwrap();
    let names: Vec<_> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "none"]);
    assert_eq!(file.tensors[1].shape, [2, 3]);
    let (dtype, view) = file.tensors[1].place.as_ref().unwrap();
    assert_eq!(*dtype, Dtype::F16);
    let mut row = [0; 6];
    file.read_view("b", view, 1, &mut row).unwrap();
    assert_eq!(row, [10, 11, 12, 13, 14, 15]);
    assert!(matches!(file.read_view("b", view, 2, &mut row), Err(Error::Io { .. })));
}

#[test]
fn damaged_containers_are_refused() {
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "byte 0: the file ends here"),
        (vec![1; 7], "byte 7: the file ends here"),
        (container("", 0), "byte 0: header length 0"),
        (((16u64 << 20) + 1).to_le_bytes().to_vec(), "byte 0: header length 16777217, at most"),
        (5_000_000u64.to_le_bytes().to_vec(), "header length 5000000, but only 0 bytes follow"),
        (u64::MAX.to_le_bytes().to_vec(), "header length 18446744073709551615, at most"),
        (b"GGUF\x03\0\0\0 and more".to_vec(), "at most 16777216 are read: not a safetensors file?"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(), "a Git LFS pointer"),
        (b"<!DOCTYPE html><title>404</title>".to_vec(), "an HTML page"),
        (container(GOOD, 17), "17 bytes of tensor data, the header describes 16"),
        (container(GOOD, 15), "15 bytes of tensor data, the header describes 16"),
    ];
    cases.push({
        let mut bytes = container(r#"{"a":1}"#, 0);
        bytes[10] = 0xff;
        (bytes, "byte 10: the header is not UTF-8")
    });
    for (bytes, wanted) in cases {
        let message = open(&bytes).unwrap_err();
        assert!(message.contains(wanted), "{message}\nwanted: {wanted}");
    }
}

#[test]
fn damaged_headers_are_refused() {
    let nested = format!("{{\"a\":{}", "[".repeat(100_000));
    let entry = |fields: &str| format!(r#"{{"t":{{{fields}}}}}"#);
    let sized =
        |shape: &str, offsets: &str| entry(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":{offsets}"#));
    let two = |second: &str| {
        format!(
            r#"{{"t":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"u":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#
        )
    };
    let cases = [
        (" {}".to_owned(), "byte 8: the header does not start with '{'"),
        ("{\"a\"".to_owned(), "the header cannot be read: \"a\": EOF"),
        ("{} x".to_owned(), "trailing characters"),
        (nested, "the header cannot be read"),
        (r#"{"__metadata__":{"a":1}}"#.to_owned(), "\"__metadata__\": invalid type: integer `1`, expected a string"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(), "\"__metadata__\" comes twice"),
        (two("[4,8]").replace("\"u\"", "\"t\""), "\"t\" comes twice"),
        (entry(r#""dtype":"F7","shape":[1],"data_offsets":[0,4]"#), "\"t\": unknown variant `F7`"),
        (entry(r#""shape":[1],"data_offsets":[0,4]"#), "\"t\": missing field `dtype`"),
        (entry(r#""dtype":"F32","data_offsets":[0,4]"#), "\"t\": missing field `shape`"),
        (entry(r#""dtype":"F32","shape":[1]"#), "\"t\": missing field `data_offsets`"),
        (sized("[-1]", "[0,4]"), "\"t\": invalid value: integer `-1`"),
        (sized("[1.5]", "[0,4]"), "\"t\": invalid type: floating point"),
        (sized("[4294967296,4294967296]", "[0,4]"), "tensor \"t\": shape [4294967296, 4294967296] is too large"),
        (sized("[4294967296,4294967296]", "[0,0]"), "tensor \"t\": shape [4294967296, 4294967296] is too large"),
        (sized("[1]", "[]"), "\"t\": invalid length 0"),
        (sized("[1]", "[4]"), "\"t\": invalid length 1"),
        (sized("[1]", "[0,4,4]"), "\"t\":"),
        (sized("[1]", "[4,0]"), "tensor \"t\": data_offsets [4, 0] are inverted"),
        (sized("[2]", "[0,4]"), "tensor \"t\": data_offsets [0, 4] hold 4 bytes, shape [2] of F32 needs 8"),
        (sized("[1]", "[4,8]"), "tensor \"t\": its data does not start where"),
        (two("[0,4]"), "tensor \"u\": its data does not start where"),
        (two("[2,6]"), "tensor \"u\": its data does not start where"),
        (two("[8,12]"), "tensor \"u\": its data does not start where"),
        (two("[1000,1004]"), "tensor \"u\": its data does not start where"),
        (sized("[250]", "[0,1000]"), "8 bytes of tensor data, the header describes 1000"),
    ];
    for (header, wanted) in cases {
        let message = open(&container(&header, 8)).expect_err(wanted);
        assert!(message.contains(wanted), "{message}\nwanted: {wanted}");
    }
}

#[test]
fn a_shape_has_at_most_eight_dimensions() {
    let header = |n_dims: usize| {
        let shape = vec!["1"; n_dims].join(",");
        format!(r#"{{"t":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]}}}}"#)
    };
    assert_eq!(open(&container(&header(8), 4)).unwrap().tensors[0].shape, [1; 8]);
    let message = open(&container(&header(9), 4)).unwrap_err();
    assert!(message.starts_with("byte 8: the header cannot be read: \"t\": more than 8 dimensions"), "{message}");
}

/// Two names that look alike could be taken for each other, and no honest name is anything but ASCII.
#[test]
fn names_are_plain_ascii() {
    for name in ["caf\u{e9}", "cafe\u{301}", "a b", "a\u{200b}", "\u{430}", ""] {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        let message = open(&container(&header, 4)).unwrap_err();
        assert!(message.ends_with("its name is not plain ASCII without spaces"), "{message}");
    }
}

/// Every way to cut a small file short, and every byte of its header changed: an error or another valid file, and
/// nothing else.
#[test]
fn truncated_and_flipped_files_never_panic() {
    let good = container(GOOD, 16);
    for len in 0..good.len() {
        assert!(open(&good[..len]).is_err(), "cut to {len} bytes");
    }
    let mut bytes = good.clone();
    let mut accepted = 0;
    for at in 0..good.len() - 16 {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            bytes[at] = good[at] ^ flip;
            if let Ok(file) = open(&bytes) {
                accepted += 1;
                let within =
                    |t: &ListedTensor| t.place.as_ref().map_or(true, |(_, view)| view.start <= good.len() as u64);
                assert!(file.tensors.iter().all(within));
            }
        }
        bytes[at] = good[at];
    }
    // Letters of names and of metadata may change freely; structure may not.
    assert!((1..200).contains(&accepted), "{accepted}");
}

#[test]
fn not_a_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(WeightFile::open(dir.path()).unwrap_err().to_string().ends_with("not a regular file"));
    assert_eq!(WeightFile::open(&dir.path().join("absent")).unwrap_err().kind(), pythia_task::ErrorKind::Io);
    #[cfg(unix)]
    assert!(WeightFile::open(Path::new("/dev/zero")).unwrap_err().to_string().ends_with("not a regular file"));
}

/// What the message of the JSON reader quotes is text of the file.
#[test]
fn what_a_file_says_cannot_reach_the_terminal() {
    let message =
        open(&container("{\"a\":{\"dtype\":\"\\u001b[31mF16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2)).unwrap_err();
    assert!(message.contains(r"unknown variant `\u{1b}[31mF16`"), "{message}");
}
