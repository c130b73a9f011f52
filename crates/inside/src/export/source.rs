//! Texts as sequences of tokens, each of which a model runs from its start.

use crate::Error;
use pythia_runtime::{Text, TextReader, TokenStream, Tokenizer, ids_of_json};
use pythia_task::Cancel;
use pythia_text::quoted;

/// Bytes of a line at most.
const LINE_BYTES: usize = pythia_json::LIMIT_BYTES;

/// What the model reads.
pub struct Input<'t> {
    /// Where it comes from.
    pub text: &'t Text,
    /// What its lines mean.
    pub kind: Kind,
}

/// What the lines of an input mean. Blank lines mean nothing unless it is one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is one text.
    Text,
    /// Each is a JSON object with a text, or a list of token ids, under this name.
    JsonLines {
        /// The name.
        field: String,
    },
    /// Each has the token ids of a text, with commas or spaces between them.
    Ids,
}

impl Kind {
    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::JsonLines { .. } => "jsonl",
            Self::Ids => "ids",
        }
    }
}

/// Tokens that are run together, from position 0: a text, or a window of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Which text, counted from 0.
    pub(super) text: u64,
    /// Its tokens, with the one that it begins with.
    pub(super) tokens: Vec<u32>,
}

/// How texts are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Tokens of a sequence at most.
    pub(super) window: usize,
    /// A token that every sequence begins with.
    pub(super) bos: Option<u32>,
    /// Ids must be below this.
    pub(super) n_vocab: usize,
}

impl Cut {
    /// Tokens of a text per sequence.
    fn step(self) -> usize {
        self.window - usize::from(self.bos.is_some())
    }

    fn sequence(self, text: u64, tokens: &[u32]) -> Sequence {
        Sequence { text, tokens: self.bos.into_iter().chain(tokens.iter().copied()).collect() }
    }
}

/// The sequences of an input, in order.
pub(super) struct Sequences<'t> {
    cut: Cut,
    from: From<'t>,
}

enum From<'t> {
    Text { tokens: Box<TokenStream<'t>>, at: usize },
    Lines(Box<Lines<'t>>),
}

struct Lines<'t> {
    reader: TextReader<'t>,
    place: String,
    kind: Kind,
    tokenizer: &'t Tokenizer,
    cancel: Cancel,
    /// Read and not used yet.
    buffer: String,
    ended: bool,
    /// Lines and texts used by now.
    line: u64,
    texts: u64,
    tokens: u64,
    /// The text that is being cut, and how much of it is used; `None` between two texts.
    ids: Option<(Vec<u32>, usize)>,
}

impl<'t> Sequences<'t> {
    pub(super) fn new(
        input: &'t Input<'t>,
        tokenizer: &'t Tokenizer,
        cut: Cut,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let Input { text, kind } = input;
        let from = match kind {
            Kind::Text => {
                let mut tokens = text.tokens(tokenizer, cancel)?;
                tokens.require_below(cut.n_vocab)?;
                From::Text { tokens: Box::new(tokens), at: 0 }
            }
            Kind::JsonLines { .. } | Kind::Ids => From::Lines(Box::new(Lines {
                reader: text.reader()?,
                place: text.to_string(),
                kind: kind.clone(),
                tokenizer,
                cancel: cancel.clone(),
                buffer: String::new(),
                ended: false,
                line: 0,
                texts: 0,
                tokens: 0,
                ids: None,
            })),
        };
        Ok(Self { cut, from })
    }

    /// The next one. A text without tokens is a sequence without tokens, or with the one that all begin with.
    pub(super) fn next(&mut self) -> Result<Option<Sequence>, Error> {
        let cut = self.cut;
        match &mut self.from {
            From::Text { tokens, at } => {
                let end = tokens.reach(*at + cut.step())?;
                if end <= *at && *at > 0 {
                    return Ok(None);
                }
                let sequence = cut.sequence(0, tokens.slice(*at..end));
                tokens.forget(end);
                // An empty text ends after its one sequence.
                *at = end.max(1);
                Ok(Some(sequence))
            }
            From::Lines(lines) => lines.next(cut),
        }
    }

    /// Tokens in all, as far as that can be told now.
    pub(super) fn estimate(&self) -> Option<u64> {
        match &self.from {
            From::Text { tokens, .. } => tokens.estimated_total().map(|n| n as u64),
            From::Lines(lines) => {
                let used = lines.reader.bytes_read() - lines.buffer.len() as u64;
                let all = lines.reader.n_bytes()?.max(used);
                (used > 0).then(|| (lines.tokens as f64 * (all as f64 / used as f64)) as u64)
            }
        }
    }
}

impl Lines<'_> {
    fn next(&mut self, cut: Cut) -> Result<Option<Sequence>, Error> {
        if self.ids.is_none() {
            self.ids = self.next_text(cut)?.map(|ids| (ids, 0));
        }
        let Some((ids, at)) = &mut self.ids else { return Ok(None) };
        let end = ids.len().min(*at + cut.step());
        let sequence = cut.sequence(self.texts, &ids[*at..end]);
        *at = end;
        if end == ids.len() {
            self.ids = None;
            self.texts += 1;
        }
        self.tokens += sequence.tokens.len() as u64;
        Ok(Some(sequence))
    }

    /// The ids of the next text.
    fn next_text(&mut self, cut: Cut) -> Result<Option<Vec<u32>>, Error> {
        loop {
            if self.cancel.is_raised() {
                return Err(pythia_runtime::Error::Cancelled.into());
            }
            let Some(line) = self.next_line()? else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            let ids = match &self.kind {
                Kind::JsonLines { field } => ids_of_json(&line, field, |text| Ok(self.tokenizer.encode(text)?)),
                Kind::Text | Kind::Ids => of_list(&line),
            };
            let wrong = |problem| Error::Input { place: format!("{}: line {}", self.place, self.line), problem };
            let ids = ids.map_err(wrong)?;
            if let Some(id) = ids.iter().find(|id| **id as usize >= cut.n_vocab) {
                return Err(wrong(format!("token id {id}, wanted one below {}, the model's vocabulary", cut.n_vocab)));
            }
            return Ok(Some(ids));
        }
    }

    fn next_line(&mut self) -> Result<Option<String>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].find('\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                self.line += 1;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            searched = self.buffer.len();
            if searched > LINE_BYTES {
                let place = format!("{}: line {}", self.place, self.line + 1);
                let problem = format!("found more than {LINE_BYTES} bytes, wanted at most {LINE_BYTES} in a line");
                return Err(Error::Input { place, problem });
            }
            if self.ended {
                self.line += 1;
                return Ok((!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer)));
            }
            self.ended = !self.reader.read(&mut self.buffer).map_err(|error| error.at(&self.place))?;
        }
    }
}

/// The ids of a list, which may have brackets.
pub(super) fn of_list(line: &str) -> Result<Vec<u32>, String> {
    let line = line.trim();
    let inner = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(line);
    let parts = inner.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
    let id = |part: &str| {
        let wrong = || format!("found {}, wanted token ids with commas or spaces between them", quoted(part, '\'', 40));
        part.parse::<u32>().ok().filter(|_| !part.starts_with('+')).ok_or_else(wrong)
    };
    parts.map(id).collect()
}
