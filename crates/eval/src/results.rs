//! Results as the file that lm-evaluation-harness writes, with what we add under the key `pythia`.

use crate::statistics::RESAMPLES;
use crate::{DEFAULT_MAX_TOKENS, Filter, GroupResult, Kind, Metric, Paired, Row, Task, TaskResult};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Facts about a run that are not values of tasks.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The program, as the harness names a kind of model: `pythia-run`.
    pub source: String,
    /// Name of the model.
    pub name: String,
    /// The same as a name of a folder: see [`sanitize`].
    pub sanitized: String,
    /// How the model runs: `model_args` of the harness.
    pub arguments: Map<String, Value>,
    /// Parameters of the model.
    pub n_params: u64,
    /// The device.
    pub device: String,
    /// Documents per task, if limited.
    pub limit: Option<usize>,
    /// Tokens that the model can see.
    pub n_ctx: usize,
    /// The token that ends a text, and its text.
    pub eos: Option<(u32, String)>,
    /// The token that begins a text, and its text.
    pub bos: Option<(u32, String)>,
    /// Seconds since 1970 when the run began.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
    /// Where the results come from: files, digests, arithmetic.
    pub provenance: Value,
}

/// A name that can be that of a folder, as the harness makes one.
pub fn sanitize(name: &str) -> String {
    let mut out = String::new();
    let mut in_run = false;
    for c in name.chars() {
        let is_unsafe = "\"<>:/|\\?*[]".contains(c);
        if !is_unsafe {
            out.push(c);
        } else if !in_run {
            out.push_str("__");
        }
        in_run = is_unsafe;
    }
    // No file of this name, and no way out of the folder.
    if out.is_empty() || out.starts_with('.') { format!("_{out}") } else { out }
}

/// The results file. `paired` holds the name of the base and, for every task in the same order, the comparison with it.
pub fn results(
    facts: &Facts,
    tasks: &[TaskResult],
    groups: &[GroupResult],
    paired: Option<(&str, &[Option<Vec<Paired>>])>,
) -> Value {
    let mut values: Map<String, Value> = tasks.iter().map(|task| (task.task.name.clone(), values(task))).collect();
    let of_groups: Map<String, Value> =
        groups.iter().map(|group| (group.group.name.clone(), group_values(group))).collect();
    values.extend(of_groups.clone());
    let with_means = groups.iter().filter(|group| !group.values.is_empty()).map(|group| &group.group.name);
    let groups_only: Map<String, Value> = with_means.map(|name| (name.clone(), of_groups[name].clone())).collect();
    let subtasks = groups.iter().map(|group| {
        let members = group.group.members.iter().map(|member| json!(member.name));
        (group.group.name.clone(), Value::Array(members.collect()))
    });
    let mut out = json!({ "results": values });
    if !groups_only.is_empty() {
        out["groups"] = Value::Object(groups_only);
    }
    out["group_subtasks"] = Value::Object(subtasks.collect());
    out["configs"] = sorted(tasks.iter().map(|task| (&task.task.name, config(task))));
    let versions = tasks.iter().map(|task| (&task.task.name, json!(task.task.version)));
    let of_group = |group: &GroupResult| group.group.version.map_or(json!("N/A"), |version| json!(version.to_string()));
    let versions = versions.chain(groups.iter().map(|group| (&group.group.name, of_group(group))));
    out["versions"] = sorted(versions);
    out["n-shot"] = sorted(shots(tasks, groups));
    let better = |metrics: &mut dyn Iterator<Item = Metric>| {
        Value::Object(metrics.map(|metric| (metric.name().to_owned(), json!(metric.higher_is_better()))).collect())
    };
    let of_tasks = tasks.iter().map(|task| (&task.task.name, better(&mut task.task.metrics.iter().copied())));
    let of_groups = groups.iter().map(|group| {
        let metrics = group.group.tasks().into_iter().flat_map(|(task, _)| task.metrics.iter().copied());
        (&group.group.name, better(&mut { metrics }))
    });
    out["higher_is_better"] = sorted(of_tasks.chain(of_groups));
    let sizes = tasks
        .iter()
        .map(|task| (task.task.name.clone(), json!({ "original": task.n_rows, "effective": task.ids.len() })));
    out["n-samples"] = Value::Object(sizes.collect());
    out["config"] = json!({
        "model": facts.source,
        "model_args": facts.arguments,
        "model_num_parameters": facts.n_params,
        "batch_size": null,
        "batch_sizes": [],
        "device": facts.device,
        "use_cache": null,
        "limit": facts.limit,
        "bootstrap_iters": RESAMPLES,
        "gen_kwargs": null,
        "random_seed": 0,
        "numpy_seed": 1234,
        "torch_seed": 1234,
        "fewshot_seed": 1234,
    });
    out["git_hash"] = Value::Null;
    out["date"] = json!(facts.start);
    let token = |token: &Option<(u32, String)>| {
        token.as_ref().map_or(json!(["None", "None"]), |(id, text)| json!([text, id.to_string()]))
    };
    out["tokenizer_eos_token"] = token(&facts.eos);
    out["tokenizer_bos_token"] = token(&facts.bos);
    out["eot_token_id"] = json!(facts.eos.as_ref().map(|eos| eos.0));
    out["max_length"] = json!(facts.n_ctx);
    out["task_hashes"] = Value::Object(tasks.iter().map(|task| (task.task.name.clone(), json!(task.hash))).collect());
    out["model_source"] = json!(facts.source);
    out["model_name"] = json!(facts.name);
    out["model_name_sanitized"] = json!(facts.sanitized);
    for key in
        ["system_instruction", "system_instruction_sha", "fewshot_as_multiturn", "chat_template", "chat_template_sha"]
    {
        out[key] = Value::Null;
    }
    out["total_evaluation_time_seconds"] = json!(crate::python::float(facts.seconds));
    out["pythia"] = facts.provenance.clone();
    if let Some((base, paired)) = paired {
        let of = |task: &TaskResult, paired: &Vec<Paired>| {
            let keys = task.measured.iter().map(crate::Measured::key);
            Value::Object(keys.zip(paired).map(|(key, paired)| (key, json!(paired))).collect())
        };
        let tasks = tasks
            .iter()
            .zip(paired)
            .filter_map(|(task, paired)| Some((task.task.name.clone(), of(task, paired.as_ref()?))));
        out["pythia"]["paired"] = json!({ "base": base, "tasks": Value::Object(tasks.collect()) });
    }
    out
}

