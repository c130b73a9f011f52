//! The body of `/v1/completions`.

use crate::fields::{Fields, integer, token, wanted};
use crate::limits;
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use pythia_runtime::{GenerateOptions, Sampling};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is asked for, checked as far as that is possible without a model.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) model: Option<String>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) echo: bool,
    pub(crate) logprobs: Option<usize>,
    pub(crate) n: usize,
    pub(crate) best_of: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// With the seed of the first choice of each prompt.
    pub(crate) options: GenerateOptions,
}

impl Request {
    /// Takes it from the fields of a body.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let model = fields.text("model")?;
        let prompt = fields.take("prompt").ok_or_else(|| Refusal::field("prompt", "missing"))?;
        if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(Refusal::field(
                "suffix",
                "these models continue a text; they cannot fill a gap before a suffix",
            ));
        }
        let n = fields.integer("n", 1..=limits::BEST_OF)?;
        let best_of = fields.integer("best_of", 1..=limits::BEST_OF)?;
        let stream = fields.flag("stream")?;
        let options = fields.take("stream_options");
        let request = Self {
            model,
            prompts: Prompt::all(prompt)?,
            echo: fields.flag("echo")?,
            logprobs: fields.integer("logprobs", 0..=limits::LOGPROBS)?.map(|k| k as usize),
            n: n.unwrap_or(1) as usize,
            best_of: best_of.or(n).unwrap_or(1) as usize,
            stream,
            include_usage: include_usage(options)?,
            options: options_of(fields)?,
        };
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), Refusal> {
        let Self { n, best_of, .. } = *self;
        if best_of < n {
            return Err(Refusal::field("best_of", format_args!("found {best_of}, wanted at least n, which is {n}")));
        }
        if self.stream && best_of > n {
            return Err(Refusal::field("best_of", "a stream cannot take back what it has sent: best_of must equal n"));
        }
        let choices = self.prompts.len() * best_of;
        if choices > limits::CHOICES {
            let most = limits::CHOICES;
            return Err(Refusal::invalid(format_args!(
                "found {choices} choices of all prompts, wanted at most {most}"
            )));
        }
        Ok(())
    }
}

fn include_usage(options: Option<Value>) -> Result<bool, Refusal> {
    match options {
        None => Ok(false),
        Some(Value::Object(mut options)) => match options.remove("include_usage") {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Refusal::field("stream_options.include_usage", wanted(&other, "true or false"))),
        },
        Some(other) => Err(Refusal::field("stream_options", wanted(&other, "an object"))),
    }
}

fn options_of(fields: &mut Fields) -> Result<GenerateOptions, Refusal> {
    const DEFAULT_MAX_TOKENS: i64 = 16;
    let penalty = -limits::PENALTY..=limits::PENALTY;
    let repetition_penalty = positive(fields, "repetition_penalty", 0.0..=limits::REPETITION_PENALTY)?;
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=limits::TEMPERATURE)?.unwrap_or(1.0) as f32,
        // -1 is "no limit" in vLLM.
        top_k: fields.integer("top_k", -1..=i64::from(u32::MAX))?.map_or(0, |k| k.max(0) as usize),
        top_p: positive(fields, "top_p", 0.0..=1.0)?.unwrap_or(1.0),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0) as f32,
        repetition_penalty: repetition_penalty.unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", penalty.clone())?.unwrap_or(0.0) as f32,
        frequency_penalty: fields.number("frequency_penalty", penalty)?.unwrap_or(0.0) as f32,
        seed: seed(fields)?,
        ..Sampling::default()
    };
    Ok(GenerateOptions {
        max_new_tokens: Some(
            fields.integer("max_tokens", 0..=limits::MAX_TOKENS)?.unwrap_or(DEFAULT_MAX_TOKENS) as usize
        ),
        stop: stop(fields.take("stop"))?,
        logit_bias: logit_bias(fields.take("logit_bias"))?,
        sampling,
        ..GenerateOptions::default()
    })
}

/// A number of `range` that is still more than 0 as f32.
fn positive(fields: &mut Fields, name: &'static str, range: RangeInclusive<f64>) -> Result<Option<f32>, Refusal> {
    match fields.number(name, range)?.map(|number| number as f32) {
        Some(number) if number <= 0.0 => Err(Refusal::field(name, format_args!("found {number}, wanted more than 0"))),
        number => Ok(number),
    }
}

/// The seed; one that nobody chose if it is absent or -1.
fn seed(fields: &mut Fields) -> Result<u64, Refusal> {
    match fields.take("seed") {
        None => Ok(any_seed()),
        Some(value) => match (value.as_u64(), integer(&value)) {
            (Some(seed), _) => Ok(seed),
            (_, Some(-1)) => Ok(any_seed()),
            (_, Some(seed)) => Ok(seed as u64),
            _ => Err(Refusal::field("seed", wanted(&value, "a whole number of 64 bits"))),
        },
    }
}

fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The keys of a hasher are random; the time tells two of one thread apart.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RandomState::new().hash_one(now.as_nanos())
}

fn stop(value: Option<Value>) -> Result<Vec<String>, Refusal> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(text @ Value::String(_)) => vec![text],
        Some(Value::Array(list)) => list,
        Some(other) => return Err(Refusal::field("stop", wanted(&other, "a string or a list of strings"))),
    };
    if list.len() > limits::STOPS {
        let (n, most) = (list.len(), limits::STOPS);
        return Err(Refusal::field("stop", format_args!("found {n} strings, wanted at most {most}")));
    }
    let string = |value: Value| match value {
        Value::String(text) if text.is_empty() => Err(Refusal::field("stop", "found an empty string, wanted text")),
        Value::String(text) if text.len() > limits::STOP_BYTES => {
            let (n, most) = (text.len(), limits::STOP_BYTES);
            Err(Refusal::field("stop", format_args!("found a string of {n} bytes, wanted at most {most}")))
        }
        Value::String(text) => Ok(text),
        other => Err(Refusal::field("stop", wanted(&other, "a string"))),
    };
    list.into_iter().map(string).collect()
}

/// `{"id": bias}` as OpenAI has it, or `[[id, bias]]` as llama.cpp has it.
fn logit_bias(value: Option<Value>) -> Result<Vec<(u32, f32)>, Refusal> {
    let refused = |problem: String| Refusal::field("logit_bias", problem);
    let few = |n: usize| match n > limits::BIASES {
        true => Err(refused(format!("found {n} entries, wanted at most {}", limits::BIASES))),
        false => Ok(()),
    };
    let bias = |value: &Value| {
        let number = value.as_f64().filter(|bias| bias.abs() <= limits::BIAS);
        let of = format!("a number from -{0} to {0}", limits::BIAS);
        number.map(|bias| bias as f32).ok_or_else(|| refused(wanted(value, &of)))
    };
    match value {
        None => Ok(Vec::new()),
        Some(Value::Object(object)) => {
            few(object.len())?;
            let entry = |(id, value): (String, Value)| {
                let token = id.parse().map_err(|_| refused(wanted(&Value::String(id), "a token id")))?;
                Ok((token, bias(&value)?))
            };
            object.into_iter().map(entry).collect()
        }
        Some(Value::Array(list)) => {
            few(list.len())?;
            let entry = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                Some([id, value]) => Ok((token(id).ok_or_else(|| refused(wanted(id, "a token id")))?, bias(value)?)),
                _ => Err(refused(wanted(pair, "a pair of token id and bias"))),
            };
            list.iter().map(entry).collect()
        }
        Some(other) => Err(refused(wanted(&other, "an object or a list of pairs"))),
    }
}

#[cfg(test)]
mod tests;
