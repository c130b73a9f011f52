//! Documents through a model.

use crate::encode::Encoder;
use crate::journal::{Lock, Writer};
use crate::replies::{AskId, REPLIES, Replies};
use crate::{Asks, DEFAULT_MAX_TOKENS, Doc, Error, Reply, Row};
use pythia_model::Model;
use pythia_runtime::draft::Drafting;
use pythia_runtime::score::{self, Ask, Settings};
use pythia_runtime::{GenerateOptions, Tokenizer};
use pythia_task::{Cancel, Progress};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model that is evaluated.
#[derive(Debug)]
pub struct Subject {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    drafting: Option<Drafting>,
    journal: Option<Replies>,
}

/// A request as tokens.
#[derive(Clone, Debug)]
enum Request {
    Score(Ask),
    Generate { prompt: Vec<u32>, until: Vec<String>, max_tokens: usize },
}

/// Who keeps the replies of a model.
#[derive(Debug)]
pub enum Keeping {
    /// This run does.
    ByThis(Kept),
    /// Another run does, at this time.
    ByOther,
    /// Nobody, since the file system knows no locks.
    Nowhere,
}

/// A journal that this run writes. No other run does while this value lives, not even when the model is closed.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    _lock: Lock,
}

impl Kept {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Subject {
    /// A model without a journal.
    pub fn new(model: Arc<Model>, tokenizer: impl Into<Arc<Tokenizer>>) -> Self {
        Self { model, tokenizer: tokenizer.into(), drafting: None, journal: None }
    }

    /// Drafts tokens of the texts that it writes, which stay the same.
    #[must_use]
    pub fn drafted_by(mut self, drafting: Option<Drafting>) -> Self {
        self.drafting = drafting;
        self
    }

    /// Keeps replies in a journal in `folder`, and takes those that are there unless `afresh`. `key` is a digest of all
    /// that replies depend on except what is asked: the files of the model, the program, how the model runs.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn keep_in(&mut self, folder: &Path, key: &str, afresh: bool) -> Result<Keeping, Error> {
        let path = REPLIES.path(folder, key);
        let replies = Replies::open(&path, key, afresh).map_err(Error::io(&path))?;
        let keeping = match replies.journal().writer() {
            Writer::This => {
                let lock = replies.journal().lock();
                Keeping::ByThis(Kept { path, _lock: lock })
            }
            Writer::Other => Keeping::ByOther,
            Writer::Nobody => Keeping::Nowhere,
        };
        self.journal = Some(replies);
        Ok(keeping)
    }

