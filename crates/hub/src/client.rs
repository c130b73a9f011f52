//! Sends single requests. Handles redirects and the token, and decides which failures are worth another attempt.

use crate::blob::BlobId;
use crate::error::excerpt;
use crate::pace::Pace;
use crate::retry::{Backoff, Fault};
use crate::url::{self, Origin};
use crate::{Error, Settings, survey};
use pythia_task::{Cancel, Progress};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Maximum number of redirects per request.
const MAX_REDIRECTS: usize = 5;
/// The longest answer about a repository. A page of a list has some 200 bytes per file and at most 1000 files.
const MAX_JSON_BYTES: u64 = 8 << 20;
/// Time between two checks whether a wait should end.
const POLL: Duration = Duration::from_millis(20);

/// Sends requests to one server, and to the servers that it redirects to.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    /// The `Authorization` header, if there is a token that may be sent.
    authorization: Option<String>,
    answer_timeout: Duration,
    stall_timeout: Duration,
    min_rate: u64,
    first_pause: Duration,
    stop: Cancel,
    progress: Arc<dyn Progress>,
}

/// A response whose body has not been read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The digest that the first server states, before redirects. `None` if it does not state one.
    pub(crate) blob: Option<BlobId>,
    pub(crate) body: Body,
}

/// The purpose of a request, which decides how long it may take.
#[derive(Clone, Copy)]
enum Purpose {
    Metadata,
    /// A file, from this byte on.
    File(u64),
}

impl Client {
    /// `stop` ends every wait, and every request that begins after it was raised. [`Self::agent`] ends running
    /// requests.
    pub(crate) fn new(settings: &Settings, stop: Cancel, progress: Arc<dyn Progress>) -> Result<Self, Error> {
        let endpoint = settings.endpoint.clone();
        let wrong = || Error::Request(format!("{}: not the address of a server", excerpt(&endpoint)));
        let origin = Origin::of(&endpoint).ok_or_else(wrong)?;
        let token = settings.token.as_ref().filter(|_| origin.is_private());
        if settings.token.is_some() && token.is_none() {
            progress.note("the token is not sent: HF_ENDPOINT is not https");
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, so that the token goes to one server only.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(settings.answer_timeout))
            // Every thread keeps its connection.
            .max_idle_connections_per_host(survey::MAX_CONNECTIONS)
            .user_agent(concat!("pythia-hub/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        if !origin.is_https() {
            // No proxy for a server on this machine: it could read the token, and it might not reach the server.
            config = config.proxy(None);
        }
        if let Some(path) = &settings.certificates {
            config = config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build());
        }
        Ok(Self {
            agent: config.build().new_agent(),
            authorization: token.map(|token| format!("Bearer {}", token.secret())),
            origin,
            endpoint,
            answer_timeout: settings.answer_timeout,
            stall_timeout: settings.stall_timeout,
            min_rate: settings.min_rate,
            first_pause: settings.first_pause,
            stop,
            progress,
        })
    }

