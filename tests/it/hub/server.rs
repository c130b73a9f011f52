//! A server that plays the Hugging Face Hub on this machine, well enough for `huggingface_hub` 2.4 to download from it,
//! and badly where it is told to.
//!
//! Small files it sends itself; for weights it redirects to a second port, which plays the content network that the Hub
//! stores large files in. Every request is recorded.

use pythia_text::hex;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a private or gated repository wants to see.
pub(crate) const TOKEN: &str = "hf_aSecretOfTheTests";

/// Files by name.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// A repository of a model or a dataset.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    /// `OWNER/NAME`, or `datasets/OWNER/NAME`
    pub(crate) id: String,
    /// Branches and the files at their head.
    pub(crate) branches: BTreeMap<String, Files>,
    /// The error code that whoever comes without [`TOKEN`] gets: `GatedRepo`, `RepoNotFound`.
    pub(crate) guard: Option<&'static str>,
    /// Commits of the branches, as far as they were asked for: what a server knows without reading the files.
    commits: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Repo {
    /// A repository with these files on `main`.
    pub(crate) fn new(id: &str, files: Files) -> Self {
        let branches = [("main".to_owned(), files)].into();
        Self { id: id.to_owned(), branches, guard: None, commits: Arc::default() }
    }

    /// The commit of a branch.
    fn commit(&self, branch: &str, files: &Files) -> String {
        self.commits.lock().unwrap().entry(branch.to_owned()).or_insert_with(|| commit(files)).clone()
    }

    /// The files of a branch or commit, and the commit.
    fn at(&self, revision: &str) -> Option<(String, &Files)> {
        let mut branches = self.branches.iter().map(|(name, files)| (name, self.commit(name, files), files));
        branches
            .find(|(name, commit, _)| *name == revision || commit == revision)
            .map(|(_, commit, files)| (commit, files))
    }
}

/// What the server does instead of answering as it should.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Closes the connection after so many bytes of the body.
    Drop(usize),
    /// Another status, with these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// Flips a bit of the first byte.
    Corrupt,
    /// Sends headers and so many bytes, then nothing for so long.
    Stall(usize, Duration),
    /// Sends the whole file whatever was asked for.
    IgnoreRange,
    /// A header that was not there, or was otherwise.
    Header(&'static str, &'static str),
    /// Another body.
    Body(Vec<u8>),
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The port that plays the content network, not the Hub itself.
    pub(crate) is_cdn: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Bytes of body that were sent.
    pub(crate) sent: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Default)]
struct State {
    repos: Vec<Repo>,
    /// Part of a path, how often, what.
    faults: Vec<(String, usize, Fault)>,
    requests: Vec<Request>,
    /// How many were opened.
    connections: usize,
    /// Bytes per second and connection.
    rate: Option<usize>,
    /// What all addresses begin with.
    prefix: String,
}

/// The server. It runs until the process ends.
#[derive(Debug)]
pub(crate) struct FakeHub {
    hub: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeHub {
    /// Starts on two free ports of 127.0.0.1.
    pub(crate) fn start(repos: Vec<Repo>) -> Self {
        Self::start_at(repos, 0).expect("a port")
    }

    /// Starts with the Hub on this port.
    pub(crate) fn start_at(repos: Vec<Repo>, port: u16) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State { repos, ..State::default() }));
        let (hub, cdn) = (TcpListener::bind(("127.0.0.1", port))?, TcpListener::bind("127.0.0.1:0")?);
        let (hub_address, cdn_address) = (hub.local_addr()?, cdn.local_addr()?);
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || {
                        state.lock().unwrap().connections += 1;
                        // The body is sent at once, not when the client has confirmed the head.
                        let _ = stream.set_nodelay(true);
                        // A client that goes away is no concern of the server.
                        while let Ok(true) = serve(&stream, is_cdn, cdn_address, &state) {}
                    });
                }
            });
        }
        Ok(Self { hub: hub_address, state })
    }

    /// For `HF_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        let prefix = self.state.lock().unwrap().prefix.clone();
        format!("http://{}{prefix}", self.hub)
    }

    /// From now on all addresses begin with this path.
    pub(crate) fn set_prefix(&self, prefix: &str) {
        self.state.lock().unwrap().prefix = prefix.to_owned();
    }

    /// No connection sends more than this many bytes per second.
    pub(crate) fn set_rate(&self, rate: usize) {
        self.state.lock().unwrap().rate = Some(rate);
    }

    /// The next `times` requests whose path contains `part` meet `fault`.
    pub(crate) fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push((part.to_owned(), times, fault));
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Replaces what a branch holds.
    pub(crate) fn push(&self, id: &str, branch: &str, files: Files) {
        let mut state = self.state.lock().unwrap();
        let repo = state.repos.iter_mut().find(|repo| repo.id == id).expect("a repository");
        repo.branches.insert(branch.to_owned(), files);
        repo.commits.lock().unwrap().remove(branch);
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// What was asked since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// The commit of a set of files: a digest, so the same files are the same commit.
pub(crate) fn commit(files: &Files) -> String {
    let mut hasher = Sha1::new();
    for (name, bytes) in files {
        hasher.update(format!("{name}\0{}\0", bytes.len()));
        hasher.update(Sha256::digest(&bytes[..]));
    }
    hex(&hasher.finalize())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn git_sha1(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".parquet"].iter().any(|end| name.ends_with(end))
}

fn entity(name: &str, bytes: &[u8]) -> String {
    if is_large(name) { sha256(bytes) } else { git_sha1(bytes) }
}

/// An answer before faults.
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
}

