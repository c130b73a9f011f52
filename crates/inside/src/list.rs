//! Lists of layers and positions as users write them.

use crate::Error;
use pythia_model::{Hook, Site};
use pythia_schema::Hparams;
use std::collections::BTreeSet;

/// Numbers below `n`: `0,3-5,last`, or `all`. In ascending order, each once.
///
/// # Errors
/// If `list` is not such a list, or names a number that is not below `n`. The message begins with `name`.
pub fn numbers(list: &str, n: usize, name: &'static str) -> Result<Vec<usize>, Error> {
    let mut numbers = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        numbers.extend(range(part, n).ok_or_else(|| refused(part, n, name, ""))?);
    }
    Ok(numbers.into_iter().collect())
}

/// The residual stream at some depths, in the order of a pass: `embed` for what enters the first block, and numbers of
/// blocks as [`numbers`] has them for what leaves them. `all` is all of these.
///
/// # Errors
/// As [`numbers`].
pub fn stream(list: &str, hparams: &Hparams) -> Result<Vec<Hook>, Error> {
    let (n, mut embed, mut layers) = (hparams.n_layer, false, BTreeSet::new());
    for part in list.split(',').map(str::trim) {
        embed |= matches!(part, "all" | "embed");
        if part != "embed" {
            layers.extend(range(part, n).ok_or_else(|| refused(part, n, "layers", "'embed' or "))?);
        }
    }
    let embed = embed.then_some(Hook { site: Site::Embed, layer: None });
    let blocks = layers.into_iter().map(|layer| Hook { site: Site::ResidPost, layer: Some(layer) });
    Ok(embed.into_iter().chain(blocks).collect())
}

/// Heads of the layers of a model, as pairs of layer and head in ascending order: `3.1` is head 1 of layer 3, `4.*` are
/// all heads of layer 4, `*.0` is the first of every layer, and `all` are all.
///
/// # Errors
/// As [`numbers`].
pub fn heads(list: &str, hparams: &Hparams) -> Result<Vec<(usize, usize)>, Error> {
    let (n_layer, n_head) = (hparams.n_layer, hparams.n_head);
    let any = |part: &str, n: usize| match part {
        "*" => Some(0..n),
        // Not `range`: a dot divides layer and head, and `1-2.3` would be hard to read.
        part => part.parse().ok().filter(|&i: &usize| i < n).map(|i| i..i + 1),
    };
    let of = |part: &str| match part {
        "all" => Some((0..n_layer, 0..n_head)),
        part => part.split_once('.').and_then(|(layer, head)| Some((any(layer, n_layer)?, any(head, n_head)?))),
    };
    let mut heads = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        let Some((layers, of_layer)) = of(part) else {
            let problem = format!(
                "found '{part}', wanted LAYER.HEAD with layers 0 to {} and heads 0 to {}, '*' for any, or 'all'",
                n_layer - 1,
                n_head - 1
            );
            return Err(Error::Setting { name: "heads", problem });
        };
        heads.extend(layers.flat_map(|layer| of_layer.clone().map(move |head| (layer, head))));
    }
    Ok(heads.into_iter().collect())
}

fn range(part: &str, n: usize) -> Option<std::ops::Range<usize>> {
    let number = |text: &str| match text {
        "last" => n.checked_sub(1),
        text => text.parse().ok().filter(|&i: &usize| i < n),
    };
    match part.split_once('-') {
        _ if part == "all" => Some(0..n),
        None => number(part).map(|i| i..i + 1),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..last + 1)
        }
    }
}

fn refused(part: &str, n: usize, name: &'static str, more: &str) -> Error {
    let highest = n.saturating_sub(1);
    let problem = format!(
        "found '{part}', wanted {more}numbers from 0 to {highest}, ranges such as 0-{highest}, 'last' or 'all'"
    );
    Error::Setting { name, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hparams() -> Hparams {
        crate::toy::hparams(4, 3)
    }

    #[test]
    fn numbers_are_sorted_and_each_is_there_once() {
        for (list, wanted) in [
            ("3, 0-1,1", vec![0, 1, 3]),
            ("last", vec![4]),
            ("3-last", vec![3, 4]),
            ("all", vec![0, 1, 2, 3, 4]),
            ("2-2", vec![2]),
        ] {
            assert_eq!(numbers(list, 5, "positions").unwrap(), wanted, "{list}");
        }
        for wrong in ["", "5", "2-1", "-1", "1-", "x", "0,,1", "0..2", "18446744073709551616"] {
            let error = numbers(wrong, 5, "positions").unwrap_err().to_string();
            assert!(error.starts_with("positions: found '") && error.contains("0 to 4"), "{error}");
        }
        assert!(numbers("last", 0, "positions").is_err());
    }

    #[test]
    fn the_stream_begins_before_the_first_block() {
        let names =
            |list: &str| -> Vec<String> { stream(list, &hparams()).unwrap().iter().map(ToString::to_string).collect() };
        assert_eq!(names("all").len(), 5);
        assert_eq!(names("2,embed"), ["hook_embed", "blocks.2.hook_resid_post"]);
        assert_eq!(names("last"), ["blocks.3.hook_resid_post"]);
        assert!(stream("4", &hparams()).unwrap_err().to_string().contains("'embed' or numbers from 0 to 3"));
    }

    #[test]
    fn heads_are_pairs() {
        let of = |list: &str| heads(list, &hparams()).unwrap();
        assert_eq!(of("2.1,0.2,2.1"), [(0, 2), (2, 1)]);
        assert_eq!(of("1.*"), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(of("*.0"), [(0, 0), (1, 0), (2, 0), (3, 0)]);
        assert_eq!((of("all").len(), of("*.*").len()), (12, 12));
        for wrong in ["", "1", "4.0", "0.3", "a.b", "1.2.3", "all.1", "\u{202e}"] {
            let error = heads(wrong, &hparams()).unwrap_err().to_string();
            assert!(error.contains("layers 0 to 3 and heads 0 to 2") && !error.contains('\u{202e}'), "{error}");
        }
    }
}
