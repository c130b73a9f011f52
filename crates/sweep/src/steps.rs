//! Which revisions of a model a sweep has: `all`, `log`, `0..143000`, `0..10000:1000`, `step512`, `main`.

use crate::Error;
use std::collections::BTreeSet;
use std::str::FromStr;

/// A selection of revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<Item>);

/// A part of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Every step there is.
    All,
    /// Step 0, powers of two, 1000 times powers of two, and the last.
    Log,
    /// The steps from one to another that are a multiple of a third.
    Range { from: u64, to: u64, every: u64 },
    /// A step.
    Step(u64),
    /// Another branch, tag or commit.
    Named(String),
}

/// The step that a revision is called after: N of `stepN`, written without leading zeros.
pub fn step_of(revision: &str) -> Option<u64> {
    let digits = revision.strip_prefix("step")?;
    let step: u64 = digits.parse().ok()?;
    (step.to_string() == digits).then_some(step)
}

impl Steps {
    /// The revisions of this selection, where `there` are the steps of a model: steps in their order, then others as
    /// named. A step that is named itself and is not there is among them.
    pub fn revisions(&self, there: &BTreeSet<u64>) -> Vec<String> {
        let mut steps = BTreeSet::new();
        let mut others: Vec<String> = Vec::new();
        for item in &self.0 {
            match item {
                Item::All => steps.extend(there),
                Item::Log => steps.extend(there.iter().filter(|&&step| is_log(step))),
                Item::Range { from, to, every } => {
                    steps.extend(there.range(from..=to).filter(|step| step.is_multiple_of(*every)));
                }
                Item::Step(step) => _ = steps.insert(*step),
                Item::Named(name) if !others.contains(name) => others.push(name.clone()),
                Item::Named(_) => {}
            }
            if *item == Item::Log {
                steps.extend(there.last());
            }
        }
        steps.into_iter().map(|step| format!("step{step}")).chain(others).collect()
    }

    /// Whether these are all steps, and nothing else.
    pub fn is_all(&self) -> bool {
        self.0 == [Item::All]
    }

    /// The revisions, if they do not depend on which steps a model has.
    pub fn fixed(&self) -> Option<Vec<String>> {
        let is_fixed = self.0.iter().all(|item| matches!(item, Item::Step(_) | Item::Named(_)));
        is_fixed.then(|| self.revisions(&BTreeSet::new()))
    }
}

fn is_log(step: u64) -> bool {
    let is_power = |n: u64| n == 0 || n.is_power_of_two();
    is_power(step) || (step.is_multiple_of(1000) && is_power(step / 1000))
}

impl FromStr for Steps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split(',').map(str::trim).map(item).collect::<Result<_, _>>().map(Self)
    }
}

fn item(text: &str) -> Result<Item, Error> {
    let wrong = || {
        let found = pythia_text::quoted(text, '\'', 40);
        let wanted = "wanted all, log, step512, a range such as 0..143000 or 0..10000:1000, or the name of a branch";
        Error::Request(format!("--steps: found {found}, {wanted}"))
    };
    let number = |text: &str| text.strip_prefix("step").unwrap_or(text).parse::<u64>().ok();
    if let Some((from, rest)) = text.split_once("..") {
        let (to, every) = rest.split_once(':').unwrap_or((rest, "1"));
        let to = to.strip_prefix('=').unwrap_or(to);
        let (from, to, every) = (number(from), number(to), every.parse().ok().filter(|&every| every > 0));
        return match (from, to, every) {
            (Some(from), Some(to), Some(every)) if from <= to => Ok(Item::Range { from, to, every }),
            _ => Err(wrong()),
        };
    }
    match text {
        "" => Err(wrong()),
        "all" => Ok(Item::All),
        "log" => Ok(Item::Log),
        _ => match number(text) {
            Some(step) => Ok(Item::Step(step)),
            // An interrupted range, or an option without its value.
            None if text.starts_with(['-', '.', ':']) => Err(wrong()),
            None => Ok(Item::Named(text.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(text: &str) -> Vec<String> {
        let there = [0, 1, 2, 4, 8, 512, 1000, 1250, 2000, 3000, 143_000].into();
        text.parse::<Steps>().unwrap().revisions(&there)
    }

    #[test]
    fn steps_are_selected_from_those_that_are_there() {
        let steps = |text: &str| revisions(text).iter().map(|name| step_of(name).unwrap()).collect::<Vec<_>>();
        assert_eq!(steps("all"), [0, 1, 2, 4, 8, 512, 1000, 1250, 2000, 3000, 143_000]);
        assert_eq!(steps("log"), [0, 1, 2, 4, 8, 512, 1000, 2000, 143_000]);
        assert_eq!(steps("step0..step143000:1000"), [0, 1000, 2000, 3000, 143_000]);
        assert_eq!(steps("1..=8"), [1, 2, 4, 8]);
        assert_eq!(steps("3,step1, 1,2..4"), [1, 2, 3, 4]);
        assert_eq!(revisions("main,step2,main"), ["step2", "main"]);
        assert_eq!("7,main".parse::<Steps>().unwrap().fixed().unwrap(), ["step7", "main"]);
        assert_eq!("log".parse::<Steps>().unwrap().fixed(), None);
    }

    #[test]
    fn other_selections_are_refused() {
        for text in ["", "1,,2", "5..1", "1..", "..2", "1..9:0", "1..9:x", "--all", "a..b"] {
            let error = text.parse::<Steps>().unwrap_err().to_string();
            assert!(error.contains("--steps") && error.contains("wanted all, log"), "{text}: {error}");
        }
    }
}
