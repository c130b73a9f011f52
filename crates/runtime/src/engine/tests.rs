//! Engines over the shipped checkpoint, as Q8_0.

use super::*;
use crate::generator::tests::{model, write_model};
use crate::{Finish, Rng, Sampling, generate};
use pythia_model::{Context, KvType, Options, Span};
use std::sync::mpsc::{Receiver, channel};

const PATIENCE: Duration = Duration::from_secs(120);

fn options(n_seq: usize, n_ctx: usize) -> EngineOptions {
    EngineOptions { n_seq, n_ctx, max_queue: 100, turn: None }
}

fn engine(options: EngineOptions) -> Engine {
    let (model, tokenizer) = model(KvType::F16);
    Engine::start(Arc::clone(model), Arc::clone(tokenizer), options).unwrap()
}

fn job(prompt: &[u32], max_new_tokens: usize) -> Job {
    let options =
        GenerateOptions { max_new_tokens: Some(max_new_tokens), ignore_eos: true, ..GenerateOptions::default() };
    Job { prompt: prompt.to_vec(), score_prompt: false, logprobs: None, options, cancel: Cancel::new() }
}

fn scored(prompt: &[u32], logprobs: usize) -> Job {
    Job { score_prompt: true, logprobs: Some(logprobs), ..job(prompt, 1) }
}

/// Tokens of a text that is the same for ever.
fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| 300 + (rng.next_f64() * 3000.0) as u32).collect()
}

fn submit(engine: &Engine, job: Job) -> Receiver<Event> {
    let (sender, receiver) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    engine.submit(job, Box::new(sink)).unwrap();
    receiver
}

/// All that a job was told.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    prompt: Vec<TokenScore>,
    tokens: Vec<(u32, Option<TokenScore>)>,
    text: String,
    finish: Option<Finish>,
}

