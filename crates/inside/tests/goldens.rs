//! Every hook and every intervention against transformers, in both forms of the residual stream. `tests/data/hooks` says
//! where the numbers are from.

use pythia_convert::{Level, Request, RunOptions, plan, run};
use pythia_inside::{Ablation, Array, Cache, Change, Changes, Selection, mean_of, run_with_cache};
use pythia_model::{Activations, Hook, KvType, Model, Options, Site};
use pythia_runtime::TokenStream;
use pythia_task::Cancel;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMS: [&str; 2] = ["parallel", "sequential"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/hooks")
}

/// The model of a form, in f32 throughout.
fn open(form: &str, level: &str) -> Arc<Model> {
    let temp = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(folder().join(name), temp.path().join(name)).unwrap();
    }
    let config = std::fs::read_to_string(folder().join("config.json")).unwrap();
    let other = config.replace(r#""use_parallel_residual": true"#, r#""use_parallel_residual": false"#);
    assert_ne!(config, other);
    if form == "sequential" {
        std::fs::write(temp.path().join("config.json"), other).unwrap();
    }
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{form}-{level}-{:?}.gguf", std::thread::current().id()));
    let checkpoint = pythia_convert::CheckpointSource::open(temp.path()).unwrap();
    let files = vec![(level.parse::<Level>().unwrap(), path.clone())];
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 1, force: true, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&checkpoint, &plan(&checkpoint, &Request { files, ..Request::default() }).unwrap(), &options).unwrap();
    let options = Options { activations: Activations::F32, kv: KvType::F32, threads: 2, ..Options::default() };
    Model::open(&path, &options).unwrap()
}

/// What transformers has.
struct Golden(Vec<u8>);

impl Golden {
    fn open(form: &str) -> Self {
        Self(std::fs::read(folder().join(format!("{form}.safetensors"))).unwrap())
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = self.file();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("{name}"));
        (tensor.shape().to_vec(), tensor.data().as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect())
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let file = self.file();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x) as u32).collect()
    }
}

fn all(model: &Arc<Model>, tokens: &[u32]) -> Cache {
    let everything = Selection::parse(&["*"], model.hparams()).unwrap();
    run_with_cache(model, tokens, &everything, &Cancel::new()).unwrap()
}

fn logits() -> Hook {
    Hook { site: Site::Logits, layer: None }
}

/// `|found - wanted| / |wanted|`, where minus infinities must be in the same places.
fn relative_error(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&found, &wanted) in found.iter().zip(wanted) {
        assert_eq!(found.is_finite(), wanted.is_finite());
        if wanted.is_finite() {
            difference += (f64::from(found) - f64::from(wanted)).powi(2);
            norm += f64::from(wanted).powi(2);
        }
    }
    (difference / norm).sqrt()
}

#[test]
fn every_hook_is_that_of_transformers() {
    for form in FORMS {
        let (model, golden) = (open(form, "F32"), Golden::open(form));
        let cache = all(&model, &golden.tokens("tokens"));
        let hooks = Hook::all(model.hparams());
        assert_eq!(cache.iter().map(|(hook, _)| hook).collect::<Vec<_>>(), hooks);
        let mut names: Vec<String> = golden.file().names().into_iter().map(str::to_owned).collect();
        names.retain(|name| Hook::from_name(name).is_some());
        assert_eq!(names.len(), hooks.len(), "{form}: all hooks are in the file");
        for (hook, Array { shape, data }) in cache.iter() {
            let (wanted_shape, wanted) = golden.floats(&hook.to_string());
            assert_eq!(*shape, wanted_shape, "{form} {hook}");
            let error = relative_error(data, &wanted);
            assert!(error < 5e-6, "{form} {hook}: relative error {error:e}");
        }
    }
}

#[test]
fn every_intervention_is_that_of_transformers() {
    for form in FORMS {
        let (model, golden) = (open(form, "F32"), Golden::open(form));
        let (h, tokens) = (model.hparams(), golden.tokens("tokens"));
        let z = Change::hook_of_head(0);
        let mean = mean_of(&model, &mut TokenStream::of_ids(&tokens), &[z], &Cancel::new()).unwrap().remove(0);
        let (_, vector) = golden.floats("steer.vector");
        let resid = Hook { site: Site::ResidPost, layer: Some(0) };
        let other = all(&model, &golden.tokens("patch.tokens"));
        let row = other.get(resid).unwrap().data[5 * h.n_embd..6 * h.n_embd].to_vec();
        let row = Array { shape: vec![1, h.n_embd], data: row };
        let changes = [
            ("zero_head", Change::ablate_head(h, 1, 2, Ablation::Zero)),
            ("mean_head", Change::ablate_head(h, 0, 1, Ablation::Mean(&mean, "this text"))),
            ("zero_mlp", Change::ablate_mlp(h, 0, Ablation::Zero)),
            ("steer", Change::steer(h, 0, &vector, 1.0, "a vector")),
            ("patch", Change::patch(h, resid, &[5], &row, "another run")),
        ];
        let plain = golden.floats("logits").1;
        for (name, change) in changes {
            let changed = Changes::new(vec![change.unwrap()]).of(&model);
            let found = all(&changed, &tokens);
            let wanted = golden.floats(&format!("{name}.logits")).1;
            let error = relative_error(&found.get(logits()).unwrap().data, &wanted);
            assert!(error < 5e-6, "{form} {name}: relative error {error:e}");
            assert!(relative_error(&plain, &wanted) > 1e-2, "{form} {name}: it matters");
        }
    }
}

