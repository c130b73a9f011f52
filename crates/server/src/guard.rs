//! Who may ask: names of this host, origins of pages, the key.
//!
//! A page that a browser shows can send requests to any address, also to this machine. What it cannot do is leave out
//! the name of its own origin, or choose the name under which the browser knows the address (DNS rebinding). So both
//! are checked.

use crate::refusal::Refusal;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, StatusCode};
use pythia_text::quoted;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

/// The rules of a server.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Whether it listens at other addresses than loopback.
    pub(crate) is_open: bool,
    /// Names of this host, without port, in lower case.
    pub(crate) hosts: Vec<String>,
    /// Origins of foreign pages that may read replies; `*` for all.
    pub(crate) origins: Vec<String>,
    pub(crate) key: Option<String>,
}

/// Paths that need no key: whether the server is there, and a page without any data.
const OPEN_PATHS: [&str; 3] = ["/health", "/v1/health", "/"];

impl Guard {
    /// The rules for a server that listens at `address`, which was asked for as `host`.
    pub(crate) fn new(
        host: &str,
        address: SocketAddr,
        hosts: &[String],
        origins: &[String],
        key: Option<String>,
    ) -> Self {
        let asked = [host.to_owned()].into_iter().chain(hosts.iter().cloned());
        Self {
            is_open: !address.ip().is_loopback(),
            hosts: asked.map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase()).collect(),
            origins: origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect(),
            key,
        }
    }

    /// Whether a request may pass. Returns the foreign origin that may read the reply, if there is one.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<Option<String>, Refusal> {
        let host = self.host(request)?;
        let origin = self.origin(request.headers(), &host)?;
        if request.method() != axum::http::Method::OPTIONS && !OPEN_PATHS.contains(&request.uri().path()) {
            self.key(request.headers())?;
        }
        Ok(origin)
    }

    /// The host that the client means, if it is this one.
    fn host<B>(&self, request: &Request<B>) -> Result<Authority, Refusal> {
        let mut headers = request.headers().get_all(HOST).iter();
        let (Some(header), None) = (headers.next(), headers.next()) else {
            return Err(Refusal::invalid("wanted one header Host"));
        };
        let header = header.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let host = header.ok_or_else(|| Refusal::invalid("the header Host is malformed"))?;
        // A whole URL as target has the last word over the header.
        let target = request.uri().authority().unwrap_or(&host);
        for authority in [&host, target] {
            if !self.is_own(authority.host()) {
                let name = quoted(authority.host(), '\'', 100);
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    format_args!("Host: found {name}, which is not a name of this server; --allow-host adds one"),
                ));
            }
        }
        Ok(host)
    }

    fn is_own(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        if self.hosts.contains(&host) {
            return true;
        }
        match host.parse::<IpAddr>() {
            // No name was resolved, so none was resolved wrongly.
            Ok(ip) => ip.is_loopback() || self.is_open,
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }

    fn origin(&self, headers: &HeaderMap, host: &Authority) -> Result<Option<String>, Refusal> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let origin = origin.to_str().unwrap_or("").to_ascii_lowercase();
        let rest = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        if rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str())) {
            return Ok(None);
        }
        if self.origins.iter().any(|allowed| allowed == "*" || *allowed == origin) {
            return Ok(Some(origin));
        }
        let name = quoted(&origin, '\'', 100);
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format_args!("Origin: pages of {name} may not use this server; --allow-origin lets them"),
        ))
    }

    fn key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let given = given.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        match given {
            Some((_, given)) if is_same(given.trim_ascii(), key.as_bytes()) => Ok(()),
            _ => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this server wants the header Authorization: Bearer KEY, with the key that it was started with",
            )),
        }
    }
}

/// Whether a key is the right one. The time depends on the length of the given one alone.
fn is_same(given: &[u8], key: &[u8]) -> bool {
    let mut difference = given.len() ^ key.len();
    for (i, byte) in given.iter().enumerate() {
        let wanted = key.get(i % key.len().max(1)).copied().unwrap_or(0);
        difference = black_box(difference | usize::from(byte ^ wanted));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(host: &str, address: &str, key: Option<&str>) -> Guard {
        let (hosts, origins) = (["ai.example".to_owned()], ["https://lab.example/".to_owned()]);
        Guard::new(host, address.parse().unwrap(), &hosts, &origins, key.map(str::to_owned))
    }

    fn status(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(()).unwrap()).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn hosts_are_names_of_this_server() {
        let local = guard("127.0.0.1", "127.0.0.1:8080", None);
        let open = guard("0.0.0.0", "0.0.0.0:8080", None);
        for (host, wanted, wanted_open) in [
            ("127.0.0.1:8080", 200, 200),
            ("localhost", 200, 200),
            ("LOCALHOST:1", 200, 200),
            ("a.localhost", 200, 200),
            ("[::1]:8080", 200, 200),
            ("127.1.2.3", 200, 200),
            ("ai.example:8080", 200, 200),
            ("192.168.1.5:8080", 403, 200),
            ("evil.example", 403, 403),
            ("localhost.evil.example", 403, 403),
            ("127.0.0.1.evil.example", 403, 403),
            ("", 400, 400),
            ("a b", 400, 400),
        ] {
            assert_eq!(status(&local, "/v1/models", &[("host", host)]), wanted, "{host}");
            assert_eq!(status(&open, "/v1/models", &[("host", host)]), wanted_open, "{host}");
        }
        assert_eq!(status(&local, "/v1/models", &[]), 400);
        assert_eq!(status(&local, "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&local, "http://evil.example/", &[("host", "localhost")]), 403);
    }

    #[test]
    fn origins_are_this_server_or_allowed() {
        let guard = guard("127.0.0.1", "127.0.0.1:8080", None);
        for (origin, wanted) in [
            ("http://localhost:8080", 200),
            ("https://lab.example", 200),
            ("http://lab.example", 403),
            ("http://localhost:9000", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(status(&guard, "/v1/completions", &headers), wanted, "{origin}");
        }
    }

    #[test]
    fn the_key_is_needed_everywhere_but_for_health_and_the_page() {
        let guard = guard("127.0.0.1", "127.0.0.1:8080", Some("secret"));
        let with = |uri: &str, value: &str| status(&guard, uri, &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(with("/v1/models", "Bearer secret"), 200);
        assert_eq!(with("/v1/models", "bearer secret"), 200);
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer secre", "Bearer secretsecret", "Bearer Secret", "secret", "Basic secret"]
        {
            assert_eq!(with("/v1/models", wrong), 401, "{wrong}");
        }
        for open in OPEN_PATHS {
            assert_eq!(status(&guard, open, &[("host", "localhost")]), 200);
        }
        assert!(!is_same(b"", b"k") && is_same(b"k", b"k") && !is_same(b"kk", b"k"));
    }
}
