//! What the harness leaves to Python: random numbers, white space, letters, floats.

mod float;
mod random;
mod text;

pub(crate) use float::{float, parse_float};
pub(crate) use random::Random;
pub(crate) use text::{capitalize, count_words, is_space, strip, strip_start, words};
