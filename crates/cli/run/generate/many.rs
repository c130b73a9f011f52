//! Several texts side by side: samples of a prompt, or the prompts of a file.

use super::{Args, MAX_PROMPT_BYTES};
use crate::exit::{self, Failure};
use crate::input::TextOptions;
use crate::run::drafting;
use crate::run::model::note_changes;
use pythia_inside::Reach;
use pythia_model::Model;
use pythia_runtime::draft::DraftStats;
use pythia_runtime::score::{Settings, generate_all};
use pythia_runtime::{Error, Finish, GenerateOptions, Generator, Tokenizer, ids_of_json, prompt};
use pythia_task::Cancel;
use pythia_text::counted;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A file of prompts may be this long.
const MAX_BYTES: usize = 256 << 20;

/// So many texts may be asked for. All are known before the first is begun, so each takes memory.
const MAX_TEXTS: usize = 1 << 20;

/// Texts side by side, unless there is a number.
pub(super) const PARALLEL: u64 = 64;

/// A prompt, and the line of the file that it is of, from 1; `None` for that of the command line.
#[derive(Clone)]
struct Prompt {
    line: Option<usize>,
    ids: Arc<[u32]>,
}

/// A text that is asked for.
struct Asked {
    prompt: Prompt,
    seed: u64,
}

/// Generates all texts and prints them in the order in which they were asked for, each as soon as those before it are
/// there.
pub(super) fn run(
    args: &Args,
    model: &Arc<Model>,
    tokenizer: Tokenizer,
    reach: &Reach,
    options: &GenerateOptions,
    cancel: &Cancel,
) -> Result<(), Failure> {
    let source = match &args.jsonl {
        Some(path) => TextOptions::of_records().open(path)?,
        None => args.text.open()?,
    };
    let (n_ctx, locate) = (super::limit(args, model)?, |e| exit::locate(e, args.model.path(), &source));
    let text = source.reader()?.read_all(if args.jsonl.is_some() { MAX_BYTES } else { MAX_PROMPT_BYTES });
    let text = text.map_err(locate)?;
    let prompts = match &args.jsonl {
        Some(path) => lines(args, path, &text, model, &tokenizer, n_ctx)?,
        None => vec![Prompt { line: None, ids: prompt(&tokenizer, &text).map_err(locate)?.into() }],
    };
    let n_texts = prompts.len().saturating_mul(args.samples as usize);
    if n_texts > MAX_TEXTS {
        return Err(Failure::usage(format_args!("-N: found {n_texts} texts, wanted at most {MAX_TEXTS}")));
    }
    // Not of what is generated, as for a single prompt.
    if let Some(shortest) = prompts.iter().map(|prompt| prompt.ids.len()).min() {
        reach.check(shortest, if args.jsonl.is_some() { "the shortest prompt" } else { "the prompt" })?;
    }
    let n_samples = args.samples as u64;
    let asked = prompts.into_iter().flat_map(|prompt| {
        let seed = options.sampling.seed;
        (0..n_samples).map(move |i| Asked { prompt: prompt.clone(), seed: seed.wrapping_add(i) })
    });
    let asked: Vec<Asked> = asked.collect();
    let one = |asked: &Asked| {
        let mut options = options.clone();
        options.sampling.seed = asked.seed;
        (asked.prompt.ids.clone(), options)
    };
    let texts: Vec<(Arc<[u32]>, GenerateOptions)> = asked.iter().map(one).collect();
    let start = Instant::now();
    let mut printer = Printer::new(args, &asked);
    let settings = Settings { memory: None, parallel: args.parallel.unwrap_or(PARALLEL) as usize, n_ctx, cancel };
    let result = generate_all(model, &Arc::new(tokenizer), &texts, &settings, &mut |index, generator| {
        printer.done(index, generator);
        if printer.failure.is_some() || exit::is_unread() {
            // Nobody reads the rest.
            cancel.raise();
        }
    });
    if let Some(failure) = printer.failure {
        return Err(failure);
    }
    match result {
        Err(Error::Cancelled) => return exit::stopped(),
        result => result.map_err(locate)?,
    }
    if !args.quiet && !exit::is_unread() {
        note_changes(model);
        let (seconds, tokens) = (start.elapsed().as_secs_f64(), printer.tokens);
        let rate = tokens as f64 / seconds.max(1e-9);
        exit::note(format_args!(
            "{}: {tokens} tokens in {seconds:.3} s, {rate:.1} tokens/s with the prompts",
            counted(asked.len(), "text")
        ));
        if options.draft.is_some() {
            exit::note(drafting::in_words(&printer.drafts));
        }
    }
    Ok(())
}

/// The prompts of a file with a JSON object per line, and the numbers of their lines. Blank lines mean nothing.
fn lines(
    args: &Args,
    path: &Path,
    text: &str,
    model: &Model,
    tokenizer: &Tokenizer,
    n_ctx: usize,
) -> Result<Vec<Prompt>, Failure> {
    let n_vocab = model.hparams().n_vocab;
    let field = args.field.as_deref().unwrap_or("prompt");
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |problem| Failure::data(format_args!("{}: line {number}: {problem}", pythia_text::path(path)));
        let ids = ids_of_json(line, field, |text| prompt(tokenizer, text)).map_err(wrong)?;
        if ids.is_empty() {
            return Err(wrong("found no token ids in the list, wanted at least one".to_owned()));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= n_vocab) {
            return Err(wrong(format!("found token id {id}, wanted one below {n_vocab}, the model's vocabulary")));
        }
        if ids.len() > n_ctx {
            return Err(wrong(format!("found {} tokens, wanted at most the context's {n_ctx}", ids.len())));
        }
        prompts.push(Prompt { line: Some(number), ids: ids.into() });
    }
    Ok(prompts)
}

/// Prints texts in the order in which they were asked for, each as soon as those before it are there.
struct Printer<'a> {
    args: &'a Args,
    asked: &'a [Asked],
    /// What is printed of each text that is done.
    ready: Vec<Option<String>>,
    /// The first text that is not printed.
    next: usize,
    tokens: usize,
    drafts: DraftStats,
    failure: Option<Failure>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args, asked: &'a [Asked]) -> Self {
        let ready = vec![None; asked.len()];
        Self { args, asked, ready, next: 0, tokens: 0, drafts: DraftStats::default(), failure: None }
    }

    fn done(&mut self, index: usize, generator: &Generator) {
        self.tokens += generator.ids().len();
        self.drafts += generator.draft_stats();
        let asked = &self.asked[index];
        self.ready[index] = Some(match self.args.json || self.args.jsonl.is_some() {
            true => pythia_text::json(&record(asked, generator).to_string()) + "\n",
            false => self.prose(index, generator.text()),
        });
        while let Some(text) = self.ready.get_mut(self.next).and_then(Option::take) {
            self.next += 1;
            if self.failure.is_none() {
                self.failure = exit::print_prose(&text).err();
            }
        }
    }

    /// A text under a line with its seed.
    fn prose(&self, index: usize, text: &str) -> String {
        let (n, seed) = (index + 1, self.asked[index].seed);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        format!("--- sample {n}, seed {seed} ---\n{text}{end}")
    }
}

fn record(asked: &Asked, generator: &Generator) -> Value {
    let finish = generator.finish();
    let stop = match finish {
        Some(Finish::Stop(stop)) => Some(stop),
        _ => None,
    };
    json!({
        "line": asked.prompt.line,
        "seed": asked.seed,
        "prompt_tokens": asked.prompt.ids.len(),
        "ids": generator.ids(),
        "text": generator.text(),
        "finish": finish.map(Finish::name),
        "stop": stop,
    })
}
