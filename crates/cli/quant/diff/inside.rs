//! `diff --activations`: what two files make of a text. [`pythia_inside::damage`] does the work.

use super::{Args, DIFFERENT};
use crate::exit::{self, Failure};
use crate::input::{self, TextOptions};
use crate::outputs;
use crate::progress::{Bar, Unit};
use pythia_inside::damage::{self, Block, Damage, Request, Side};
use pythia_model::{Activations, Model, Options, Site};
use pythia_runtime::{Arithmetic, Tokenizer, parse_activations};
use pythia_show::number::{plain, significant};
use pythia_show::{Align, Column, Table, Width, wrap};
use pythia_task::Cancel;
use pythia_text::counted;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Options of the comparison by activations.
#[derive(Debug, clap::Args)]
pub(super) struct InsideArgs {
    /// Run both files over a text, A as the base, and compare the values at every hook
    #[arg(long, requires = "text")]
    activations: bool,
    /// Text for --activations, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", id = "text", value_name = "TEXT", requires = "activations")]
    text: Option<PathBuf>,
    #[command(flatten)]
    text_options: TextOptions,
    /// Run only the first N chunks of the text
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    chunks: u64,
    /// Tokens per chunk; 0 for the model's context length [default: 512, or the model's if that is less]
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N")]
    n_ctx: Option<usize>,
    /// The logit lens reads every Nth position: with 1 it takes longer than all else
    #[arg(long, value_name = "N", default_value_t = 8)]
    lens_every: usize,
    /// How both run: int8 rounds what enters products with quantized weights, f32 leaves only the error of the weights
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    arithmetic: Activations,
    /// Write the table of all hooks to FILE
    #[arg(long, value_name = "FILE", requires = "activations")]
    csv: Option<PathBuf>,
    /// Write a page with the plot to FILE
    #[arg(long, value_name = "FILE", requires = "activations")]
    html: Option<PathBuf>,
    /// Replace existing files of --csv and --html
    #[arg(long)]
    force: bool,
}

impl InsideArgs {
    /// Whether activations are to be compared.
    pub(super) fn is_wanted(&self) -> bool {
        self.activations
    }
}

