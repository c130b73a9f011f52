use super::*;
use pythia_schema::Transform;
use serde_json::{Map, Value, json};
use std::fs;
use tempfile::TempDir;

mod forms;

/// A model of one block with a vocabulary of 6: `(name, shape)`, in the order of the files.
const TENSORS: &[(&str, &[usize])] = &[
    ("gpt_neox.embed_in.weight", &[6, 4]),
    ("gpt_neox.layers.0.attention.dense.weight", &[4, 4]),
    ("gpt_neox.layers.0.attention.dense.bias", &[4]),
    ("embed_out.weight", &[6, 4]),
];

fn config() -> Value {
    json!({
        "model_type": "gpt_neox", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 6, "max_position_embeddings": 8, "rotary_pct": 1.0,
    })
}

/// A weight file of f16 tensors, each element's bits its number in the file.
fn weights(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert((*name).to_owned(), json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..end as u16 / 2).flat_map(u16::to_le_bytes));
    bytes
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config().to_string()).unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn single(tensors: &[(&str, &[usize])]) -> TempDir {
    folder(&[("model.safetensors", weights(tensors))])
}

/// What a GPT-NeoX of this size needs of `TENSORS`.
fn resolve(checkpoint: &Checkpoint) -> Result<Vec<&SourceTensor>, Error> {
    let spec = |(name, shape): &(&str, &[usize])| {
        let id = TensorId::from_hf(name).unwrap();
        let transform = Transform::None;
        TensorSpec { id, gguf: id.gguf(), hf: id.hf(), shape: shape.to_vec(), transform }
    };
    checkpoint.resolve(&TENSORS.iter().map(spec).collect::<Vec<_>>())
}

fn bits(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

#[test]
fn rows_are_read_where_they_are() {
    let dir = single(TENSORS);
    // By the folder, and by the file in it.
    for path in [dir.path().to_owned(), dir.path().join("model.safetensors")] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.files(), [dir.path().join("model.safetensors")]);
        let found = resolve(&checkpoint).unwrap();
        assert!(found.iter().map(|t| t.name.as_str()).eq(TENSORS.iter().map(|(name, _)| *name)));

        let mut bytes = vec![9; 100];
        checkpoint.read_rows(found[1], 2, 2, &mut bytes).unwrap();
        assert_eq!(bits(&bytes), (24 + 8..24 + 16).collect::<Vec<_>>());
        checkpoint.read_rows(found[2], 0, 1, &mut bytes).unwrap();
        assert_eq!(bits(&bytes), [40, 41, 42, 43]);
        checkpoint.read_rows(found[2], 1, 0, &mut bytes).unwrap();
        assert!(bytes.is_empty());
        for (first_row, n_rows) in [(4, 1), (0, 5), (usize::MAX, 1), (1, usize::MAX)] {
            let message = checkpoint.read_rows(found[1], first_row, n_rows, &mut bytes).unwrap_err().to_string();
            assert!(message.contains("attention.dense.weight\": rows"), "{message}");
        }
        let changed = SourceTensor { shape: vec![1, 1 << 40], ..found[1].clone() };
        for foreign in [SourceTensor { file: 3, ..found[1].clone() }, changed.clone()] {
            let message = checkpoint.read_rows(&foreign, 0, 1, &mut bytes).unwrap_err().to_string();
            assert!(message.ends_with("is not a tensor of this checkpoint"), "{message}");
        }
        let file = WeightFile::open(&checkpoint.files()[0]).unwrap();
        let own = file.tensors().next().unwrap().unwrap();
        file.read_rows(&own, 0, own.n_rows(), &mut bytes).unwrap();
        let view = own.view.clone().map(|view| View { checksum: Some(7), ..view });
        for foreign in [changed, SourceTensor { view, ..own }] {
            let message = file.read_rows(&foreign, 0, 1, &mut bytes).unwrap_err().to_string();
            assert!(message.ends_with("is not a tensor of this file"), "{message}");
        }
    }
}