#[test]
fn changes_add_up_and_are_told() {
    let (model, golden) = (open("parallel", "Q8_0"), Golden::open("parallel"));
    let (h, tokens) = (model.hparams(), golden.tokens("tokens"));
    let head = |layer, head| Change::ablate_head(h, layer, head, Ablation::Zero).unwrap();
    let together = Changes::new(vec![head(0, 1), head(1, 3)]).of(&model);
    let one_by_one = Changes::new(vec![head(1, 3)]).of(&Changes::new(vec![head(0, 1)]).of(&model));
    assert_eq!(all(&together, &tokens), all(&one_by_one, &tokens));
    assert_ne!(all(&together, &tokens), all(&model, &tokens));
    let told = ["head 0.1 set to zero", "head 1.3 set to zero"];
    assert_eq!(together.edits().unwrap().descriptions(), told);
    assert_eq!(one_by_one.edits().unwrap().descriptions(), told);
    assert!(Changes::default().of(&model).edits().is_none());
    let vector = vec![0.5; h.n_embd];
    // The same hook twice: a patch, then a vector on top of it.
    let resid = Hook { site: Site::ResidPost, layer: Some(1) };
    let patch = Array { shape: vec![2, h.n_embd], data: vec![0.25; 2 * h.n_embd] };
    let changes = vec![
        Change::patch(h, resid, &[3, 7], &patch, "elsewhere").unwrap(),
        Change::steer(h, 1, &vector, -2.0, "v").unwrap(),
    ];
    let changed = Changes::new(changes).of(&model);
    assert_eq!(
        changed.edits().unwrap().descriptions(),
        ["blocks.1.hook_resid_post at positions 3, 7 from elsewhere", "v times -2 added after block 1"]
    );
    let (before, after) = (all(&model, &tokens), all(&changed, &tokens));
    let rows = |cache: &Cache| cache.get(resid).unwrap().data.clone();
    for (position, (before, after)) in rows(&before).chunks(h.n_embd).zip(rows(&after).chunks(h.n_embd)).enumerate() {
        let patched = [3, 7].contains(&position);
        assert!(before.iter().zip(after).all(|(b, a)| *a == if patched { 0.25 } else { *b } - 1.0), "{position}");
    }
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let model = open("parallel", "F32");
    let h = model.hparams();
    let array = |shape: &[usize]| Array { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
    let patch = |name: &str, positions: &[usize], shape: &[usize]| {
        Change::patch(h, Hook::from_name(name).unwrap(), positions, &array(shape), "x").unwrap_err().to_string()
    };
    let resid = "blocks.0.hook_resid_post";
    for (found, wanted) in [
        (Change::ablate_head(h, 2, 0, Ablation::Zero).unwrap_err().to_string(), "layer: found 2, wanted 0 to 1"),
        (Change::ablate_head(h, 0, 4, Ablation::Zero).unwrap_err().to_string(), "head: found 4, wanted 0 to 3"),
        (
            Change::ablate_mlp(h, 0, Ablation::Mean(&[0.0], "x")).unwrap_err().to_string(),
            "mean: found 1 numbers, wanted 32",
        ),
        (
            Change::steer(h, 0, &[1.0; 31], 1.0, "x").unwrap_err().to_string(),
            "steering vector: found 31 numbers, wanted 32",
        ),
        (
            Change::steer(h, 0, &[f32::MAX; 32], 2.0, "x").unwrap_err().to_string(),
            "steering vector: element 0 times 2 is inf, wanted a finite number",
        ),
        (patch(resid, &[1, 1], &[2, 32]), "positions: 1 comes twice"),
        (patch(resid, &[64], &[1, 32]), "position: found 64, wanted 0 to 63"),
        (patch(resid, &[], &[0, 32]), "patch: x has no rows for blocks.0.hook_resid_post"),
        (patch(resid, &[1], &[1, 31]), "patch: x has shape [1, 31] for blocks.0.hook_resid_post, wanted [1, 32]"),
        (
            patch("blocks.0.attn.hook_pattern", &[1], &[1, 32]),
            "hook: blocks.0.attn.hook_pattern can be seen but not changed: the pass does not go on with it (nor with any \
             attn.hook_rot_q, attn.hook_rot_k, attn.hook_attn_scores, attn.hook_pattern, logits; all others can change)",
        ),
        (
            patch("blocks.9.hook_resid_post", &[1], &[1, 32]),
            "hook 'blocks.9.hook_resid_post': the model has none of this name",
        ),
    ] {
        assert_eq!(found, wanted);
    }
    let tokens = |n: usize| run_with_cache(&model, &vec![1; n], &Selection::of([]), &Cancel::new()).map(drop);
    assert!(tokens(64).is_ok());
    assert_eq!(tokens(0).unwrap_err().to_string(), "tokens: found 0, wanted 1 to 64, the model's context");
    assert!(tokens(65).is_err());
    assert!(run_with_cache(&model, &[264], &Selection::of([]), &Cancel::new()).is_err());
}
