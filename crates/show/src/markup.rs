//! Foreign text in Markdown and HTML. Hazardous characters are escaped as everywhere ([`pythia_text`]), and then
//! the characters that have a meaning in the format.

use pythia_text::Line;

/// Escapes text for Markdown, including table cells, so that nothing in it is markup.
pub fn markdown(text: &str) -> String {
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
