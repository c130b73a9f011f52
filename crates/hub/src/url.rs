//! Addresses: their origin, redirects, and the part that may be shown.

use ureq::http::Uri;

/// Scheme, host and port. A token belongs to an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an `http` or `https` address without user and password in it.
    pub(crate) fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        Some(Self { is_https, host, port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }) })
    }

    /// Whether the connection is encrypted, so that a proxy learns only the host.
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Whether nobody can read or change what is sent, if no proxy is used.
    pub(crate) fn is_private(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        self.is_https || self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// The target of a redirect from `from` to `location`. `None` if it must not be followed, such as one from an encrypted
/// connection to an open one.
pub(crate) fn join(from: &str, location: &str) -> Option<String> {
    let origin = Origin::of(from)?;
    let joined = if location.starts_with("//") {
        format!("{}:{location}", from.split(':').next()?)
    } else if location.starts_with('/') {
        let authority = from.find("://")? + 3;
        let end = from[authority..].find(['/', '?', '#']).map_or(from.len(), |end| authority + end);
        format!("{}{location}", &from[..end])
    } else {
        location.to_owned()
    };
    let target = Origin::of(&joined)?;
    (target.is_https || !origin.is_https).then_some(joined)
}

/// An address for messages, without its query, which may contain a signature.
pub(crate) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// `text` as one segment of a path: `refs/pr/1` becomes `refs%2Fpr%2F1`.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let origin = |url| Origin::of(url).unwrap();
        assert_eq!(origin("https://Hub.co/a"), origin("https://hub.co:443/b?c"));
        for other in ["http://hub.co/", "https://hub.co:444/", "https://cdn.hub.co/", "https://hub.co.evil.org/"] {
            assert_ne!(origin(other), origin("https://hub.co/"), "{other}");
        }
        for none in ["ftp://hub.co/", "hub.co", "/path", "https://user:secret@hub.co/", "https://hub.co@evil.org/", ""]
        {
            assert_eq!(Origin::of(none), None, "{none}");
        }
        assert!(origin("http://127.0.0.1:80/").is_private() && origin("http://[::1]/").is_private());
        assert!(!origin("http://127.0.0.1.evil.org/").is_private() && !origin("http://hub.co/").is_private());
    }

    #[test]
    fn redirects_are_joined_and_stay_encrypted() {
        let from = "https://hub.co/a/b?c";
        assert_eq!(join(from, "/d").as_deref(), Some("https://hub.co/d"));
        assert_eq!(join(from, "//cdn.co/d").as_deref(), Some("https://cdn.co/d"));
        assert_eq!(join(from, "https://cdn.co/d?e=f").as_deref(), Some("https://cdn.co/d?e=f"));
        assert_eq!(join("http://localhost:1", "/d").as_deref(), Some("http://localhost:1/d"));
        for refused in ["http://hub.co/d", "file:///etc/passwd", "d", "", "https://a@b/"] {
            assert_eq!(join(from, refused), None, "{refused}");
        }
    }

    #[test]
    fn revisions_are_one_segment() {
        assert_eq!(segment("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(segment("step3000"), "step3000");
        assert_eq!(shown("https://cdn.co/x?signature=1"), "https://cdn.co/x");
    }
}
