//! Exact match and F1 of DROP (Dua et al. 2019, <https://arxiv.org/abs/1903.00161>): answers are sets of spans,
//! compared as bags of normalised words, spans aligned so that they agree best.

use crate::python::{float, parse_float, words};
use std::collections::BTreeSet;

/// Exact match and F1 of `answer`, the best over all right answers. A right answer that begins with an empty span does
/// not count.
pub(crate) fn em_and_f1(answer: &str, right: &[Vec<String>]) -> (f64, f64) {
    let answer = Span::new(answer);
    let scores = right.iter().filter(|spans| spans.first().is_some_and(|first| !words_are_none(first)));
    scores.fold((0.0, 0.0), |(em, f1), spans| {
        let spans: Vec<Span> = spans.iter().map(|span| Span::new(span)).collect();
        (exact(&answer, &spans).max(em), f1_of(&answer, &spans).max(f1))
    })
}

fn words_are_none(text: &str) -> bool {
    words(text).next().is_none()
}

/// A span after normalisation.
struct Span {
    text: String,
    bag: BTreeSet<String>,
}

impl Span {
    fn new(raw: &str) -> Self {
        let pieces = raw.split([' ', '-']).map(normalised).filter(|piece| !piece.is_empty());
        let text = pieces.collect::<Vec<_>>().join(" ");
        let bag = words(&text).map(str::to_owned).collect();
        Self { text, bag }
    }
}

/// A word in small letters, without punctuation and articles; a number as Python writes a float.
fn normalised(piece: &str) -> String {
    let small = piece.to_lowercase();
    let plain = match parse_float(&small) {
        Some(_) => small,
        None => small.chars().filter(|c| !c.is_ascii_punctuation()).collect(),
    };
    let plain = parse_float(&plain).map_or(plain, float);
    let without = without_articles(&plain);
    words(&without).collect::<Vec<_>>().join(" ")
}

/// Each article that is a whole word becomes a space.
fn without_articles(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if ["a", "an", "the"].contains(&word) { " " } else { word });
        let gap = after.find(is_word).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out
}

fn exact(answer: &Span, right: &[Span]) -> f64 {
    // As sets of equal size: with one answer, all right spans would have to be equal, and be one.
    f64::from(u8::from(right.len() == 1 && right[0].text == answer.text))
}

/// The mean F1 over the longer list of spans, to two decimals. There is one answer, so the best alignment pairs it with
/// the span that it agrees with best.
fn f1_of(answer: &Span, right: &[Span]) -> f64 {
    let best = right.iter().filter(|span| numbers_agree(&span.bag, &answer.bag)).map(|span| f1(&answer.bag, &span.bag));
    let mean = best.fold(0.0, f64::max) / right.len() as f64;
    (mean * 100.0).round_ties_even() / 100.0
}

fn f1(answer: &BTreeSet<String>, right: &BTreeSet<String>) -> f64 {
    let common = right.intersection(answer).count() as f64;
    let share = |of: usize| if of == 0 { 1.0 } else { common / of as f64 };
    let (precision, recall) = (share(answer.len()), share(right.len()));
    if precision == 0.0 && recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// If the right span has numbers, the answer must have one of them.
fn numbers_agree(right: &BTreeSet<String>, answer: &BTreeSet<String>) -> bool {
    let mut numbers = right.iter().filter(|word| parse_float(word).is_some()).peekable();
    numbers.peek().is_none() || numbers.any(|word| answer.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_case_articles_and_punctuation() {
        let bags = |text| Span::new(text).text;
        assert_eq!(bags("The Broncos' 23-yard  run, a touchdown!"), "broncos 23.0 yard run touchdown");
        assert_eq!(bags("1,200 the-an"), "1200.0");
        assert_eq!(bags("theatre a.b"), "theatre ab");
        assert_eq!(bags("3.50%"), "350.0");
        assert_eq!(bags("-"), "");
    }

    /// Values of `tasks/drop/utils.py` of lm-evaluation-harness 0.4.13.
    #[test]
    fn values_are_those_of_the_harness() {
        let cases: &[(&str, &[&[&str]], f64, f64)] = &[
            (" 23", &[&["23"]], 1.0, 1.0),
            (" 23 yards", &[&["23"], &["23 yards"]], 1.0, 1.0),
            (" The Denver Broncos", &[&["Broncos"]], 0.0, 0.67),
            (" 24", &[&["23 yards"]], 0.0, 0.0),
            (" 23 miles", &[&["23 yards"]], 0.0, 0.5),
            (" Smith and Jones", &[&["Smith", "Jones"]], 0.0, 0.25),
            (" Smith", &[&["Smith", "Jones", "Brown"]], 0.0, 0.33),
            ("", &[&["a"]], 1.0, 1.0),
            ("the", &[&["a"]], 1.0, 1.0),
            ("x", &[&[""], &["y"]], 0.0, 0.0),
            (" 12 May 1990", &[&["12 May 1990"]], 1.0, 1.0),
            (" May 1990", &[&["12 May 1990"]], 0.0, 0.8),
            (" 1,200", &[&["1200"]], 1.0, 1.0),
            (" seven-year war", &[&["Seven Years War"]], 0.0, 0.67),
        ];
        for (answer, right, em, f1) in cases {
            let right: Vec<Vec<String>> =
                right.iter().map(|spans| spans.iter().map(|span| span.to_string()).collect()).collect();
            assert_eq!(em_and_f1(answer, &right), (*em, *f1), "{answer}");
        }
    }
}
