//! Generators that share passes, on the shipped checkpoint.

use super::*;
use crate::GenerateOptions;
use crate::generator::tests::{
    Asked, Bits, alone, assert_same, context, context_of, generator, logits, requests, step_by_hand,
};
use pythia_model::KvType;
use pythia_task::Cancel;

/// One step of all generators.
type Step = fn(&mut Scheduler, &mut Context, &mut [(&mut Generator, &mut Bits)]);

/// A step of the scheduler that also keeps the bits of the logits.
fn step(scheduler: &mut Scheduler, context: &mut Context, all: &mut [(&mut Generator, &mut Bits)]) {
    let (mut generators, bits): (Vec<_>, Vec<_>) = all.iter_mut().map(|(g, bits)| (&mut **g, &mut **bits)).unzip();
    scheduler.forward(context, &mut generators, usize::MAX).unwrap();
    for (bits, row) in bits.into_iter().zip(&scheduler.rows) {
        bits.extend(row.map(|row| logits(context, row).into_iter().map(f32::to_bits).collect()));
    }
    scheduler.choose(context, &mut generators).unwrap();
}

/// A generator and the bits that it has chosen from.
struct Watched(Generator, Bits);

impl Watched {
    fn new(context: &Context, request: &Asked) -> Self {
        Self(generator(context, request), Bits::new())
    }
}

fn bits_alone(kv: KvType, request: &Asked) -> Bits {
    let mut context = context_of(kv, 1, 64);
    let Watched(mut generator, mut bits) = Watched::new(&context, request);
    while generator.finish().is_none() {
        step_by_hand(&mut context, &mut [(&mut generator, &mut bits)]);
    }
    bits
}

#[test]
fn generators_get_the_bits_that_they_get_alone_while_others_join_and_leave() {
    let requests = requests();
    for kv in [KvType::F16, KvType::F32] {
        let wanted = requests.each_ref().map(|request| bits_alone(kv, request));
        let by_hand: Step = |_, context, all| step_by_hand(context, all);
        for (step, driver) in [(by_hand, "by hand"), (step, "the scheduler")] {
            let mut context = context_of(kv, 3, 64);
            let mut scheduler = Scheduler::new();
            let mut all: Vec<_> = [0, 1].map(|i| Watched::new(&context, &requests[i])).into();
            for n in 0.. {
                match n {
                    3 => all.push(Watched::new(&context, &requests[2])),
                    11 => {
                        let Watched(third, bits) = all.pop().unwrap();
                        assert!(third.finish().is_none() && !bits.is_empty(), "it leaves in the middle");
                        assert!(wanted[2].starts_with(&bits), "{kv:?} {driver}: logits of the third");
                    }
                    // In the slot of the third.
                    13 => {
                        all.push(Watched::new(&context, &requests[1]));
                        assert!(context.sequence().is_err());
                    }
                    _ => {}
                }
                if n > 13 && all.iter().all(|Watched(generator, _)| generator.finish().is_some()) {
                    break;
                }
                let mut all: Vec<_> = all.iter_mut().map(|Watched(generator, bits)| (generator, bits)).collect();
                step(&mut scheduler, &mut context, &mut all);
            }
            for (Watched(_, bits), of) in all.iter().zip([0, 1, 1]) {
                assert!(*bits == wanted[of], "{kv:?} {driver}: logits of request {of}");
            }
        }
    }
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
fn prompts_hold_up_neither_those_that_decode_nor_each_other() {
    let [short, _, (prompt, options)] = requests();
    let long = (prompt.repeat(3), options);
    let mut context = context(3, 64);
    let mut scheduler = Scheduler::new();
    let mut decoding = generator(&context, &short);
    while decoding.ids().is_empty() {
        scheduler.step(&mut context, &mut [&mut decoding]).unwrap();
    }
    let [mut first, mut second] = [(); 2].map(|()| generator(&context, &long));
    for step in 2..4 {
        scheduler.step(&mut context, &mut [&mut first, &mut decoding, &mut second]).unwrap();
        assert_eq!(decoding.ids().len(), step);
        assert_eq!([&first, &second].map(|prompt| prompt.sequence().len()), [3 * (step - 1); 2]);
    }
    drop(second);
    scheduler.step(&mut context, &mut [&mut first, &mut decoding]).unwrap();
    assert_eq!(first.sequence().len(), 6 + 6, "the rest of the batch");
}

#[test]
fn all_get_on_when_the_batch_is_too_small_for_them() {
    const N: usize = 9;
    let [(prompt, options), ..] = requests();
    let request = (prompt[..3].to_vec(), GenerateOptions { max_new_tokens: None, ..options });
    let mut context = context(N, 64);
    let mut scheduler = Scheduler::new();
    let mut all: Vec<_> = (0..N).map(|_| generator(&context, &request)).collect();
    let mut counts_after = |all: &mut [Generator], steps| {
        for _ in 0..steps {
            scheduler.step(&mut context, &mut all.iter_mut().collect::<Vec<_>>()).unwrap();
        }
        all.iter().map(|generator| generator.ids().len()).collect::<Vec<_>>()
    };
    // 9 prompts of 3 tokens are 4 batches of 7.
    let before = counts_after(&mut all, 6);
    assert!(before.iter().all(|&n| n > 0), "{before:?}");
    let after = counts_after(&mut all, N);
    assert!(before.iter().zip(&after).all(|(before, after)| after - before == 7), "{before:?}, then {after:?}");
    let wanted = alone(&request).ids;
    all.iter().for_each(|generator| assert!(wanted.starts_with(generator.ids())));
}

/// Generators whose logits nobody chose from, and a pass that was cancelled.
#[test]
fn a_step_goes_on_from_wherever_a_generator_is() {
    let requests = requests();
    let cancel = Cancel::new();
    let mut context = context(3, 64).cancelled_by(cancel.clone());
    let mut scheduler = Scheduler::new();
    let [mut a, mut b, mut by_hand] = [0, 1, 2].map(|i| generator(&context, &requests[i]));
    while by_hand.pending() > 0 {
        context.forward(&mut [by_hand.next_span(7)]).unwrap();
    }
    assert!(by_hand.is_ready());
    scheduler.step(&mut context, &mut [&mut a, &mut by_hand, &mut b]).unwrap();
    assert_eq!(by_hand.ids().len(), 1);
    while b.pending() > 0 {
        scheduler.forward(&mut context, &mut [&mut a, &mut by_hand, &mut b], usize::MAX).unwrap();
    }
    scheduler.step(&mut context, &mut [&mut a, &mut by_hand, &mut b]).unwrap();

    cancel.raise();
    let cancelled = scheduler.step(&mut context, &mut [&mut a, &mut by_hand, &mut b]);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let mut context = context.cancelled_by(Cancel::new());
    while [&a, &b, &by_hand].iter().any(|generator| generator.finish().is_none()) {
        scheduler.step(&mut context, &mut [&mut a, &mut by_hand, &mut b]).unwrap();
    }
    [&a, &b, &by_hand].iter().zip(&requests).for_each(|(generator, request)| assert_same(generator, &alone(request)));
}