    /// Whether the journal had replies from the start that no task has asked for: those of another run that was stopped.
    pub fn has_unused_replies(&self) -> bool {
        self.journal.as_ref().is_some_and(Replies::has_unused)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The replies to requests that belong to no task, in their order: of each, as many as it has continuations or
    /// windows.
    ///
    /// # Errors
    /// If a request does not fit the model, the model fails, or the run is cancelled.
    pub fn answer(
        &mut self,
        asks: impl IntoIterator<Item = Asks>,
        cancel: &Cancel,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Reply>>, Error> {
        let doc = |(id, asks)| Doc { id, row: Row::new(), target: String::new(), asks };
        let docs: Vec<Doc> = asks.into_iter().enumerate().map(doc).collect();
        self.replies("requests", &docs, cancel, progress)
    }

    /// The replies to every document of a task, in their order. `progress` advances by the [size](size) of each document.
    ///
    /// # Errors
    /// If a request does not fit the model, the model fails, or the run is cancelled. Replies so far are in the journal.
    pub(crate) fn replies(
        &mut self,
        task: &str,
        docs: &[Doc],
        cancel: &Cancel,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Reply>>, Error> {
        let encoder = Encoder::new(&self.tokenizer, self.model.hparams().n_ctx)?;
        let requests = |doc: &Doc| {
            requests(&encoder, &doc.asks).map_err(|error| match error {
                Error::Data { what, problem } => Error::data(format!("{task}: document {}: {what}", doc.id), problem),
                Error::Request(problem) => Error::Request(format!("{task}: {problem}")),
                error => error,
            })
        };
        let identified = |doc: &Doc| {
            let requests = requests(doc)?;
            Ok::<Vec<_>, Error>(requests.into_iter().map(|request| (request.id(), request)).collect())
        };
        let requests: Vec<Vec<(AskId, Request)>> = docs.par_iter().map(identified).collect::<Result<_, _>>()?;
        let asked: Vec<Vec<AskId>> = requests.iter().map(|of| of.iter().map(|(id, _)| *id).collect()).collect();
        // Each is run once, however often it is asked.
        let mut run = Run { replies: HashMap::new(), waiting: HashMap::new(), left: Vec::new(), progress, task, docs };
        let end = self.tokenizer.eos().map(|eos| self.tokenizer.decode(&[eos], false)).unwrap_or_default();
        let (mut asks, mut ask_ids) = (Vec::new(), Vec::new());
        let (mut prompts, mut prompt_ids) = (Vec::new(), Vec::new());
        for (doc, requests) in requests.into_iter().enumerate() {
            let mut ids = asked[doc].clone();
            ids.sort_unstable();
            ids.dedup();
            run.left.push(ids.len());
            for id in ids {
                run.waiting.entry(id).or_default().push(doc);
            }
            for (id, request) in requests {
                if run.replies.contains_key(&id) {
                    continue;
                }
                let known = self.journal.as_mut().and_then(|journal| journal.get(&id)).cloned();
                if known.is_none() {
                    match request {
                        Request::Score(ask) => {
                            ask_ids.push(id);
                            asks.push(ask);
                        }
                        Request::Generate { prompt, until, max_tokens } => {
                            prompt_ids.push(id);
                            let draft = self.drafting.clone();
                            prompts.push((prompt, GenerateOptions { draft, ..greedy(until, max_tokens, &end) }));
                        }
                    }
                }
                run.replies.insert(id, known);
            }
        }
        run.begin();
        let settings = Settings { memory: None, parallel: 0, n_ctx: 0, cancel };
        let journal = &mut self.journal;
        let mut keep = |id: AskId, reply: Reply, run: &mut Run<'_>| {
            if let Some(error) = journal.as_mut().and_then(|journal| journal.append(id, &reply).err()) {
                *journal = None;
                progress
                    .note(&format!("replies cannot be kept: {error}; if this run is stopped, it cannot be resumed"));
            }
            run.done(id, reply);
        };
        score::score(&self.model, &asks, &settings, &mut |i, score| keep(ask_ids[i], Reply::Score(score), &mut run))?;
        score::generate_all(&self.model, &self.tokenizer, &prompts, &settings, &mut |i, generator| {
            let text = cut(self.tokenizer.decode(generator.ids(), true), &prompts[i].1.stop);
            keep(prompt_ids[i], Reply::Text(text), &mut run);
        })?;
        let reply = |id: &AskId| run.replies.get(id).cloned().flatten();
        // Both calls above have replied to everything.
        Ok(asked.iter().map(|ids| ids.iter().filter_map(reply).collect()).collect())
    }
}

/// A task under way.
struct Run<'a> {
    /// By request; `None` while it waits.
    replies: HashMap<AskId, Option<Reply>>,
    /// Documents that wait for a request.
    waiting: HashMap<AskId, Vec<usize>>,
    /// Requests that each document waits for.
    left: Vec<usize>,
    progress: &'a dyn Progress,
    task: &'a str,
    docs: &'a [Doc],
}

impl Run<'_> {
    /// Counts what is known from the start.
    fn begin(&mut self) {
        // An empty text asks nothing.
        (0..self.docs.len()).filter(|&doc| self.left[doc] == 0).for_each(|doc| self.advance(doc));
        let known: Vec<AskId> = self.replies.iter().filter(|(_, reply)| reply.is_some()).map(|(id, _)| *id).collect();
        known.iter().for_each(|id| self.count(id));
    }

