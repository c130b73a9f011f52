//! Forms of a checkpoint that say the same as the plain one give the same bytes.

use super::*;
use crate::common::torch::{Container, Tensor, file, tensors};
use safetensors::SafeTensors;

/// The plain form: one file of f32.
fn plain(folder: &Path, architecture: Architecture) {
    write_checkpoint(folder, &Weights::random(), architecture, FORMS[0]);
}

/// Replaces the weights in `folder` by those that `edit` makes of them, under `name`.
fn rewrite(folder: &Path, name: &str, edit: impl Fn(&str, Dtype, &[u8]) -> Option<(String, Dtype, Vec<u8>)>) {
    let old = folder.join("model.safetensors");
    let bytes = fs::read(&old).unwrap();
    fs::remove_file(old).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let edited: Vec<_> = tensors
        .iter()
        .filter_map(|(name, view)| {
            let (name, dtype, data) = edit(name, view.dtype(), view.data())?;
            Some((name, dtype, view.shape().to_vec(), data))
        })
        .collect();
    let views =
        edited.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    serialize_to_file(views, None, &path).unwrap();
}

fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

/// Every tensor in one file that an index names.
fn index(folder: &Path, file: &str) {
    let shapes = shapes();
    let map: BTreeMap<&str, &str> = shapes.iter().map(|(name, _)| (name.as_str(), file)).collect();
    fs::write(folder.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
}

fn widened(data: &[u8]) -> Vec<u8> {
    // A little off the float that it rounds to.
    let wide = |bytes: &[u8; 4]| (f64::from(f32::from_le_bytes(*bytes)) * (1.0 + 1e-9)).to_le_bytes();
    data.as_chunks::<4>().0.iter().flat_map(wide).collect()
}

fn is_attention_bias(name: &str) -> bool {
    name.ends_with("dense.bias") || name.ends_with("query_key_value.bias")
}

#[test]
fn forms_that_say_the_same_give_the_same_bytes() {
    let wanted = |architecture| {
        let dir = tempfile::tempdir().unwrap();
        plain(dir.path(), architecture);
        fs::read(convert(dir.path())).unwrap()
    };
    let [untied, tied] = [ARCHITECTURES[0], ARCHITECTURES[2]].map(wanted);
    let without_base = |name: &str| name.trim_start_matches("gpt_neox.").to_owned();
    type Edit = Box<dyn Fn(&Path)>;
    let renamed = |rename: Box<dyn Fn(&str) -> String>| -> Edit {
        Box::new(move |folder| {
            rewrite(folder, "model.safetensors", |name, dtype, data| Some((rename(name), dtype, data.to_vec())));
        })
    };
    let cases: [(&str, Architecture, Edit); 10] = [
        ("module.", ARCHITECTURES[0], renamed(Box::new(|name| format!("module.{name}")))),
        ("nested", ARCHITECTURES[0], renamed(Box::new(|name| format!("_orig_mod.module.{name}")))),
        ("peft", ARCHITECTURES[0], renamed(Box::new(|name| format!("base_model.model.{name}")))),
        ("bare with a head", ARCHITECTURES[0], renamed(Box::new(without_base))),
        ("bare and tied", ARCHITECTURES[2], renamed(Box::new(without_base))),
        (
            "f64",
            ARCHITECTURES[0],
            Box::new(|folder| {
                rewrite(folder, "model.safetensors", |name, _, data| {
                    Some((name.to_owned(), Dtype::F64, widened(data)))
                });
            }),
        ),
        ("f64 in a .bin", ARCHITECTURES[0], Box::new(|folder| bin(folder, Container::Zip))),
        ("f64 in an old .bin", ARCHITECTURES[0], Box::new(|folder| bin(folder, Container::Legacy))),
        (
            "a shard in a folder",
            ARCHITECTURES[0],
            Box::new(|folder| {
                rewrite(folder, "parts/a/x.safetensors", |name, dtype, data| {
                    Some((name.to_owned(), dtype, data.to_vec()))
                });
                index(folder, "parts/a/x.safetensors");
            }),
        ),
        (
            "an adapter beside it",
            ARCHITECTURES[0],
            Box::new(|folder| fs::write(folder.join("adapter_config.json"), "{}").unwrap()),
        ),
    ];
    for (name, architecture, edit) in cases {
        let dir = tempfile::tempdir().unwrap();
        plain(dir.path(), architecture);
        edit(dir.path());
        let found = fs::read(convert(dir.path())).unwrap();
        assert!(found == if architecture.tied { &tied[..] } else { &untied[..] }, "{name}");
    }
}

/// The weights as doubles in a file of PyTorch, under the names of data-parallel training.
fn bin(folder: &Path, container: Container) {
    let old = folder.join("model.safetensors");
    let doubles: Vec<Tensor> = tensors(&old)
        .into_iter()
        .map(|t| Tensor { name: format!("module.{}", t.name), class: "Double", bytes: widened(&t.bytes), ..t })
        .collect();
    fs::remove_file(old).unwrap();
    fs::write(folder.join("pytorch_model.bin"), file(container, &doubles)).unwrap();
}

#[test]
fn attention_without_biases_is_attention_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    plain(dir.path(), ARCHITECTURES[0]);
    rewrite(dir.path(), "model.safetensors", |name, dtype, data| {
        let data = if is_attention_bias(name) { vec![0; data.len()] } else { data.to_vec() };
        Some((name.to_owned(), dtype, data))
    });
    let zeros = convert(dir.path());
    // And that is what a forward pass computes without them.
    let mut weights = Weights::random();
    weights.0.iter_mut().filter(|(name, _)| is_attention_bias(name)).for_each(|(_, weight)| weight.values.fill(0.0));
    for (got, want) in logits(&zeros).iter().zip(reference(&weights, ARCHITECTURES[0])) {
        assert!((f64::from(*got) - want).abs() <= 1e-4, "{got}, wanted {want}");
    }
    let dir = tempfile::tempdir().unwrap();
    plain(dir.path(), ARCHITECTURES[0]);
    rewrite(dir.path(), "model.safetensors", |name, dtype, data| {
        (!is_attention_bias(name)).then(|| (name.to_owned(), dtype, data.to_vec()))
    });
    set(dir.path(), "attention_bias", json!(false));
    assert!(fs::read(convert(dir.path())).unwrap() == fs::read(zeros).unwrap());
}
