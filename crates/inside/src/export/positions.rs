//! Which positions of a sequence are exported.

use std::fmt;
use std::str::FromStr;

/// Positions of a sequence, whatever its length: `all`, `last`, or a list such as `0,5,-1` or `0:10,-5:`.
///
/// Negative numbers count from the end. `START:END:STEP` is a slice as Python has it, without `END`. What a sequence is
/// too short for is left out, and a position that is named twice counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    One(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: usize },
}

const ALL: Part = Part::Slice { start: None, end: None, step: 1 };
const LAST: Part = Part::One(-1);

impl Positions {
    /// Every one.
    pub fn all() -> Self {
        Self(vec![ALL])
    }

    /// The last one.
    pub fn last() -> Self {
        Self(vec![LAST])
    }

    /// Whether it is every one.
    pub fn is_all(&self) -> bool {
        self.0 == [ALL]
    }

    /// Those of a sequence of `n` tokens, ascending.
    pub fn of(&self, n: usize) -> Vec<usize> {
        let mut positions: Vec<usize> = self.0.iter().flat_map(|part| part.of(n)).collect();
        if self.0.len() > 1 {
            positions.sort_unstable();
            positions.dedup();
        }
        positions
    }
}

impl Part {
    fn of(self, n: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        let (range, step) = match self {
            Self::One(at) => match from_start(at, n) {
                Some(at) if at < n => (at..at + 1, 1),
                _ => (0..0, 1),
            },
            Self::Slice { start, end, step } => {
                let bound = |at: Option<i64>, default| at.map_or(default, |at| from_start(at, n).unwrap_or(0).min(n));
                (bound(start, 0)..bound(end, n), step)
            }
        };
        range.step_by(step)
    }
}

/// A position counted from the start; `None` if it is before that.
fn from_start(at: i64, n: usize) -> Option<usize> {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    usize::try_from(if at < 0 { n.saturating_add(at) } else { at }).ok()
}

impl FromStr for Positions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::all()),
            "last" => Ok(Self::last()),
            _ => text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found '{text}', wanted all, last, or a list such as 0,5,-1 or 0:10,-5:");
        let number = |text: &str| text.parse::<i64>().ok().filter(|_| !text.starts_with('+')).ok_or_else(wrong);
        let bound = |text: &str| if text.is_empty() { Ok(None) } else { number(text).map(Some) };
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(one), None, ..) => number(one).map(Self::One),
            (Some(start), Some(end), step, None) => {
                let step = step.filter(|step| !step.is_empty()).map_or(Ok(1), number)?;
                let step = usize::try_from(step).ok().filter(|step| *step > 0).ok_or_else(wrong)?;
                Ok(Self::Slice { start: bound(start)?, end: bound(end)?, step })
            }
            _ => Err(wrong()),
        }
    }
}

/// As it is parsed.
impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [ALL] => return f.write_str("all"),
            [LAST] => return f.write_str("last"),
            _ => {}
        }
        for (i, part) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            let number = |bound: Option<i64>| bound.map_or(String::new(), |at| at.to_string());
            match *part {
                Part::One(at) => write!(f, "{at}")?,
                Part::Slice { start, end, step: 1 } => write!(f, "{}:{}", number(start), number(end))?,
                Part::Slice { start, end, step } => write!(f, "{}:{}:{step}", number(start), number(end))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_pythons() {
        for (text, n, wanted) in [
            ("all", 3, &[0, 1, 2][..]),
            ("last", 3, &[2]),
            ("last", 0, &[]),
            ("0,5,-1", 4, &[0, 3]),
            ("-1,0,0,3", 4, &[0, 3]),
            ("1:3", 9, &[1, 2]),
            ("-3:", 9, &[6, 7, 8]),
            ("-3:", 2, &[0, 1]),
            (":-1", 3, &[0, 1]),
            ("::4", 10, &[0, 4, 8]),
            ("5:2", 10, &[]),
            ("100", 10, &[]),
            ("-11", 10, &[]),
            ("0:2, 1:4", 10, &[0, 1, 2, 3]),
            ("9223372036854775807,-9223372036854775808", 10, &[]),
        ] {
            let positions: Positions = text.parse().unwrap();
            assert_eq!(positions.of(n), wanted, "{text} of {n}");
            assert_eq!(positions.to_string().parse(), Ok(positions), "{text}");
        }
        for text in ["", "a", "1,", "1-3", "0:3:0", "0:3:-1", "1:2:3:4", "+1", "99999999999999999999", "all,1"] {
            assert!(text.parse::<Positions>().unwrap_err().contains("wanted all, last"), "{text}");
        }
    }
}
