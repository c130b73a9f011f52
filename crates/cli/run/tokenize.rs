//! `pythia-run tokenize`: token ids of a text, or the text of token ids.

use super::model::FileArgs;
use super::text::TextArgs;
use crate::exit::{self, Failure};
use pythia_runtime::Tokenizer;
use pythia_text::Line;
use serde_json::json;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Show the token ids of a text, or the text of token ids
///
/// No special tokens are added. Special tokens in the text are recognised, as in transformers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: FileArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Ids to decode, separated by spaces or commas
    #[arg(short, long, value_name = "IDS", conflicts_with_all = ["prompt", "file_of_text"])]
    decode: Option<String>,
    /// Print only the ids, on one line
    #[arg(long, conflicts_with_all = ["decode", "json"])]
    ids: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let tokenizer = args.model.tokenizer()?;
    if let Some(ids) = &args.decode {
        let ids = parse_ids(ids, &tokenizer)?;
        return match args.json {
            true => print_json(&tokenizer, &ids),
            false => exit::print_prose(&(tokenizer.decode(&ids, false) + "\n")),
        };
    }
    // All of the file, including its last newline.
    let text = args.text.open()?.with_last_newline();
    let locate = |e| exit::locate(e, args.model.path(), &text);
    let mut tokens = text.tokens(&tokenizer, exit::catch_interrupts())?;
    if args.json {
        tokens.reach(usize::MAX).map_err(locate)?;
        return print_json(&tokenizer, tokens.at_hand());
    }
    let mut output = Output { stdout: BufWriter::new(io::stdout().lock()), separator: "" };
    let mut position = 0;
    while tokens.reach(position + 1).map_err(locate)? > position {
        for &id in tokens.at_hand() {
            let written = if args.ids { output.id(id) } else { output.line(id, &piece(&tokenizer, id)) };
            if !written? {
                return Ok(());
            }
        }
        position += tokens.at_hand().len();
        tokens.forget(position);
    }
    if args.ids { output.end_line() } else { output.flush() }
}

fn print_json(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), Failure> {
    let pieces: Vec<String> = ids.iter().map(|&id| piece(tokenizer, id)).collect();
    exit::print_json_line(&json!({ "ids": ids, "pieces": pieces, "text": tokenizer.decode(ids, false) }))
}

/// Standard output. Each method returns whether the reader is still there.
struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    separator: &'static str,
}

impl Output {
    fn id(&mut self, id: u32) -> Result<bool, Failure> {
        let written = write!(self.stdout, "{}{id}", self.separator);
        self.separator = " ";
        exit::is_read(written)
    }

    fn line(&mut self, id: u32, piece: &str) -> Result<bool, Failure> {
        exit::is_read(writeln!(self.stdout, "{}", Line(format_args!("{id:>6}  {piece:?}"))))
    }

    fn end_line(mut self) -> Result<(), Failure> {
        exit::is_read(writeln!(self.stdout))?;
        self.flush()
    }

    fn flush(mut self) -> Result<(), Failure> {
        exit::is_read(self.stdout.flush()).map(|_| ())
    }
}

/// Text of one token. Incomplete characters become U+FFFD.
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
