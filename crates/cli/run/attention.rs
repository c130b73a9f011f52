//! `pythia-run attention`: what heads attend to. [`pythia_inside::attention`] does the work.

use super::beginning::{self, BeginningArgs};
use super::model::{ModelArgs, Passes, note_changes};
use super::showing::{Format, ShowArgs};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use crate::{input, outputs};
use pythia_inside::attention::{self, Attention, Head, Request, Scores};
use pythia_inside::list;
use pythia_show::number::plain;
use pythia_show::{Align, Column, Table, Width, wrap};
use pythia_text::counted;
use std::path::PathBuf;

/// Show what attention heads attend to
///
/// Scores of each head: entropy of its pattern in nats, and the mean weight that it gives the token before, the first
/// token, earlier copies of the current token, and the token that came after the last of these. No token is added to the
/// text. docs/inside.md has the formulas.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: BeginningArgs,
    /// Random tokens that are repeated once, instead of a text: the usual test for induction heads. --tokens says how many
    /// in all [default: 256, or the model's context if that is less]
    #[arg(long, conflicts_with_all = ["prompt", "file_of_text"])]
    induction: bool,
    /// Which random tokens
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "induction")]
    seed: u64,
    /// Heads: 3.1 is head 1 of layer 3, 4.* are all of layer 4; or all
    #[arg(long, value_name = "LIST", default_value = "all")]
    heads: String,
    /// Write the patterns to FILE, safetensors with f16
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    show: ShowArgs,
}

/// Tokens of a random sequence, if nobody says how many.
const USUAL: usize = 256;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (model, tokenizer, reach) = args.model.open(Passes::Few)?;
    let cancel = exit::catch_interrupts();
    let heads = list::heads(&args.heads, model.hparams())?;
    let inputs = input::files(args.model.inputs(&model).chain(args.text.path()));
    outputs::check([&args.output, &args.show.html], &inputs, args.show.force)?;
    let (ids, name) = if args.induction {
        let n_ctx = model.hparams().n_ctx;
        let n = args.text.limit().unwrap_or(USUAL.min(n_ctx));
        (
            attention::repeated(&tokenizer, n, n_ctx, args.seed)?,
            format!("a random sequence (seed {}), repeated once", args.seed),
        )
    } else {
        let text = args.text.open()?;
        let locate = |e| exit::locate(e, args.model.path(), &text);
        (args.text.ids(&text, &model, &tokenizer, cancel).map_err(locate)?, text.to_string())
    };
    reach.check(ids.len(), "the text")?;
    let request = Request { heads, patterns: args.output.is_some() || args.show.html.is_some() };
    let bar = Bar::new(0, Unit::Items("tokens"), args.show.quiet);
    let attention = attention::attention(&model, &ids, &request, cancel, &bar)
        .map_err(|e| beginning::locate(e, args.model.path()))?;
    bar.finish();
    note_changes(&model);
    if let Some(path) = &args.output {
        args.show.write(path, &attention::safetensors(&attention, &args.model.title(&model))?)?;
    }
    args.show.write_page(|| attention::page(&attention, &tokenizer, &args.model.title(&model), &name))?;
    match args.show.format {
        Format::Table => exit::print(&show(&attention, &name, Width::of_stdout())),
        Format::Jsonl => exit::print(&attention::jsonl(&attention)),
        Format::Csv => exit::print(&attention::csv(&attention)),
    }
}

/// A score with its name.
type Named = (&'static str, fn(&Scores) -> Option<f64>);

const SCORES: [Named; 4] = [
    ("previous", |scores| scores.previous),
    ("first", |scores| scores.first),
    ("duplicate", |scores| scores.duplicate),
    ("induction", |scores| scores.induction),
];

fn show(attention: &Attention, text: &str, width: Width) -> String {
    let columns = [Column::new("head", Align::Left), Column::new("entropy", Align::Right)];
    let columns = columns.into_iter().chain(SCORES.map(|(name, _)| Column::new(name, Align::Right)));
    let mut table = Table::new(columns);
    for head in &attention.heads {
        let scores = SCORES.map(|(_, of)| of(&head.scores).map_or("-".to_owned(), |score| plain(score, 4)));
        let about = [name(head), plain(head.scores.entropy, 4)];
        table.push(about.into_iter().chain(scores).collect());
    }
    let head =
        format!("{} of {text}; {}.", counted(attention.ids.len(), "token"), counted(attention.heads.len(), "head"));
    let highest = SCORES.iter().filter_map(|(name_of_score, of)| {
        let scored = attention.heads.iter().filter_map(|head| Some((head, of(&head.scores)?)));
        let (head, score) = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(format!("{name_of_score} {} ({})", name(head), plain(score, 3)))
    });
    let highest: Vec<String> = highest.collect();
    let highest = if highest.is_empty() { String::new() } else { format!("Highest: {}.", highest.join(", ")) };
    let table = table.to_terminal(width).with_remark(width, "--format jsonl and csv have them");
    format!(
        "{}\n{table}{}",
        wrap(&head, width, ""),
        if highest.is_empty() { highest } else { wrap(&highest, width, "") }
    )
}

fn name(head: &Head) -> String {
    format!("{}.{}", head.layer, head.head)
}
