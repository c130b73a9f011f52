//! What lm-evaluation-harness logs about each document, with its keys and digests.

use crate::answer::Taking;
use crate::python::float;
use crate::{Asks, Doc, Error, Measured, Metric, Reply, Task};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// A document with what was asked, what was replied, and what that is worth, under one filter.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    doc: &'a Doc,
    replies: &'a [Reply],
    taking: &'a Taking,
    filter: &'a str,
    /// Metrics of this filter.
    measured: &'a [Measured],
    /// Number of the document among those that were evaluated.
    index: usize,
    hashes: &'a Hashes,
}

/// SHA-256, hexadecimal.
#[derive(Clone, Debug)]
struct Hashes {
    doc: String,
    prompt: String,
    target: String,
}

/// Calls `each` with every sample, filter by filter, and returns the digest of all.
pub(crate) fn each(
    task: &Task,
    docs: &[Doc],
    replies: &[Vec<Reply>],
    measured: &[Measured],
    each: &mut dyn FnMut(&Sample<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let hashes: Vec<Hashes> = docs.iter().map(Hashes::of).collect();
    let mut all = Sha256::new();
    for (filter, measured) in task.filters.iter().zip(measured.chunks(task.metrics.len().max(1))) {
        let taking = Taking::new(filter)?;
        for (index, ((doc, replies), hashes)) in docs.iter().zip(replies).zip(&hashes).enumerate() {
            [&hashes.doc, &hashes.prompt, &hashes.target].into_iter().for_each(|hash| all.update(hash));
            each(&Sample { doc, replies, taking: &taking, filter: &filter.name, measured, index, hashes })?;
        }
    }
    Ok(pythia_text::hex(&all.finalize()))
}

impl Hashes {
    fn of(doc: &Doc) -> Self {
        // Python's `json.dumps(.., indent=2, ensure_ascii=False)` writes the same text.
        let row = serde_json::to_string_pretty(&doc.row).unwrap_or_default();
        let prompt = match &doc.asks {
            Asks::Choices { pairs, .. } => pairs.first().map_or("", |pair| pair.0.as_str()),
            Asks::LogLikelihood { context, .. } | Asks::Generate { context, .. } => context,
            Asks::Rolling { text, .. } => text,
        };
        Self { doc: sha256(&row), prompt: sha256(prompt), target: sha256(&doc.target) }
    }
}

fn sha256(text: &str) -> String {
    pythia_text::hex(&Sha256::digest(text))
}

impl Sample<'_> {
    /// As a line of the harness's `samples_*.jsonl`.
    pub fn to_json(&self) -> Value {
        let Self { doc, filter, measured, hashes, .. } = self;
        let (resps, filtered) = self.replies();
        let names: Vec<&str> = measured.iter().map(|measured| measured.metric.name()).collect();
        let mut line = json!({
            "doc_id": doc.id,
            "doc": doc.row,
            "target": doc.target,
            "arguments": self.arguments(),
            "resps": resps,
            "filtered_resps": filtered,
            "filter": filter,
            "metrics": names,
            "doc_hash": hashes.doc,
            "prompt_hash": hashes.prompt,
            "target_hash": hashes.target,
        });
        for measured in *measured {
            line[measured.metric.name()] = self.value(measured);
        }
        line
    }

    fn value(&self, measured: &Measured) -> Value {
        let item = measured.items[self.index];
        match (measured.metric, &self.doc.asks) {
            (Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte, _) => {
                json!([item.value, item.weight as u64])
            }
            // The harness makes it an integer for this kind alone.
            (Metric::Acc, Asks::LogLikelihood { .. }) => json!(item.value as u64),
            _ => json!(item.value),
        }
    }

    fn arguments(&self) -> Value {
        let requests: Vec<Value> = match &self.doc.asks {
            Asks::Choices { pairs, .. } => pairs.iter().map(|(a, b)| json!({ "arg_0": a, "arg_1": b })).collect(),
            Asks::LogLikelihood { context, continuation } => vec![json!({ "arg_0": context, "arg_1": continuation })],
            Asks::Rolling { text, .. } => vec![json!({ "arg_0": text })],
            Asks::Generate { context, until, max_tokens, .. } => {
                let mut how = json!({ "until": until, "do_sample": false, "temperature": 0.0 });
                if let Some(n) = max_tokens {
                    how["max_gen_toks"] = json!(n);
                }
                vec![json!({ "arg_0": context, "arg_1": how })]
            }
        };
        let named = requests.into_iter().enumerate().map(|(i, request)| (format!("gen_args_{i}"), request));
        Value::Object(named.collect::<Map<_, _>>())
    }

    /// The replies, and what the filter makes of them. All are texts there.
    fn replies(&self) -> (Value, Value) {
        if let Asks::Rolling { .. } = self.doc.asks {
            let sum: f64 = self.replies.iter().filter_map(Reply::score).map(|score| score.log_likelihood).sum();
            return (json!([[float(sum)]]), json!([float(sum)]));
        }
        let reply = |reply: &Reply| match reply {
            Reply::Score(score) => {
                json!([float(score.log_likelihood), if score.is_greedy { "True" } else { "False" }])
            }
            Reply::Text(text) => json!(text),
        };
        let resps: Vec<Value> = self.replies.iter().map(|one| json!([reply(one)])).collect();
        let filtered =
            self.replies.iter().map(|one| one.text().map_or_else(|| reply(one), |text| json!(self.taking.of(text))));
        (json!(resps), Value::Array(filtered.collect()))
    }
}