#[test]
fn a_file_that_shrinks_is_an_io_error() {
    let dir = single(TENSORS);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let file = fs::File::options().write(true).open(&checkpoint.files()[0]).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let head = checkpoint.tensor("embed_out.weight").unwrap();
    assert_eq!(checkpoint.read_rows(head, 0, 6, &mut Vec::new()).unwrap_err().kind(), pythia_task::ErrorKind::Io);
    checkpoint.read_rows(head, 0, 5, &mut Vec::new()).unwrap();
}

#[test]
fn both_names_of_the_head_and_a_tied_one() {
    let mut tensors = TENSORS.to_vec();
    tensors[3].0 = "lm_head.weight";
    let dir = single(&tensors);
    assert_eq!(resolve(&Checkpoint::open(dir.path()).unwrap()).unwrap()[3].name, "lm_head.weight");

    tensors.push(("embed_out.weight", &[6, 4]));
    let dir = single(&tensors);
    let message = resolve(&Checkpoint::open(dir.path()).unwrap()).unwrap_err().to_string();
    assert!(message.ends_with("embed_out.weight and lm_head.weight are both present"), "{message}");

    let dir = single(&TENSORS[..3]);
    let untied = Checkpoint::open(dir.path()).unwrap();
    assert!(!untied.tied_head());
    let message = resolve(&untied).unwrap_err().to_string();
    assert!(message.ends_with("embed_out.weight or lm_head.weight is missing"), "{message}");

    let mut tied = config();
    tied["tie_word_embeddings"] = json!(true);
    fs::write(dir.path().join("config.json"), tied.to_string()).unwrap();
    let tied = Checkpoint::open(dir.path()).unwrap();
    assert!(tied.tied_head());
    assert_eq!(resolve(&tied).unwrap()[3].name, "gpt_neox.embed_in.weight");
}

#[test]
fn every_mismatch_is_named() {
    let dir = single(&[
        ("gpt_neox.embed_in.weight", &[6, 4]),
        ("gpt_neox.layers.0.attention.dense.weight", &[4, 5]),
        ("gpt_neox.layers.1.attention.dense.bias", &[4]),
        ("embed_out.weight", &[6, 4]),
    ]);
    let error = resolve(&Checkpoint::open(dir.path()).unwrap()).unwrap_err();
    let Error::Mismatch { problems, .. } = error else { panic!("{error}") };
    assert_eq!(
        problems,
        [
            "gpt_neox.layers.0.attention.dense.weight has shape [4, 5], wanted [4, 4]",
            "gpt_neox.layers.0.attention.dense.bias is missing",
            "\"gpt_neox.layers.1.attention.dense.bias\" is not expected",
        ]
    );
}

