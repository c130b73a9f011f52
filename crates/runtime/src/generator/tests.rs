//! Generators on the shipped checkpoint, as Q8_0.

use super::*;
use crate::{Generation, Scheduler, generate};
use pythia_convert::{CheckpointSource, Request, RunOptions, plan, run};
use pythia_model::{Context, ContextShape, Model, Options};
use pythia_task::Cancel;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

fn model() -> (&'static Arc<Model>, &'static Arc<Tokenizer>) {
    static MODEL: OnceLock<(Arc<Model>, Arc<Tokenizer>)> = OnceLock::new();
    let (model, tokenizer) = MODEL.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
        let checkpoint = CheckpointSource::open(&source).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q8_0.gguf");
        let request = Request { files: vec![("Q8_0".parse().unwrap(), path.clone())], ..Request::default() };
        let cancel = Cancel::new();
        let options = RunOptions {
            threads: 2,
            force: true,
            allow_nonfinite: false,
            sha256: false,
            cancel: &cancel,
            progress: &(),
        };
        run(&checkpoint, &plan(&checkpoint, &request).unwrap(), &options).unwrap();
        let model = Model::open(&path, &Options { threads: 2, ..Options::default() }).unwrap();
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
        (model, Arc::new(tokenizer))
    });
    (model, tokenizer)
}

fn context(n_seq: usize, n_ctx: usize) -> Context {
    // Small batches, so that prompts come in chunks.
    model().0.context(ContextShape { n_seq, n_ctx, n_batch: 7 }).unwrap()
}

/// Three requests that differ in all that a generator owns.
fn requests() -> [(Vec<u32>, GenerateOptions); 3] {
    let warm = |seed| Sampling { temperature: 0.9, top_p: 0.95, repetition_penalty: 1.1, seed, ..Sampling::default() };
    let request = |text: &str, max, stop: &[&str], sampling| {
        let stop = stop.iter().map(|&s| s.to_owned()).collect();
        let options = GenerateOptions { max_new_tokens: Some(max), stop, ignore_eos: true, sampling };
        (model().1.encode(text).unwrap(), options)
    };
    [
        request("The license of this software says that you may", 24, &[], Sampling::default()),
        request("A function returns an error if", 20, &[" the", "zzz"], warm(7)),
        request("Memory is allocated when the caller asks for a buffer, and", 16, &[], warm(11)),
    ]
}

fn generator(context: &Context, (prompt, options): &(Vec<u32>, GenerateOptions)) -> Generator {
    Generator::new(Arc::clone(model().1), context.sequence().unwrap(), prompt, options).unwrap()
}

