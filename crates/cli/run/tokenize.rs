//! `pythia-run tokenize`: token ids of a text, or the text of token ids.

use super::model::FileArgs;
use super::text::TextArgs;
use crate::exit::{self, Failure};
use pythia_runtime::Tokenizer;
use serde_json::json;

/// Show the token ids of a text, or the text of token ids
///
/// No special tokens are added; those in the text are recognised, as transformers does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: FileArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Ids to decode, separated by spaces or commas
    #[arg(short, long, value_name = "IDS", conflicts_with_all = ["prompt", "file_of_text"])]
    decode: Option<String>,
    /// Only the ids, on one line
    #[arg(long, conflicts_with_all = ["decode", "json"])]
    ids: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let tokenizer = args.model.tokenizer()?;
    let ids = match &args.decode {
        Some(ids) => parse_ids(ids, &tokenizer)?,
        None => {
            let encoded = tokenizer.encode(&args.text.read()?);
            encoded.map_err(|e| exit::locate(e, args.model.path(), &args.text))?
        }
    };
    if args.json {
        let pieces: Vec<String> = ids.iter().map(|&id| piece(&tokenizer, id)).collect();
        exit::print_json_line(&json!({ "ids": ids, "pieces": pieces, "text": tokenizer.decode(&ids, false) }))
    } else if args.decode.is_some() {
        exit::print_prose(&(tokenizer.decode(&ids, false) + "\n"))
    } else if args.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        exit::print(&(ids.join(" ") + "\n"))
    } else {
        let lines: String = ids.iter().map(|&id| format!("{id:>6}  {:?}\n", piece(&tokenizer, id))).collect();
        exit::print(&lines)
    }
}

/// Text of one token; parts of characters show as U+FFFD.
fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.decode(&[id], false)
}

fn parse_ids(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, Failure> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
    let id = |word: &str| {
        let n_tokens = tokenizer.n_tokens();
        let known = word.parse().ok().filter(|&id: &u32| (id as usize) < n_tokens);
        known.ok_or_else(|| Failure::usage(format_args!("--decode: found '{word}', wanted token ids below {n_tokens}")))
    };
    words.map(id).collect()
}
