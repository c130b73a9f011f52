//! The page at `/`: one file inside the program. The browser is told to run and load nothing but what is in it, and to
//! talk to this server only.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("../page/index.html");

/// The page and its policy.
#[derive(Debug)]
pub(crate) struct Page {
    policy: HeaderValue,
}

impl Page {
    pub(crate) fn new() -> Self {
        let policy = HeaderValue::from_str(&policy(HTML));
        Self { policy: policy.unwrap_or(HeaderValue::from_static("default-src 'none'")) }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(HTML));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Only the scripts and styles that the page holds, named by their digests.
fn policy(html: &str) -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digests(html, "script"),
        digests(html, "style")
    )
}

/// The sources of all elements of this name, which must have a content and no `src`.
fn digests(html: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let contents = html.split(&open).skip(1).filter_map(|rest| {
        let (_, rest) = rest.split_once('>')?;
        rest.split_once(&close).map(|(content, _)| content)
    });
    let sources: Vec<String> =
        contents.map(|content| format!("'sha256-{}'", base64(&Sha256::digest(content.as_bytes())))).collect();
    if sources.is_empty() { "'none'".to_owned() } else { sources.join(" ") }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (group >> (18 - 6 * i) & 63) as usize;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_policy_names_what_the_page_holds() {
        let html = "<style>a{}</style><script type=\"module\">x()</script><script>y()</script>";
        let policy = policy(html);
        // `printf 'x()' | openssl dgst -sha256 -binary | base64`
        let source = "'sha256-D6IGS8VMvCoyaR/l0h9tERrBTATY01CoPS7l6xDv0kI='";
        assert!(policy.contains(source), "{policy}");
        assert_eq!(digests(html, "script").split(' ').count(), 2);
        assert_eq!(digests("<p>", "style"), "'none'");
    }
}
