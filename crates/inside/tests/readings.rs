//! The lens, the comparison of two files and attention, on the checkpoint in `tests/data`.

use pythia_convert::{Level, Request, RunOptions, plan, run};
use pythia_inside::attention::{self, Attention};
use pythia_inside::damage::{self, Damage, Side};
use pythia_inside::lens::{self, Lens};
use pythia_inside::{Error, Selection, list, run_with_cache};
use pythia_model::{ContextShape, Hook, Model, Options, Site, Span};
use pythia_runtime::{TokenStream, Tokenizer};
use pythia_task::Cancel;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The checkpoint at this level, and its tokenizer.
fn open(level: &str) -> (Arc<Model>, Tokenizer) {
    static CONVERTING: Mutex<()> = Mutex::new(());
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readings-{level}.gguf"));
    let _one_at_a_time = CONVERTING.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
    let checkpoint = pythia_convert::CheckpointSource::open(&source).unwrap();
    let files = vec![(level.parse::<Level>().unwrap(), path.clone())];
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 2, force: true, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&checkpoint, &plan(&checkpoint, &Request { files, ..Request::default() }).unwrap(), &options).unwrap();
    let model = Model::open(&path, &Options { threads: 2, ..Options::default() }).unwrap();
    let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
    (model, tokenizer)
}

fn ids(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 31 + i * 7) % 4000) as u32).collect()
}

fn read(model: &Arc<Model>, ids: &[u32], layers: &str, top: usize) -> Lens {
    let request = lens::Request { hooks: list::stream(layers, model.hparams()).unwrap(), top };
    lens::lens(model, ids, &request, &Cancel::new(), &()).unwrap()
}

#[test]
fn the_last_depth_is_the_model_itself() {
    let (model, _) = open("Q4_0");
    let (ids, n_vocab) = (ids(70), model.hparams().n_vocab);
    let lens = read(&model, &ids, "all", n_vocab);
    assert_eq!(lens.depths.len(), model.hparams().n_layer + 1);
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 70, n_batch: 70 }).unwrap();
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &ids }]).unwrap();
    let mut logits = vec![0.0; 70 * n_vocab];
    context.logits(0..70, &mut logits).unwrap();
    let mut likelihoods = vec![0.0; 69];
    context.log_likelihoods(0..69, &ids[1..], &mut likelihoods).unwrap();
    let last = lens.depths.last().unwrap();
    assert_eq!(last.readings.len(), 70);
    for (position, reading) in last.readings.iter().enumerate() {
        let row = &logits[position * n_vocab..(position + 1) * n_vocab];
        let log_sum = model.cpu().log_sum_exp(row);
        assert!(reading.top.iter().all(|&(id, likelihood)| likelihood == f64::from(row[id as usize]) - log_sum));
        assert_eq!(reading.top.len(), n_vocab);
        assert!(reading.kl == 0.0 && reading.same_top);
        assert_eq!(reading.next.map(|next| next.log_likelihood), likelihoods.get(position).copied());
    }
    let first = lens.depths[0].summary();
    let end = last.summary();
    assert!(end.agreement == 1.0 && end.kl == 0.0 && end.rank >= 1.0, "{end:?}");
    assert!(first.agreement < 0.5 && first.kl > 1.0 && first.entropy > 0.0, "{first:?}");
    assert!((end.log_likelihood - likelihoods.iter().sum::<f64>() / 69.0).abs() < 1e-12);
}

