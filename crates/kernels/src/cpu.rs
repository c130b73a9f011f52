//! A processor to compute on: an ISA level and a team of threads.

use crate::attention::Attention;
use crate::interleave::Layout;
use crate::isa::{IsaError, IsaLevel, Kernel, Supported};
use crate::matmul::{self, Activations, Matmul, Predict, Workspace};
use crate::norm::{LayerNorm, LayerNormBackward};
use crate::softmax::LogSumExp;
use crate::team::Team;
use pythia_tensor::TensorType;

/// The kernels, compiled for one ISA and run by one team. Results do not depend on either.
pub struct Cpu {
    isa: Supported,
    team: Team,
}

impl Cpu {
    /// `threads` of 0 means as many as this process may use (affinity and cgroup limits count); `level` of `None`
    /// means what `PYTHIA_ISA` names, else the best.
    ///
    /// # Errors
    /// If this CPU lacks the level.
    pub fn new(threads: usize, level: Option<IsaLevel>) -> Result<Self, IsaError> {
        let level = level.map_or_else(IsaLevel::from_env, Ok)?;
        let isa = level.supported().ok_or_else(|| IsaError(level.name().to_owned()))?;
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { isa, team: Team::new(if threads == 0 { available() } else { threads }) })
    }

    /// The ISA level in use.
    pub fn level(&self) -> IsaLevel {
        self.isa.level()
    }

    /// Runs a kernel on the calling thread.
    pub(crate) fn dispatch<K: Kernel>(&self, kernel: K) -> K::Output {
        self.isa.dispatch(kernel)
    }

    /// The proof of that level.
    pub(crate) fn supported(&self) -> Supported {
        self.isa
    }

    /// The team.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Puts the rows of a matrix, `data`, where products with such activations read them fastest, within `data`, and says how
    /// they lie now: interleaved if the type allows it, activations are int8, and 16 divides the rows; else as before. Once
    /// only: rows that are interleaved must not be given again.
    ///
    /// # Panics
    /// If rows that can be interleaved do not have whole blocks.
    pub fn arrange(&self, ty: TensorType, rows: usize, activations: Activations, data: &mut [u8]) -> Layout {
        matmul::arrange(&self.team, ty, rows, activations, data)
    }

    /// Whether [`arrange`](Self::arrange) would move the rows of such a matrix.
    pub fn arranges(&self, ty: TensorType, rows: usize, activations: Activations) -> bool {
        matmul::arranged(ty, rows, activations).is_some()
    }

    /// A matrix product with its epilogue.
    ///
    /// # Panics
    /// If shapes do not match.
    pub fn matmul(&self, matmul: Matmul<'_>, workspace: &mut Workspace) {
        matmul.run(&self.team, self.isa, workspace);
    }

    /// The likelihood of a token and the likeliest token of each row, from the output matrix.
    ///
    /// # Panics
    /// If shapes do not match or a target is no row of the matrix.
    pub fn predict(&self, job: Predict<'_>, workspace: &mut Workspace) {
        job.run(&self.team, self.isa, workspace);
    }

    /// LayerNorm of every row.
    ///
    /// # Panics
    /// If shapes do not match.
    pub fn layer_norm(&self, norm: LayerNorm<'_>) {
        norm.run(&self.team, self.isa);
    }

    /// The gradient at the input of a LayerNorm.
    ///
    /// # Panics
    /// If shapes do not match.
    pub fn layer_norm_backward(&self, norm: LayerNormBackward<'_>) {
        norm.run(&self.team, self.isa);
    }

    /// Causal attention of a batch over a cache, to which it appends.
    ///
    /// # Panics
    /// If shapes do not match, spans are not as they must be, or positions are out of range.
    pub fn attention(&self, attention: Attention<'_>) {
        attention.run(&self.team, self.isa);
    }

    /// `ln(sum(exp(logits)))` of one row, on the calling thread.
    pub fn log_sum_exp(&self, logits: &[f32]) -> f64 {
        self.dispatch(LogSumExp(logits))
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu").field("level", &self.level()).field("threads", &self.threads()).finish()
    }
}
