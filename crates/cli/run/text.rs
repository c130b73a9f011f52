//! The text of a command line.

use crate::exit::Failure;
use crate::input::{Text, TextOptions};
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
    #[command(flatten)]
    options: TextOptions,
}

impl TextArgs {
    /// Its file, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The text, without the newline that ends a file or what `echo` writes.
    ///
    /// # Errors
    /// If there is no such file.
    pub(super) fn open(&self) -> Result<Text, Failure> {
        match (&self.prompt, &self.file) {
            (Some(text), _) => Ok(Text::literal(text, "--prompt")),
            (None, Some(path)) => Text::open(path, self.options),
            (None, None) => Ok(Text::stdin(self.options)),
        }
    }
}
