//! Foreign text in scripts.

use std::fmt::Write;

/// A word of `bash`. It has no line break, so it may be in a comment too.
pub(super) fn shell(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(char::is_control) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => _ = write!(word, "\\{c}"),
            // Three digits always, so that a digit that follows is not taken for one of them.
            c if c.is_control() => c.to_string().bytes().for_each(|byte| _ = write!(word, "\\{byte:03o}")),
            c => word.push(c),
        }
    }
    word + "'"
}

/// A string in double quotes that JSON, YAML and Python read alike.
pub(super) fn string(text: &str) -> String {
    let mut string = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => _ = write!(string, "\\{c}"),
            // YAML has no such characters, and some of them end lines.
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(c) => {
                _ = write!(string, "\\u{:04x}", u32::from(c));
            }
            c => string.push(c),
        }
    }
    string + "\""
}

/// The same as an argument in a container of Kubernetes, where `$(NAME)` is a variable and `$$` is `$`.
pub(super) fn container_argument(text: &str) -> String {
    string(&text.replace('$', "$$"))
}
