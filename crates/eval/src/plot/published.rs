//! Published accuracies to compare with (`published.tsv` states their origin).

use super::TASKS;
use pythia_runtime::eval::Estimate;

const FILE: &str = include_str!("published.tsv");

/// The last training step of every Pythia model.
pub(super) const LAST_STEP: u64 = 143_000;

/// Models of one kind in several sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    Pythia,
    Deduped,
    Opt,
    Bloom,
}

impl Suite {
    pub(super) const ALL: [Self; 4] = [Self::Pythia, Self::Deduped, Self::Opt, Self::Bloom];

    /// Its name in the file.
    fn key(self) -> &'static str {
        match self {
            Self::Pythia => "pythia",
            Self::Deduped => "deduped",
            Self::Opt => "opt",
            Self::Bloom => "bloom",
        }
    }

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pythia => "Pythia",
            Self::Deduped => "Pythia deduped",
            Self::Opt => "OPT",
            Self::Bloom => "BLOOM",
        }
    }
}

/// A model on a task.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) suite: Suite,
    /// `pythia-70m-deduped`.
    pub(super) model: &'static str,
    /// With all embeddings.
    pub(super) parameters: f64,
    pub(super) task: &'static str,
    /// By training step, in order. OPT and BLOOM have one, at the last step of Pythia.
    pub(super) accuracies: Vec<(u64, Estimate)>,
}

impl Row {
    /// After training.
    pub(super) fn last(&self) -> Estimate {
        self.accuracies[self.accuracies.len() - 1].1
    }

    /// Its size as the name has it: `70m`.
    pub(super) fn size(&self) -> &'static str {
        self.model.split('-').nth(1).unwrap_or(self.model)
    }

    /// At this step, if it is published.
    pub(super) fn at(&self, step: u64) -> Option<Estimate> {
        self.accuracies.iter().find(|(at, _)| *at == step).map(|(_, accuracy)| *accuracy)
    }
}

/// The sizes of Pythia as names have them, with their parameters.
pub(super) fn sizes() -> impl Iterator<Item = (&'static str, f64)> {
    let of_pythia = rows().into_iter().filter(|row| row.suite == Suite::Pythia && row.task == TASKS[0].0);
    of_pythia.map(|row| (row.size(), row.parameters))
}

/// Every row of the file, in its order: by suite, by size, by task.
pub(super) fn rows() -> Vec<Row> {
    let (mut documents, mut steps) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for line in FILE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&'static str> = line.split('\t').collect();
        match fields[0] {
            "tasks" => documents = fields[1..].iter().filter_map(|field| field.split_once('=')).collect(),
            "steps" => steps = fields[1..].iter().map(|field| number::<u64>(field)).collect(),
            suite => {
                let suite = Suite::ALL.into_iter().find(|known| known.key() == suite).expect("a suite of the file");
                let task = fields[3];
                let n = documents.iter().find(|(name, _)| *name == task).map(|(_, n)| number(n));
                let n = n.expect("a task of the file");
                let accuracies = fields[4..].iter().map(|right| Estimate::share(number(right), n));
                let of_steps: &[u64] = if fields.len() == 5 { &[LAST_STEP] } else { &steps };
                let accuracies = of_steps.iter().copied().zip(accuracies).collect();
                rows.push(Row { suite, model: fields[1], parameters: number(fields[2]), task, accuracies });
            }
        }
    }
    rows
}

/// A number of the file, which is part of this program.
fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a number of the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values as the origin's files print them.
    #[test]
    fn accuracies_are_the_published_ones() {
        let rows = rows();
        for (model, task, step, value) in [
            ("pythia-70m", "lambada_openai", LAST_STEP, 0.1846),
            ("pythia-12b-deduped", "arc_easy", LAST_STEP, 0.7079),
            ("pythia-1.4b", "piqa", 3000, 0.614255),
            ("pythia-410m", "lambada_openai", 33000, 0.441),
            ("opt-66b", "piqa", LAST_STEP, 0.787813),
            ("bloom-1b1", "arc_easy", LAST_STEP, 0.514731),
        ] {
            let row = rows.iter().find(|row| row.model == model && row.task == task).unwrap();
            let found = row.at(step).unwrap().value;
            assert!((found - value).abs() < 5e-4, "{model} {task} {step}: {found}");
        }
        let se = rows.iter().find(|row| row.model == "bloom-1b1" && row.task == "arc_easy").unwrap().last().se;
        assert!((se - 0.01026).abs() < 5e-6, "{se}");
    }

    #[test]
    fn every_model_has_every_task() {
        let rows = rows();
        for (task, ..) in TASKS {
            let of = |suite| rows.iter().filter(|row| row.task == task && row.suite == suite).count();
            assert_eq!(Suite::ALL.map(of), [8, 8, 8, 5], "{task}");
        }
        for row in &rows {
            let n = if matches!(row.suite, Suite::Pythia | Suite::Deduped) { 26 } else { 1 };
            assert_eq!(row.accuracies.len(), n, "{} {}", row.model, row.task);
        }
    }
}
