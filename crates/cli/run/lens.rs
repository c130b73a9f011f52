//! `pythia-run lens`: what every layer would predict, if it were the last. [`pythia_inside::lens`] does the work.

mod show;

use super::beginning::{self, BeginningArgs};
use super::model::{ModelArgs, Passes, note_changes};
use super::showing::{Format, ShowArgs};
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use crate::{input, outputs};
use pythia_inside::{lens, list};
use pythia_show::Width;

/// Show what each layer of a model would predict: the logit lens
///
/// Puts the last norm and the output matrix on the residual stream after every block, and before the first. Of what
/// leaves the last block this is the model's own prediction. Likelihoods, entropies and divergences are in nats. No token
/// is added to the text; TransformerLens puts <|endoftext|> before it, which can be written there.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: BeginningArgs,
    /// Depths: numbers of blocks and ranges of them, embed for what enters the first, or all
    #[arg(long, value_name = "LIST", default_value = "all")]
    layers: String,
    /// How many of the likeliest tokens are shown
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// In the table, show every layer at these positions instead of means over all: 0,3-5, last, or all
    #[arg(long, value_name = "LIST")]
    positions: Option<String>,
    #[command(flatten)]
    show: ShowArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (model, tokenizer, reach) = args.model.open(Passes::Few)?;
    let cancel = exit::catch_interrupts();
    if args.positions.is_some() && args.show.format != Format::Table {
        return Err(Failure::usage("--positions: is of the table; jsonl and csv have all positions"));
    }
    let hooks = list::stream(&args.layers, model.hparams())?;
    let text = args.text.open()?;
    let inputs = input::files(args.model.inputs(&model).chain(args.text.path()));
    outputs::check([&args.show.html], &inputs, args.show.force)?;
    let locate = |e| exit::locate(e, args.model.path(), &text);
    let ids = args.text.ids(&text, &model, &tokenizer, cancel).map_err(locate)?;
    reach.check(ids.len(), "the text")?;
    let positions = args.positions.as_deref().map(|list| list::numbers(list, ids.len(), "positions")).transpose()?;
    let bar = Bar::new(0, Unit::Share, args.show.quiet);
    let request = lens::Request { hooks, top: args.top };
    let lens = lens::lens(&model, &ids, &request, cancel, &bar).map_err(|e| beginning::locate(e, args.model.path()))?;
    bar.finish();
    note_changes(&model);
    args.show.write_page(|| lens::page(&lens, &tokenizer, &args.model.title(&model), &text.to_string()))?;
    match args.show.format {
        Format::Table => exit::print(&show::table(&lens, positions.as_deref(), &tokenizer, &text, Width::of_stdout())),
        Format::Jsonl => exit::print(&lens::jsonl(&lens, &tokenizer)),
        Format::Csv => exit::print(&lens::csv(&lens, &tokenizer)),
    }
}