#[test]
fn constant_buffers_are_dropped_by_name() {
    let buffers = [
        ("gpt_neox.layers.0.attention.bias", r#""BOOL","shape":[1,1,2,2]"#, 4),
        ("gpt_neox.layers.0.attention.masked_bias", r#""F32","shape":[]"#, 4),
        ("gpt_neox.layers.0.attention.rotary_emb.inv_freq", r#""F32","shape":[1]"#, 4),
        ("gpt_neox.rotary_emb.inv_freq", r#""F64","shape":[1]"#, 8),
    ];
    let mut end = 48;
    let mut header = r#"{"gpt_neox.embed_in.weight":{"dtype":"F16","shape":[6,4],"data_offsets":[0,48]}"#.to_owned();
    for (name, typed, n_bytes) in buffers {
        header += &format!(r#","{name}":{{"dtype":{typed},"data_offsets":[{end},{}]}}"#, end + n_bytes);
        end += n_bytes;
    }
    header += "}";
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    let dir = folder(&[("model.safetensors", bytes)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.tensors().count(), 1);
    assert_eq!(checkpoint.dropped(), buffers.map(|(name, _, _)| name));
}

#[test]
fn other_element_types_are_refused() {
    let bytes = weights(&[("gpt_neox.embed_in.weight", &[6, 4])]);
    let bytes = String::from_utf8(bytes).unwrap().replace(r#""F16""#, r#""I16""#).into_bytes();
    let dir = folder(&[("model.safetensors", bytes)]);
    let message = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with("tensor \"gpt_neox.embed_in.weight\": type I16, wanted F32, F16, BF16 or F64"),
        "{message}"
    );
}

#[test]
fn the_vocabulary_is_bounded_by_the_embedding() {
    for (shape, found) in [(&[5, 4], "[5, 4]"), (&[4, 6], "[4, 6]")] {
        let message = Checkpoint::open(single(&[(TENSORS[0].0, shape)]).path()).unwrap_err().to_string();
        assert!(message.contains("config.json: vocab_size: 6, but") && message.contains(found), "{message}");
    }
    let message = Checkpoint::open(single(&[("transformer.wte.weight", &[6, 4])]).path()).unwrap_err().to_string();
    assert!(message.ends_with("gpt_neox.embed_in.weight is missing"), "{message}");
}

/// Two shards and an index with `edit` made to its weight map.
fn sharded(edit: impl Fn(&mut Map<String, Value>)) -> TempDir {
    let mut map: Map<String, Value> = TENSORS
        .iter()
        .enumerate()
        .map(|(i, (name, _))| ((*name).to_owned(), json!(["a.safetensors", "b.safetensors"][i / 2])))
        .collect();
    edit(&mut map);
    let index = json!({"metadata": {"total_size": 136}, "weight_map": map}).to_string();
    folder(&[
        ("a.safetensors", weights(&TENSORS[..2])),
        ("b.safetensors", weights(&TENSORS[2..])),
        ("model.safetensors.index.json", index.into_bytes()),
    ])
}

#[test]
fn shards_are_one_checkpoint() {
    let dir = sharded(|_| ());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.files(), ["a.safetensors", "b.safetensors"].map(|name| dir.path().join(name)));
    let found = resolve(&checkpoint).unwrap();
    assert_eq!(found.iter().map(|t| t.file).collect::<Vec<_>>(), [0, 0, 1, 1]);
    let mut bytes = Vec::new();
    checkpoint.read_rows(found[3], 0, 1, &mut bytes).unwrap();
    assert_eq!(bits(&bytes), [4, 5, 6, 7]);
}

#[test]
fn shards_that_contradict_the_index_are_refused() {
    let open = |dir: TempDir| Checkpoint::open(dir.path()).unwrap_err();
    let cases: [(TempDir, &str); 4] = [
        (sharded(|map| drop(map.remove("embed_out.weight"))), "tensor \"embed_out.weight\": not in the index"),
        (
            sharded(|map| drop(map.insert("extra".into(), json!("b.safetensors")))),
            "b.safetensors: tensor \"extra\": not in this file, where the index says it is",
        ),
        (
            sharded(|map| drop(map.insert("embed_out.weight".into(), json!("a.safetensors")))),
            "b.safetensors: tensor \"embed_out.weight\": the index",
        ),
        (
            {
                let dir = sharded(|_| ());
                fs::write(dir.path().join("b.safetensors"), weights(&TENSORS[1..])).unwrap();
                dir
            },
            "tensor \"gpt_neox.layers.0.attention.dense.weight\": also in",
        ),
    ];
    for (dir, wanted) in cases {
        let message = open(dir).to_string();
        assert!(message.contains(wanted), "{message}\nwanted: {wanted}");
    }
    let absent = open(sharded(|map| drop(map.insert("extra".into(), json!("c.safetensors")))));
    assert!(absent.kind() == pythia_task::ErrorKind::Io && absent.path().ends_with("c.safetensors"), "{absent}");
}

#[test]
fn a_folder_without_a_config_names_it() {
    let dir = single(TENSORS);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert!(error.kind() == pythia_task::ErrorKind::Io && error.path().ends_with("config.json"), "{error}");
}
