//! The commands of the two programs: what they print, write and refuse.

mod bench;
mod calibrate;
mod compare;
mod compare_tasks;
mod dequantize;
mod diff;
mod edge;
mod eval_plot;
mod feedback;
mod imatrix;
mod quant;
mod quantize;
mod run;
mod shown;
mod split;
mod verify;
