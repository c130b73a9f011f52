//! Where a text comes from: the command line, a file or standard input.

use crate::exit::{self, Failure};
use crate::input;
use std::fmt;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// A text. Standard input if neither option is given.
#[derive(Debug, clap::Args)]
pub(super) struct TextArgs {
    /// Text [default: standard input]
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file_of_text")]
    prompt: Option<String>,
    /// File with the text, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", id = "file_of_text", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TextArgs {
    /// Its file, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The whole text.
    pub(super) fn read(&self) -> Result<String, Failure> {
        match (&self.prompt, &self.file) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(path)) if path.as_os_str() != "-" => input::text(path),
            _ => {
                if io::stdin().is_terminal() {
                    exit::note("reading the text from standard input; end it with Ctrl-D");
                }
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Failure::io(format_args!("{self}: {e}")))?;
                input::utf8(self, bytes)
            }
        }
    }

    /// As [`TextArgs::read`], without the newline that ends a file or what `echo` writes.
    pub(super) fn read_line_end_stripped(&self) -> Result<String, Failure> {
        let text = self.read()?;
        let stripped = if self.prompt.is_some() { &text } else { pythia_runtime::eval::strip_newline(&text) };
        Ok(stripped.to_owned())
    }
}

/// Its place, for messages.
impl fmt::Display for TextArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.prompt, &self.file) {
            (Some(_), _) => f.write_str("--prompt"),
            (None, Some(path)) if path.as_os_str() != "-" => path.display().fmt(f),
            _ => f.write_str("standard input"),
        }
    }
}