    fn done(&mut self, id: AskId, reply: Reply) {
        self.replies.insert(id, Some(reply));
        self.count(&id);
    }

    fn count(&mut self, id: &AskId) {
        for doc in self.waiting.remove(id).unwrap_or_default() {
            self.left[doc] -= 1;
            if self.left[doc] == 0 {
                self.advance(doc);
            }
        }
    }

    fn advance(&self, doc: usize) {
        self.progress.advance(self.task, i64::try_from(size(&self.docs[doc])).unwrap_or(i64::MAX));
    }
}

/// A measure of the work that a document is: its bytes, a context that its choices share counted once.
pub(crate) fn size(doc: &Doc) -> u64 {
    let bytes = match &doc.asks {
        Asks::Choices { pairs, .. } => {
            let mut last = None;
            let bytes = pairs.iter().map(|(context, continuation)| {
                let is_new = last.replace(context) != Some(context);
                continuation.len() + if is_new { context.len() } else { 0 }
            });
            bytes.sum()
        }
        Asks::LogLikelihood { context, continuation } => context.len() + continuation.len(),
        Asks::Rolling { text, .. } => text.len(),
        // A generated token takes as long as dozens of a prompt, of four bytes each.
        Asks::Generate { context, max_tokens, .. } => context.len() + 100 * max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
    };
    bytes as u64
}

fn requests(encoder: &Encoder<'_>, asks: &Asks) -> Result<Vec<Request>, Error> {
    match asks {
        Asks::Choices { pairs, .. } => {
            let asks = encoder.pairs(pairs.iter().map(|(context, continuation)| (&**context, &**continuation)))?;
            Ok(asks.into_iter().map(Request::Score).collect())
        }
        Asks::LogLikelihood { context, continuation } => {
            Ok(encoder.pairs([(&**context, &**continuation)])?.into_iter().map(Request::Score).collect())
        }
        Asks::Rolling { text, .. } => Ok(encoder.rolling(text)?.into_iter().map(Request::Score).collect()),
        Asks::Generate { context, until, max_tokens, .. } => {
            let max_tokens = max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
            let prompt = encoder.prompt(context, max_tokens)?;
            Ok(vec![Request::Generate { prompt, until: until.clone(), max_tokens }])
        }
    }
}

impl Request {
    fn id(&self) -> AskId {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            // Lengths are included, so that the boundaries are unambiguous.
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let bytes = |tokens: &[u32]| tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>();
        match self {
            Self::Score(Ask { tokens, first }) => {
                add(b"score");
                add(&bytes(tokens));
                add(&(*first as u64).to_le_bytes());
            }
            Self::Generate { prompt, until, max_tokens } => {
                add(b"generate");
                add(&bytes(prompt));
                add(&(*max_tokens as u64).to_le_bytes());
                until.iter().for_each(|stop| add(stop.as_bytes()));
            }
        }
        let digest = hasher.finalize();
        std::array::from_fn(|i| digest[i])
    }
}

/// How a text is written: greedily, up to a stop string or `end`, the text of the token that ends one.
fn greedy(until: Vec<String>, max_tokens: usize, end: &str) -> GenerateOptions {
    let mut stop: Vec<String> = until.into_iter().filter(|stop| !stop.is_empty()).collect();
    if !end.is_empty() && !stop.iter().any(|stop| stop == end) {
        stop.push(end.to_owned());
    }
    GenerateOptions { max_new_tokens: Some(max_tokens), stop, ..GenerateOptions::default() }
}

/// What is before the first of the stop strings, looked for one after the other as in the harness.
fn cut(mut text: String, stops: &[String]) -> String {
    for stop in stops {
        if let Some(at) = text.find(stop.as_str()) {
            text.truncate(at);
        }
    }
    text
}
