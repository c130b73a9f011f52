//! The GGUF container: the table of its reader's own tests, given to the program that only looks at containers.

use super::cases::{self, HEADERS, PAIRS, TENSORS};
use super::{DATA, fault_of, write};

pub(crate) const CASES: &[&[cases::Case]] = &[HEADERS, PAIRS, TENSORS, MORE];

/// The cuts that the reader's tests sweep over: one in each part of the header.
const MORE: &[cases::Case] = &[
    ("G4", "cut in the counts", || super::raw::Raw::valid().build()[..20].to_vec(), "wanted 8 bytes of"),
    (
        "G4",
        "cut in the pairs",
        || super::raw::Raw::valid().build()[..40].to_vec(),
        "found 24 metadata pairs, wanted at most 1",
    ),
    ("G4", "cut in the tensor table", || cut_before_data(40), "wanted"),
];

/// A valid file without its data and the last `bytes` of what comes before.
fn cut_before_data(bytes: usize) -> Vec<u8> {
    let raw = super::raw::Raw { data: Vec::new(), ..super::raw::Raw::valid() };
    let file = raw.build();
    file[..file.len() - bytes].to_vec()
}

pub(crate) fn fault_of_case(&(id, name, build, wanted): &cases::Case) -> Option<String> {
    fault_of(id, name, |folder| write(folder, "m.gguf", build()), "pythia-quant inspect m.gguf", wanted, DATA)
}
