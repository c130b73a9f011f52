//! Generators on the shipped checkpoint, as Q8_0.

use super::*;
use crate::{Generation, Scheduler, generate};
use pythia_convert::{CheckpointSource, Request, RunOptions, plan, run};
use pythia_model::{Context, ContextShape, KvType, Model, Options};
use pythia_task::Cancel;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

/// Writes the shipped checkpoint as Q8_0.
pub(crate) fn write_model(path: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pythia-docs-6m");
    let checkpoint = CheckpointSource::open(&source).unwrap();
    let request = Request { files: vec![("Q8_0".parse().unwrap(), path.to_owned())], ..Request::default() };
    let cancel = Cancel::new();
    let options =
        RunOptions { threads: 2, force: true, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&checkpoint, &plan(&checkpoint, &request).unwrap(), &options).unwrap();
}

/// The model with each type of cache.
pub(crate) fn model(kv: KvType) -> (&'static Arc<Model>, &'static Arc<Tokenizer>) {
    static MODEL: OnceLock<([Arc<Model>; 2], Arc<Tokenizer>)> = OnceLock::new();
    let (models, tokenizer) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q8_0.gguf");
        write_model(&path);
        let models = [KvType::F16, KvType::F32]
            .map(|kv| Model::open(&path, &Options { threads: 2, kv, ..Options::default() }).unwrap());
        let tokenizer = Tokenizer::from_gguf(&models[0].gguf().metadata).unwrap();
        (models, Arc::new(tokenizer))
    });
    (&models[usize::from(kv == KvType::F32)], tokenizer)
}

pub(crate) fn tokenizer() -> &'static Arc<Tokenizer> {
    model(KvType::F16).1
}

/// With small batches, so that prompts come in chunks.
pub(crate) fn context_of(kv: KvType, n_seq: usize, n_ctx: usize) -> Context {
    model(kv).0.context(ContextShape { n_seq, n_ctx, n_batch: 7 }).unwrap()
}

pub(crate) fn context_with(n_seq: usize, n_ctx: usize, n_batch: usize) -> Context {
    model(KvType::F16).0.context(ContextShape { n_seq, n_ctx, n_batch }).unwrap()
}

pub(crate) fn context(n_seq: usize, n_ctx: usize) -> Context {
    context_of(KvType::F16, n_seq, n_ctx)
}

/// A prompt and how to continue it.
pub(crate) type Asked = (Vec<u32>, GenerateOptions);

/// Three requests that differ in all that a generator owns.
pub(crate) fn requests() -> [Asked; 3] {
    let warm = |seed| Sampling { temperature: 0.9, top_p: 0.95, repetition_penalty: 1.1, seed, ..Sampling::default() };
    let request = |text: &str, max, stop: &[&str], sampling| {
        let stop = stop.iter().map(|&s| s.to_owned()).collect();
        let options =
            GenerateOptions { max_new_tokens: Some(max), stop, ignore_eos: true, sampling, ..Default::default() };
        (tokenizer().encode(text).unwrap(), options)
    };
    [
        request("The license of this software says that you may", 24, &[], Sampling::default()),
        request("A function returns an error if", 20, &[" the", "zzz"], warm(7)),
        request("Memory is allocated when the caller asks for a buffer, and", 16, &[], warm(11)),
    ]
}

pub(crate) fn generator(context: &Context, (prompt, options): &Asked) -> Generator {
    Generator::new(context, tokenizer(), prompt, options).unwrap()
}

