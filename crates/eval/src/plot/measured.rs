//! Results of one's own, from `results_*.json`.

use super::published::{LAST_STEP, Suite, sizes};
use pythia_runtime::eval::Estimate;
use serde_json::Value;

/// One file of results: a model on some tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The model as the plots name it.
    pub name: String,
    /// Number of parameters, if it is known.
    pub parameters: Option<f64>,
    /// Training step, if it is known.
    pub step: Option<u64>,
    /// The Pythia model that it is made from, if its name says so: `pythia-70m-deduped`.
    pub origin: Option<String>,
    /// The tasks with an accuracy.
    pub tasks: Vec<MeasuredTask>,
}

/// A task of [`Measured`].
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredTask {
    /// Its name: `piqa`.
    pub name: String,
    /// Key `acc,none`.
    pub accuracy: Estimate,
    /// Examples before each question; `None` if the file does not say.
    pub shots: Option<u64>,
    /// Number of documents; `None` if the file does not say.
    pub documents: Option<u64>,
}

impl Measured {
    /// Reads the content of a file that lm-evaluation-harness or this crate has written.
    ///
    /// Size and training step are taken from `config` (`model_num_parameters`, `model_revision`, the `revision` of
    /// `model_args`), else from the model's name, which may contain `pythia-70m`, `deduped` and `step3000`. A Pythia model
    /// of which no step is stated is taken as fully trained.
    ///
    /// # Errors
    /// What was found and what was wanted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Value = pythia_json::parse(text)?;
        let results = file.get("results").and_then(Value::as_object);
        let results = results.ok_or("found no object 'results', wanted the JSON that lm-evaluation-harness writes")?;
        let config = &file["config"];
        let argument = |key: &str| argument(&config["model_args"], key);
        let texts = [file["model_name"].as_str().map(str::to_owned), argument("pretrained"), argument("model")];
        let full_name = texts.into_iter().flatten().find(|text| !text.is_empty()).unwrap_or_default();
        let revision = config["model_revision"].as_str().map(str::to_owned).or_else(|| argument("revision"));
        let base = base_name(&full_name);
        let lower = full_name.to_lowercase();
        let size = size_of(&lower);
        let origin = size.map(|(size, _)| match lower.contains("deduped") {
            true => format!("pythia-{size}-deduped"),
            false => format!("pythia-{size}"),
        });
        let stated = revision.as_deref().and_then(step_of);
        let step = stated.or_else(|| step_of(&lower)).or(origin.is_some().then_some(LAST_STEP));
        let parameters = config["model_num_parameters"].as_f64().filter(|n| n.is_finite() && *n > 0.0);
        let name = match stated {
            Some(step) if step_of(&base.to_lowercase()).is_none() => format!("{base} step{step}"),
            _ if base.is_empty() => "unnamed model".to_owned(),
            _ => base.to_owned(),
        };
        let tasks = results.iter().filter_map(|(task, values)| {
            let value = values["acc,none"].as_f64().filter(|value| (0.0..=1.0).contains(value))?;
            // The harness writes "N/A" where it has no standard error.
            let se = values["acc_stderr,none"].as_f64().filter(|se| se.is_finite() && *se >= 0.0).unwrap_or(0.0);
            let n = &file["n-samples"][task];
            Some(MeasuredTask {
                name: task.clone(),
                accuracy: Estimate { value, se },
                shots: file["n-shot"][task].as_u64(),
                documents: n["effective"].as_u64().or_else(|| n["original"].as_u64()),
            })
        });
        let parameters = parameters.or(size.map(|(_, parameters)| parameters));
        Ok(Self { parameters, step, origin, tasks: tasks.collect(), name })
    }

    /// Whether it belongs to the end of a training: the plots against parameters leave others out.
    pub(super) fn is_trained(&self) -> bool {
        self.step.is_none_or(|step| step == LAST_STEP || self.origin.is_none())
    }

    pub(super) fn task(&self, name: &str) -> Option<&MeasuredTask> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// What results of one training have in common: the name without its step.
    pub(super) fn training(&self) -> String {
        let lower = self.name.to_lowercase();
        match find_step(&lower) {
            Some((range, _)) if lower.len() == self.name.len() => {
                format!("{}{}", &self.name[..range.start], &self.name[range.end..])
            }
            _ => self.name.clone(),
        }
    }

    /// The suite of its origin.
    pub(super) fn suite(&self) -> Option<Suite> {
        let origin = self.origin.as_ref()?;
        Some(if origin.ends_with("deduped") { Suite::Deduped } else { Suite::Pythia })
    }
}

/// An argument of the model: `model_args` is an object, or the text `key=value,key=value`.
fn argument(arguments: &Value, key: &str) -> Option<String> {
    match arguments {
        Value::Object(map) => map.get(key).and_then(Value::as_str).map(str::to_owned),
        Value::String(text) => {
            text.split(',').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v.to_owned())
        }
        _ => None,
    }
}

