//! Settings from the environment, in the variables that `huggingface_hub` reads.

use crate::url::Origin;
use crate::{Error, secret};
use pythia_text::ReadError;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The Hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// A server that sends less only stalls the program. (A modem has some 5000 bytes per second.)
const MIN_RATE: u64 = 1000;

/// Maximum size of a token file. A token has some 40 bytes.
const TOKEN_LIMIT_BYTES: usize = 4096;

/// Where the cache is, which server to ask, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server, without a slash at its end: `HF_ENDPOINT`.
    pub endpoint: String,
    /// The user's token, if there is one: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`.
    pub token: Option<Token>,
    /// The folder of all repositories: `HF_HUB_CACHE`.
    pub cache: PathBuf,
    /// Open no connection: `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// How long an answer about a repository may take: `HF_HUB_ETAG_TIMEOUT`, in seconds.
    pub answer_timeout: Duration,
    /// How long a download may receive nothing: `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
    pub stall_timeout: Duration,
    /// Lowest rate of a download, in bytes per second over two times [`Self::stall_timeout`]. A slower one is ended and
    /// tried again: `PYTHIA_HUB_MIN_RATE`.
    pub min_rate: u64,
    /// Variant of the weights, such as `fp16`. Not from the environment.
    pub variant: Option<String>,
    /// Show no progress bar: `HF_HUB_DISABLE_PROGRESS_BARS`.
    pub hide_progress: bool,
    /// PEM file of the certificate authorities to trust in place of the built-in ones: `SSL_CERT_FILE`.
    pub certificates: Option<PathBuf>,
    /// The pause before something is tried again; it doubles each time: `PYTHIA_HUB_RETRY_MS`, in milliseconds.
    pub first_pause: Duration,
}

/// A secret. No message shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `text`, without surrounding space. `None` if it is empty.
    ///
    /// # Errors
    /// If it has a character that a header cannot have.
    fn new(text: &str, place: &str) -> Result<Option<Self>, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > TOKEN_LIMIT_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Request(format!("{place}: not a token of the Hub")));
        }
        secret::remember(text);
        Ok(Some(Self(text.to_owned())))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Settings {
    /// Reads the environment through `variable`. An empty variable counts as unset.
    ///
    /// # Errors
    /// If a variable has a value that cannot be used.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let env = Env(&|name| variable(name).filter(|value| !value.is_empty()));
        let offline = env.text("HF_HUB_OFFLINE")?.or(env.text("TRANSFORMERS_OFFLINE")?);
        Ok(Self {
            endpoint: env.endpoint()?,
            token: env.token()?,
            cache: env.cache()?,
            offline: offline.is_some_and(|value| is_true(&value)),
            answer_timeout: env.number("HF_HUB_ETAG_TIMEOUT")?.map_or(Duration::from_secs(10), Duration::from_secs),
            stall_timeout: env.number("HF_HUB_DOWNLOAD_TIMEOUT")?.map_or(Duration::from_secs(10), Duration::from_secs),
            min_rate: env.number("PYTHIA_HUB_MIN_RATE")?.unwrap_or(MIN_RATE),
            variant: None,
            hide_progress: env.is_set("HF_HUB_DISABLE_PROGRESS_BARS")?,
            certificates: env.path("SSL_CERT_FILE"),
            first_pause: Duration::from_millis(env.number("PYTHIA_HUB_RETRY_MS")?.unwrap_or(1000)),
        })
    }
}

struct Env<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Env<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let not_text = |_| Error::Request(format!("{name}: not UTF-8"));
        (self.0)(name).map(|value| value.into_string().map_err(not_text)).transpose()
    }

    fn is_set(&self, name: &str) -> Result<bool, Error> {
        Ok(self.text(name)?.is_some_and(|value| is_true(&value)))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) if (1..=86_400_000).contains(&number) => Ok(Some(number)),
            _ => Err(Error::Request(format!("{name}: found {text:?}, wanted a number from 1"))),
        }
    }

    /// A path in which `~` means the home folder.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from((self.0)(name)?);
        match (path.strip_prefix("~"), self.home()) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        }
    }

    fn home(&self) -> Option<PathBuf> {
        (self.0)("HOME").or_else(|| (self.0)("USERPROFILE")).map(PathBuf::from)
    }

    /// `HF_HOME`, or its default.
    fn hf_home(&self) -> Option<PathBuf> {
        let default =
            || Some(self.path("XDG_CACHE_HOME").or_else(|| Some(self.home()?.join(".cache")))?.join("huggingface"));
        self.path("HF_HOME").or_else(default)
    }

    fn cache(&self) -> Result<PathBuf, Error> {
        let named = self.path("HF_HUB_CACHE").or_else(|| self.path("HUGGINGFACE_HUB_CACHE"));
        let cache = named.or_else(|| Some(self.hf_home()?.join("hub")));
        cache.ok_or_else(|| Error::Request("no home folder for the cache of the Hub; set HF_HUB_CACHE".to_owned()))
    }

    fn endpoint(&self) -> Result<String, Error> {
        let Some(text) = self.text("HF_ENDPOINT")? else { return Ok(ENDPOINT.to_owned()) };
        let text = text.trim().trim_end_matches('/');
        // The value is not shown, because it may contain a password.
        let wrong = || Error::Request("HF_ENDPOINT: wanted an address such as https://huggingface.co".to_owned());
        Origin::of(text).filter(|_| !text.contains(['?', '#'])).ok_or_else(wrong)?;
        Ok(text.to_owned())
    }

    fn token(&self) -> Result<Option<Token>, Error> {
        if self.is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")? {
            return Ok(None);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(token) = Token::new(&self.text(name)?.unwrap_or_default(), name)? {
                return Ok(Some(token));
            }
        }
        let path = self.path("HF_TOKEN_PATH").or_else(|| Some(self.hf_home()?.join("token")));
        path.map_or(Ok(None), |path| token_file(&path))
    }
}

