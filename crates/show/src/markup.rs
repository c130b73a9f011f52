//! Text that others wrote, in files of some markup. Hazards are escaped as everywhere ([`pythia_text`]); here follows what
//! means something to the readers of such files.

use pythia_text::Line;

/// Text that may stand in Markdown, in a cell of a table too: nothing in it is markup.
pub fn markdown(text: &str) -> String {
    let text = Line(text).to_string();
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_markup = match c {
            // Inside of a word it is a letter, and names of levels are full of it.
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

/// Text that may stand in HTML and SVG, inside or outside quotes, on one line.
pub fn html(text: &str) -> String {
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
}
