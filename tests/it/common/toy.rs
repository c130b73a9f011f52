//! A device that counts: after token `i` it predicts token `i + 1`. It fails when it is told to.

use pythia_kernels::{Epilogue, KvShape, Rotary};
use pythia_model::backend::{AttentionWeights, Backend, Batch, ContextSpec, Head, Linear, Norm, Tensor};
use pythia_model::{Error, Model, Options};
use std::sync::{Arc, Mutex, PoisonError};

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// In a pass.
    Pass,
    /// When logits are fetched.
    Head,
    /// When a context is made.
    Context,
    /// When a prefix is copied: it can only panic there.
    Copy,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// By an error.
    Error,
    /// By a panic.
    Panic,
}

/// What fails next, each of them once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<(Step, Fault)>>>);

impl Faults {
    pub(crate) fn add(&self, step: Step, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((step, fault));
    }

    pub(crate) fn n_left(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn at(&self, step: Step) -> Result<(), Error> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(i) = faults.iter().position(|(where_, _)| *where_ == step) else { return Ok(()) };
        let (_, fault) = faults.remove(i);
        drop(faults);
        match fault {
            Fault::Error => Err(Error::Device("a cable is loose".to_owned())),
            Fault::Panic => panic!("a test lets the device panic"),
        }
    }
}

/// The shipped model on it. What fails is added later.
pub(crate) fn model() -> (Arc<Model>, Faults) {
    let faults = Faults::default();
    let toy = Toy(faults.clone());
    let options = Options { threads: 1, ..Options::default() };
    (Model::open_on(&super::gguf("Q8_0"), &options, |_| Ok(toy)).unwrap(), faults)
}

struct Toy(Faults);

/// Activations are the tokens of their rows.
impl Backend for Toy {
    type Matrix = ();
    type Vector = ();
    type Buffer = Vec<u32>;
    type KvCache = ();
    type Rope = ();
    type Workspace = ();

    const QUEUES: bool = false;
    const SHOWS_ATTENTION: bool = false;

    fn name(&self) -> String {
        "toy".to_owned()
    }

    fn matrix(&mut self, _: &Tensor) -> Result<(), Error> {
        Ok(())
    }

    fn vector(&self, _: &Tensor) -> Result<(), Error> {
        Ok(())
    }

    fn check_fits(&self, _: &ContextSpec) -> Result<(), Error> {
        self.0.at(Step::Context)
    }

    fn buffer(&self, rows: usize, _: usize) -> Result<Vec<u32>, Error> {
        Ok(vec![0; rows])
    }

    fn kv_cache(&self, _: KvShape) -> Result<(), Error> {
        Ok(())
    }

    fn rope(&self, _: Rotary, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn workspace(&self, _: &ContextSpec) -> Result<(), Error> {
        Ok(())
    }

    fn rows<'a>(&self, _: &'a Vec<u32>, _: usize, staging: &'a mut Vec<f32>) -> &'a [f32] {
        staging
    }

    fn edit(&self, _: &mut Vec<u32>, _: usize, staging: &mut Vec<f32>, edit: &mut dyn FnMut(&mut [f32])) {
        edit(staging);
    }

    fn pass(&self, _: Batch<'_>, _: bool, work: &mut (), mut operations: impl FnMut(&mut ())) -> Result<(), Error> {
        self.0.at(Step::Pass)?;
        operations(work);
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        Ok(())
    }

    fn embed(&self, _: &(), batch: Batch<'_>, out: &mut Vec<u32>, _: &mut ()) {
        out[..batch.tokens.len()].copy_from_slice(batch.tokens);
    }

    fn layer_norm(&self, _: &Norm<Self>, x: &Vec<u32>, n: usize, out: &mut Vec<u32>) {
        out[..n].copy_from_slice(&x[..n]);
    }

    fn product(&self, _: &Linear<Self>, _: &Vec<u32>, _: usize, _: Epilogue, _: &mut Vec<u32>, _: &mut ()) {}

    fn attend(
        &self,
        _: &(),
        _: Batch<'_>,
        _: &mut Vec<u32>,
        _: &mut (),
        _: &mut Vec<u32>,
        _: &mut (),
        _: Option<AttentionWeights<'_>>,
    ) {
    }

    fn copy_prefix(&self, _: &mut (), _: usize, _: usize, _: usize) {
        self.0.at(Step::Copy).expect("panics only");
    }

    fn head(&self, _: &(), x: &Vec<u32>, head: Head<'_>, _: &mut ()) -> Result<(), Error> {
        self.0.at(Step::Head)?;
        if let Head::Logits { rows, out } = head {
            let n_vocab = out.len() / rows.len();
            out.fill(0.0);
            for (row, logits) in rows.iter().zip(out.chunks_exact_mut(n_vocab)) {
                logits[(x[*row] as usize + 1) % n_vocab] = 20.0;
            }
        }
        Ok(())
    }
}
