//! Texts of datasets made readable, by the rules of lm-evaluation-harness and in their order.

use crate::python::strip;
use regex::{NoExpand, Regex};
use std::sync::LazyLock;

type Pattern = LazyLock<Regex>;

/// Compiles one of the patterns below.
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

/// HellaSwag: without the marks of WikiHow.
pub(crate) fn hellaswag(text: &str) -> String {
    static BRACKETS: Pattern = LazyLock::new(|| pattern(r"\[.*?\]"));
    let text = strip(text).replace(" [title]", ". ");
    BRACKETS.replace_all(&text, NoExpand("")).replace("  ", " ")
}

/// Winograd's schema: punctuation without the spaces of a tokenizer.
pub(crate) fn detokenized(text: &str) -> String {
    static MARKS: Pattern = LazyLock::new(|| pattern(r" (['.,])"));
    let text =
        text.replace(" n't", "n't").replace(" )", ")").replace("( ", "(").replace("\" ", "\"").replace(" \"", "\"");
    MARKS.replace_all(&text, "$1").into_owned()
}

/// WikiText: without the spaces of its tokenizer.
pub(crate) fn wikitext(page: &str) -> String {
    // Python's white space has four characters more than that of the crate.
    const SPACE: &str = r"[\s\x1c-\x1f]*";
    static DIGIT: Pattern = LazyLock::new(|| pattern("/' [0-9]/"));
    static PAIRS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let pair = |open: &str, inner: &str, close: &str| pattern(&format!("{open}{SPACE}({inner}*?){SPACE}{close}"));
        vec![
            (pair(r"\(", r"[^\)]", r"\)"), "($1)"),
            (pair(r"\[", r"[^\]]", r"\]"), "[$1]"),
            (pair(r"\{", r"[^}]", r"\}"), "{$1}"),
            (pair("\"", "[^\"]", "\""), "\"$1\""),
            (pair("'", "[^']", "'"), "'$1'"),
        ]
    });
    let text = page.replace("s '", "s'");
    // The replacement is no pattern, so its brackets are text.
    let mut text = DIGIT.replace_all(&text, NoExpand("/'[0-9]/")).into_owned();
    for (from, to) in [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")] {
        text = text.replace(from, to);
    }
    for mark in [":", ";", ".", "!", "?", ","] {
        text = text.replace(&format!(" {mark} "), &format!("{mark} "));
    }
    for (from, to) in PAIRS.iter() {
        text = from.replace_all(&text, *to).into_owned();
    }
    for (from, to) in [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ] {
        text = text.replace(from, to);
    }
    text
}
