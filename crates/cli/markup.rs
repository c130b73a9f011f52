//! Foreign text in Markdown, HTML and CSV. Hazardous characters are escaped as everywhere ([`pythia_text`]), and then
//! the characters that have a meaning in the format.

use pythia_text::Line;

/// Escapes text for Markdown, including table cells, so that nothing in it is markup.
pub(crate) fn markdown(text: &str) -> String {
    let text = Line(text).to_string();
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_markup = match c {
            // Inside a word it is not markup, and names of levels have many of them.
            '_' => !(before.is_some_and(char::is_alphanumeric) && chars.peek().is_some_and(|c| c.is_alphanumeric())),
            _ => r"\`*[]<>&|~$".contains(c),
        };
        if is_markup {
            out.push('\\');
        }
        out.push(c);
        before = Some(c);
    }
    out
}

/// Escapes text for HTML and SVG, inside or outside quotes, as one line.
pub(crate) fn html(text: &str) -> String {
    let text = Line(text).to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A text field of CSV (RFC 4180), without the quotes around it. Spreadsheets treat a text that begins like a formula
/// as a formula, even in quotes. Such a text gets an apostrophe before it, which spreadsheets use to mark text.
pub(crate) fn csv_text(text: &str) -> String {
    // Also the full-width forms, which some input methods write and some programs accept.
    const BEGINS_FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    // A tab or a line break can also start a formula. They are escaped here, so they are a backslash and a letter.
    let line = Line(text).to_string().replace('"', "\"\"");
    if line.trim_start().starts_with(BEGINS_FORMULA) { format!("'{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markdown() {
        for (text, escaped) in [
            ("Q4_K_M", "Q4_K_M"),
            ("_a_ __b__ c_", r"\_a\_ \_\_b\_\_ c\_"),
            (r"a|b\|c", r"a\|b\\\|c"),
            ("[x](javascript:y)", r"\[x\](javascript:y)"),
            ("<img src=x> &lt; `c` **d** ~~e~~ $f$", r"\<img src=x\> \&lt; \`c\` \*\*d\*\* \~\~e\~\~ \$f\$"),
            ("a\n# b\u{202e}", r"a\\n# b\\u{202e}"),
        ] {
            assert_eq!(markdown(text), escaped);
        }
    }

    #[test]
    fn nothing_is_html() {
        assert_eq!(
            html("<a b='c' d=\"e\">&\u{1b}\u{0}\n"),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\\u{1b}\\0\\n"
        );
    }

    #[test]
    fn nothing_is_a_formula() {
        for (text, field) in [
            ("Q4_0", "Q4_0"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\t=1", r"\t=1"),
            ("\r\n=1", r"\r\n=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a=\"b\",c", "a=\"\"b\"\",c"),
        ] {
            assert_eq!(csv_text(text), field);
        }
    }
}
