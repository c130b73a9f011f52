//! `pythia-run eval`: tasks through models. [`pythia_eval`] does the work.

mod journals;
mod output;
mod plot;
mod table;

use super::model::{Passes, RunArgs, describe, tokenizer};
use crate::exit::{self, Failure};
use crate::input::{self, TaskOptions};
use crate::progress::{Bar, Log, Unit};
use clap::Subcommand;
use journals::Journals;
use output::Output;
use pythia_compare::cache::Digests;
use pythia_compare::report::FileDigest;
use pythia_eval::{Facts, GroupResult, Paired, Subject, TaskResult, Work, evaluate, results, sanitize};
use pythia_gguf::FileType;
use pythia_model::{Model, Options};
use pythia_runtime::Tokenizer;
use pythia_schema::parameter_counts;
use pythia_task::{ErrorKind, Progress};
use pythia_text::counted;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Evaluate models on tasks: LAMBADA, PIQA, ARC and others, or your own
///
/// Requests, metrics and standard errors are those of lm-evaluation-harness. With several models, each is compared with
/// the first on the same documents.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Model: a GGUF file, or the first file of a split model. Repeat it to compare models with the first
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<PathBuf>,
    #[command(flatten)]
    how: RunArgs,
    #[command(flatten)]
    tasks: TaskOptions,
    /// Open no connection: use only cached datasets of the Hub (same as HF_HUB_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    /// Write results to DIR/NAME/results_TIME.json, a folder per model, as lm-evaluation-harness does
    #[arg(long, visible_alias = "output-path", alias = "output_path", value_name = "DIR")]
    output: Option<PathBuf>,
    /// Also write every document with its requests and replies: samples_TASK_TIME.jsonl
    #[arg(long, alias = "log_samples", requires = "output")]
    log_samples: bool,
    /// Use what a run that was stopped has computed
    #[arg(long)]
    resume: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plot(plot::Args),
}

/// A model and what was measured of it.
struct Evaluated {
    facts: Facts,
    tasks: Vec<TaskResult>,
    groups: Vec<GroupResult>,
    /// The comparison with the first model, per task.
    paired: Option<Vec<Option<Vec<Paired>>>>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(Command::Plot(args)) = &args.command {
        return plot::run(args);
    }
    if args.tasks.tasks == ["list"] {
        return exit::print(&table::of_tasks());
    }
    let selection = args.tasks.selection()?;
    if args.model.is_empty() {
        return Err(Failure::usage("no model is named, wanted at least one -m MODEL (--help lists all options)"));
    }
    args.model.iter().try_for_each(|path| input::check_gguf(path))?;
    // A file that is broken is found now, not when those before it are done. The weights stay in their files.
    for path in args.model.iter().skip(1) {
        let model = Model::open(path, &Options { threads: 1, ..Options::default() })?;
        tokenizer(model.gguf(), path)?;
    }
    let cancel = exit::catch_interrupts();
    let names = names(&args.model);
    let start = SystemTime::now();
    let outputs = args.output.as_deref().map(|folder| Output::create(folder, &names, start)).transpose()?;
    let works = args.tasks.load(&selection, args.offline, args.quiet)?;
    let log = Log::new(args.quiet);
    let mut journals = Journals::new(args.resume)?;
    let mut digests = Digests::open(journals.folder());
    let mut all: Vec<Evaluated> = Vec::new();
    for (i, (path, name)) in args.model.iter().zip(&names).enumerate() {
        let begun = Instant::now();
        let (model, tokenizer) = args.how.open(path, Passes::Few)?;
        let mut files = Vec::new();
        for path in model.paths() {
            files.push(digests.of(path, cancel)?);
        }
        digests.keep();
        let mut facts = facts(args, &model, &tokenizer, path, name, &files);
        facts.provenance["samples"] = json!(selection.chosen());
        facts.start = start.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let mut subject = Subject::new(model, tokenizer);
        if let Some(reason) = journals.open(&mut subject, &files, &facts.arguments)? {
            exit::note(format_args!("{name}: {reason}; if this run is stopped, it cannot be resumed"));
        }
        let documents = works.iter().map(|work| work.docs.len()).sum();
        log.line(format_args!("{name}: {}, {}", counted(works.len(), "task"), counted(documents, "document")));
        let output = outputs.as_ref().map(|outputs| &outputs[i]);
        let mut tasks = Vec::new();
        let ended = run_tasks(args, &mut subject, &works, output, (name, &log), &mut tasks);
        facts.seconds = begun.elapsed().as_secs_f64();
        let is_complete = ended.is_ok();
        facts.provenance["complete"] = json!(is_complete);
        let groups = selection.groups.iter().filter_map(|group| GroupResult::of(group, &tasks)).collect();
        let paired = all.first().map(|base| compare(base, &tasks));
        let evaluated = Evaluated { facts, tasks, groups, paired };
        let stopped = ended.as_ref().is_err_and(|error| error.code() == ErrorKind::Cancelled.exit_code());
        if is_complete || (stopped && !evaluated.tasks.is_empty()) {
            if let Some(output) = output {
                output.write_results(&evaluated.to_json(&all))?;
            }
            all.push(evaluated);
        }
        if is_complete {
            journals.done(&subject);
        }
        if let Err(failure) = ended {
            return Err(if stopped { interrupted(args, &all, journals.is_kept())? } else { failure });
        }
    }
    journals.forget();
    show(args, &all)?;
    Ok(())
}