fn answer(events: &Receiver<Event>) -> (Answer, Outcome) {
    let mut answer = Answer::default();
    loop {
        match events.recv_timeout(PATIENCE).expect("an event") {
            Event::Prompt(scores) => {
                assert!(answer.tokens.is_empty());
                answer.prompt.extend(scores);
            }
            Event::Token { score, id, text } => {
                answer.text += &text;
                answer.tokens.push((id, score));
            }
            Event::Done(outcome) => {
                answer.text += &outcome.text;
                answer.finish = Some(outcome.finish.clone());
                assert_eq!(outcome.timings.generated_tokens, answer.tokens.len());
                return (answer, outcome);
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

fn alone(job: &Job) -> Answer {
    answer(&submit(&engine(options(1, 256)), job.clone())).0
}

fn idle(engine: &Engine) -> Status {
    assert!(engine.wait_idle(PATIENCE));
    engine.status()
}

/// The logits of every token of a text, by one pass.
fn logits(context: &mut Context, text: &[u32]) -> Vec<Vec<f32>> {
    let mut sequence = context.sequence().unwrap();
    let n_vocab = context.model().hparams().n_vocab;
    let mut rows = Vec::new();
    for tokens in text.chunks(context.n_batch()) {
        context.forward(&mut [Span { sequence: &mut sequence, tokens }]).unwrap();
        for row in 0..tokens.len() {
            let mut logits = vec![0.0; n_vocab];
            context.logits([row], &mut logits).unwrap();
            rows.push(logits);
        }
    }
    rows
}

fn context(n_ctx: usize) -> Context {
    model(KvType::F16).0.context(ContextShape { n_seq: 1, n_ctx, n_batch: 64 }).unwrap()
}

/// Prompts that share beginnings in many ways, with all kinds of wishes.
fn mixed_jobs() -> Vec<Job> {
    let mut rng = Rng::new(17);
    let mut below = move |n: usize| (rng.next_f64() * n as f64) as usize;
    (0..32)
        .map(|i| {
            let header = tokens(1, [0, 40, 90][below(3)]);
            let middle = tokens(10 + below(4) as u64, below(50));
            let prompt = [header, middle, tokens(100 + i, 1 + below(40))].concat();
            let mut job = job(&prompt, below(12));
            job.score_prompt = below(2) == 0;
            job.logprobs = [None, Some(0), Some(1), Some(3), Some(5)][below(5)];
            if below(2) == 0 {
                let warm = Sampling { temperature: 0.9, top_p: 0.95, seed: i, ..Sampling::default() };
                job.options.sampling = Sampling { presence_penalty: 0.5, frequency_penalty: 0.1, ..warm };
                job.options.logit_bias = vec![(400 + i as u32, 2.5)];
            }
            job
        })
        .collect()
}

#[test]
fn jobs_together_get_what_each_gets_alone() {
    let jobs = mixed_jobs();
    let wanted: Vec<Answer> = jobs.iter().map(alone).collect();
    for n_seq in [3, 32] {
        let engine = engine(options(n_seq, 256));
        let mut rest = Vec::new();
        let receivers: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(i, job)| {
                // Between them come some that end at any moment.
                if i % 3 == 0 {
                    let job = Job { cancel: Cancel::new(), ..job.clone() };
                    let (cancel, events) = (job.cancel.clone(), submit(&engine, job));
                    if i % 2 == 0 {
                        rest.push((cancel, events));
                    }
                }
                submit(&engine, job.clone())
            })
            .collect();
        for (i, events) in receivers.iter().enumerate() {
            let (answer, _) = answer(events);
            if let Some((cancel, _)) = rest.get(i / 4) {
                cancel.raise();
            }
            assert!(answer == wanted[i], "job {i} of {n_seq} together: {answer:?}\nalone: {:?}", wanted[i]);
        }
        let counters = idle(&engine).counters;
        assert!(counters.tokens_reused > 0 && counters.passes > 0, "{counters:?}");
        // What is cached now gives the same once more.
        let again: Vec<_> = jobs.iter().map(|job| submit(&engine, job.clone())).collect();
        let again: Vec<Answer> = again.iter().map(|events| answer(events).0).collect();
        assert!(again == wanted, "from the cache");
        let all = idle(&engine).counters;
        assert!(all.tokens_run - counters.tokens_run < counters.tokens_run);
    }
}

#[test]
fn scores_are_those_of_the_whole_text_at_once() {
    let prompt = tokens(3, 70);
    let asked =
        Job { options: GenerateOptions { max_new_tokens: Some(6), ..job(&prompt, 6).options }, ..scored(&prompt, 4) };
    let (answer, outcome) = answer(&submit(&engine(options(2, 128)), asked.clone()));
    assert_eq!((outcome.timings.prompt_tokens, outcome.reused_tokens, answer.finish), (70, 0, Some(Finish::Length)));
    let mut context = context(128);
    let whole: Vec<u32> = prompt.iter().copied().chain(answer.tokens.iter().map(|(id, _)| *id)).collect();
    let rows = logits(&mut context, &whole);
    let given: Vec<&TokenScore> =
        answer.prompt.iter().chain(answer.tokens.iter().flat_map(|(_, score)| score)).collect();
    assert_eq!(given.len(), whole.len() - 1);
    for ((score, row), &token) in given.iter().zip(&rows).zip(&whole[1..]) {
        let sum = model(KvType::F16).0.cpu().log_sum_exp(row);
        assert_eq!((score.token, score.log_likelihood), (token, f64::from(row[token as usize]) - sum));
        let mut sorted: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        let top: Vec<(u32, f64)> = sorted[..4].iter().map(|&(id, x)| (id, f64::from(x) - sum)).collect();
        assert_eq!(score.top, top);
    }
    // In one call of the context as perplexity is computed, and greedy as `generate` is.
    let mut sequence = context.sequence().unwrap();
    context.forward(&mut [Span { sequence: &mut sequence, tokens: &prompt[..60] }]).unwrap();
    let mut likelihoods = [0.0; 60];
    context.log_likelihoods(0..60, &prompt[1..61], &mut likelihoods).unwrap();
    assert_eq!(likelihoods.to_vec(), answer.prompt[..60].iter().map(|score| score.log_likelihood).collect::<Vec<_>>());
    drop(sequence);
    let tokenizer = model(KvType::F16).1;
    let text = generate(&mut context, tokenizer, &prompt, &asked.options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(text.ids, whole[70..]);
    assert_eq!(text.text, answer.text);
    assert_eq!(answer.tokens[0].1.as_ref().unwrap().top[0].0, whole[70], "the greedy token is the likeliest");
}

#[test]
fn a_prompt_that_begins_like_an_earlier_one_runs_only_the_rest() {
    let engine = engine(options(2, 256));
    let (header, ends) = (tokens(1, 100), [2, 3, 4].map(|seed| tokens(seed, 10)));
    let prompts = ends.map(|end| [&*header, &end].concat());
    let run = |job: &Job, reused: usize| {
        let before = idle(&engine).counters;
        let (answer, outcome) = answer(&submit(&engine, job.clone()));
        let after = idle(&engine).counters;
        let run = (after.tokens_run - before.tokens_run) as usize;
        // The last token that is chosen is not run.
        let wanted = job.prompt.len() - reused + answer.tokens.len().saturating_sub(1);
        assert_eq!((outcome.reused_tokens, run), (reused, wanted));
        assert!(answer == alone(job));
    };
    run(&scored(&prompts[0], 1), 0);
    // The last row of what is shared predicts another token.
    run(&scored(&prompts[1], 1), 99);
    run(&scored(&prompts[1], 0), 109);
    run(&job(&prompts[2], 5), 100);
    // One of the likeliest is kept, not three.
    run(&scored(&prompts[2], 3), 0);
    run(&scored(&prompts[0], 2), 99);
    run(&scored(&prompts[0][..50], 1), 49);
    // Without scores the tokens count, chosen ones too.
    let chosen: Vec<u32> = alone(&job(&prompts[1], 8)).tokens.iter().map(|(id, _)| *id).collect();
    run(&job(&prompts[1], 8), 100);
    run(&job(&[&*prompts[1], &chosen, &[40]].concat(), 2), 117);
}

#[test]
fn what_jobs_share_that_come_together_is_computed_once() {
    let header = tokens(1, 90);
    let choices: Vec<Job> = (0..4).map(|i| scored(&[&*header, &tokens(50 + i, 6)].concat(), 1)).collect();
    let engine = engine(options(4, 128));
    let hold = hold(&engine);
    let receivers: Vec<_> = choices.iter().map(|job| submit(&engine, job.clone())).collect();
    let before = engine.status().counters;
    drop(hold);
    for (job, events) in choices.iter().zip(&receivers) {
        assert!(answer(events).0 == alone(job));
    }
    let after = idle(&engine).counters;
    assert_eq!(after.tokens_run - before.tokens_run, 1 + 96 + 3 * 7, "the header once, and the token that held up");
    assert_eq!(after.tokens_reused - before.tokens_reused, 3 * 89);
    assert_eq!(after.tokens_prompt - before.tokens_prompt, 4 * 96);
    // The same prompt many times, sampled with other seeds.
    let warm = |seed| {
        let mut job = job(&tokens(9, 60), 5);
        job.options.sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        job
    };
    let hold = self::hold(&engine);
    let receivers: Vec<_> = (0..8).map(|seed| (warm(seed), submit(&engine, warm(seed)))).collect();
    let before = engine.status().counters;
    drop(hold);
    let answers: Vec<Answer> = receivers.iter().map(|(_, events)| answer(events).0).collect();
    assert!(receivers.iter().zip(&answers).all(|((job, _), answer)| *answer == alone(job)));
    assert!(answers.iter().any(|answer| *answer != answers[0]));
    let after = idle(&engine).counters;
    assert_eq!(after.tokens_run - before.tokens_run, 1 + 59 + 8 + 8 * 4);
}

/// Keeps the engine's thread in a sink until it is dropped, after a job of one token has left.
struct Hold {
    go: Option<std::sync::mpsc::Sender<()>>,
    events: Receiver<Event>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.go.take());
        while self.events.recv_timeout(PATIENCE).is_ok() {}
    }
}

fn hold(engine: &Engine) -> Hold {
    let ((go, wait), (sender, events)) = (channel::<()>(), channel());
    let (entered, inside) = channel();
    let sink = move |event| {
        let _ = (entered.send(()), wait.recv(), sender.send(event));
        ControlFlow::Continue(())
    };
    engine.submit(job(&[7], 1), Box::new(sink)).unwrap();
    inside.recv_timeout(PATIENCE).unwrap();
    Hold { go: Some(go), events }
}

#[test]
fn a_long_prompt_does_not_stop_those_that_generate() {
    let engine = engine(options(3, 512));
    let log = Arc::new(Mutex::new(Vec::new()));
    let watch = |name: char, job: Job| {
        let (log, (sender, events)) = (Arc::clone(&log), channel());
        let sink = move |event| {
            log.lock().unwrap().push(name);
            let _ = sender.send(event);
            ControlFlow::Continue(())
        };
        engine.submit(job, Box::new(sink)).unwrap();
        events
    };
    let first = watch('a', job(&tokens(1, 5), 60));
    assert!(matches!(first.recv_timeout(PATIENCE), Ok(Event::Token { .. })));
    let hold = hold(&engine);
    let long = [watch('b', scored(&tokens(2, 500), 0)), watch('c', scored(&tokens(3, 500), 0))];
    drop(hold);
    long.iter().for_each(|events| drop(answer(events)));
    assert!(matches!(first.iter().last(), Some(Event::Done(_))));
    let log = log.lock().unwrap().iter().collect::<String>();
    // Eight pieces of 128 tokens, half of each for either prompt.
    let between = &log[log.find('b').unwrap()..log.rfind('b').unwrap()];
    assert!(between.matches('a').count() >= 6, "{log}");
    assert!(between.matches('c').count() >= 6, "{log}");
}

#[test]
fn the_queue_is_bounded_and_in_order() {
    let engine = engine(EngineOptions { max_queue: 2, ..options(1, 64) });
    let hold = hold(&engine);
    let order = Arc::new(Mutex::new(Vec::new()));
    let waiting: Vec<_> = (0..2)
        .map(|i| {
            let (order, (sender, events)) = (Arc::clone(&order), channel());
            let sink = move |event| {
                order.lock().unwrap().push(i);
                let _ = sender.send(event);
                ControlFlow::Continue(())
            };
            engine.submit(job(&tokens(i, 20), 3), Box::new(sink)).unwrap();
            events
        })
        .collect();
    let refused = || engine.submit(job(&[5], 1), Box::new(|_| ControlFlow::Continue(()))).unwrap_err();
    assert!(matches!(refused(), Refused::Busy { queued: 2 }));
    assert_eq!(engine.status().queued, 2);
    assert_eq!(engine.status().slots[0].state, SlotState::Prompt);
    drop(hold);
    waiting.iter().for_each(|events| drop(answer(events)));
    assert_eq!(*order.lock().unwrap(), [0, 0, 0, 0, 1, 1, 1, 1]);
    engine.stop();
    assert!(matches!(refused(), Refused::Stopping));
    let status = idle(&engine);
    assert_eq!((status.queued, status.counters.jobs_done), (0, 3));
    assert_eq!((status.slots[0].state, status.slots[0].cached_tokens), (SlotState::Idle, 22));
}

#[test]
fn cancelled_jobs_leave_at_once_and_free_their_sequence() {
    let engine = engine(options(1, 256));
    let endless = || {
        let mut job = job(&tokens(1, 30), 0);
        job.options.max_new_tokens = None;
        job
    };
    let (running, waiting) = (endless(), endless());
    let (first, second) = (submit(&engine, running.clone()), submit(&engine, waiting.clone()));
    assert!(matches!(first.recv_timeout(PATIENCE), Ok(Event::Token { .. })));
    // One that waits, then the one that runs.
    waiting.cancel.raise();
    let (nothing, _) = answer(&second);
    assert_eq!(nothing, Answer { finish: Some(Finish::Interrupted), ..Answer::default() });
    running.cancel.raise();
    let last = first.into_iter().last().unwrap();
    assert!(matches!(last, Event::Done(Outcome { finish: Finish::Interrupted, .. })));
    // A sink that breaks off gets nothing more; one that panics harms nobody else.
    let broken = Arc::new(Mutex::new(0));
    let count = Arc::clone(&broken);
    let sink = move |_| {
        *count.lock().unwrap() += 1;
        ControlFlow::Break(())
    };
    engine.submit(endless(), Box::new(sink)).unwrap();
    engine.submit(endless(), Box::new(|_| panic!("on purpose"))).unwrap();
    let job = job(&tokens(2, 30), 4);
    assert!(answer(&submit(&engine, job.clone())).0 == alone(&job));
    assert_eq!(*broken.lock().unwrap(), 1);
    let counters = idle(&engine).counters;
    assert_eq!((counters.jobs_done, counters.jobs_cancelled, counters.jobs_failed), (1, 4, 0));
}

#[test]
fn what_is_left_after_the_grace_is_interrupted() {
    let engine = engine(options(2, 512));
    let receivers: Vec<_> = (0..5)
        .map(|i| {
            let mut job = job(&tokens(i, 30), 0);
            job.options.max_new_tokens = None;
            submit(&engine, job)
        })
        .collect();
    engine.stop();
    assert!(!engine.wait_idle(Duration::from_millis(1)));
    for events in &receivers {
        let finish = answer(events).0.finish.unwrap();
        assert!(matches!(finish, Finish::Interrupted | Finish::ContextFull), "{finish:?}");
    }
    // Dropping the last handle ends the jobs, and the thread.
    let engine = self::engine(options(1, 512));
    let events = submit(
        &engine,
        Job { options: GenerateOptions { max_new_tokens: None, ..job(&[5], 0).options }, ..job(&[5], 0) },
    );
    drop(engine);
    let last = events.into_iter().last().unwrap();
    assert!(matches!(last, Event::Done(Outcome { finish: Finish::Interrupted | Finish::ContextFull, .. })));
}

#[test]
fn a_prompt_one_longer_than_the_context_is_scored_whole() {
    let (model, tokenizer) = model(KvType::F16);
    let n_ctx = model.hparams().n_ctx;
    let start = |n_ctx| Engine::start(Arc::clone(model), Arc::clone(tokenizer), options(2, n_ctx));
    assert!(matches!(start(n_ctx + 2).unwrap_err(), Error::Setting { name: "context size", .. }));
    let engine = start(n_ctx + 1).unwrap();
    let prompt = tokens(5, n_ctx + 1);
    let (answer, _) = answer(&submit(&engine, scored(&prompt, 1)));
    assert_eq!((answer.prompt.len(), answer.tokens.len(), answer.finish), (n_ctx, 1, Some(Finish::Length)));
    // The positions that the model was trained for, in a context of just these.
    let mut context = context(n_ctx);
    let rows = logits(&mut context, &prompt[..n_ctx]);
    for (row, score) in rows.iter().zip(&answer.prompt) {
        let sum = model.cpu().log_sum_exp(row);
        assert_eq!(score.log_likelihood, f64::from(row[score.token as usize]) - sum);
    }
    let refused = engine.check(&scored(&tokens(5, n_ctx + 2), 1)).unwrap_err();
    assert!(matches!(refused, Error::PromptTooLong { .. }));
}

#[test]
fn jobs_that_cannot_be_done_are_refused() {
    let engine = engine(options(1, 64));
    let invalid = |job: Job| match engine.submit(job, Box::new(|_| ControlFlow::Continue(()))) {
        Err(Refused::Invalid(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(invalid(job(&[], 1)), Error::EmptyPrompt.to_string());
    assert!(invalid(job(&[1 << 20], 1)).contains("out of range"));
    assert!(invalid(scored(&[5, 6], MAX_LOGPROBS + 1)).starts_with("logprobs"));
    let mut bad = job(&[5], 1);
    bad.options.logit_bias = vec![(1 << 20, 1.0)];
    assert!(invalid(bad).starts_with("logit bias"));
    let mut bad = job(&[5], 1);
    bad.options.sampling.temperature = f32::NAN;
    assert!(invalid(bad).starts_with("temperature"));
    assert_eq!(engine.status().counters.passes, 0);
}

#[test]
fn a_prompt_can_be_scored_and_not_continued() {
    let engine = engine(options(1, 64));
    let prompt = tokens(1, 20);
    let only = Job { score_prompt: true, ..job(&prompt, 0) };
    let (answer, _) = answer(&submit(&engine, only));
    let with_token = alone(&scored(&prompt, 0));
    assert_eq!((answer.prompt, answer.tokens.len(), answer.finish), (with_token.prompt, 0, Some(Finish::Length)));
    let (nothing, _) = self::answer(&submit(&engine, job(&prompt, 0)));
    assert_eq!(nothing, Answer { finish: Some(Finish::Length), ..Answer::default() });
    let (one, _) = self::answer(&submit(&engine, scored(&prompt[..1], 2)));
    assert_eq!((one.prompt.len(), one.tokens.len()), (0, 1));
}

#[test]
fn logits_that_are_not_finite_end_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    write_model(&path);
    let open = || Model::open(&path, &Options { threads: 2, ..Options::default() }).unwrap();
    let bias = open().gguf().tensors().iter().find(|tensor| tensor.name == "output_norm.bias").unwrap().offset;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[bias as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let engine = Engine::start(open(), Arc::clone(model(KvType::F16).1), options(2, 64)).unwrap();
    let prompt = tokens(1, 20);
    for (job, position) in [(job(&prompt, 3), 20), (scored(&prompt, 1), 1), (scored(&prompt, 4), 1)] {
        let (answer, _) = answer(&submit(&engine, job));
        assert_eq!(answer, Answer { finish: Some(Finish::NotFinite { position }), ..Answer::default() });
    }
    assert_eq!(idle(&engine).counters.tokens_reused, 0);
}

#[test]
fn engines_that_share_the_machine_take_turns() {
    let turn = Some(Arc::new(Turn::new()));
    let engines = [(); 3].map(|()| engine(EngineOptions { turn: turn.clone(), ..options(2, 128) }));
    let jobs: Vec<Job> = (0..4).map(|i| scored(&tokens(i, 40), 1)).collect();
    let receivers: Vec<_> =
        engines.iter().flat_map(|engine| jobs.iter().map(|job| submit(engine, job.clone()))).collect();
    let wanted: Vec<Answer> = jobs.iter().map(alone).collect();
    receivers.iter().zip(wanted.iter().cycle()).for_each(|(events, wanted)| assert!(answer(events).0 == *wanted));
}
