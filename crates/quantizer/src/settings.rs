//! How matrices are rounded.

use std::fmt;
use std::num::NonZeroUsize;

/// How matrices are rounded. `docs/quantizer.md` in the repository says what each setting was measured to bring.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Added to the moments of the inputs, as a multiple of their mean diagonal.
    pub input_damping: f64,
    /// The same for the metric of the outputs.
    pub output_damping: f64,
    /// The same for the metric of the embedding.
    pub embedding_damping: f64,
    /// How far a matrix is moved towards the one that makes up for the errors in its inputs: 0 to 1.
    pub pull: f64,
    /// The share of the error in the residual stream that matrices writing to it make up for: 0 to 1.
    pub residual: f64,
    /// Whether biases take the mean error of their matrix where held-out windows say that it helps.
    pub biases: bool,
    /// One window in this many is held out, to accept what was rounded or not. At least one, and never all.
    pub held_out: NonZeroUsize,
    /// Passes of the descent, at most.
    pub passes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            input_damping: 0.05,
            output_damping: 0.05,
            embedding_damping: 0.05,
            pull: 1.0,
            residual: 0.5,
            biases: true,
            held_out: NonZeroUsize::new(8).expect("not zero"),
            passes: 6,
        }
    }
}

impl fmt::Display for Settings {
    /// All of them on one line: two files with the same line, calibration and types have the same bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input_damping, output_damping, embedding_damping, pull, residual, biases, held_out, passes } = self;
        write!(
            f,
            "damping {input_damping} {output_damping} {embedding_damping}, pull {pull}, residual {residual}, \
             biases {biases}, held out {held_out}, passes {passes}"
        )
    }
}
