//! Where a text comes from: the command line, a file, a pipe or standard input.

use crate::exit::{self, Failure};
use pythia_runtime::{Text, TextForm};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Options of commands that read a text.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct TextOptions {
    /// Read the text as if saved on Unix: without a byte order mark, and with LF for line ends that are CR LF
    #[arg(long)]
    unix_text: bool,
}

/// The path that stands for standard input.
fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl TextOptions {
    /// What lies at `path`: a file, a pipe, or standard input for `-`. It is opened here and read later.
    ///
    /// # Errors
    /// If it cannot be opened, or is a folder.
    pub(crate) fn open(self, path: &Path) -> Result<Text, Failure> {
        if is_stdin(path) {
            return Ok(self.stdin());
        }
        let place = path.display().to_string();
        // Opening a pipe waits for its writer.
        let file = exit::waiting(|| File::open(path)).map_err(|e| Failure::at(path, &e))?;
        let metadata = file.metadata().map_err(|e| Failure::at(path, &e))?;
        if metadata.is_dir() {
            return Err(Failure::io(format_args!("{place}: is a folder, wanted a text file")));
        }
        let text = if metadata.is_file() { Text::file(file, &place) } else { stream(file, &place) };
        Ok(self.apply(text))
    }

    /// Standard input.
    pub(crate) fn stdin(self) -> Text {
        self.apply(stream(io::stdin(), "standard input"))
    }

    /// Marks and line ends are left out if that was asked for, else remarked on.
    fn apply(self, text: Text) -> Text {
        let place = text.to_string();
        text.as_on_unix(self.unix_text).watched(move |found| warn(&place, found))
    }
}

fn warn(place: &str, found: &TextForm) {
    if found.left_out {
        return;
    }
    let mark = found.byte_order_mark.then_some("it begins with a byte order mark");
    let lines = (found.crlf_lines > 0).then_some("lines end in CR LF");
    let found = mark.into_iter().chain(lines).collect::<Vec<_>>().join(" and ");
    exit::note(format_args!(
        "warning: {place}: {found}, which the model reads as part of the text; --unix-text leaves that out"
    ));
}

/// What is read as it comes. Who sits at a terminal is told that something is waited for.
fn stream(input: impl Read + IsTerminal + Send + 'static, place: &str) -> Text {
    if input.is_terminal() {
        exit::note(format_args!("reading the text from {place}; end it with Ctrl-D"));
    }
    Text::stream(Waiting(input), place)
}

/// Something that is waited for as long as it pleases.
struct Waiting<R>(R);

impl<R: Read> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        exit::waiting(|| self.0.read(buffer))
    }
}

/// The paths among `paths` that name files.
pub(crate) fn files<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<PathBuf> {
    paths.into_iter().filter(|path| !is_stdin(path)).map(Path::to_path_buf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| TextOptions::default().open(&dir.path().join(name)).err().unwrap();
        let folder = open("");
        assert_eq!(folder.code(), 74);
        assert!(folder.to_string().ends_with("is a folder, wanted a text file"), "{folder}");
        let none = open("none");
        assert!(none.code() == 74 && none.to_string().contains("none: "), "{none}");
    }
}
