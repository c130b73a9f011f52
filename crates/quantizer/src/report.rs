//! What was done to every matrix.

use pythia_schema::TensorId;
use pythia_tensor::TensorType;
use serde::{Serialize, Serializer};

/// A matrix of a file.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixReport {
    /// Its name in GGUF.
    pub tensor: String,
    /// Its type.
    #[serde(serialize_with = "name")]
    pub ty: TensorType,
    /// Half of `tr(G D H DT)`: what its rounding adds to the divergence of a token, by the metrics that it was rounded
    /// in.
    pub predicted: f64,
    /// Mean of `e G e / 2` over held-out tokens, e the error of the outputs. In the embedding, as `predicted`.
    pub measured: f64,
    /// The same for the format's own encoder, without importances.
    pub plain: f64,
    /// Whether the new rounding was better and was kept.
    pub accepted: bool,
    /// Whether its bias took the mean error of the outputs, because that was better still.
    pub bias: bool,
    /// Seconds that it took.
    pub seconds: f64,
    /// What `predicted` would be in other types, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// A type that a matrix could have.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Alternative {
    /// The type.
    #[serde(serialize_with = "name")]
    pub ty: TensorType,
    /// An estimate of [`MatrixReport::predicted`].
    pub predicted: f64,
}

fn name<S: Serializer>(ty: &TensorType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(ty.name())
}

impl MatrixReport {
    pub(crate) fn new(id: TensorId, ty: TensorType) -> Self {
        Self {
            tensor: id.gguf(),
            ty,
            predicted: 0.0,
            measured: 0.0,
            plain: 0.0,
            accepted: false,
            bias: false,
            seconds: 0.0,
            alternatives: Vec::new(),
        }
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