#[test]
fn a_reading_does_not_depend_on_what_else_is_read() {
    let (model, _) = open("Q4_0");
    let all = read(&model, &ids(70), "all", 3);
    let some = read(&model, &ids(20), "embed,2", 3);
    let names: Vec<String> = some.depths.iter().map(lens::Depth::name).collect();
    assert_eq!(names, ["embed", "2"]);
    for (depth, of_all) in some.depths.iter().zip([0, 3]) {
        // The last position of the shorter text has no next token.
        assert_eq!(depth.readings[..19], all.depths[of_all].readings[..19]);
        assert!(depth.readings[19].next.is_none() && all.depths[of_all].readings[19].next.is_some());
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let (model, _) = open("Q4_0");
    let lens = |ids: &[u32], hooks: Vec<Hook>, top| {
        lens::lens(&model, ids, &lens::Request { hooks, top }, &Cancel::new(), &()).unwrap_err().to_string()
    };
    let stream = || list::stream("all", model.hparams()).unwrap();
    assert_eq!(lens(&[], stream(), 1), "tokens: found 0, wanted 1 to 512, the model's context");
    assert!(lens(&[1; 513], stream(), 1).starts_with("tokens: found 513"));
    assert!(lens(&[9999], stream(), 1).contains("9999"));
    assert!(lens(&[1], stream(), 0).starts_with("top: "));
    assert!(lens(&[1], Vec::new(), 1).starts_with("layers: "));
    let z = Hook { site: Site::Z, layer: Some(0) };
    assert_eq!(lens(&[1], vec![z], 1), "hooks: found blocks.0.attn.hook_z, wanted hooks of the residual stream");
    let cancel = Cancel::new();
    cancel.raise();
    let request = lens::Request { hooks: stream(), top: 1 };
    assert!(lens::lens(&model, &[1, 2], &request, &cancel, &()).is_err());
}

#[test]
fn records_read_back() {
    let (model, tokenizer) = open("Q4_0");
    let lens = read(&model, &tokenizer.encode("a, \"b\"\n=c\u{202e}").unwrap(), "embed,last", 2);
    let lines: Vec<serde_json::Value> =
        lens::jsonl(&lens, &tokenizer).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * lens.ids.len());
    assert!(lines[0]["layer"].is_null() && lines[0]["hook"] == "hook_embed" && lines[lens.ids.len()]["layer"] == 5);
    let text: String = lines[..lens.ids.len()].iter().map(|line| line["token"].as_str().unwrap()).collect();
    assert!(text.starts_with("a, \"b\"\n=c"), "{text:?}");
    assert_eq!(lines[0]["log_likelihood"].as_f64(), lens.depths[0].readings[0].next.map(|next| next.log_likelihood));
    let csv = lens::csv(&lens, &tokenizer);
    assert_eq!(csv.lines().count(), 1 + lines.len(), "no line break inside");
    assert!(csv.is_ascii() || !csv.contains('\u{202e}'));
    let page = lens::page(&lens, &tokenizer, "</title><script>x", "<b>");
    assert!(!page.contains("<b>.") && !page.contains("</title><script>x") && !page.contains("http"), "{page}");
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["cells"].as_array().unwrap().len(), 2);
}

fn compare(a: &(Arc<Model>, Tokenizer), b: &(Arc<Model>, Tokenizer), ids: &[u32], window: usize) -> Damage {
    let side = |(model, tokenizer)| Side { model, tokenizer };
    let request = damage::Request { window, max_windows: 3, lens_stride: 2 };
    let (a, b) = ((&a.0, &a.1), (&b.0, &b.1));
    damage::damage(side(a), side(b), &mut TokenStream::of_ids(ids), &request, &Cancel::new(), &()).unwrap()
}

#[test]
fn a_model_is_not_different_from_itself() {
    let q4 = open("Q4_0");
    let damage = compare(&q4, &q4, &ids(70), 32);
    assert!(damage.is_none());
    assert_eq!((damage.windows, damage.tokens, damage.lens_positions), (3, 70, 35));
    for row in &damage.rows {
        assert!(row.relative_error == 0.0 && row.own_error.unwrap_or(0.0) == 0.0 && row.cosine == 1.0, "{row:?}");
        assert!(row.kl.unwrap_or(0.0) == 0.0 && row.disagreement.unwrap_or(0.0) == 0.0, "{row:?}");
    }
    let hparams = q4.0.hparams();
    assert_eq!(damage.rows.len(), 3 + hparams.n_layer * (11 + hparams.n_head), "embed, norm, logits; 11 hooks, heads");
    assert!(damage.blocks.iter().all(|block| block.own == 0.0 && block.added == 0.0 && block.lens_kl == 0.0));
}