impl Response {
    fn new(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: Arc::new(body) }
    }

    fn json(value: &Value) -> Self {
        Self::new(200, &[("Content-Type", "application/json")], value.to_string().into_bytes())
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": message }).to_string().into_bytes();
        Self::new(status, &[("X-Error-Code", code), ("X-Error-Message", message)], body)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }
}

/// Answers one request. Whether another may follow on the connection: on that of the Hub, if nothing went wrong.
fn serve(stream: &TcpStream, is_cdn: bool, cdn: SocketAddr, state: &Mutex<State>) -> io::Result<bool> {
    let Some(request) = read_request(stream, is_cdn)? else { return Ok(false) };
    let (mut response, fault, rate, index) = {
        let mut state = state.lock().unwrap();
        let index = state.requests.len();
        state.requests.push(request.clone());
        let response = answer(&state, &request, cdn);
        let found = state.faults.iter_mut().find(|(part, times, _)| *times > 0 && request.path.contains(part.as_str()));
        let fault = found.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        });
        (response, fault, state.rate, index)
    };
    let is_kept = !is_cdn && fault.is_none() && request.header("connection") != Some("close");
    let mut limit = usize::MAX;
    let mut pause = Duration::ZERO;
    let mut ignores_range = false;
    let mut header = None;
    match fault {
        None => {}
        Some(Fault::Drop(n)) => limit = n,
        Some(Fault::Stall(n, time)) => (limit, pause) = (n, time),
        Some(Fault::Status(status, headers)) => response = Response::new(status, headers, b"{}".to_vec()),
        Some(Fault::Corrupt) => Arc::make_mut(&mut response.body)[0] ^= 1,
        Some(Fault::IgnoreRange) => ignores_range = true,
        Some(Fault::Header(name, value)) => header = Some((name, value)),
        Some(Fault::Body(body)) => response.body = Arc::new(body),
    }
    let range = request.header("range").filter(|_| response.status == 200 && !ignores_range);
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let size = response.body.len();
    if from > 0 && from >= size {
        response = Response::new(416, &[], Vec::new());
    } else if from > 0 {
        response.status = 206;
        response.set("Content-Range", &format!("bytes {from}-{}/{size}", size - 1));
    }
    // After the range, which has headers too.
    if let Some((name, value)) = header {
        response.set(name, value);
    }
    response.set("Connection", if is_kept { "keep-alive" } else { "close" });
    let body = &response.body[if response.status == 206 { from } else { 0 }..];
    send(stream, &request, &response, body, limit, rate, |sent| {
        if let Some(request) = state.lock().unwrap().requests.get_mut(index) {
            request.sent = sent;
        }
    })?;
    thread::sleep(pause);
    Ok(is_kept)
}

fn read_request(stream: &TcpStream, is_cdn: bool) -> io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { is_cdn, method, path, headers, sent: 0 }))
}

fn send(
    mut stream: &TcpStream,
    request: &Request,
    response: &Response,
    body: &[u8],
    limit: usize,
    rate: Option<usize>,
    record: impl Fn(usize),
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &body[..body.len().min(limit)];
    let slice = rate.map_or(1 << 16, |rate| (rate / 20).max(1));
    let mut sent = 0;
    for part in body.chunks(slice) {
        stream.write_all(part)?;
        sent += part.len();
        record(sent);
        if rate.is_some() {
            thread::sleep(Duration::from_millis(50));
        }
    }
    stream.flush()
}

