//! The order in which models and checkpoints are shown, and names for ranges of checkpoints.

use crate::Manifest;
use crate::manifest::{Cell, Checkpoint};
use std::cmp::Ordering;

/// Small models first, then by name: `pythia-70m`, `pythia-70m-deduped`, `pythia-1b`.
pub(crate) fn by_size(a: &str, b: &str) -> Ordering {
    parameters(a).total_cmp(&parameters(b)).then_with(|| a.cmp(b))
}

/// The size in a model's name, from a part like `70m` or `1.4b`; infinite without one.
fn parameters(name: &str) -> f64 {
    let size = |part: &str| {
        let unit = match part.chars().last()?.to_ascii_lowercase() {
            'k' => 1e3,
            'm' => 1e6,
            'b' => 1e9,
            _ => return None,
        };
        let number = &part[..part.len() - 1];
        let is_number = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        number.parse::<f64>().ok().filter(|_| is_number).map(|number| number * unit)
    };
    name.split(['-', '_']).find_map(size).unwrap_or(f64::INFINITY)
}

/// By step, those without one last; then by name.
pub(crate) fn by_step(a: (Option<u64>, &str), b: (Option<u64>, &str)) -> Ordering {
    let key = |step: Option<u64>| step.unwrap_or(u64::MAX);
    key(a.0).cmp(&key(b.0)).then_with(|| a.1.cmp(b.1))
}

/// By model, then by step.
pub(crate) fn by_checkpoint(a: &Checkpoint, b: &Checkpoint) -> Ordering {
    by_size(&a.model, &b.model).then_with(|| by_step((a.step, &a.revision), (b.step, &b.revision)))
}

/// Indices of all cells by model, step, measure and recipe, the last two as in the manifest.
pub(crate) fn cells(manifest: &Manifest) -> Vec<usize> {
    let mut order: Vec<usize> = (0..manifest.cells.len()).collect();
    let key = |cell: &Cell| (cell.measure, cell.recipe);
    order.sort_by(|&a, &b| {
        let (a, b) = (&manifest.cells[a], &manifest.cells[b]);
        by_checkpoint(manifest.checkpoint(a), manifest.checkpoint(b)).then_with(|| key(a).cmp(&key(b)))
    });
    order
}

/// Those of `names` that are chosen, with neighbours as ranges: `step0, step16 to step512`.
pub(crate) fn ranges(names: &[&str], is_chosen: impl Fn(usize) -> bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut at = 0;
    while at < names.len() {
        let end = (at..names.len()).find(|&i| !is_chosen(i)).unwrap_or(names.len());
        match end - at {
            0 => {}
            1 => parts.push(names[at].to_owned()),
            2 => parts.extend(names[at..end].iter().map(|name| (*name).to_owned())),
            _ => parts.push(format!("{} to {}", names[at], names[end - 1])),
        }
        at = end.max(at) + 1;
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step_of;

    #[test]
    fn small_models_come_first() {
        let mut names =
            ["pythia-1b", "other", "pythia-1.4b-deduped", "pythia-70m", "pythia-160m", "pythia-1.4b", "a-m"];
        names.sort_by(|a, b| by_size(a, b));
        let want = ["pythia-70m", "pythia-160m", "pythia-1b", "pythia-1.4b", "pythia-1.4b-deduped", "a-m", "other"];
        assert_eq!(names, want);
    }

    #[test]
    fn names_in_other_scripts_have_no_size() {
        assert_eq!(parameters("mod\u{e9}le-\u{e9}-\u{1f600}"), f64::INFINITY);
        assert_eq!(parameters("inf-nanm-1e3b-"), f64::INFINITY);
    }

    #[test]
    fn neighbours_are_a_range() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let of = |chosen: &str| ranges(&names, |i| chosen.contains(names[i]));
        for (chosen, want) in
            [("", ""), ("abcdefg", "a to g"), ("a", "a"), ("ab", "a, b"), ("acdeg", "a, c to e, g"), ("bg", "b, g")]
        {
            assert_eq!(of(chosen), want);
        }
    }

    #[test]
    fn steps_of_names() {
        assert_eq!(step_of("step143000"), Some(143_000));
        assert_eq!([step_of("step"), step_of("step+1"), step_of("main"), step_of("step-1")], [None; 4]);
    }
}