/// `EleutherAI/pythia-70m` and `models/pythia-70m-Q4_0.gguf` without what is around the name.
fn base_name(name: &str) -> &str {
    let name = name.trim_end_matches(['/', '\\']);
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.strip_suffix(".gguf").unwrap_or(name)
}

/// The size after `pythia-` in a name in lower case.
fn size_of(name: &str) -> Option<(&'static str, f64)> {
    let rest = &name[name.find("pythia-")? + "pythia-".len()..];
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    sizes().find(|(size, _)| rest.strip_prefix(size).is_some_and(ends))
}

fn step_of(text: &str) -> Option<u64> {
    find_step(text).map(|(_, step)| step)
}

/// `step3000`, `step-3000` or `step_3000` in a text, with its place.
fn find_step(text: &str) -> Option<(std::ops::Range<usize>, u64)> {
    text.match_indices("step").find_map(|(start, word)| {
        let rest = &text[start + word.len()..];
        let digits = rest.strip_prefix(['-', '_']).unwrap_or(rest);
        let n = digits.bytes().take_while(u8::is_ascii_digit).count();
        let end = text.len() - digits.len() + n;
        Some((start..end, digits[..n].parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(model_name: &str, config: &str) -> Measured {
        let text = format!(
            r#"{{"results": {{"piqa": {{"alias": "piqa", "acc,none": 0.5947, "acc_stderr,none": 0.0115, "acc_norm,none": 0.5914}},
                "lambada_openai": {{"acc,none": 0.2, "acc_stderr,none": "N/A", "perplexity,none": 142.0}},
                "wikitext": {{"word_perplexity,none": 30.0}}}},
                "n-shot": {{"piqa": 0}}, "n-samples": {{"piqa": {{"original": 1838, "effective": 100}}}},
                "config": {config}, "model_name": "{model_name}"}}"#
        );
        Measured::parse(&text).unwrap()
    }

    #[test]
    fn size_and_step_come_from_where_they_are_stated() {
        for (name, config, shown, parameters, step, origin) in [
            ("EleutherAI/pythia-70m", "{}", "pythia-70m", Some(70_426_624.0), Some(LAST_STEP), Some("pythia-70m")),
            (
                "EleutherAI/pythia-1.4b-deduped",
                r#"{"model_args": "pretrained=x,revision=step3000"}"#,
                "pythia-1.4b-deduped step3000",
                Some(1_414_647_808.0),
                Some(3000),
                Some("pythia-1.4b-deduped"),
            ),
            (
                "/m/pythia-160m-step512-Q4_K_M.gguf",
                r#"{"model_num_parameters": 5}"#,
                "pythia-160m-step512-Q4_K_M",
                Some(5.0),
                Some(512),
                Some("pythia-160m"),
            ),
            (
                "",
                r#"{"model_args": {"pretrained": "a/pythia-1b", "revision": "main"}}"#,
                "pythia-1b",
                Some(1_011_781_632.0),
                Some(LAST_STEP),
                Some("pythia-1b"),
            ),
            ("pythia-docs-6m", "{}", "pythia-docs-6m", None, None, None),
            ("pythia-1bit", "{}", "pythia-1bit", None, None, None),
        ] {
            let found = parse(name, config);
            let found = (found.name.as_str(), found.parameters, found.step, found.origin.as_deref());
            assert_eq!(found, (shown, parameters, step, origin), "{name}");
        }
    }

    #[test]
    fn tasks_without_an_accuracy_are_left_out() {
        let tasks = parse("a", "{}").tasks;
        assert_eq!(tasks.len(), 2);
        let piqa = tasks.iter().find(|task| task.name == "piqa").unwrap();
        assert_eq!((piqa.accuracy.value, piqa.accuracy.se), (0.5947, 0.0115));
        assert_eq!((piqa.shots, piqa.documents), (Some(0), Some(100)));
        let lambada = tasks.iter().find(|task| task.name == "lambada_openai").unwrap();
        assert_eq!((lambada.accuracy.se, lambada.shots), (0.0, None));
    }

    #[test]
    fn checkpoints_of_one_training_have_a_name_in_common() {
        let names = ["pythia-160m-step512-Q4_0", "pythia-160m-step1000-Q4_0"];
        let trainings = names.map(|name| parse(name, "{}").training());
        assert_eq!(trainings[0], trainings[1]);
        assert_ne!(parse("pythia-160m-step512-Q8_0", "{}").training(), trainings[0]);
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["{}", "[]", "{\"results\": 3}", "nonsense", ""] {
            assert!(Measured::parse(text).is_err(), "{text}");
        }
    }
}