fn answer(state: &State, request: &Request, cdn: SocketAddr) -> Response {
    let not_found = || Response::error(404, "RepoNotFound", "Repository not found");
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(digest) = path.strip_prefix("/blob/").filter(|_| request.is_cdn) {
        let mut files = state.repos.iter().flat_map(|repo| repo.branches.values().flatten());
        let found = files.find(|(_, bytes)| sha256(bytes) == digest);
        // As content networks do: an entity tag of their own.
        let headers = [("ETag".to_owned(), "\"0123456789abcdef\"".to_owned())].to_vec();
        return found.map_or_else(not_found, |(_, bytes)| Response { status: 200, headers, body: Arc::clone(bytes) });
    }
    let Some(path) = path.strip_prefix(&state.prefix) else { return not_found() };
    let segments: Vec<String> = path.trim_start_matches('/').split('/').map(unescape).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (repo, rest) = match segments[..] {
        ["api", "models", owner, name, ref rest @ ..] => (format!("{owner}/{name}"), rest),
        ["api", "datasets", owner, name, ref rest @ ..] | ["datasets", owner, name, ref rest @ ..] => {
            (format!("datasets/{owner}/{name}"), rest)
        }
        [owner, name, ref rest @ ..] => (format!("{owner}/{name}"), rest),
        _ => return not_found(),
    };
    let Some(repo) = state.repos.iter().find(|other| other.id == repo) else { return not_found() };
    if let Some(code) = repo.guard
        && request.header("authorization") != Some(&format!("Bearer {TOKEN}"))
    {
        return Response::error(401, code, "Access is restricted");
    }
    let no_revision = || Response::error(404, "RevisionNotFound", "Invalid rev id");
    match *rest {
        ["refs"] => refs(repo),
        ["revision", revision] => repo.at(revision).map_or_else(no_revision, |(commit, files)| {
            let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            Response::json(&json!({ "id": repo.id, "modelId": repo.id, "sha": commit, "siblings": siblings }))
        }),
        ["tree", revision] => {
            let is_deep = request.path.contains("recursive=");
            repo.at(revision).map_or_else(no_revision, |(_, files)| tree(files, is_deep))
        }
        ["resolve", revision, ref name @ ..] => {
            let name = &*name.join("/");
            let Some((commit, files)) = repo.at(revision) else { return no_revision() };
            let mut response = match files.get(name) {
                None => Response::error(404, "EntryNotFound", "Entry not found"),
                Some(bytes) => resolve(name, bytes, cdn),
            };
            response.set("X-Repo-Commit", &commit);
            response
        }
        _ => not_found(),
    }
}

fn refs(repo: &Repo) -> Response {
    let branches = repo.branches.iter().map(
        |(name, files)| json!({ "name": name, "ref": format!("refs/heads/{name}"), "targetCommit": repo.commit(name, files) }),
    );
    Response::json(&json!({ "branches": branches.collect::<Vec<_>>(), "tags": [], "converts": [] }))
}

fn tree(files: &Files, is_deep: bool) -> Response {
    let entry = |(name, bytes): (&String, &Arc<Vec<u8>>)| {
        let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git_sha1(bytes) });
        if is_large(name) {
            entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 135 });
        }
        entry
    };
    let folder = json!({ "type": "directory", "path": "runs", "size": 0, "oid": "0".repeat(40) });
    let listed = files.iter().filter(|(name, _)| is_deep || !name.contains('/'));
    let entries: Vec<Value> = listed.map(entry).chain([folder]).collect();
    Response::json(&Value::from(entries))
}

fn resolve(name: &str, bytes: &Arc<Vec<u8>>, cdn: SocketAddr) -> Response {
    let etag = format!("\"{}\"", entity(name, bytes));
    if !is_large(name) {
        return Response { status: 200, headers: vec![("ETag".to_owned(), etag)], body: Arc::clone(bytes) };
    }
    let location = format!("http://{cdn}/blob/{}?signature=secret", sha256(bytes));
    let size = bytes.len().to_string();
    let headers = [("Location", &*location), ("X-Linked-ETag", &etag), ("X-Linked-Size", &size)];
    Response::new(302, &headers, Vec::new())
}

/// Undoes percent-encoding.
fn unescape(segment: &str) -> String {
    let mut parts = segment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
