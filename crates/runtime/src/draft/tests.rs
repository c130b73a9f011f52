//! Texts with drafts are those without, on the shipped checkpoint.

use super::*;
use crate::generator::tests::{Asked, context_with, model, requests, tokenizer, write_model};
use crate::{Finish, GenerateOptions, Generation, Generator, Rng, Sampling, Scheduler, generate};
use proptest::prelude::*;
use pythia_model::{Budget, KvType, Options};
use std::ops::ControlFlow;

/// Proposes the tokens of a text, or with some chance any others.
#[derive(Debug)]
struct Guess {
    /// Prompt and continuation.
    text: Vec<u32>,
    right: f64,
    rng: Rng,
}

impl Draft for Guess {
    fn propose(&mut self, tokens: &[u32], _: &Sampler, n: usize) -> Result<Vec<u32>, Error> {
        assert!(self.text.starts_with(tokens), "the text so far is that of a plain generation");
        let known = self.text[tokens.len()..].iter().copied().chain(std::iter::repeat(7));
        // Some ids are no tokens.
        let mut other =
            |token| if self.rng.next_f64() < self.right { token } else { (self.rng.next_u64() % 5000) as u32 };
        Ok(known.take(n).map(&mut other).collect())
    }
}

fn fixed(n: usize) -> DraftLength {
    DraftLength::new(n, n).unwrap()
}

/// A text and its pieces, as a caller sees them.
#[derive(Debug, PartialEq)]
struct Seen {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
    pieces: Vec<Option<String>>,
    held: usize,
}

fn seen(generator: &Generator, pieces: Vec<Option<String>>) -> Seen {
    Seen {
        ids: generator.ids().to_vec(),
        text: generator.text().to_owned(),
        finish: generator.finish().cloned(),
        pieces,
        held: generator.sequence().len(),
    }
}

/// Runs all to their ends.
fn run(context: &mut Context, mut generators: Vec<Generator>) -> (Vec<Seen>, Vec<DraftStats>) {
    let mut scheduler = Scheduler::new();
    let mut pieces = vec![Vec::new(); generators.len()];
    while generators.iter().any(|generator| generator.finish().is_none()) {
        scheduler.forward(context, &mut generators.iter_mut().collect::<Vec<_>>(), usize::MAX).unwrap();
        while scheduler.has_choices() {
            let before: Vec<usize> = generators.iter().map(|generator| generator.ids().len()).collect();
            scheduler.choose(context, &mut generators.iter_mut().collect::<Vec<_>>()).unwrap();
            for ((generator, pieces), before) in generators.iter().zip(&mut pieces).zip(before) {
                if generator.ids().len() > before {
                    pieces.push(generator.piece().map(str::to_owned));
                }
            }
        }
    }
    let stats = generators.iter().map(Generator::draft_stats).collect();
    (generators.iter().zip(pieces).map(|(generator, pieces)| seen(generator, pieces)).collect(), stats)
}

const N_CTX: usize = 64;

fn plain((prompt, options): &Asked) -> Seen {
    let mut context = context_with(1, N_CTX, 40);
    let generator = Generator::new(&context, tokenizer(), prompt, options).unwrap();
    run(&mut context, vec![generator]).0.remove(0)
}

/// A generation whose draft is right so often.
fn guessed(context: &Context, (prompt, options): &Asked, wanted: &Seen, right: f64, length: DraftLength) -> Generator {
    let text = [&**prompt, &wanted.ids].concat();
    let guess = Guess { text, right, rng: Rng::new(5) };
    Generator::new(context, tokenizer(), prompt, options).unwrap().drafted_by(Box::new(guess), length)
}

