//! Documents of a task, with the examples before them.
//!
//! Which examples precede a document decides its prompt, so they are drawn as lm-evaluation-harness draws them: one
//! generator per task, seeded with 1234, asked once per document in the order of the split.

use super::Task;
use super::form::Question;
use crate::python::Random;
use crate::{Asks, Doc, Error, Row};

/// The seed of the harness for examples.
const SEED: u32 = 1234;

/// What separates examples.
const BETWEEN: &str = "\n\n";

/// How examples are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampler {
    /// By chance, others for each document.
    Random {
        /// A row equal to the document is no example.
        excludes_document: bool,
    },
    /// The first ones.
    First,
}

/// Rows of a dataset, as they are stored.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Those that are asked.
    pub asked: Vec<Row>,
    /// Those that examples are taken from; `None` if they are the same.
    pub examples: Option<Vec<Row>>,
}

/// Which documents of a split are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// All.
    #[default]
    All,
    /// The first so many.
    First(usize),
    /// Those with these numbers, counted from 0, ascending.
    These(Vec<usize>),
}

impl Task {
    /// The documents of `rows` with `shots` examples before each.
    ///
    /// As in the harness, examples are drawn for the wanted documents only, so a document that is asked for by its number
    /// may have others than in a run over all.
    ///
    /// # Errors
    /// If a row lacks a column or has a wrong one, there are too few rows for the examples, or there is no such document.
    pub fn documents(&self, rows: Rows, shots: usize, which: &Which) -> Result<Vec<Doc>, Error> {
        let n_rows = rows.asked.len();
        if n_rows == 0 {
            return Err(Error::data(&self.name, "the dataset has no rows"));
        }
        let is_wanted = |i: usize| match which {
            Which::All => true,
            Which::First(n) => i < *n,
            Which::These(ids) => ids.binary_search(&i).is_ok(),
        };
        if let Which::These(ids) = which
            && let Some(id) = ids.iter().find(|&&id| id >= n_rows)
        {
            let name = &self.name;
            return Err(Error::Request(format!("{name}: no document {id}, it has {n_rows} (the first is 0)")));
        }
        let examples = (shots > 0).then(|| rows.examples.unwrap_or_else(|| rows.asked.clone()));
        let mut examples = examples.map(|rows| Examples::new(self, rows, shots)).transpose()?;
        let mut documents = Vec::new();
        for (id, row) in rows.asked.into_iter().enumerate().filter(|(id, _)| is_wanted(*id)) {
            let place = format!("{}: row {id}", self.name);
            let row = self.form.prepare(row, &place)?;
            let before = match &mut examples {
                Some(examples) => examples.before(&row)?,
                None => String::new(),
            };
            let question = self.form.question(&row, &place)?;
            let (asks, target) = self.asks(question, &format!("{}{before}", self.form.description()));
            documents.push(Doc { id, row, target, asks });
        }
        Ok(documents)
    }

    /// What `question` asks after the text `before`, and its target.
    fn asks(&self, question: Question, before: &str) -> (Asks, String) {
        let delimiter = self.form.delimiter();
        match question {
            Question::Choices { context, choices, gold } => {
                let context = format!("{before}{context}");
                let pairs = choices.iter().map(|choice| (context.clone(), format!("{delimiter}{choice}"))).collect();
                (Asks::Choices { pairs, choices, gold: gold.indices }, gold.target)
            }
            Question::Contexts { contexts, continuation, gold } => {
                let scored = format!("{delimiter}{continuation}");
                let pairs = contexts.iter().map(|context| (format!("{before}{context}"), scored.clone())).collect();
                (Asks::Choices { pairs, choices: contexts, gold: vec![gold] }, continuation)
            }
            Question::Continuation { context, continuation } => {
                let asks =
                    Asks::LogLikelihood { context: format!("{before}{context}"), continuation: continuation.clone() };
                (asks, continuation)
            }
            // Neither description nor examples: the text is scored alone.
            Question::Text { text, words, bytes } => (Asks::Rolling { text: text.clone(), words, bytes }, text),
            Question::Generate { context, target, answers } => {
                let asks = Asks::Generate {
                    context: format!("{before}{context}"),
                    until: self.form.until(),
                    max_tokens: self.form.max_tokens(),
                    answers,
                };
                (asks, target)
            }
        }
    }
}

