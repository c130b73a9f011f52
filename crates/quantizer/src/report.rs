//! What was done to every matrix.

use pythia_schema::TensorId;
use pythia_tensor::TensorType;
use serde::Serialize;

/// A matrix of a file.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixReport {
    /// Its name in GGUF.
    pub tensor: String,
    /// Its type.
    pub ty: String,
    /// Half of `tr(G D H DT)`: what its rounding adds to the divergence of a token, by the metrics that it was rounded
    /// in.
    pub predicted: f64,
    /// Mean of `e G e / 2` over held-out tokens, e the error of the outputs. In the embedding, as `predicted`.
    pub measured: f64,
    /// The same for the format's own encoder.
    pub plain: f64,
    /// Whether the new rounding was better and was kept.
    pub accepted: bool,
    /// Seconds that it took.
    pub seconds: f64,
}

impl MatrixReport {
    pub(crate) fn new(id: TensorId, ty: TensorType) -> Self {
        let (tensor, ty) = (id.gguf(), ty.name().to_owned());
        Self { tensor, ty, predicted: 0.0, measured: 0.0, plain: 0.0, accepted: false, seconds: 0.0 }
    }
}

/// All matrices of a file, in the order in which they were rounded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The matrices.
    pub matrices: Vec<MatrixReport>,
    /// Mean divergence of the file's predictions from the full model's on held-out tokens, with f32 activations.
    pub divergence: Option<f64>,
}

impl Report {
    /// Sum of the measured losses.
    pub fn measured(&self) -> f64 {
        self.matrices.iter().map(|matrix| matrix.measured).sum()
    }

    /// Sum of the losses that the formats' own encoders would have.
    pub fn plain(&self) -> f64 {
        self.matrices.iter().map(|matrix| matrix.plain).sum()
    }
}