    /// For [`Agent::shutdown`], which ends running requests.
    pub(crate) fn agent(&self) -> Agent {
        self.agent.clone()
    }

    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// The server's address, as the user wrote it.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Starts to measure the rate of a body.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.min_rate, 2 * self.stall_timeout)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.first_pause)
    }

    /// Waits as long as `backoff` says, or gives up.
    pub(crate) fn pause(&self, backoff: &mut Backoff, fault: Fault) -> Result<(), Error> {
        self.check_stop()?;
        let (pause, line) = backoff.after(fault)?;
        self.progress.note(&line);
        let end = Instant::now() + pause;
        while Instant::now() < end {
            self.check_stop()?;
            thread::sleep(POLL.min(pause));
        }
        Ok(())
    }

    /// Returns an error if waits and requests should end.
    pub(crate) fn stop(&self) {
        self.stop.raise();
    }

    /// # Errors
    /// If the download was cancelled, or another file has failed.
    pub(crate) fn check_stop(&self) -> Result<(), Error> {
        if self.stop.is_raised() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Requests `path`, which begins with a slash, or a whole address on the same server, and reads a response of at
    /// most [`MAX_JSON_BYTES`]. Messages call it `what`. A status other than 200 is not an error here.
    pub(crate) fn json(&self, what: &str, path: &str, patience: bool) -> Result<(Answer, Vec<u8>), Error> {
        let url = if path.starts_with('/') { format!("{}{path}", self.endpoint) } else { path.to_owned() };
        if Origin::of(&url).as_ref() != Some(&self.origin) {
            return Err(Error::data(
                what,
                format!("the list goes on at {}, another server", excerpt(url::shown(&url))),
            ));
        }
        let mut backoff = self.backoff();
        loop {
            let fault = match self.try_json(what, &url) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !patience {
                return Err(fault.into_error());
            }
            self.pause(&mut backoff, fault)?;
        }
    }

    fn try_json(&self, what: &str, url: &str) -> Result<(Answer, Vec<u8>), Fault> {
        let mut answer = self.send(what, url, Purpose::Metadata)?;
        let mut bytes = Vec::new();
        let read = answer.body.as_reader().take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.broken(what, &e.to_string()))?;
        if bytes.len() as u64 > MAX_JSON_BYTES {
            let reason = format!("the answer has more than {MAX_JSON_BYTES} bytes");
            return Err(Error::data(what, reason).into());
        }
        Ok((answer, bytes))
    }

    /// Requests a file from byte `from` on. The response may be the whole file.
    pub(crate) fn file(&self, what: &str, path: &str, from: u64) -> Result<Answer, Fault> {
        self.send(what, &format!("{}{path}", self.endpoint), Purpose::File(from))
    }

    /// Sends a request and follows redirects. Statuses that may be temporary are faults.
    fn send(&self, what: &str, url: &str, purpose: Purpose) -> Result<Answer, Fault> {
        let mut url = url.to_owned();
        let mut blob = None;
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = Origin::of(&url).as_ref() == Some(&self.origin);
            let response = self.send_once(what, &url, is_hub, purpose)?;
            let (parts, body) = response.into_parts();
            let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
            if is_hub && blob.is_none() {
                blob = text("x-linked-etag").or_else(|| text("etag")).and_then(BlobId::from_etag);
            }
            let status = parts.status.as_u16();
            match status {
                301 | 302 | 303 | 307 | 308 => {
                    let location = text("location").unwrap_or_default();
                    let wrong = || {
                        let target = excerpt(url::shown(location));
                        Error::data(
                            what,
                            format!("redirected from {} to {target}, which is not followed", url::shown(&url)),
                        )
                    };
                    url = url::join(&url, location).ok_or_else(wrong)?;
                }
                408 | 429 | 500 | 502..=599 => {
                    let reason = format!("{} answered {}", url::shown(&url), parts.status);
                    return Err(Fault::Passing {
                        error: Error::network(what, reason),
                        pause: asked_pause(&parts.headers),
                    });
                }
                _ => return Ok(Answer { status, headers: parts.headers, blob, body }),
            }
        }
        Err(Error::data(what, format!("more than {MAX_REDIRECTS} redirects")).into())
    }

    fn send_once(&self, what: &str, url: &str, is_hub: bool, purpose: Purpose) -> Result<Response<Body>, Fault> {
        self.check_stop()?;
        let mut request = self.agent.get(url);
        if let Some(authorization) = self.authorization.as_ref().filter(|_| is_hub) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let config = request.config();
        let request = match purpose {
            Purpose::Metadata => config.timeout_global(Some(self.answer_timeout)).build(),
            Purpose::File(_) => config
                .timeout_recv_response(Some(self.stall_timeout))
                .timeout_per_read(Some(self.stall_timeout))
                .build(),
        };
        let request = match purpose {
            Purpose::File(from @ 1..) => request.header(header::RANGE, format!("bytes={from}-")),
            _ => request,
        };
        request.call().map_err(|error| {
            let place = url::shown(url);
            match error {
                // rustls reports an untrusted certificate, or a peer without TLS, in this way.
                ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    let reason = format!("{place}: {error} (SSL_CERT_FILE can name the authorities to trust)");
                    Error::network(what, reason).into()
                }
                ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_) => self.broken(what, &format!("{place}: {error}")),
                _ => Error::network(what, format!("{place}: {error}")).into(),
            }
        })
    }

    /// The fault for a connection that broke, possibly by [`Agent::shutdown`].
    pub(crate) fn broken(&self, what: &str, reason: &str) -> Fault {
        match self.check_stop() {
            Ok(()) => Fault::passing(Error::network(what, reason.replace(['\n', '\r'], " "))),
            Err(stopped) => stopped.into(),
        }
    }
}

/// The pause that a server asks for: `Retry-After: 30`, or the end of the Hub's window, `RateLimit: "api";r=0;t=55`.
fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let window = || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="));
    let seconds = text("retry-after").or_else(window)?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// The longest file of certificates. A system has 200 to 250 kB of them.
const CERTIFICATES_LIMIT_BYTES: u64 = 1 << 24;

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<RootCerts, Error> {
    let wrong = |reason: &str| Error::Request(format!("SSL_CERT_FILE: {}: {reason}", path.display()));
    let (file, n_bytes) = pythia_text::open_regular(path).map_err(|e| wrong(&e.to_string()))?;
    if n_bytes > CERTIFICATES_LIMIT_BYTES {
        return Err(wrong(&format!(
            "found {n_bytes} bytes, wanted at most {CERTIFICATES_LIMIT_BYTES} of certificates"
        )));
    }
    let mut pem = Vec::new();
    file.take(CERTIFICATES_LIMIT_BYTES).read_to_end(&mut pem).map_err(Error::io(path))?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(&e.to_string()))? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() { Err(wrong("holds no certificate")) } else { Ok(roots.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = certificates(dir.path()).unwrap_err().to_string();
        assert!(wrong.starts_with("SSL_CERT_FILE: ") && wrong.ends_with("not a regular file"), "{wrong}");
        let path = dir.path().join("none.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let wrong = certificates(&path).unwrap_err().to_string();
        assert!(wrong.ends_with("holds no certificate"), "{wrong}");
    }

    #[test]
    fn the_pause_that_a_server_asks_for() {
        let pause = |name: &'static str, value: &'static str| {
            asked_pause(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(pause("retry-after", "30"), Some(Duration::from_secs(30)));
        assert_eq!(pause("ratelimit", "\"api\";r=0;t=55"), Some(Duration::from_secs(55)));
        assert_eq!(pause("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(pause("retry-after", "-1"), None);
    }
}
