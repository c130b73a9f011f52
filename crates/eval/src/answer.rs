//! What is taken of a generated text, and whether it is a right answer.

use crate::python::strip;
use crate::{Error, Filter, Metric, drop};
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// What a filter gives where it finds nothing.
const NOTHING: &str = "[invalid]";

/// A filter, ready to use.
#[derive(Debug)]
pub(crate) struct Taking {
    pattern: Option<Regex>,
    last: bool,
}

impl Taking {
    /// # Errors
    /// If the pattern is no regular expression.
    pub(crate) fn new(filter: &Filter) -> Result<Self, Error> {
        let Some(extract) = &filter.extract else { return Ok(Self { pattern: None, last: false }) };
        let pattern = Regex::new(&extract.pattern).map_err(|e| {
            let problem = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
            Error::Request(format!("filter {}: {problem}", filter.name))
        })?;
        Ok(Self { pattern: Some(pattern), last: extract.last })
    }

    /// What counts of `text`.
    pub(crate) fn of<'t>(&self, text: &'t str) -> &'t str {
        let Some(pattern) = &self.pattern else { return text };
        let mut matches = pattern.captures_iter(text);
        let found = if self.last { matches.last() } else { matches.next() };
        let Some(found) = found else { return NOTHING };
        if found.len() == 1 {
            return strip(found.get(0).map_or(NOTHING, |whole| whole.as_str()));
        }
        // One group counts even if it is empty; of several, the first that is not.
        let mut groups = found.iter().skip(1).map(|group| group.map_or("", |group| group.as_str()));
        let group = if found.len() == 2 { groups.next() } else { groups.find(|group| !group.is_empty()) };
        strip(group.unwrap_or(NOTHING))
    }
}

/// The value of `metric` for an answer.
pub(crate) fn measure(metric: Metric, answer: &str, right: &[Vec<String>]) -> f64 {
    let any = |is_right: &dyn Fn(&str) -> bool| {
        f64::from(u8::from(right.iter().filter_map(|spans| spans.first()).any(|text| is_right(text))))
    };
    match metric {
        Metric::ExactMatch => any(&|text| text == answer),
        Metric::NumberMatch => {
            let answer = bare(answer);
            any(&|text| bare(text) == answer)
        }
        Metric::Em => drop::em_and_f1(answer, right).0,
        Metric::F1 => drop::em_and_f1(answer, right).1,
        // No task measures anything else of a text.
        _ => f64::NAN,
    }
}

/// An answer of gsm8k without what does not count: commas, dollar signs, all before the last `#### `, a period at the
/// end, and case.
fn bare(text: &str) -> String {
    static IGNORED: LazyLock<[Regex; 4]> = LazyLock::new(|| {
        // `$` of Python also matches before a line end at the end.
        [",", r"\$", "(?s).*#### ", r"\.(?:\z|(\n\z))"].map(|pattern| Regex::new(pattern).expect("a valid pattern"))
    });
    let bare = IGNORED
        .iter()
        .fold(Cow::Borrowed(text), |text, pattern| Cow::Owned(pattern.replace_all(&text, "$1").into_owned()));
    bare.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Extract;

    fn taking(pattern: &str, last: bool) -> Taking {
        let extract = Some(Extract { pattern: pattern.to_owned(), last });
        Taking::new(&Filter { name: "x".to_owned(), extract }).unwrap()
    }

    #[test]
    fn filters_take_the_first_or_the_last_match() {
        let strict = taking(r"#### (\-?[0-9\.\,]+)", false);
        let flexible = taking(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", true);
        let cases = [
            ("so 3 + 4 = 7.\n#### 7", "7", "7"),
            ("#### -1,234.5 or #### 8", "-1,234.5", "8"),
            ("it is $18.00 then", "[invalid]", "$18.00"),
            ("5 apples", "[invalid]", "5"),
            ("none", "[invalid]", "[invalid]"),
            ("", "[invalid]", "[invalid]"),
        ];
        for (text, one, other) in cases {
            assert_eq!((strict.of(text), flexible.of(text)), (one, other), "{text}");
        }
        assert_eq!(taking("b+", false).of("abbc"), "bb", "without groups, the whole match");
        assert_eq!(taking("(x?)b", false).of("ab"), "", "a single group may be empty");
        assert_eq!(taking("(x?)(y?)b", false).of("ab"), NOTHING);
        assert_eq!(Taking::new(&Filter::none()).unwrap().of(" a "), " a ");
        let extract = Some(Extract { pattern: "(".to_owned(), last: false });
        let error = Taking::new(&Filter { name: "mine".to_owned(), extract }).unwrap_err().to_string();
        assert!(error.starts_with("filter mine: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn answers_of_gsm8k_are_compared_without_decoration() {
        let right = [vec!["She has 1,000 + 234 = $1234.\n#### 1,234".to_owned()]];
        for (answer, want) in [("1234", 1.0), ("$1,234.", 1.0), ("1234.\n", 0.0), ("1235", 0.0), ("", 0.0)] {
            assert_eq!(measure(Metric::NumberMatch, answer, &right), want, "{answer}");
        }
        assert_eq!(bare("5.\n"), "5\n");
        assert_eq!(measure(Metric::ExactMatch, "Yes", &[vec!["yes".to_owned()], vec!["Yes".to_owned()]]), 1.0);
        assert_eq!(measure(Metric::ExactMatch, "Yes", &[vec!["yes".to_owned()]]), 0.0);
    }
}
