//! Scores of the shipped checkpoint, as Q8_0.

use super::*;
use crate::generator::tests::{context, model, requests, tokenizer};
use crate::{GenerateOptions, Generation, generate};
use proptest::prelude::*;
use pythia_model::{ContextShape, KvType, Span};
use std::ops::ControlFlow;

fn settings(memory: Option<u64>, cancel: &Cancel) -> Settings<'_> {
    Settings { memory, parallel: 0, n_ctx: 0, cancel }
}

/// Every ask in a sequence of its own, from its logits.
fn alone(ask: &Ask) -> Score {
    let model = model(KvType::F16).0;
    let n = ask.tokens.len() - 1;
    let mut score = Score { log_likelihood: 0.0, is_greedy: true };
    if ask.scored() == 0 {
        return score;
    }
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx: n, n_batch: n }).unwrap();
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: ask.run() }]).unwrap();
    let mut logits = vec![0.0; model.hparams().n_vocab];
    for position in ask.first..=n {
        context.logits([position - 1], &mut logits).unwrap();
        let target = ask.tokens[position] as usize;
        score.log_likelihood += f64::from(logits[target]) - model.cpu().log_sum_exp(&logits);
        let max = logits.iter().fold(f32::MIN, |max, &x| max.max(x));
        score.is_greedy &= logits.iter().position(|&x| x == max) == Some(target);
    }
    score
}

fn scores(asks: &[Ask], memory: Option<u64>) -> (Vec<(u64, bool)>, Tally) {
    let mut found = vec![None; asks.len()];
    let tally = score(model(KvType::F16).0, asks, &settings(memory, &Cancel::new()), &mut |ask, score| {
        assert!(found[ask].is_none(), "ask {ask} is done twice");
        found[ask] = Some((score.log_likelihood.to_bits(), score.is_greedy));
    })
    .unwrap();
    (found.into_iter().map(|score| score.expect("every ask is done")).collect(), tally)
}

fn assert_as_alone(asks: &[Ask]) {
    let want: Vec<_> = asks.iter().map(alone).map(|s| (s.log_likelihood.to_bits(), s.is_greedy)).collect();
    // As many sequences as it likes, a few, one.
    for memory in [None, Some(8 << 20), Some(0)] {
        assert_eq!(scores(asks, memory).0, want, "{memory:?}");
    }
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    // Few tokens, so that many asks begin alike.
    let ask = (prop::collection::vec(100u32..103, 1..12), any::<prop::sample::Index>());
    let ask = ask.prop_map(|(tokens, first)| Ask { first: 1 + first.index(tokens.len()), tokens });
    prop::collection::vec(ask, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn each_gets_what_it_gets_alone(asks in asks()) {
        assert_as_alone(&asks);
    }
}

#[test]
fn shared_starts_are_run_once() {
    // A header, ten contexts after it, four continuations each: of one token, and of three.
    let mut asks = Vec::new();
    for (document, choice) in (0..10).flat_map(|document| (0..4).map(move |choice| (document, choice))) {
        let mut tokens: Vec<u32> = (0..40).map(|i| 200 + i * 7 % 90).collect();
        tokens.extend((0..9).map(|i| 300 + document * 13 + i));
        let first = tokens.len();
        tokens.push(500 + choice);
        if document % 2 == 1 {
            tokens.extend([501, 502]);
        }
        asks.push(Ask { tokens, first });
    }
    asks.extend(asks[3..9].to_vec());
    assert_as_alone(&asks);
    let least = 40 + 10 * 9 + 5 * 4 * 2;
    let (_, one) = scores(&asks, Some(0));
    assert_eq!((one.run, one.copied), (least, 0));
    let (_, many) = scores(&asks, None);
    // Sequences that would have to wait for a few tokens run them again.
    assert!((least..2 * least).contains(&many.run) && many.copied > 0, "{many:?}");
    assert!(many.passes < one.passes, "{many:?} and {one:?}");
}

#[test]
fn long_windows_and_empty_ones() {
    let n_ctx = model(KvType::F16).0.hparams().n_ctx;
    let window = |first| Ask { tokens: (0..=n_ctx as u32).map(|i| 100 + i * i % 1000).collect(), first };
    let nothing = Ask { tokens: vec![7], first: 1 };
    assert_as_alone(&[window(1), nothing.clone(), window(n_ctx - 3), window(n_ctx + 1)]);
    assert_eq!(scores(&[nothing], None).0, [(0.0f64.to_bits(), true)]);
    assert!(scores(&[], None).0.is_empty());
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = model(KvType::F16).0;
    let n = model.hparams().n_ctx;
    let run = |tokens: &[u32], first, cancel: &Cancel| {
        let asks = [Ask { tokens: vec![1, 2], first: 1 }, Ask { tokens: tokens.to_vec(), first }];
        score(model, &asks, &settings(None, cancel), &mut |_, _| {})
    };
    let go = Cancel::new();
    assert!(matches!(run(&[], 0, &go), Err(Error::EmptyPrompt)));
    for first in [0, 3] {
        assert!(matches!(run(&[1, 2], first, &go), Err(Error::Setting { .. })), "{first}");
    }
    assert!(matches!(run(&vec![1; n + 2], 1, &go), Err(Error::PromptTooLong { .. })));
    assert!(matches!(run(&[1, 1 << 20], 1, &go), Err(Error::TokenOutOfRange { .. })));
    assert!(run(&[1, 2], 1, &go).is_ok());
    go.raise();
    assert!(matches!(run(&[1, 2], 1, &go), Err(Error::Cancelled)));
}

#[test]
fn texts_are_those_that_each_prompt_gets_alone() {
    // Prompts of one header, so that later ones begin with copies, twice each.
    let header = requests()[2].0.repeat(2);
    let mut prompts: Vec<(Vec<u32>, GenerateOptions)> = requests().into();
    for (prompt, options) in requests() {
        prompts.push(([&header[..], &prompt[..]].concat(), options));
    }
    prompts.extend(prompts.clone());
    let alone = |(prompt, options): &(Vec<u32>, GenerateOptions)| {
        generate(&mut context(1, 128), tokenizer(), prompt, options, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let wanted: Vec<Generation> = prompts.iter().map(alone).collect();
    for memory in [None, Some(4 << 20), Some(0)] {
        let mut found = vec![None; prompts.len()];
        let (cancel, model) = (Cancel::new(), model(KvType::F16).0);
        generate_all(model, tokenizer(), &prompts, &settings(memory, &cancel), &mut |i, text| {
            let text = (text.ids().to_vec(), text.text().to_owned(), text.finish().cloned());
            assert!(found[i].replace(text).is_none(), "{i} is done twice");
        })
        .unwrap();
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let found = found.as_ref().expect("every text is done");
            let wanted = (wanted.ids.clone(), wanted.text.clone(), Some(wanted.finish.clone()));
            assert_eq!(*found, wanted, "{i}");
        }
        cancel.raise();
        let cancelled = generate_all(model, tokenizer(), &prompts, &settings(memory, &cancel), &mut |_, _| {});
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