/// The longest file that may hold a token.
const TOKEN_FILE_LIMIT_BYTES: u64 = 1 << 16;

/// The token in a file, if there is such a file.
fn token_file(path: &Path) -> Result<Option<Token>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = pythia_text::read_text(path, TOKEN_FILE_LIMIT_BYTES).map_err(|error| match error {
        ReadError::Io(source) => Error::io(path)(source),
        ReadError::Refused(reason) => Error::Request(format!("{}: {reason}", path.display())),
    })?;
    Token::new(&text, &path.display().to_string())
}

/// Whether a variable of the Hub means yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Settings::from_env(find)
    }

    #[test]
    fn the_cache_is_where_the_first_variable_says() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let wanted = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (first, wanted) in wanted.iter().enumerate() {
            assert_eq!(settings(&all[first..]).unwrap().cache, Path::new(wanted));
        }
        assert_eq!(settings(&[("HF_HUB_CACHE", "~/x"), ("HOME", "/e")]).unwrap().cache, Path::new("/e/x"));
        assert_eq!(settings(&[("HF_HUB_CACHE", ""), ("HOME", "/e")]).unwrap().cache, Path::new(wanted[4]));
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn the_endpoint_is_an_address_without_a_slash_at_its_end() {
        let endpoint = |text| settings(&[("HOME", "/"), ("HF_ENDPOINT", text)]).map(|settings| settings.endpoint);
        assert_eq!(endpoint("").unwrap(), "https://huggingface.co");
        assert_eq!(endpoint("http://127.0.0.1:80/mirror//").unwrap(), "http://127.0.0.1:80/mirror");
        for wrong in ["hub.co", "file:///x", "https://me:secret@hub.co", "https://hub.co?x"] {
            let message = endpoint(wrong).unwrap_err().to_string();
            assert!(message.starts_with("HF_ENDPOINT: ") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_token_comes_from_variable_or_file_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), " hf_file\n").unwrap();
        std::fs::write(dir.path().join("other"), "hf_other").unwrap();
        let (home, other) = (dir.path().to_str().unwrap(), dir.path().join("other"));
        let all = [("HF_TOKEN", "hf_variable"), ("HF_TOKEN_PATH", other.to_str().unwrap()), ("HF_HOME", home)];
        for (first, wanted) in ["hf_variable", "hf_other", "hf_file"].iter().enumerate() {
            let settings = settings(&all[first..]).unwrap();
            assert_eq!(settings.token.as_ref().unwrap().secret(), *wanted);
            assert!(!format!("{settings:?}").contains(wanted), "{settings:?}");
        }
        let refused = settings(&[all[0], all[2], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap();
        assert_eq!(refused.token, None);
        let message = settings(&[("HF_TOKEN", "two words"), ("HF_HOME", home)]).unwrap_err().to_string();
        assert!(message.starts_with("HF_TOKEN: ") && !message.contains("two"), "{message}");
    }

    #[test]
    fn switches_and_numbers_are_read() {
        let read = |name, value| settings(&[("HOME", "/"), (name, value)]);
        for yes in ["1", "true", "ON", "Yes"] {
            assert!(read("HF_HUB_OFFLINE", yes).unwrap().offline);
            assert!(read("TRANSFORMERS_OFFLINE", yes).unwrap().offline);
        }
        assert!(!read("HF_HUB_OFFLINE", "0").unwrap().offline);
        assert_eq!(read("HF_HUB_DOWNLOAD_TIMEOUT", "30").unwrap().stall_timeout, Duration::from_secs(30));
        assert!(read("HF_HUB_ETAG_TIMEOUT", "soon").unwrap_err().to_string().contains("\"soon\""));
    }
}
