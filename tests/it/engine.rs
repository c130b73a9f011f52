//! The engine on a device that fails.

use crate::common::toy::{self, Fault, Step};
use pythia_model::Model;
use pythia_runtime::engine::{Engine, EngineOptions, Event, Job, SlotState};
use pythia_runtime::{Finish, GenerateOptions, Tokenizer};
use pythia_task::Cancel;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn engine(model: Arc<Model>, n_seq: usize) -> Engine {
    let tokenizer = Arc::new(Tokenizer::from_gguf(&model.gguf().metadata).unwrap());
    Engine::start(model, tokenizer, EngineOptions { n_seq, n_ctx: 64, max_queue: 8, turn: None }).unwrap()
}

/// What became of a job: its tokens, and how it ended.
#[derive(Debug, PartialEq)]
struct End {
    tokens: Vec<u32>,
    end: Result<(Finish, usize), String>,
}

fn counted(start: u32, n: u32) -> End {
    End { tokens: (start + 1..=start + n).collect(), end: Ok((Finish::Length, 0)) }
}

/// Submits a job that counts from `start`. `at_token` is called at its second token, on the engine's thread.
fn count(engine: &Engine, start: u32, n: usize, at_token: impl FnOnce() + Send + 'static) -> Receiver<End> {
    count_after(engine, vec![start], n, at_token)
}

/// The same after a prompt.
fn count_after(engine: &Engine, prompt: Vec<u32>, n: usize, at_token: impl FnOnce() + Send + 'static) -> Receiver<End> {
    let options = GenerateOptions { max_new_tokens: Some(n), ignore_eos: true, ..GenerateOptions::default() };
    let job = Job { prompt, score_prompt: false, logprobs: None, options, cancel: Cancel::new() };
    let (sender, receiver) = channel();
    let (mut tokens, mut at_token) = (Vec::new(), Some(at_token));
    let sink = move |event| {
        let end = match event {
            Event::Token { id, .. } => {
                tokens.push(id);
                if tokens.len() == 2
                    && let Some(at_token) = at_token.take()
                {
                    at_token();
                }
                return ControlFlow::Continue(());
            }
            Event::Prompt(_) => return ControlFlow::Continue(()),
            Event::Done(outcome) => Ok((outcome.finish, outcome.reused_tokens)),
            Event::Failed(error) => Err(error.to_string()),
        };
        let _ = sender.send(End { tokens: std::mem::take(&mut tokens), end });
        ControlFlow::Continue(())
    };
    engine.submit(job, Box::new(sink)).unwrap();
    receiver
}

fn end(receiver: &Receiver<End>) -> End {
    receiver.recv_timeout(PATIENCE).expect("an end of the job")
}

/// Asserts that nothing runs or waits, and how many jobs have failed and were done.
fn assert_idle(engine: &Engine, failed: u64, done: u64) {
    assert!(engine.wait_idle(PATIENCE));
    let status = engine.status();
    assert!(status.slots.iter().all(|slot| slot.state == SlotState::Idle && slot.job.is_none()), "{status:?}");
    assert_eq!((status.queued, status.counters.jobs_failed, status.counters.jobs_done), (0, failed, done));
}

/// Two jobs run and a third waits when the device fails. Returns the engine after that.
fn fails(step: Step, fault: Fault, wanted: &str) -> Engine {
    let (model, faults) = toy::model();
    let engine = engine(model, 2);
    let (all_are_there, wait) = channel();
    let first = count(&engine, 300, 60, move || wait.recv_timeout(PATIENCE).unwrap());
    let second = count(&engine, 500, 60, {
        let faults = faults.clone();
        move || faults.add(step, fault)
    });
    let third = count(&engine, 700, 5, || {});
    all_are_there.send(()).unwrap();
    for failed in [end(&first), end(&second)] {
        assert!((1..60).contains(&failed.tokens.len()), "in the middle of it: {failed:?}");
        assert_eq!(failed.end, Err(wanted.to_owned()));
    }
    assert_eq!(end(&third), counted(700, 5), "it waited, so it does not fail");
    assert_eq!(faults.n_left(), 0);
    assert_idle(&engine, 2, 1);
    engine
}

#[test]
fn an_error_of_the_device_ends_the_jobs_that_run_and_no_others() {
    for step in [Step::Pass, Step::Head] {
        let engine = fails(step, Fault::Error, "the engine failed: a cable is loose");
        assert_eq!(end(&count(&engine, 300, 7, || {})), counted(300, 7), "nothing is left of the job that failed");
        assert_idle(&engine, 2, 2);
    }
}

#[test]
fn after_a_panic_in_a_pass_the_engine_goes_on() {
    for step in [Step::Pass, Step::Head] {
        let engine = fails(step, Fault::Panic, "the engine failed: a pass of the model panicked");
        assert_eq!(end(&count(&engine, 300, 7, || {})), counted(300, 7));
        assert_idle(&engine, 2, 2);
    }
}

#[test]
fn after_a_panic_in_a_copy_the_engine_goes_on() {
    let (model, faults) = toy::model();
    let engine = engine(model, 2);
    faults.add(Step::Copy, Fault::Panic);
    // The second begins as the first, which runs and keeps its sequence.
    let prompt: Vec<u32> = (100..130).collect();
    let (other_is_there, wait) = channel();
    let first = count_after(&engine, prompt.clone(), 30, move || wait.recv_timeout(PATIENCE).unwrap());
    let second = count_after(&engine, prompt, 30, || {});
    other_is_there.send(()).unwrap();
    let wanted = Err("the engine failed: the start of a text panicked".to_owned());
    assert_eq!(end(&second), End { tokens: Vec::new(), end: wanted.clone() });
    assert_eq!(end(&first).end, wanted, "nobody knows what is left of it");
    assert_eq!(faults.n_left(), 0);
    assert_idle(&engine, 2, 0);
    assert_eq!(end(&count(&engine, 300, 7, || {})), counted(300, 7));
}

#[test]
fn without_a_new_context_jobs_fail_until_there_is() {
    for (fault, problem) in [(Fault::Error, "a cable is loose"), (Fault::Panic, "it panicked")] {
        let (model, faults) = toy::model();
        let engine = engine(model, 1);
        faults.add(Step::Pass, Fault::Panic);
        faults.add(Step::Context, fault);
        let panicked = count(&engine, 300, 5, || {});
        let waiting = count(&engine, 400, 5, || {});
        assert_eq!(end(&panicked).end, Err("the engine failed: a pass of the model panicked".to_owned()));
        let no_context = Err(format!("the engine failed: no new context after a panic: {problem}"));
        assert_eq!(end(&waiting), End { tokens: Vec::new(), end: no_context });
        assert_idle(&engine, 2, 0);
        assert_eq!(end(&count(&engine, 300, 5, || {})), counted(300, 5));
        assert_idle(&engine, 2, 1);
    }
}

#[test]
fn a_sink_that_panics_ends_its_own_job_only() {
    let (model, _) = toy::model();
    let engine = engine(model, 2);
    let panics = count(&engine, 300, 60, || panic!("a test lets a sink panic"));
    let other = count(&engine, 500, 40, || {});
    assert_eq!(end(&other), counted(500, 40));
    assert!(panics.recv_timeout(PATIENCE).is_err(), "no event follows, and the sink is gone");
    assert_idle(&engine, 0, 1);
}