/// Against the definitions, from the values of two whole passes.
#[test]
fn errors_are_those_of_their_definitions() {
    let (f16, q4) = (open("F16"), open("Q4_0"));
    let ids = ids(48);
    let damage = compare(&f16, &q4, &ids, 48);
    let all = Selection::parse(&["*"], f16.0.hparams()).unwrap();
    let [x, y] = [&f16, &q4].map(|(model, _)| run_with_cache(model, &ids, &all, &Cancel::new()).unwrap());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    for row in damage.rows.iter().filter(|row| row.head.is_none() && row.hook.site != Site::Logits) {
        let (x, y) = (&x.get(row.hook).unwrap().data, &y.get(row.hook).unwrap().data);
        let difference = squares(&mut x.iter().zip(y).map(|(x, y)| f64::from(*y) - f64::from(*x)));
        let error = (difference / squares(&mut x.iter().map(|x| f64::from(*x)))).sqrt();
        assert!((row.relative_error / error - 1.0).abs() < 1e-9, "{}: {} {error}", row.hook, row.relative_error);
        assert!(row.cosine > 0.5 && row.cosine < 1.0, "{row:?}");
    }
    let hook = Hook { site: Site::Pattern, layer: Some(2) };
    let (x, y) = (x.get(hook).unwrap(), y.get(hook).unwrap());
    let kl: f64 = x.data[..48 * 48]
        .iter()
        .zip(&y.data)
        .filter(|(p, _)| **p > 0.0)
        .map(|(&p, &q)| f64::from(p) * (f64::from(p) / f64::from(q)).ln())
        .sum::<f64>()
        / 48.0;
    let row = damage.rows.iter().find(|row| row.hook == hook && row.head == Some(0)).unwrap();
    assert!((row.kl.unwrap() - kl).abs() < 1e-9 && kl > 0.0, "{row:?} {kl}");
    // The first block has the base's stream but for the embedding, and later ones have more error than they make.
    for block in &damage.blocks {
        assert!(
            block.own > 0.0 && block.own_attention > 0.0 && block.own_mlp > 0.0 && block.lens_kl > 0.0,
            "{block:?}"
        );
        assert!(block.own < block.stream, "{block:?}");
        assert!(block.own <= block.own_attention + block.own_mlp, "{block:?}");
    }
    let csv = damage::csv(&damage);
    assert!(csv.lines().all(|line| line.split(',').count() == 10));
    assert!(csv.contains("blocks.1.hook_mlp_out,1,hook_mlp_out,,blk.1.ffn_down.weight,"), "{csv}");
    let json = damage::json(&damage);
    assert_eq!(json["rows"].as_array().unwrap().len(), damage.rows.len());
    assert_eq!(json["blocks"][1]["own"].as_f64(), Some(damage.blocks[1].own));
    let page = damage::page(&damage, "<b>", "</title>", "a&b");
    assert!(!page.contains("<b>") && page.contains("a&amp;b") && !page.contains("NaN"));
}

/// The block with the base's stream, step by step: the error of the first block's MLP alone, where only its matrix is
/// another.
#[test]
fn new_error_is_that_of_the_block_alone() {
    let (f16, q4) = (open("F16"), open("Q4_0"));
    let ids = ids(40);
    let damage = compare(&f16, &q4, &ids, 40);
    // The first block of a level whose embedding is the base's: both are decoded to the same rows only in the base, so
    // the base's are put in.
    let all = Selection::parse(&["hook_embed", "blocks.0.*"], f16.0.hparams()).unwrap();
    let base = run_with_cache(&f16.0, &ids, &all, &Cancel::new()).unwrap();
    let enters = Hook { site: Site::ResidPre, layer: Some(0) };
    let positions: Vec<usize> = (0..40).collect();
    let hparams = f16.0.hparams();
    let change = pythia_inside::Change::patch(hparams, enters, &positions, base.get(enters).unwrap(), "base").unwrap();
    let patched = pythia_inside::Changes::new(vec![change]).of(&q4.0);
    let level = run_with_cache(&patched, &ids, &all, &Cancel::new()).unwrap();
    let leaves = Hook { site: Site::ResidPost, layer: Some(0) };
    let (x, y) = (&base.get(leaves).unwrap().data, &level.get(leaves).unwrap().data);
    let difference: f64 = x.iter().zip(y).map(|(x, y)| (f64::from(*y) - f64::from(*x)).powi(2)).sum();
    let norm: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    let error = (difference / norm).sqrt();
    assert!((damage.blocks[0].own / error - 1.0).abs() < 1e-9 && error > 0.0, "{} {error}", damage.blocks[0].own);
}

#[test]
fn files_of_other_shapes_are_not_compared() {
    let (f16, q4) = (open("F16"), open("Q4_0"));
    let side = |(model, tokenizer)| Side { model, tokenizer };
    let (a, b) = ((&f16.0, &f16.1), (&q4.0, &q4.1));
    let damage = |request: damage::Request, ids: &[u32], cancel: &Cancel| {
        damage::damage(side(a), side(b), &mut TokenStream::of_ids(ids), &request, cancel, &()).unwrap_err()
    };
    let request = damage::Request { window: 16, max_windows: 1, lens_stride: 1 };
    let cancel = Cancel::new();
    assert!(damage(request, &[], &cancel).to_string().contains("at least one token"));
    assert!(damage(request, &[9999], &cancel).to_string().contains("9999"));
    assert!(damage(damage::Request { window: 513, ..request }, &[1], &cancel).to_string().starts_with("window: "));
    assert!(damage(damage::Request { window: 0, ..request }, &[1], &cancel).to_string().starts_with("window: "));
    assert!(damage(damage::Request { lens_stride: 0, ..request }, &[1], &cancel).to_string().contains("stride"));
    cancel.raise();
    assert_eq!(damage(request, &[1, 2], &cancel).kind(), pythia_task::ErrorKind::Cancelled);
    assert!(matches!(damage(request, &[], &Cancel::new()), Error::Runtime(_)));
}

fn attend(model: &Arc<Model>, ids: &[u32], heads: &str, patterns: bool) -> Attention {
    let request = attention::Request { heads: list::heads(heads, model.hparams()).unwrap(), patterns };
    attention::attention(model, ids, &request, &Cancel::new(), &()).unwrap()
}