fn requests_of_any_kind() -> impl Strategy<Value = Asked> {
    let sampling = (
        prop_oneof![Just(0.0f32), 0.3..2.0f32],
        prop_oneof![Just(0usize), 1..50usize],
        prop_oneof![Just(1.0f32), 0.3..1.0f32],
        prop_oneof![Just(0.0f32), 0.0..0.3f32],
        prop_oneof![Just(1.0f32), 0.8..1.5f32],
        prop_oneof![Just(0.0f32), -0.5..1.0f32],
        any::<u64>(),
    );
    let limits = (
        0..3usize,
        prop_oneof![Just(None), (0..40usize).prop_map(Some)],
        prop_oneof![Just(vec![]), Just(vec![" the"]), Just(vec!["\n", ". ", "e t"])],
        any::<bool>(),
    );
    (sampling, limits).prop_map(|(sampling, (prompt, max_new_tokens, stop, ignore_eos))| {
        let (temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty, seed) = sampling;
        let sampling = Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            penalty_tokens: (seed % 2 == 0).then_some(9),
            presence_penalty: frequency_penalty,
            frequency_penalty,
            seed,
        };
        let stop = stop.into_iter().map(str::to_owned).collect();
        let (prompt, _) = requests()[prompt].clone();
        let logit_bias = if seed % 3 == 0 { vec![(11, 2.0), (17, -3.0)] } else { Vec::new() };
        (prompt, GenerateOptions { max_new_tokens, stop, ignore_eos, sampling, logit_bias, draft: None })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_draft_changes_a_text(
        asked in prop::collection::vec(
            (requests_of_any_kind(), prop_oneof![Just(0.0), Just(1.0), 0.2..0.95f64], 0..20usize, any::<bool>()), 1..4,
        ),
        n_batch in prop_oneof![Just(7usize), Just(40)],
    ) {
        let mut context = context_with(asked.len(), N_CTX, n_batch);
        let wanted: Vec<Seen> = asked.iter().map(|(request, ..)| plain(request)).collect();
        let generators = asked.iter().zip(&wanted).map(|((request, right, length, is_fixed), wanted)| {
            let length = DraftLength::new(if *is_fixed { *length } else { 0 }, *length).unwrap();
            guessed(&context, request, wanted, *right, length)
        });
        let generators = generators.collect();
        let (found, stats) = run(&mut context, generators);
        prop_assert_eq!(&found, &wanted);
        for (stats, seen) in stats.iter().zip(&found) {
            prop_assert!(stats.accepted <= stats.drafted && stats.accepted <= seen.ids.len(), "{stats:?}");
        }
    }
}

#[test]
fn right_drafts_make_few_passes_and_wrong_ones_are_all_refused() {
    for (prompt, options) in requests() {
        let request = (prompt, GenerateOptions { stop: Vec::new(), ..options });
        let wanted = plain(&request);
        let stats = |right| {
            let mut context = context_with(1, N_CTX, 40);
            let generator = guessed(&context, &request, &wanted, right, fixed(4));
            let (found, stats) = run(&mut context, vec![generator]);
            assert_eq!(found[0], wanted);
            stats[0]
        };
        let all = stats(1.0);
        assert_eq!(all.accepted, all.drafted, "{all:?}");
        let n = wanted.ids.len();
        assert!(all.accepted + all.passes >= n - 2 && all.passes <= n / 5 + 1, "{all:?} of {n}");
        let none = stats(0.0);
        assert!(none.accepted < none.passes / 4 && none.drafted > none.passes, "{none:?}");
    }
}

/// A model that drafts for itself draws the same tokens, since it has the same random numbers.
#[test]
fn a_model_guesses_itself() {
    let (model, _) = model(KvType::F16);
    let source = DraftSource::model(model.clone(), tokenizer(), tokenizer()).unwrap();
    for (prompt, options) in requests() {
        let options = GenerateOptions { stop: Vec::new(), ..options };
        let wanted = plain(&(prompt.clone(), options.clone()));
        for n in [1, 3, 16] {
            let draft = Some(Drafting { source: source.clone(), length: fixed(n) });
            let mut context = context_with(1, N_CTX, 40);
            let options = GenerateOptions { draft, ..options.clone() };
            let generator = Generator::new(&context, tokenizer(), &prompt, &options).unwrap();
            let (found, stats) = run(&mut context, vec![generator]);
            assert_eq!(found[0], wanted);
            assert!(stats[0].drafted > 0 && stats[0].accepted == stats[0].drafted, "{n}: {:?}", stats[0]);
        }
    }
}

#[test]
fn a_text_that_is_interrupted_ends_at_the_same_token() {
    let [(prompt, options), ..] = requests();
    let until = |options: &GenerateOptions, n: usize| -> Generation {
        let mut left = n;
        let mut on_text = |_: &str| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        generate(&mut context_with(1, N_CTX, 40), tokenizer(), &prompt, options, &mut on_text).unwrap()
    };
    let source = DraftSource::model(model(KvType::F16).0.clone(), tokenizer(), tokenizer()).unwrap();
    for n in 1..12 {
        let wanted = until(&options, n);
        let draft = Some(Drafting { source: source.clone(), length: fixed(5) });
        let found = until(&GenerateOptions { draft, ..options.clone() }, n);
        assert_eq!((found.ids, found.text, found.finish), (wanted.ids, wanted.text, Finish::Interrupted));
    }
}

#[test]
fn a_cancelled_draft_ends_the_text_as_a_cancelled_pass() {
    #[derive(Debug)]
    struct Cancelled;
    impl Draft for Cancelled {
        fn propose(&mut self, _: &[u32], _: &Sampler, _: usize) -> Result<Vec<u32>, Error> {
            Err(Error::Cancelled)
        }
    }
    let [(prompt, options), ..] = requests();
    let mut context = context_with(1, N_CTX, 40);
    let generator = Generator::new(&context, tokenizer(), &prompt, &options).unwrap();
    let mut generator = generator.drafted_by(Box::new(Cancelled), fixed(2));
    let mut scheduler = Scheduler::new();
    scheduler.step(&mut context, &mut [&mut generator]).unwrap();
    let cancelled = scheduler.step(&mut context, &mut [&mut generator]);
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
    // Without it the text goes on.
    let mut generator = generator.drafted_by(Box::new(LookupDraft), DraftLength::new(0, 0).unwrap());
    while generator.finish().is_none() {
        scheduler.step(&mut context, &mut [&mut generator]).unwrap();
    }
    assert_eq!(generator.ids(), plain(&(prompt, options)).ids);
}

#[test]
fn drafted_tokens_can_be_taken_one_by_one() {
    let [asked, ..] = requests();
    let wanted = plain(&asked);
    let mut context = context_with(1, N_CTX, 40);
    let mut generator = guessed(&context, &asked, &wanted, 1.0, fixed(3));
    let (mut scheduler, mut passes) = (Scheduler::new(), 0);
    for n in 1..=wanted.ids.len() {
        passes += usize::from(!scheduler.has_choices());
        scheduler.step_one(&mut context, &mut [&mut generator]).unwrap();
        assert_eq!(generator.ids(), &wanted.ids[..n]);
    }
    assert!(generator.finish().is_some() && passes < wanted.ids.len(), "{passes} passes");
    // A text that ends between two of them has no others.
    let mut context = context_with(1, N_CTX, 40);
    let mut generator = guessed(&context, &asked, &wanted, 1.0, fixed(3));
    let mut scheduler = Scheduler::new();
    for _ in 0..2 {
        scheduler.step_one(&mut context, &mut [&mut generator]).unwrap();
    }
    assert!(scheduler.has_choices());
    generator.interrupt();
    scheduler.step_one(&mut context, &mut [&mut generator]).unwrap();
    assert_eq!((generator.ids(), generator.finish()), (&wanted.ids[..2], Some(&Finish::Interrupted)));
}

#[test]
fn a_text_without_memory_for_its_draft_is_written_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q8_0.gguf");
    write_model(&path);
    let limited = Options { threads: 1, memory: Some(Budget::new(100_000)), ..Options::default() };
    let draft = Model::open(&path, &limited).unwrap();
    let source = DraftSource::model(draft, tokenizer(), tokenizer()).unwrap();
    let drafting = Drafting { source, length: fixed(5) };
    let refused = drafting.check_memory(2, N_CTX).unwrap_err().to_string();
    assert!(refused.starts_with("draft: 2 times a context of 1 x 64 positions"), "{refused}");
    assert!(refused.ends_with("wanted at most 100.0 kB"), "{refused}");
    let lookup = Drafting { source: DraftSource::Lookup, length: fixed(5) };
    assert!(lookup.check_memory(1000, N_CTX).is_ok());
    for (prompt, options) in requests() {
        let wanted = plain(&(prompt.clone(), options.clone()));
        let mut context = context_with(1, N_CTX, 40);
        let options = GenerateOptions { draft: Some(drafting.clone()), ..options };
        let generator = Generator::new(&context, tokenizer(), &prompt, &options).unwrap();
        let (found, stats) = run(&mut context, vec![generator]);
        assert_eq!((&found[0], stats[0].drafted), (&wanted, 0));
    }
}

#[test]
fn a_length_that_cannot_be_is_refused() {
    let error = DraftLength::new(5, 4).unwrap_err();
    assert_eq!(error.to_string(), "draft length: found at least 5 tokens and at most 4");
    let length = DraftLength::new(4, 4).unwrap();
    assert_eq!((length.least(), length.most()), (4, 4));
}
