//! How large a file may become when its types are chosen by what they cost.

use crate::{Error, FilePlan, Level, Recipe, Request, Source, plan};
use std::fmt;
use std::str::FromStr;

/// A limit for the size of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Of the whole file, in bytes.
    Bytes(u64),
    /// Bits per weight, over all tensors.
    BitsPerWeight(f64),
    /// The size of the file that this level gives without other options.
    SameAs(Level),
}

/// What is wanted where a budget cannot be read.
const WANTED: &str = "wanted a size such as 4.8MB, bits per weight such as 5.2bpw, or same-as LEVEL";

/// Units of a size, longest names first.
const UNITS: [(&str, f64); 7] = [
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("b", 1.0),
];

impl FromStr for Budget {
    type Err = Error;

    /// Parses `4.8MB` (also KB, GB, KiB, MiB, GiB, or bytes without a unit), `5.2bpw`, or `same-as Q4_K_M`, in upper or
    /// lower case. `same-as:Q4_K_M` and `same-as=Q4_K_M` need no quotes.
    fn from_str(s: &str) -> Result<Self, Error> {
        let text = s.trim().to_ascii_lowercase();
        if let Some(level) = text.strip_prefix("same-as") {
            let level = level.strip_prefix([':', '=']).unwrap_or(level).trim();
            return level.parse().map(Self::SameAs).map_err(|e| Error::Request(format!("budget '{s}': {e}")));
        }
        let (number, budget): (&str, fn(f64) -> Self) = match text.strip_suffix("bpw") {
            Some(number) => (number, Self::BitsPerWeight),
            None => (text.as_str(), |bytes| Self::Bytes(bytes as u64)),
        };
        let unit = UNITS.iter().find_map(|(unit, factor)| Some((number.strip_suffix(unit)?, *factor)));
        let (number, factor) = unit.unwrap_or((number, 1.0));
        // `parse` accepts signs, exponents and names of numbers that are not finite.
        let is_plain = number.trim().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let value = number.trim().parse::<f64>().ok().filter(|_| is_plain).map(|number| number * factor);
        let value = value.filter(|value| *value > 0.0 && *value < 1e18).map(budget);
        let value = value.filter(|budget| !matches!(budget, Self::BitsPerWeight(bits) if *bits > 32.0));
        value.ok_or_else(|| Error::Request(format!("budget '{s}': {WANTED}")))
    }
}

impl fmt::Display for Budget {
    /// In a form that can be parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::BitsPerWeight(bits) => write!(f, "{bits}bpw"),
            Self::SameAs(level) => write!(f, "same-as:{level}"),
        }
    }
}

impl Budget {
    /// The bytes that the tensors of a file of `level` may take, padding between them included. `request` is that of
    /// the file; its recipe does not count.
    ///
    /// # Errors
    /// If the file cannot be planned, or its header alone is larger than the budget.
    pub fn tensor_bytes(self, source: &dyn Source, request: &Request, level: Level) -> Result<u64, Error> {
        let planned = |level| -> Result<FilePlan, Error> {
            let (files, recipe) = (vec![(level, "budget.gguf".into())], Recipe::default());
            let request = Request { files, recipe, strict: false, limits: Default::default(), ..request.clone() };
            let mut plan = plan(source, &request)?;
            Ok(plan.files.remove(0))
        };
        match self {
            Self::Bytes(bytes) => {
                let header = planned(level)?.header_bytes();
                bytes.checked_sub(header).filter(|&left| left > 0).ok_or_else(|| {
                    Error::Request(format!("budget {bytes} bytes: the header alone takes {header} bytes"))
                })
            }
            Self::BitsPerWeight(bits) => {
                let n_elems: u64 = planned(level)?.tensors().map(|(_, tensor)| tensor.n_elems()).sum();
                Ok((n_elems as f64 * bits / 8.0) as u64)
            }
            Self::SameAs(level) => Ok(planned(level)?.tensor_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_as_people_write_them() {
        use Budget::{BitsPerWeight, Bytes, SameAs};
        for (text, budget) in [
            ("4.8MB", Bytes(4_800_000)),
            ("4.8 mb", Bytes(4_800_000)),
            ("5MiB", Bytes(5 << 20)),
            ("700kb", Bytes(700_000)),
            ("1.5GiB", Bytes(3 << 29)),
            ("2GB", Bytes(2_000_000_000)),
            ("123456", Bytes(123_456)),
            ("123456B", Bytes(123_456)),
            ("5.2bpw", BitsPerWeight(5.2)),
            (" 4 BPW", BitsPerWeight(4.0)),
            ("same-as Q4_K_M", SameAs(Level::Q4_K_M)),
            ("same-as:q4_0", SameAs(Level::Q4_0)),
            ("same-as=Q2_K", SameAs(Level::Q2_K)),
        ] {
            assert_eq!(text.parse::<Budget>().unwrap(), budget, "{text}");
            assert_eq!(budget.to_string().parse::<Budget>().unwrap(), budget, "{budget}");
        }
        let malformed =
            ["", "MB", "0", "0MB", "-1MB", "+4bpw", "1e3MB", "infMB", "nan", "4X", "4MB8", "0bpw", "33bpw", "4bpw MB"];
        for text in malformed {
            let error = text.parse::<Budget>().unwrap_err();
            assert_eq!(error.to_string(), format!("budget '{text}': {WANTED}"));
        }
        let error = "same-as Q4_K_X".parse::<Budget>().unwrap_err().to_string();
        assert!(error.starts_with("budget 'same-as Q4_K_X': unknown type"), "{error}");
    }
}