pub(super) fn run(args: &Args, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let inside = &args.inside;
    let path = inside.text.as_deref().unwrap_or(Path::new("-"));
    let text = inside.text_options.open(path)?;
    let (base, level) = (open(args, &args.a)?, open(args, &args.b)?);
    let files = [&base.0, &level.0].into_iter().flat_map(|model| model.paths()).map(PathBuf::as_path);
    outputs::check([&inside.csv, &inside.html], &input::files(files.chain([path])), inside.force)?;
    let n_ctx = base.0.hparams().n_ctx;
    let request = Request {
        window: inside.n_ctx.map_or(n_ctx.min(512), |n| if n == 0 { n_ctx } else { n }),
        max_windows: usize::try_from(inside.chunks).unwrap_or(usize::MAX),
        lens_stride: inside.lens_every,
    };
    let bar = Bar::new(0, Unit::Items("tokens"), args.quiet);
    let mut tokens = text.tokens(&base.1, cancel)?;
    let [a, b] = [&base, &level].map(|(model, tokenizer)| Side { model, tokenizer });
    let damage =
        damage::damage(a, b, &mut tokens, &request, cancel, &bar).map_err(|error| located(error, args, &text))?;
    bar.finish();
    if let Some(path) = &inside.csv {
        outputs::write(path, damage::csv(&damage).as_bytes(), inside.force, args.quiet)?;
    }
    if let Some(path) = &inside.html {
        let page = damage::page(&damage, &outputs::name(&args.a), &outputs::name(&args.b), &text.to_string());
        outputs::write(path, page.as_bytes(), inside.force, args.quiet)?;
    }
    if args.json {
        let mut value = damage::json(&damage);
        if let Some(object) = value.as_object_mut() {
            object.insert("base".to_owned(), json!(args.a.display().to_string()));
            object.insert("level".to_owned(), json!(args.b.display().to_string()));
            object.insert("text".to_owned(), json!(text.to_string()));
            object.insert("chunk_tokens".to_owned(), json!(request.window));
            object.insert("arithmetic".to_owned(), json!(Arithmetic::of(level.0.options())));
        }
        exit::print_json(&value)?;
    } else if !args.quiet {
        exit::print(&show(&damage, &text.to_string(), Width::of_stdout()))?;
    }
    Ok(if damage.is_none() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn open(args: &Args, path: &Path) -> Result<(Arc<Model>, Tokenizer), Failure> {
    let options = Options { threads: args.threads, activations: args.inside.arithmetic, ..Options::default() };
    let model = Model::open(path, &options)?;
    let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata)
        .map_err(|e| Failure::data(format_args!("{}: {e}", pythia_text::path(path))))?;
    Ok((model, tokenizer))
}

/// The error with the name of what is at fault before it.
fn located(error: pythia_inside::Error, args: &Args, text: &pythia_runtime::Text) -> Failure {
    let (a, b) = (pythia_text::path(&args.a), pythia_text::path(&args.b));
    match error {
        pythia_inside::Error::Runtime(error @ pythia_runtime::Error::EmptyPrompt) => error.at(text).into(),
        pythia_inside::Error::Runtime(error) => exit::locate(error, &args.a, text),
        pythia_inside::Error::NotFinite { .. } => Failure::data(format_args!("{a} or {b}: {error}")),
        pythia_inside::Error::Differ { .. } => Failure::data(format_args!("{a} and {b}: {error}")),
        error => error.into(),
    }
}

fn show(damage: &Damage, text: &str, width: Width) -> String {
    let head = format!(
        "{} of {text} in {}; the lens reads {} of the positions.",
        counted(damage.tokens, "token"),
        counted(damage.windows, "chunk"),
        damage.lens_positions
    );
    let mut table = Table::new([
        Column::new("block", Align::Right),
        Column::new("stream", Align::Right),
        Column::new("added", Align::Right).rank(5),
        Column::new("new", Align::Right),
        Column::new("", Align::Left).rank(1),
        Column::new("attention", Align::Right).rank(2),
        Column::new("MLP", Align::Right).rank(2),
        Column::new("pattern KL", Align::Right).rank(4),
        Column::new("lens KL", Align::Right).rank(3),
        Column::new("lens differs", Align::Right).rank(3),
    ]);
    let most = damage.blocks.iter().map(|block| block.own).filter(|own| own.is_finite()).fold(0.0, f64::max);
    damage.blocks.iter().for_each(|block| table.push(row(block, most)));
    let about = "Errors relative to the norm of the residual stream after the block. stream: each model on its own; added: \
                 what the block adds, each on its own; new: where the block was given the base's stream, so its own doing, \
                 and what attention and MLP have of it. KL in nats, means over positions; lens: the logit lens after the \
                 block.";
    let worst = damage.blocks.iter().max_by(|a, b| a.own.total_cmp(&b.own)).filter(|block| block.own > 0.0);
    let worst = match worst {
        Some(block) => format!("Most new error: block {} ({} %).", block.layer, significant(100.0 * block.own, 3)),
        None if damage.is_none() => "Nothing is different.".to_owned(),
        None => "The blocks do the same; what differs is outside of them.".to_owned(),
    };
    let logits = damage.rows.iter().find(|row| row.hook.site == Site::Logits);
    let predicted = logits.and_then(|row| Some((row.kl?, row.disagreement?)));
    let predicted = predicted.map_or_else(String::new, |(kl, disagreement)| {
        let (kl, share) = (significant(kl, 3), significant(100.0 * disagreement, 3));
        format!(" Predictions at the end: KL {kl} nats, {share} % with another likeliest token.")
    });
    let worst = worst + &predicted;
    format!(
        "{}\n{}\n{}{}",
        wrap(&head, width, ""),
        table.to_terminal(width).with_remark(width, "--csv, --html and --json have them"),
        wrap(&worst, width, ""),
        wrap(about, width, "")
    )
}

/// Cells of the longest bar.
const BAR: f64 = 16.0;

fn row(block: &Block, most: f64) -> Vec<String> {
    let percent = |error: f64| format!("{} %", significant(100.0 * error, 3));
    let bar = if most > 0.0 && block.own.is_finite() { (BAR * block.own / most).round() as usize } else { 0 };
    vec![
        block.layer.to_string(),
        percent(block.stream),
        percent(block.added),
        percent(block.own),
        "#".repeat(bar),
        percent(block.own_attention),
        percent(block.own_mlp),
        significant(block.pattern_kl, 3),
        significant(block.lens_kl, 3),
        format!("{} %", plain(100.0 * block.lens_disagreement, 1)),
    ]
}