pub(crate) fn alone((prompt, options): &Asked) -> Generation {
    generate(&mut context(1, 64), tokenizer(), prompt, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[track_caller]
pub(crate) fn assert_same(generator: &Generator, wanted: &Generation) {
    assert_eq!(generator.ids(), wanted.ids);
    assert_eq!((generator.text(), generator.finish()), (&*wanted.text, Some(&wanted.finish)));
}

/// The logits that a generator has chosen from, as bits.
pub(crate) type Bits = Vec<Vec<u32>>;

/// One pass over all generators, the same number of tokens of each.
pub(crate) fn step_by_hand(context: &mut Context, generators: &mut [(&mut Generator, &mut Bits)]) {
    let limit = context.n_batch() / generators.len();
    let mut spans: Vec<Span<'_>> = generators.iter_mut().map(|(generator, _)| generator.next_span(limit)).collect();
    let lens: Vec<usize> = spans.iter().map(|span| span.tokens.len()).collect();
    context.forward(&mut spans).unwrap();
    let mut end = 0;
    for ((generator, bits), len) in generators.iter_mut().zip(lens) {
        end += len;
        if generator.is_ready() {
            let logits = logits(context, end - 1);
            bits.push(logits.iter().map(|x| x.to_bits()).collect());
            generator.choose(&logits);
        }
    }
}

pub(crate) fn logits(context: &mut Context, row: usize) -> Vec<f32> {
    let mut logits = vec![0.0; context.model().hparams().n_vocab];
    context.logits([row], &mut logits).unwrap();
    logits
}

#[test]
fn a_fork_continues_as_the_prompt_computed_again() {
    let [(prompt, options), (other, warm), _] = requests();
    let mut context = context(3, 64);
    let mut scheduler = Scheduler::new();
    let mut first = generator(&context, &(prompt.clone(), options.clone()));
    while first.ids().len() < 5 {
        scheduler.step(&mut context, &mut [&mut first]).unwrap();
    }
    let parted: Vec<u32> = prompt[..6].iter().copied().chain([40, 41, 42]).collect();
    // With all the tokens that were seen, and one that was chosen and is not seen yet.
    let longer = [&*prompt, first.ids(), &[40, 41]].concat();
    let seen = first.sequence().len();
    assert_eq!(seen + 1, prompt.len() + first.ids().len());
    let whole = prompt.len() - 1;
    for (prompt, options, shared) in
        [(&prompt, &options, whole), (&parted, &options, 6), (&longer, &warm, seen), (&other, &warm, 0)]
    {
        let mut fork = first.fork(&mut context, prompt, options).unwrap();
        assert_eq!(fork.pending(), prompt.len() - shared);
        let (mut bits, mut wanted) = (Vec::new(), Vec::new());
        let request = (prompt.clone(), options.clone());
        let mut context_alone = self::context(1, 64);
        let mut alone = generator(&context_alone, &request);
        while fork.finish().is_none() {
            step_by_hand(&mut context, &mut [(&mut fork, &mut bits)]);
        }
        while alone.finish().is_none() {
            step_by_hand(&mut context_alone, &mut [(&mut alone, &mut wanted)]);
        }
        assert!(bits == wanted, "logits of the fork after {shared} tokens");
        assert_same(&fork, &self::alone(&request));
    }
    while first.finish().is_none() {
        scheduler.step(&mut context, &mut [&mut first]).unwrap();
    }
    assert_same(&first, &alone(&(prompt.clone(), options.clone())));
    assert_eq!(
        first.fork(&mut context, &[], &options).map(drop).unwrap_err().to_string(),
        Error::EmptyPrompt.to_string()
    );
    assert!(first.fork(&mut self::context(1, 64), &prompt, &options).is_err(), "another context");
    let sequence = first.into_sequence();
    assert_eq!(sequence.len(), prompt.len() + 23);
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
        let generation = generate(context, tokenizer(), &prompt, options, &mut |_| ControlFlow::Continue(())).unwrap();
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
    let generation = generate(&mut cancelled, tokenizer(), &prompt, &options, &mut on_text).unwrap();
    assert_eq!((generation.ids.len(), &generation.finish), (3, &Finish::Interrupted));
    assert_eq!(generation.text, shown);
    let again = generate(&mut cancelled, tokenizer(), &prompt, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(again, Err(Error::Cancelled)), "before the first token it is an error");
}

/// The calls of `on_text`, which asks to stop after `calls` of them.
fn pieces((prompt, options): &Asked, n_ctx: usize, calls: usize) -> (Vec<String>, Finish) {
    let mut pieces = Vec::new();
    let mut on_text = |text: &str| {
        pieces.push(text.to_owned());
        if pieces.len() == calls { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let generation = generate(&mut context(1, n_ctx), tokenizer(), prompt, options, &mut on_text).unwrap();
    assert_eq!(generation.text, pieces.concat());
    (pieces, generation.finish)
}

#[test]
fn text_is_shown_once_per_token_and_what_was_held_back_at_the_end() {
    let [(prompt, options), ..] = requests();
    let asked = (prompt.clone(), options.clone());
    let (all, finish) = pieces(&asked, 64, usize::MAX);
    assert_eq!((all.len(), finish), (24, Finish::Length));
    // A caller that stops at the last token has interrupted the text, also at the end of the context.
    assert_eq!(pieces(&asked, 64, 24), (all.clone(), Finish::Interrupted));
    assert_eq!(pieces(&asked, prompt.len() + 4, 5), (all[..5].to_vec(), Finish::Interrupted));
    // A stop string that begins with the last token, and never comes.
    let stop = vec![format!("{}\u{1}", all[23])];
    let (held, finish) = pieces(&(prompt, GenerateOptions { stop, ..options }), 64, usize::MAX);
    assert_eq!((held.concat(), finish), (all.concat(), Finish::Length));
    assert_eq!(held[23..], ["", &all[23]]);
}

#[test]
fn the_end_of_text_and_bad_logits_have_no_text() {
    let [_, (prompt, options), _] = requests();
    let eos = tokenizer().eos().unwrap() as usize;
    for eos in [Some(eos), None] {
        let context = &mut context(1, 64);
        let options = GenerateOptions { ignore_eos: false, sampling: Sampling::default(), ..options.clone() };
        let mut generator = generator(context, &(prompt.clone(), options));
        let mut choose = |logits: &[f32]| {
            while !generator.is_ready() {
                context.forward(&mut [generator.next_span(7)]).unwrap();
            }
            generator.choose(logits);
            (generator.piece().map(str::to_owned), generator.finish().cloned())
        };
        let n_vocab = tokenizer().n_tokens();
        // It may begin the stop string " the".
        let space = tokenizer().encode(" ").unwrap()[0] as usize;
        let only = |token| (0..n_vocab).map(|id| if id == token { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        assert_eq!(choose(&only(space)), (Some(String::new()), None));
        match eos {
            Some(eos) => assert_eq!(choose(&only(eos)), (None, Some(Finish::EndOfText))),
            None => {
                let position = prompt.len() + 1;
                assert_eq!(choose(&vec![f32::NAN; n_vocab]).1, Some(Finish::NotFinite { position }));
            }
        }
        assert_eq!(generator.text(), " ", "held back until the end");
        generator.interrupt();
        assert_ne!(generator.finish(), Some(&Finish::Interrupted));
    }
}

#[test]
fn prompts_that_cannot_be_continued_are_refused() {
    let [(prompt, options), ..] = requests();
    let context = context(1, 8);
    let refused =
        |prompt: &[u32], options: &GenerateOptions| Generator::new(&context, tokenizer(), prompt, options).unwrap_err();
    assert!(matches!(refused(&[], &options), Error::EmptyPrompt));
    assert!(matches!(refused(&prompt, &options), Error::PromptTooLong { n_ctx: 8, .. }));
    let n_vocab = context.model().hparams().n_vocab;
    let token = n_vocab as u32;
    let error = refused(&[1, token], &options);
    assert!(matches!(error, Error::TokenOutOfRange { token: found, .. } if found == token), "{error}");
    let stop = vec![String::new()];
    assert!(matches!(refused(&prompt, &GenerateOptions { stop, ..options }), Error::Setting { name: "stop", .. }));
}
