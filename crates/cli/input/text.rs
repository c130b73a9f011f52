//! Texts from the command line, a file, a pipe or standard input.

use crate::exit::{self, Failure};
use pythia_runtime::{Text, TextForm};
use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Options of commands that read a text.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct TextOptions {
    /// Remove a byte order mark from the text, and read CR LF line ends as LF
    #[arg(long)]
    unix_text: bool,
}

/// The path that stands for standard input.
fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl TextOptions {
    /// For files whose lines are records: what an editor adds to them is no part of a text.
    pub(crate) fn of_records() -> Self {
        Self { unix_text: true }
    }

    /// The file or pipe at `path`, or standard input for `-`. It is opened here and read later.
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
            return Err(Failure::io(format_args!("{place}: a folder, wanted a text file")));
        }
        if is_device(&metadata) && !file.is_terminal() {
            // Some never end, and a comparison would copy them to a file.
            return Err(Failure::io(format_args!("{place}: a device, wanted a text file, a pipe or a terminal")));
        }
        let text = if metadata.is_file() { Text::file(file, &place) } else { stream(file, &place) };
        Ok(self.apply(text))
    }

    /// Standard input.
    pub(crate) fn stdin(self) -> Text {
        self.apply(stream(io::stdin(), "standard input"))
    }

    /// Leaves a byte order mark and CR LF line ends out if the option is given; otherwise warns about them.
    fn apply(self, text: Text) -> Text {
        let place = text.to_string();
        text.as_on_unix(self.unix_text).watched(move |found| warn(&place, found))
    }
}

fn warn(place: &str, found: &TextForm) {
    if found.left_out {
        return;
    }
    let mark = found.byte_order_mark.then_some("begins with a byte order mark");
    let lines = (found.crlf_lines > 0).then_some("has CR LF line ends");
    let found = mark.into_iter().chain(lines).collect::<Vec<_>>().join(" and ");
    exit::note(format_args!(
        "warning: {place}: {found}, which the model reads as part of the text; --unix-text removes this"
    ));
}

/// A stream. If it is a terminal, a note tells the user that the program waits for input.
fn stream(input: impl Read + IsTerminal + Send + 'static, place: &str) -> Text {
    if input.is_terminal() {
        exit::note(format_args!("reading the text from {place}; end it with Ctrl-D"));
    }
    Text::stream(Waiting(input), place)
}

/// A reader that may block for any time. A signal meanwhile ends the program at once.
struct Waiting<R>(R);

impl<R: Read> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        exit::waiting(|| self.0.read(buffer))
    }
}

#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_device(_metadata: &Metadata) -> bool {
    false
}

/// The `paths` that are not standard input.
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
        assert!(folder.to_string().ends_with("a folder, wanted a text file"), "{folder}");
        let none = open("none");
        assert!(none.code() == 74 && none.to_string().contains("none: "), "{none}");
    }
}
