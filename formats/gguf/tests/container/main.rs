//! Whole files through the public interface: what is written, what is read, and what is refused.

mod cases;
mod hostile;
mod imatrix;
mod raw;
mod round_trip;
