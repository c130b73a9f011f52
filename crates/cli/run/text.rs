//! The text of a command line.

use crate::exit::Failure;
use crate::input::TextOptions;
use pythia_runtime::Text;
use std::path::{Path, PathBuf};

/// Where the text comes from: an option, a file, or standard input if neither option is given.
#[derive(Debug, clap::Args)]
pub(super) struct TextArgs {
    /// Text [default: standard input]
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file_of_text", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Process the escapes \n, \r, \t, \\, \', \" and \xHH in --prompt
    #[arg(short, long, requires = "prompt")]
    escape: bool,
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
            (Some(text), _) if self.escape => Ok(Text::literal(&unescape(text).map_err(Failure::usage)?, "--prompt")),
            (Some(text), _) => Ok(Text::literal(text, "--prompt")),
            (None, Some(path)) => self.options.open(path),
            (None, None) => Ok(self.options.stdin()),
        }
    }
}

/// `text` with its escapes replaced as in llama.cpp. Unknown escapes stay as they are.
fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let hex = |escape: &str| u8::from_str_radix(escape.get(2..4)?, 16).ok();
        let (byte, len) = match escape.as_bytes().get(1) {
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(&quoted @ (b'\\' | b'"' | b'\'')) => (quoted, 2),
            Some(b'x') if hex(escape).is_some() => (hex(escape).unwrap_or_default(), 4),
            _ => (b'\\', 1),
        };
        bytes.push(byte);
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes)
        .map_err(|e| format!("--prompt: escapes give invalid UTF-8 at byte {}", e.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_llama_cpps() {
        for (text, wanted) in [
            (r"a\nb\tc\r", "a\nb\tc\r"),
            (r#"\\n \' \""#, r#"\n ' ""#),
            (r"caf\xc3\xa9", "caf\u{e9}"),
            (r"\q \x4 \xzz \xa\u{e9}", r"\q \x4 \xzz \xa\u{e9}"),
            ("end\\", "end\\"),
            ("\\\u{e9}", "\\\u{e9}"),
        ] {
            assert_eq!(unescape(text).as_deref(), Ok(wanted), "{text}");
        }
        assert!(unescape(r"ab\xff").unwrap_err().ends_with("byte 2"));
    }
}
