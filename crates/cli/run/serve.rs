//! `pythia-run serve`: an HTTP server.

use super::drafting::DraftArgs;
use super::model::{Passes, RunArgs};
use crate::exit::{self, Failure};
use pythia_runtime::draft::Drafting;
use pythia_server::{NamedModel, Options, Server};
use pythia_text::Line;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Serve completions and log-likelihoods over HTTP
///
/// The endpoints are those of OpenAI's completions, with what lm-evaluation-harness and llama-server's users expect
/// beside them; /openapi.json describes them, and / is a page to try them. Prints the address once it listens. Without
/// --host only this machine can connect.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model: a GGUF file, or the first file of a split model, as FILE or NAME=FILE; may be repeated for several levels
    /// of one model [default name: the file's name without .gguf]
    #[arg(short, long, value_name = "[NAME=]FILE", required = true)]
    model: Vec<OsString>,
    /// Name or address of this machine to listen at; 0.0.0.0 for all that it has
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Key that requests must present: Authorization: Bearer KEY [default: PYTHIA_API_KEY of the environment, where
    /// other users do not see it]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Maximum length of a text, in tokens; 0 for one more than the model was trained for
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    ctx_size: usize,
    /// Texts that each model works on at the same time; each takes memory for its context
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallel: usize,
    /// Requests that may wait; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_queue: usize,
    /// Seconds for running requests to end after Ctrl-C or SIGTERM; a second signal ends the server at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u64,
    /// Seconds for a client to send a request, to take a piece of the answer, and between two requests of a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Another name of this machine in requests, as a reverse proxy may use; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin of web pages that may use the server, such as https://example.org; * for all; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Answer /metrics
    #[arg(long, value_name = "on|off", default_value = "on", default_missing_value = "on", num_args = 0..=1,
        require_equals = true, value_parser = on_off)]
    metrics: bool,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    how: RunArgs,
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("found '{text}', wanted on or off")),
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let named = names(&args.model)?;
    let models =
        named.into_iter().map(|(name, path)| Ok(NamedModel { name, model: args.how.model(&path, Passes::Many)? }));
    let models = models.collect::<Result<Vec<_>, Failure>>()?;
    let draft = draft(args, &models)?;
    let options = Options {
        host: args.host.clone(),
        port: args.port,
        api_key: api_key(args)?,
        n_ctx: args.ctx_size,
        parallel: args.parallel,
        max_queue: args.max_queue,
        grace: Duration::from_secs(args.grace),
        timeout: Duration::from_secs(args.timeout),
        allow_hosts: args.allow_host.clone(),
        allow_origins: args.allow_origin.clone(),
        metrics: args.metrics,
        draft,
    };
    let server = Server::start(models, options)?;
    let stop = exit::catch_interrupts();
    // The server itself ends within the grace and a little more.
    exit::extend_grace(Duration::from_secs(args.grace.saturating_add(5)));
    if server.is_open() {
        exit::note(format_args!(
            "warning: anybody who reaches {} can use this server; --api-key or PYTHIA_API_KEY sets a key",
            server.address()
        ));
    }
    exit::print(&format!("listening at http://{}\n", server.address()))?;
    let all_ended = server.run(stop)?;
    match all_ended {
        true => Err(Failure::interrupted_with("stopped; all requests were answered")),
        false => Err(Failure::interrupted_with("stopped; requests that took longer than --grace were cut off")),
    }
}

/// The draft, checked against the first model; the server checks that all share its tokenizer.
fn draft(args: &Args, models: &[NamedModel]) -> Result<Option<Drafting>, Failure> {
    let (Some(path), Some(first)) = (args.model.first(), models.first()) else { return Ok(None) };
    let tokenizer = super::model::tokenizer(first.model.gguf(), &split(path).1)?;
    args.draft.open(&tokenizer, |path| args.how.open(path, Passes::Many))
}

fn api_key(args: &Args) -> Result<Option<String>, Failure> {
    const VARIABLE: &str = "PYTHIA_API_KEY";
    let (name, key) = match (&args.api_key, std::env::var(VARIABLE)) {
        (Some(key), _) => ("--api-key", key.clone()),
        (None, Ok(key)) => (VARIABLE, key),
        (None, Err(std::env::VarError::NotPresent)) => return Ok(None),
        // A key that is not used would leave the server open.
        (None, Err(std::env::VarError::NotUnicode(_))) => {
            return Err(Failure::usage(format_args!("{VARIABLE}: wanted UTF-8")));
        }
    };
    match key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err(Failure::usage(format_args!("{name}: wanted visible ASCII characters without spaces"))),
        false => Ok(Some(key)),
    }
}

/// Name and file of every model. Text before `=` is a name unless the whole is a file that is there.
fn names(models: &[OsString]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut seen = HashSet::new();
    let mut named = Vec::new();
    for model in models {
        let (name, path) = split(model);
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return Err(Failure::usage(format_args!("--model: found the name '{}', wanted text", Line(&name))));
        }
        if !seen.insert(name.clone()) {
            let name = Line(&name);
            return Err(Failure::usage(format_args!(
                "--model: two files are named '{name}'; NAME=FILE gives one another name"
            )));
        }
        named.push((name, path));
    }
    Ok(named)
}

fn split(model: &OsStr) -> (String, PathBuf) {
    let path = Path::new(model);
    match model.to_str().and_then(|text| text.split_once('=')) {
        Some((name, file)) if !path.exists() => (name.to_owned(), file.into()),
        _ => (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_by_option_or_file() {
        let of = |models: &[&str]| names(&models.iter().map(OsString::from).collect::<Vec<_>>());
        let named = of(&["a/pythia-70m-Q4_0.gguf", "base=b/x=y.gguf"]).unwrap();
        let wanted = [("pythia-70m-Q4_0", "a/pythia-70m-Q4_0.gguf"), ("base", "b/x=y.gguf")];
        assert_eq!(named, wanted.map(|(name, path)| (name.to_owned(), PathBuf::from(path))));
        assert!(of(&["a/x.gguf", "b/x.gguf"]).is_err());
        assert!(of(&["=x.gguf"]).is_err());
    }
}