fn sorted<'n>(entries: impl Iterator<Item = (&'n String, Value)>) -> Value {
    let sorted: BTreeMap<&String, Value> = entries.collect();
    Value::Object(sorted.into_iter().map(|(name, value)| (name.clone(), value)).collect())
}

/// A number, or what the harness writes where there is none.
fn number(x: Option<f64>) -> Value {
    x.filter(|x| x.is_finite()).map_or(json!("N/A"), |x| json!(x))
}

fn values(result: &TaskResult) -> Value {
    let name = &result.task.name;
    let mut out = json!({ "name": name, "alias": name, "sample_len": result.ids.len() });
    for measured in &result.measured {
        out[measured.key()] = number(Some(measured.value));
        out[stderr_key(measured.metric, &measured.filter)] = number(measured.stderr);
    }
    out
}

fn stderr_key(metric: Metric, filter: &str) -> String {
    format!("{}_stderr,{filter}", metric.name())
}

fn group_values(result: &GroupResult) -> Value {
    let name = &result.group.name;
    let mut out = json!({ "alias": name, "name": name });
    if result.values.is_empty() {
        return out;
    }
    out["sample_len"] = json!(result.n_docs);
    let mut counts = Map::new();
    for value in &result.values {
        out[value.key()] = number(Some(value.value));
        out[stderr_key(value.metric, &value.filter)] = number(value.stderr);
        counts.insert(value.key(), json!(value.n_docs));
    }
    out["sample_count"] = Value::Object(counts);
    out
}

/// Examples of tasks, and of groups whose tasks all have as many.
fn shots<'r>(tasks: &'r [TaskResult], groups: &'r [GroupResult]) -> impl Iterator<Item = (&'r String, Value)> {
    let of_groups = groups.iter().filter_map(|group| {
        let members = group.group.tasks();
        let find = |name: &str| tasks.iter().find(|task| task.task.name == name).map(|task| task.shots);
        let mut shots = members.iter().map(|(task, _)| find(&task.name));
        let first = shots.next()??;
        shots.all(|other| other == Some(first)).then(|| (&group.group.name, json!(first)))
    });
    tasks.iter().map(|task| (&task.task.name, json!(task.shots))).chain(of_groups)
}

fn config(result: &TaskResult) -> Value {
    let task: &Task = &result.task;
    let dataset = &task.dataset;
    let mut out = Row::new();
    out.insert("task".to_owned(), json!(task.name));
    out.insert("dataset_path".to_owned(), json!(dataset.repo));
    if let Some(config) = &dataset.config {
        out.insert("dataset_name".to_owned(), json!(config));
    }
    let split = if dataset.split == "validation" { "validation_split" } else { "test_split" };
    out.insert(split.to_owned(), json!(dataset.split));
    out.insert("fewshot_split".to_owned(), json!(dataset.example_split));
    out.insert("num_fewshot".to_owned(), json!(result.shots));
    let metrics = task.metrics.iter().map(|metric| {
        json!({
            "metric": metric.name(),
            "aggregation": aggregation(*metric),
            "higher_is_better": metric.higher_is_better(),
        })
    });
    out.insert("metric_list".to_owned(), Value::Array(metrics.collect()));
    out.insert("output_type".to_owned(), json!(task.kind.name()));
    if task.kind == Kind::Generate {
        out.insert("generation_kwargs".to_owned(), json!({ "do_sample": false, "max_gen_toks": DEFAULT_MAX_TOKENS }));
    }
    if task.filters != [Filter::none()] {
        let filters = task.filters.iter().map(|filter| {
            let extract = filter.extract.as_ref().map(|extract| {
                json!({
                    "function": "regex",
                    "regex_pattern": extract.pattern,
                    "group_select": if extract.last { -1 } else { 0 },
                })
            });
            let steps: Vec<Value> = extract.into_iter().chain([json!({ "function": "take_first" })]).collect();
            json!({ "name": filter.name, "filter": steps })
        });
        out.insert("filter_list".to_owned(), Value::Array(filters.collect()));
    }
    out.insert("repeats".to_owned(), json!(1));
    out.insert("metadata".to_owned(), json!({ "version": task.version }));
    Value::Object(out)
}

fn aggregation(metric: Metric) -> &'static str {
    match metric {
        Metric::Perplexity => "perplexity",
        Metric::WordPerplexity | Metric::BytePerplexity => "weighted_perplexity",
        Metric::BitsPerByte => "bits_per_byte",
        _ => "mean",
    }
}