#[test]
fn patterns_and_scores_are_those_of_the_hook() {
    let (model, tokenizer) = open("Q4_0");
    let mut ids = ids(30);
    ids.extend_from_within(..25);
    let n = ids.len();
    let attention = attend(&model, &ids, "all", true);
    let n_head = model.hparams().n_head;
    assert_eq!(attention.heads.len(), model.hparams().n_layer * n_head);
    for layer in 0..model.hparams().n_layer {
        let hook = Hook { site: Site::Pattern, layer: Some(layer) };
        let cache = run_with_cache(&model, &ids, &Selection::of([hook]), &Cancel::new()).unwrap();
        let pattern = &cache.get(hook).unwrap().data;
        for (number, head) in attention.heads[layer * n_head..][..n_head].iter().enumerate() {
            assert_eq!((head.layer, head.head), (layer, number));
            let pattern = &pattern[number * n * n..][..n * n];
            assert!(head.pattern.iter().zip(pattern).all(|(kept, weight)| *kept == half::f16::from_f32(*weight)));
            let mean = |of: &dyn Fn(usize) -> Option<usize>| {
                let weights: Vec<f64> = (0..n).filter_map(|i| of(i).map(|j| f64::from(pattern[i * n + j]))).collect();
                weights.iter().sum::<f64>() / weights.len() as f64
            };
            let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-12;
            assert!(close(head.scores.previous, mean(&|i| i.checked_sub(1))));
            assert!(close(head.scores.first, mean(&|i| (i > 0).then_some(0))));
            // No token comes twice in the first 30, so the formula is a diagonal.
            assert!(close(head.scores.duplicate, mean(&|i| i.checked_sub(30))));
            assert!(close(head.scores.induction, mean(&|i| (i >= 30).then(|| i - 29))));
        }
    }
    let bytes = attention::safetensors(&attend(&model, &ids, "0.1,2.*", true), "a model").unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let pattern = file.tensor("blocks.0.attn.hook_pattern").unwrap();
    assert_eq!((pattern.shape(), pattern.dtype()), (&[1, n, n][..], safetensors::Dtype::F16));
    assert!(pattern.data().chunks(2).zip(&attention.heads[1].pattern).all(|(a, b)| a == b.to_le_bytes()));
    assert_eq!(file.tensor("blocks.0.attn.hook_pattern.heads").unwrap().data(), 1i64.to_le_bytes());
    assert_eq!(file.tensor("blocks.2.attn.hook_pattern").unwrap().shape(), [n_head, n, n]);
    assert_eq!(file.tensor("tokens").unwrap().shape(), [n]);
    let alone = attend(&model, &ids, "2.1", false);
    assert_eq!(alone.heads[0].scores, attention.heads[2 * n_head + 1].scores);
    assert!(attention::safetensors(&alone, "a model").is_err(), "they were not kept");
    assert_eq!(attention::csv(&attention).lines().count(), 1 + attention.heads.len());
    let line: serde_json::Value = serde_json::from_str(attention::jsonl(&alone).trim()).unwrap();
    assert_eq!(line["induction"].as_f64(), alone.heads[0].scores.induction);
    let page = attention::page(&attention, &tokenizer, "</title>", "<b>");
    assert!(!page.contains("<b>") && !page.contains("http"));
}

#[test]
fn a_random_sequence_repeats_once_and_has_no_other_copies() {
    let (model, tokenizer) = open("Q4_0");
    let ids = attention::repeated(&tokenizer, 100, 512, 7).unwrap();
    assert_eq!((ids.len(), &ids[..50]), (100, &ids[50..]));
    let mut once = ids[..50].to_vec();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), 50);
    assert_eq!(attention::repeated(&tokenizer, 100, 512, 7).unwrap(), ids);
    assert_ne!(attention::repeated(&tokenizer, 100, 512, 8).unwrap(), ids);
    for n in [0, 3, 513, 1_000_000] {
        assert!(attention::repeated(&tokenizer, n, 512, 0).unwrap_err().to_string().starts_with("tokens: found"));
    }
    let refused = |ids: &[u32], heads: Vec<(usize, usize)>| {
        let request = attention::Request { heads, patterns: true };
        attention::attention(&model, ids, &request, &Cancel::new(), &()).unwrap_err().to_string()
    };
    assert_eq!(refused(&ids, vec![(6, 0)]), "heads: the model has no head 6.0");
    assert!(refused(&ids, Vec::new()).starts_with("heads: found none"));
    assert!(refused(&[], vec![(0, 0)]).starts_with("tokens: found 0"));
    assert!(refused(&vec![1; 512], vec![(0, 0); 3000]).contains("at most 1073741824 are kept"));
}
