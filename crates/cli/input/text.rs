//! Texts from the command line, a file, a pipe or standard input.

use crate::exit::{self, Failure};
use pythia_runtime::{TextForm, TextReader, TokenStream, Tokenizer};
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Options of commands that read a text.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct TextOptions {
    /// Remove a byte order mark from the text, and read CR LF line ends as LF
    #[arg(long)]
    unix_text: bool,
}

/// A text. It is read as a stream, because it may be too long for memory.
pub(crate) struct Text {
    origin: Origin,
    /// Its name in messages.
    place: String,
    options: TextOptions,
    quiet: bool,
    strips_newline: bool,
    form: Cell<TextForm>,
}

enum Origin {
    Literal(String),
    /// Can be read any number of times.
    File(File),
    /// Can be read once: a pipe, or a terminal.
    Stream(RefCell<Option<Box<dyn Read>>>),
}

/// The path that stands for standard input.
fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Text {
    /// The text of an option.
    pub(crate) fn literal(text: &str, option: &str) -> Self {
        let options = TextOptions::default();
        Self::new(Origin::Literal(text.to_owned()), option.to_owned(), options)
    }

    /// The file or pipe at `path`, or standard input for `-`. It is opened here and read later.
    ///
    /// # Errors
    /// If it cannot be opened, or is a folder.
    pub(crate) fn open(path: &Path, options: TextOptions) -> Result<Self, Failure> {
        if is_stdin(path) {
            return Ok(Self::stdin(options));
        }
        let place = path.display().to_string();
        // Opening a pipe waits for its writer.
        let file = exit::waiting(|| File::open(path)).map_err(|e| Failure::at(path, &e))?;
        let metadata = file.metadata().map_err(|e| Failure::at(path, &e))?;
        if metadata.is_dir() {
            return Err(Failure::io(format_args!("{place}: a folder, wanted a text file")));
        }
        let origin = if metadata.is_file() { Origin::File(file) } else { stream(file, &place) };
        Ok(Self::new(origin, place, options))
    }

    /// Standard input.
    pub(crate) fn stdin(options: TextOptions) -> Self {
        let place = "standard input".to_owned();
        Self::new(stream(io::stdin(), &place), place, options)
    }

    fn new(origin: Origin, place: String, options: TextOptions) -> Self {
        let form = TextForm { left_out: options.unix_text, ..TextForm::default() };
        // A line end in an option was typed on purpose.
        let strips_newline = !matches!(origin, Origin::Literal(_));
        Self { origin, place, options, quiet: false, strips_newline, form: Cell::new(form) }
    }

    /// Turns off the warnings about byte order marks and line ends.
    pub(crate) fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Keeps the last newline of a file.
    pub(crate) fn with_last_newline(self) -> Self {
        Self { strips_newline: false, ..self }
    }

    /// The same text in a form that can be read several times: a pipe is copied to an anonymous temporary file.
    ///
    /// # Errors
    /// If the pipe cannot be read or the copy cannot be written.
    pub(crate) fn rereadable(self) -> Result<Self, Failure> {
        let Origin::Stream(stream) = &self.origin else { return Ok(self) };
        let Some(mut stream) = stream.take() else { return Ok(self) };
        let mut copy = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut stream, &mut file)?;
            Ok(file)
        };
        let file = copy().map_err(|e| Failure::io(format_args!("{self}: copy to a temporary file: {e}")))?;
        Ok(Self { origin: Origin::File(file), ..self })
    }

    /// A reader from the start of the text.
    ///
    /// # Errors
    /// If the file cannot be read, or a pipe was read before.
    pub(crate) fn reader(&self) -> Result<TextReader<'_>, Failure> {
        let failed = |e: io::Error| Failure::io(format_args!("{self}: {e}"));
        let (reader, n_bytes) = match &self.origin {
            Origin::Literal(text) => (TextReader::new(text.as_bytes()), Some(text.len() as u64)),
            Origin::File(file) => {
                let mut file = file;
                file.rewind().map_err(failed)?;
                (TextReader::new(file), Some(file.metadata().map_err(failed)?.len()))
            }
            Origin::Stream(stream) => {
                let stream = stream.take().ok_or_else(|| failed(io::Error::other("can only be read once")))?;
                (TextReader::new(stream), None)
            }
        };
        let reader = reader.of_bytes(n_bytes).without_last_newline(self.strips_newline);
        Ok(reader.as_on_unix(self.options.unix_text).watched(|form| self.found(form)))
    }

    /// Its tokens, from the start. Ctrl-C ends the stream.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub(crate) fn tokens<'t>(&'t self, tokenizer: &'t Tokenizer) -> Result<TokenStream<'t>, Failure> {
        Ok(TokenStream::new(tokenizer, self.reader()?).cancelled_by(exit::catch_interrupts()))
    }

    /// SHA-256 of its unmodified bytes, hexadecimal. Moves the read position, so it must not be called while a reader
    /// is in use.
    ///
    /// # Errors
    /// If it is a pipe, if it cannot be read, or after Ctrl-C.
    pub(crate) fn sha256(&self) -> Result<String, Failure> {
        let failed = |e: io::Error| Failure::io(format_args!("{self}: {e}"));
        let mut input: Box<dyn Read + '_> = match &self.origin {
            Origin::Literal(text) => Box::new(text.as_bytes()),
            Origin::File(file) => {
                let mut file = file;
                file.rewind().map_err(failed)?;
                Box::new(file)
            }
            Origin::Stream(_) => return Err(failed(io::Error::other("can only be read once"))),
        };
        let interrupted = exit::catch_interrupts();
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            let n = input.read(&mut buffer).map_err(failed)?;
            if interrupted.load(Ordering::Relaxed) {
                return Err(Failure::interrupted());
            }
            if n == 0 {
                return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            hasher.update(&buffer[..n]);
        }
    }

    /// The byte order mark and line ends found so far, and whether they were left out.
    pub(crate) fn form(&self) -> TextForm {
        self.form.get()
    }

    /// Warns about each of them once, when it is first found.
    fn found(&self, form: &TextForm) {
        let known = self.form.replace(*form);
        // The text of an option was typed on purpose, and --unix-text does not change it.
        if self.quiet || form.left_out || matches!(self.origin, Origin::Literal(_)) {
            return;
        }
        let mark = (form.byte_order_mark && !known.byte_order_mark).then_some("begins with a byte order mark");
        let lines = (form.crlf_lines > 0 && known.crlf_lines == 0).then_some("has CR LF line ends");
        let found: Vec<&str> = mark.into_iter().chain(lines).collect();
        if !found.is_empty() {
            let found = found.join(" and ");
            exit::note(format_args!(
                "warning: {self}: {found}, which the model reads as part of the text; --unix-text removes this"
            ));
        }
    }

    /// Its name without the folder, for reports.
    pub(crate) fn name(&self) -> String {
        let name = match &self.origin {
            Origin::File(_) => Path::new(&self.place).file_name().map(OsStr::to_string_lossy),
            _ => None,
        };
        name.map_or_else(|| self.place.clone(), |name| name.into_owned())
    }
}