/// The rows that examples are taken from, and the generator that takes them.
struct Examples<'t> {
    task: &'t Task,
    rows: Vec<Row>,
    /// The text of each row that was needed before.
    texts: Vec<Option<String>>,
    shots: usize,
    random: Random,
}

impl<'t> Examples<'t> {
    fn new(task: &'t Task, rows: Vec<Row>, shots: usize) -> Result<Self, Error> {
        // Where the document itself is left out, one more is drawn.
        let wanted = shots + usize::from(task.sampler == Sampler::Random { excludes_document: true });
        if rows.len() < wanted {
            let (name, split, found) = (&task.name, &task.dataset.example_split, rows.len());
            let problem = format!("the split {split} has {found} rows, {shots} examples take at least {wanted}");
            return Err(Error::data(name, problem));
        }
        let prepare = |(i, row)| task.form.prepare(row, &place(task, i));
        let rows: Vec<Row> = rows.into_iter().enumerate().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self { task, texts: vec![None; rows.len()], rows, shots, random: Random::new(SEED) })
    }

    /// The examples before `document`.
    fn before(&mut self, document: &Row) -> Result<String, Error> {
        let mut text = String::new();
        for i in self.chosen(document)? {
            if self.texts[i].is_none() {
                self.texts[i] = Some(self.text(i)?);
            }
            text.extend(self.texts[i].as_deref());
        }
        Ok(text)
    }

    fn chosen(&mut self, document: &Row) -> Result<Vec<usize>, Error> {
        let (n, shots) = (self.rows.len(), self.shots);
        match self.task.sampler {
            Sampler::First => Ok((0..shots).collect()),
            Sampler::Random { excludes_document: false } => Ok(self.random.sample(n, shots)),
            Sampler::Random { excludes_document: true } => {
                let mut drawn = self.random.sample(n, shots + 1);
                drawn.retain(|&i| self.rows[i] != *document);
                drawn.truncate(shots);
                if drawn.len() == shots {
                    return Ok(drawn);
                }
                // Several rows equal to the document were drawn: again, from the others only.
                let others: Vec<usize> = (0..n).filter(|&i| self.rows[i] != *document).collect();
                if others.len() < shots {
                    let problem = format!("{} rows are not the document itself, wanted {shots} examples", others.len());
                    return Err(Error::data(&self.task.name, problem));
                }
                Ok(self.random.sample(others.len(), shots).into_iter().map(|i| others[i]).collect())
            }
        }
    }

    /// A row with its answer.
    fn text(&self, i: usize) -> Result<String, Error> {
        let place = place(self.task, i);
        let (context, answer) = match self.task.form.question(&self.rows[i], &place)? {
            Question::Choices { context, mut choices, gold } => match gold.indices.first() {
                Some(&right) if right < choices.len() => {
                    let answer = choices.swap_remove(right);
                    return Ok(format!("{context}{}{answer}{BETWEEN}", self.task.form.delimiter()));
                }
                _ => return Err(Error::data(place, "its answer is none of the choices, so it is no example")),
            },
            Question::Contexts { mut contexts, continuation, gold } => (contexts.swap_remove(gold), continuation),
            Question::Continuation { context, continuation } => (context, continuation),
            Question::Text { text, .. } => (String::new(), text),
            Question::Generate { context, target, .. } => (context, target),
        };
        // A target that is an empty text counts as none.
        if answer.is_empty() {
            return Ok(context);
        }
        Ok(format!("{context}{}{answer}{BETWEEN}", self.task.form.delimiter()))
    }
}

fn place(task: &Task, i: usize) -> String {
    format!("{}, {}: row {i}", task.name, task.dataset.example_split)
}
