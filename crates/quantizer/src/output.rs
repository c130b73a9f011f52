//! The metric of a matrix's outputs.

/// `G = E[g gT]` of some consecutive outputs, damped: g is the gradient of the log-likelihood at the outputs.
#[derive(Clone, Debug)]
pub struct OutputBlock {
    /// The first output.
    pub first: usize,
    /// Number of outputs.
    pub n: usize,
    /// `[n, n]`.
    pub g: Vec<f32>,
}

impl OutputBlock {
    /// The metric of `n` outputs from `first` on, with `damping * mean(diag)` added to the diagonal. `None` if it is not
    /// finite or zero.
    pub fn new(first: usize, n: usize, mut g: Vec<f32>, damping: f64) -> Option<Self> {
        assert_eq!(g.len(), n * n, "a square matrix");
        let mean = (0..n).map(|i| f64::from(g[i * n + i])).sum::<f64>() / n as f64;
        if mean <= 0.0 || g.iter().any(|x| !x.is_finite()) {
            return None;
        }
        (0..n).for_each(|i| g[i * n + i] += (damping * mean) as f32);
        Some(Self { first, n, g })
    }
}

/// Rows that are taken together where outputs have no metric.
const FREE_ROWS: usize = 64;

/// The metric of all outputs of a matrix: blocks on the diagonal. Outputs of different blocks do not see each other.
#[derive(Clone, Debug)]
pub struct OutputMetric {
    blocks: Vec<OutputBlock>,
}

impl OutputMetric {
    /// Of blocks that follow each other from output 0 on.
    ///
    /// # Panics
    /// If they do not.
    pub fn new(blocks: Vec<OutputBlock>) -> Self {
        let end = blocks.iter().fold(0, |end, block| {
            assert_eq!(block.first, end, "blocks that follow each other");
            end + block.n
        });
        assert!(end > 0, "a metric of some outputs");
        Self { blocks }
    }

    /// Number of outputs.
    pub fn n(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.first + block.n)
    }

    /// The metric of one output by itself.
    pub(crate) fn diagonal(&self, output: usize) -> f32 {
        let block = self.blocks.iter().find(|block| output < block.first + block.n).expect("an output of the matrix");
        let i = output - block.first;
        block.g[i * block.n + i]
    }

    pub(crate) fn blocks(&self) -> &[OutputBlock] {
        &self.blocks
    }
}

/// Consecutive outputs of a matrix that are rounded one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Outputs<'a> {
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// Their metric; `None` if every output counts alike and for itself.
    pub(crate) g: Option<&'a [f32]>,
}

/// The outputs of a matrix of `rows`, in blocks.
pub(crate) fn outputs(rows: usize, metric: Option<&OutputMetric>) -> Vec<Outputs<'_>> {
    match metric {
        Some(metric) => {
            metric.blocks().iter().map(|block| Outputs { first: block.first, n: block.n, g: Some(&block.g) }).collect()
        }
        None => {
            let block = |first: usize| Outputs { first, n: FREE_ROWS.min(rows - first), g: None };
            (0..rows).step_by(FREE_ROWS).map(block).collect()
        }
    }
}
