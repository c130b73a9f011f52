//! `pythia-run bench --draft`: generation with a draft beside the same text without.

use super::{Args, Format};
use crate::exit::{self, Failure};
use crate::input::{TextOptions, check_gguf};
use crate::progress::{Bar, Unit};
use crate::run::model;
use pythia_compare::bench::{DraftBench, DraftResult};
use pythia_model::Model;
use pythia_runtime::{Arithmetic, Rng, Tokenizer};
use pythia_show::{Align, Table, Width};
use pythia_task::Cancel;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Tokens of a text that is continued.
const PROMPT: usize = 128;

/// A test and what came of it.
struct Row<'a> {
    path: &'a Path,
    threads: usize,
    kv: &'static str,
    n: usize,
    result: DraftResult,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let lengths: Vec<usize> = args.n_gen.iter().copied().filter(|&n| n > 1).collect();
    if lengths.is_empty() || args.repetitions == 0 {
        return Err(Failure::usage("nothing to measure: every -n is 0 or 1, or -r is 0"));
    }
    let cancel = exit::catch_interrupts();
    let settings = args.settings();
    let runs = args.paths().len() * settings.len() * lengths.len() * (args.repetitions + 1);
    let bar = Bar::new(runs as u64, Unit::Items("runs"), false);
    let device = args.device.find()?;
    let mut rows = Vec::new();
    for path in args.paths() {
        for options in &settings {
            let open = |path: &Path| {
                check_gguf(path)?;
                let model = device.open(path, options)?;
                let tokenizer = model::tokenizer(model.gguf(), path)?;
                Ok::<_, Failure>((model, tokenizer))
            };
            let (model, tokenizer) = open(path)?;
            let tokenizer = Arc::new(tokenizer);
            let Some(drafting) = args.draft.open(&tokenizer, open)? else { return Ok(()) };
            let prompt = prompt(args, &model, &tokenizer, cancel)?;
            for &n in &lengths {
                if prompt.len() + n > model.hparams().n_ctx {
                    let (file, n_ctx) = (pythia_text::path(path), model.hparams().n_ctx);
                    return Err(Failure::usage(format_args!(
                        "{file}: {n} tokens after a prompt of {} do not fit the model's context of {n_ctx}",
                        prompt.len()
                    )));
                }
                bar.message(format!("{} tg{n} with and without a draft", path.display()));
                let bench = DraftBench {
                    model: &model,
                    tokenizer: &tokenizer,
                    prompt: &prompt,
                    n,
                    drafting: &drafting,
                    repetitions: args.repetitions,
                    cancel,
                    progress: &bar,
                };
                let (threads, kv) = (model.threads(), Arithmetic::of(model.options()).kv_cache);
                rows.push(Row { path, threads, kv, n, result: bench.run()? });
            }
        }
    }
    bar.finish();
    match args.format() {
        Some(Format::Json) => exit::print_json(&rows.iter().map(to_json).collect::<Vec<_>>()),
        Some(Format::Jsonl) => rows.iter().map(to_json).try_for_each(|row| exit::print_json_line(&row)),
        Some(Format::Csv) => Err(Failure::usage("--draft: -o csv is not there, -o json and jsonl are")),
        Some(Format::Md) => exit::print(&table(&rows).to_markdown()),
        None => {
            let width = Width::of_stdout();
            exit::print(&table(&rows).to_markdown_within(width).with_remark(width, "`-o md` has them"))
        }
    }
}

/// The beginning of the text, or tokens that mean nothing, always the same.
fn prompt(args: &Args, model: &Model, tokenizer: &Tokenizer, cancel: &Cancel) -> Result<Vec<u32>, Failure> {
    let Some(path) = &args.text else {
        let mut rng = Rng::new(1);
        return Ok((0..PROMPT / 4).map(|_| (rng.next_u64() % tokenizer.n_tokens() as u64) as u32).collect());
    };
    let text = TextOptions::default().open(path)?;
    let locate = |error| exit::locate(error, args.paths().first().map_or(Path::new(""), |path| path), &text);
    let mut tokens = text.tokens(tokenizer, cancel).map_err(locate)?;
    tokens.require_below(model.hparams().n_vocab).map_err(locate)?;
    let found = tokens.reach(PROMPT).map_err(locate)?;
    if found == 0 {
        return Err(locate(pythia_runtime::Error::EmptyPrompt));
    }
    Ok(tokens.slice(0..found.min(PROMPT)).to_vec())
}

fn table(rows: &[Row<'_>]) -> Table {
    // What tells two tests apart is not left out.
    let rank_of = |is_same: fn(&Row<'_>, &Row<'_>) -> bool| {
        if rows.windows(2).all(|pair| is_same(&pair[0], &pair[1])) { 2 } else { 0 }
    };
    let mut table = Table::new([
        ("model", Align::Left, 0),
        ("threads", Align::Right, rank_of(|a, b| a.threads == b.threads)),
        ("kv", Align::Left, rank_of(|a, b| a.kv == b.kv)),
        ("test", Align::Left, 0),
        ("plain t/s", Align::Right, 0),
        ("draft t/s", Align::Right, 0),
        ("ratio", Align::Right, 0),
        ("drafted", Align::Right, 1),
        ("accepted", Align::Right, 0),
        ("per draft", Align::Right, 1),
    ]);
    for Row { path, threads, kv, n, result } in rows {
        let stats = &result.stats;
        table.push(vec![
            pythia_text::path(path).to_string(),
            threads.to_string(),
            (*kv).to_owned(),
            format!("tg{n}"),
            format!("{:.2}", result.plain_ts),
            format!("{:.2}", result.drafted_ts),
            format!("{:.2}", result.ratio),
            stats.drafted.to_string(),
            format!("{:.0} %", 100.0 * stats.acceptance()),
            format!("{:.2}", stats.mean_accepted()),
        ]);
    }
    table
}

fn to_json(row: &Row<'_>) -> Value {
    let Row { path, threads, kv, n, result } = row;
    json!({
        "model_filename": path.display().to_string(),
        "n_threads": threads,
        "kv_cache": kv,
        "n_gen": n,
        "plain_ts": result.plain_ts,
        "draft_ts": result.drafted_ts,
        "ratio": result.ratio,
        "draft": result.stats,
    })
}