/// Its name in messages.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// A stream. If it is a terminal, a note tells the user that the program waits for input.
fn stream(input: impl Read + IsTerminal + 'static, place: &str) -> Origin {
    if input.is_terminal() {
        exit::note(format_args!("reading the text from {place}; end it with Ctrl-D"));
    }
    Origin::Stream(RefCell::new(Some(Box::new(Waiting(input)))))
}

/// A reader that may block for any time. A signal meanwhile ends the program at once.
struct Waiting<R>(R);

impl<R: Read> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        exit::waiting(|| self.0.read(buffer))
    }
}

/// The `paths` that are not standard input.
pub(crate) fn files<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<PathBuf> {
    paths.into_iter().filter(|path| !is_stdin(path)).map(Path::to_path_buf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(text: &Text) -> String {
        text.reader().unwrap().read_all(usize::MAX).unwrap()
    }

    #[test]
    fn files_are_read_again_and_folders_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "abc\n\n").unwrap();
        let text = Text::open(&path, TextOptions::default()).unwrap();
        assert_eq!((read(&text), read(&text)), ("abc\n".to_owned(), "abc\n".to_owned()));
        assert_eq!(text.name(), "text");
        let digest = "783701f7599830824fa73488f80eb79894f6f14203264b6a3ac3f0a14012c25f";
        assert_eq!(text.sha256().unwrap(), digest);
        assert_eq!(read(&text.with_last_newline()), "abc\n\n");
        let literal = Text::literal("abc\n", "--prompt");
        assert_eq!((read(&literal), literal.to_string()), ("abc\n".to_owned(), "--prompt".to_owned()));
        let folder = Text::open(dir.path(), TextOptions::default()).err().unwrap();
        assert_eq!(folder.code(), 74);
        assert!(folder.to_string().ends_with("a folder, wanted a text file"), "{folder}");
        let none = Text::open(&dir.path().join("none"), TextOptions::default()).err().unwrap();
        assert!(none.code() == 74 && none.to_string().contains("none: "), "{none}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_read_once_or_copied() {
        let pipe = |text: &str| {
            let (reader, mut writer) = io::pipe().unwrap();
            io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
            let origin = Origin::Stream(RefCell::new(Some(Box::new(reader))));
            Text::new(origin, "pipe".to_owned(), TextOptions { unix_text: true })
        };
        let once = pipe("a\r\n");
        assert_eq!((read(&once), once.name()), ("a".to_owned(), "pipe".to_owned()));
        assert_eq!(once.form(), TextForm { byte_order_mark: false, crlf_lines: 1, left_out: true });
        assert!(once.reader().unwrap_err().to_string().contains("only be read once"));
        let again = pipe("a\r\nb").rereadable().unwrap();
        assert_eq!((read(&again), read(&again)), ("a\nb".to_owned(), "a\nb".to_owned()));
    }
}