/// Evaluates all tasks and appends their results to `done`.
fn run_tasks(
    args: &Args,
    subject: &mut Subject,
    works: &[Work],
    output: Option<&Output>,
    (name, log): (&str, &Log),
    done: &mut Vec<TaskResult>,
) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    let total: u64 = works.iter().map(Work::size).sum();
    let watch = Watch { bar: Bar::new(total, Unit::Share, args.quiet), name, log, done: AtomicU64::new(0), total };
    for work in works {
        let mut samples =
            output.filter(|_| args.log_samples).map(|output| output.samples(&work.task.name)).transpose()?;
        let result = evaluate(subject, work, cancel, &watch, &mut |sample| {
            samples.as_mut().map_or(Ok(()), |samples| samples.push(&sample.to_json()))
        });
        let result = result.map_err(|error| locate(error, subject))?;
        if let Some(samples) = samples {
            samples.finish()?;
        }
        let values = result.measured.iter().map(|measured| format!("{} {:.4}", measured.metric.name(), measured.value));
        log.line(format_args!("{name}: {}: {}", result.task.name, values.collect::<Vec<_>>().join(", ")));
        done.push(result);
    }
    Ok(())
}

/// With the name of the model, if it is at fault.
fn locate(error: pythia_eval::Error, subject: &Subject) -> Failure {
    match error {
        pythia_eval::Error::Run(error) => {
            let path = subject.model().paths().first().cloned().unwrap_or_default();
            exit::locate(error, &path, "a request")
        }
        error => error.into(),
    }
}

/// The progress of a model, over all tasks.
struct Watch<'w> {
    bar: Bar,
    name: &'w str,
    log: &'w Log,
    done: AtomicU64,
    total: u64,
}

impl Progress for Watch<'_> {
    fn advance(&self, task: &str, units: i64) {
        self.bar.message(format_args!("{}: {task}", self.name));
        let units = u64::try_from(units).unwrap_or(0);
        self.bar.advance(units);
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        self.log.tick(|| format!("{}: {task}: {} % of all tasks", self.name, 100 * done / self.total.max(1)));
    }

    fn note(&self, line: &str) {
        Progress::note(&self.bar, line);
    }
}

fn compare(base: &Evaluated, tasks: &[TaskResult]) -> Vec<Option<Vec<Paired>>> {
    tasks.iter().zip(&base.tasks).map(|(task, base)| task.paired(base)).collect()
}

impl Evaluated {
    /// As a results file. `others` begin with the base, if this is not it.
    fn to_json(&self, others: &[Self]) -> Value {
        let base = others.first().map_or("", |base| base.facts.name.as_str());
        results(&self.facts, &self.tasks, &self.groups, self.paired.as_ref().map(|paired| (base, &paired[..])))
    }
}

fn show(args: &Args, all: &[Evaluated]) -> Result<(), Failure> {
    if args.json {
        let models: Vec<Value> = all.iter().enumerate().map(|(i, model)| model.to_json(&all[..i])).collect();
        exit::print_json(&json!({ "models": models }))
    } else {
        exit::print(&table::of_results(all))
    }
}

/// Shows what is finished. The error says how to go on.
fn interrupted(args: &Args, all: &[Evaluated], is_kept: bool) -> Result<Failure, Failure> {
    if !all.is_empty() {
        show(args, all)?;
    }
    Ok(Failure::interrupted_with(match (all.is_empty(), is_kept) {
        (true, true) => "interrupted; --resume goes on where this run was",
        (false, true) => "interrupted, so tasks are missing; --resume goes on where this run was",
        (_, false) => "interrupted",
    }))
}

/// Names of models: those of their files, with numbers where two would be alike.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = file.strip_suffix(".gguf").unwrap_or(&file).to_owned();
        let is_new = |name: &String| !names.iter().any(|known| sanitize(known) == sanitize(name));
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(is_new);
        names.extend(name);
    }
    names
}

fn facts(args: &Args, model: &Model, tokenizer: &Tokenizer, path: &Path, name: &str, files: &[FileDigest]) -> Facts {
    let arguments = match describe(model, path) {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    };
    let token = |id: Option<u32>| id.map(|id| (id, tokenizer.decode(&[id], false)));
    let level = FileType::of(&model.gguf().metadata);
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    Facts {
        source: super::PROGRAM.to_owned(),
        name: name.to_owned(),
        sanitized: sanitize(name),
        n_params: parameter_counts(model.hparams()).0,
        device: model.device().to_owned(),
        limit: args.tasks.n_documents(),
        n_ctx: model.hparams().n_ctx,
        eos: token(tokenizer.eos()),
        bos: token(tokenizer.bos()),
        start: 0.0,
        seconds: 0.0,
        provenance: json!({
            "program": format!("{} {}", super::PROGRAM, env!("CARGO_PKG_VERSION")),
            "command": std::iter::once(super::PROGRAM.to_owned()).chain(words).collect::<Vec<_>>(),
            "files": files,
            "level": level.map(FileType::name),
            "arithmetic": arguments,
            "data": args.tasks.data.as_deref().map(|path| path.display().to_string()),
        }),
        arguments,
    }
}