fn alone((prompt, options): &(Vec<u32>, GenerateOptions)) -> Generation {
    generate(&mut context(1, 64), model().1, prompt, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[track_caller]
fn assert_same(generator: &Generator, wanted: &Generation) {
    assert_eq!(generator.ids(), wanted.ids);
    assert_eq!((generator.text(), generator.finish()), (&*wanted.text, Some(&wanted.finish)));
}

/// One pass over all generators, at most 3 tokens of each; the bits of the logits that each chooses from are kept.
fn step_by_hand(context: &mut Context, generators: &mut [(&mut Generator, &mut Vec<Vec<u32>>)]) {
    let mut spans: Vec<Span<'_>> = generators.iter_mut().map(|(generator, _)| generator.next_span(3)).collect();
    let lens: Vec<usize> = spans.iter().map(|span| span.tokens.len()).collect();
    context.forward(&mut spans).unwrap();
    let mut logits = vec![0.0; context.model().hparams().n_vocab];
    let mut end = 0;
    for ((generator, bits), len) in generators.iter_mut().zip(lens) {
        end += len;
        if generator.is_ready() {
            context.logits([end - 1], &mut logits).unwrap();
            bits.push(logits.iter().map(|x| x.to_bits()).collect());
            generator.choose(&mut logits);
        }
    }
}

#[test]
fn generators_get_the_bits_that_they_get_alone_while_others_join_and_leave() {
    let requests = requests();
    let alone: Vec<_> = requests
        .iter()
        .map(|request| {
            let mut context = context(1, 64);
            let (mut generator, mut bits) = (generator(&context, request), Vec::new());
            while generator.finish().is_none() {
                step_by_hand(&mut context, &mut [(&mut generator, &mut bits)]);
            }
            assert_same(&generator, &self::alone(request));
            bits
        })
        .collect();

    let mut context = context(3, 64);
    let [mut a, mut b] = [0, 1].map(|i| (generator(&context, &requests[i]), Vec::new()));
    let mut third = None;
    for step in 0.. {
        match step {
            3 => third = Some((generator(&context, &requests[2]), Vec::new())),
            11 => {
                let (generator, bits) = third.take().unwrap();
                assert!(generator.finish().is_none() && !bits.is_empty(), "it leaves in the middle");
                assert!(alone[2].starts_with(&bits), "logits of the third");
            }
            _ => {}
        }
        let mut all: Vec<_> = [&mut a, &mut b].into_iter().chain(&mut third).map(|(g, bits)| (g, bits)).collect();
        if all.iter().all(|(generator, _)| generator.finish().is_some()) {
            break;
        }
        step_by_hand(&mut context, &mut all);
    }
    assert!(a.1 == alone[0], "logits of the first");
    assert!(b.1 == alone[1], "logits of the second");
}

#[test]
fn a_scheduler_steps_generators_as_if_each_were_alone() {
    let requests = requests();
    let mut context = context(2, 64);
    let mut scheduler = Scheduler::new();
    let [mut a, mut b] = [0, 1].map(|i| generator(&context, &requests[i]));
    assert!(context.sequence().is_err(), "no third sequence");
    while a.finish().is_none() && b.finish().is_none() {
        scheduler.step(&mut context, &mut [&mut a, &mut b]).unwrap();
    }
    // Whichever is done makes way for the third.
    let (done, mut rest, of) = if a.finish().is_some() { (a, b, [0, 1]) } else { (b, a, [1, 0]) };
    assert_same(&done, &alone(&requests[of[0]]));
    drop(done);
    let mut third = generator(&context, &requests[2]);
    while rest.finish().is_none() || third.finish().is_none() {
        scheduler.step(&mut context, &mut [&mut third, &mut rest]).unwrap();
    }
    assert_same(&rest, &alone(&requests[of[1]]));
    assert_same(&third, &alone(&requests[2]));
}

#[test]
fn a_prompt_does_not_hold_up_those_that_decode() {
    let [short, _, long] = requests();
    let mut context = context(2, 64);
    let mut scheduler = Scheduler::new();
    let mut decoding = generator(&context, &short);
    while decoding.ids().is_empty() {
        scheduler.step(&mut context, &mut [&mut decoding]).unwrap();
    }
    let mut joining = generator(&context, &long);
    for step in 2..4 {
        scheduler.step(&mut context, &mut [&mut joining, &mut decoding]).unwrap();
        assert_eq!(decoding.ids().len(), step);
        assert_eq!(joining.sequence().len(), 6 * (step - 1), "the rest of the batch");
    }
}

#[test]
fn a_fork_continues_as_the_prompt_computed_again() {
    let [(prompt, options), ..] = requests();
    let mut context = context(3, 64);
    let mut scheduler = Scheduler::new();
    let mut first = generator(&context, &(prompt.clone(), options.clone()));
    while first.ids().len() < 5 {
        scheduler.step(&mut context, &mut [&mut first]).unwrap();
    }
    // The whole prompt is there: only its last token runs again. Then a prompt that parts from it.
    let parted: Vec<u32> = prompt[..6].iter().copied().chain([40, 41, 42]).collect();
    for (prompt, shared) in [(&prompt, prompt.len()), (&parted, 6)] {
        let sequence = context.fork(first.sequence(), shared).unwrap();
        let mut fork = Generator::new(Arc::clone(model().1), sequence, prompt, &options).unwrap();
        assert_eq!(fork.pending(), prompt.len() - shared.min(prompt.len() - 1));
        while fork.finish().is_none() {
            scheduler.step(&mut context, &mut [&mut fork, &mut first]).unwrap();
        }
        assert_same(&fork, &alone(&(prompt.clone(), options.clone())));
    }
    assert_same(&first, &alone(&(prompt, options)));
}

#[test]
fn a_context_moves_to_another_thread_with_its_generators() {
    let request = &requests()[1];
    let mut context = context(1, 64);
    let mut generator = generator(&context, request);
    Scheduler::new().step(&mut context, &mut [&mut generator]).unwrap();
    let generator = std::thread::spawn(move || {
        while generator.finish().is_none() {
            Scheduler::new().step(&mut context, &mut [&mut generator]).unwrap();
        }
        generator
    });
    assert_same(&generator.join().unwrap(), &alone(request));
}

#[test]
fn texts_end_for_the_reasons_that_are_told() {
    let [(prompt, options), ..] = requests();
    let run = |context: &mut Context, options: &GenerateOptions| {
        let generation = generate(context, model().1, &prompt, options, &mut |_| ControlFlow::Continue(())).unwrap();
        (generation.ids.len(), generation.finish)
    };
    assert_eq!(run(&mut context(1, 64), &options), (24, Finish::Length));
    let nothing = GenerateOptions { max_new_tokens: Some(0), ..options.clone() };
    assert_eq!(run(&mut context(1, 64), &nothing), (0, Finish::Length));
    // The last token chosen needs no position: nothing is computed from it.
    let unlimited = GenerateOptions { max_new_tokens: None, ..options.clone() };
    assert_eq!(run(&mut context(1, prompt.len() + 4), &unlimited), (5, Finish::ContextFull));

    let cancel = Cancel::new();
    let mut cancelled = context(1, 64).cancelled_by(cancel.clone());
    let mut shown = String::new();
    let mut pieces = 0;
    let mut on_text = |text: &str| {
        shown += text;
        pieces += 1;
        if pieces == 3 {
            cancel.raise();
        }
        ControlFlow::Continue(())
    };
    let generation = generate(&mut cancelled, model().1, &prompt, &options, &mut on_text).unwrap();
    assert_eq!((generation.ids.len(), &generation.finish), (3, &Finish::Interrupted));
    assert_eq!(generation.text, shown);
    let again = generate(&mut cancelled, model().1, &prompt, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(again, Err(Error::Cancelled)), "before the first token it is an error");
}

#[test]
fn prompts_that_cannot_be_continued_are_refused() {
    let [(prompt, options), ..] = requests();
    let context = context(1, 8);
    let refused = |prompt: &[u32], options: &GenerateOptions| {
        Generator::new(Arc::clone(model().1), context.sequence().unwrap(), prompt, options).unwrap_err()
    };
    assert!(matches!(refused(&[], &options), Error::EmptyPrompt));
    assert!(matches!(refused(&prompt, &options), Error::PromptTooLong { room: 8, .. }));
    let stop = vec![String::new()];
    assert!(matches!(refused(&prompt, &GenerateOptions { stop, ..options }), Error::Setting { name: "stop", .. }));
}
