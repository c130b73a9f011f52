//! `adapter_config.json` of a LoRA adapter, as PEFT writes it.
//!
//! Every setting of PEFT is either followed, has no effect on a merge, or is refused by name. An unknown setting that
//! is not off is refused too, because it may change the meaning of the matrices.

use super::CONFIG_LIMIT_BYTES;
use super::fields::Fields;
use crate::error::{Error, excerpt};
use pythia_schema::Kind;
use pythia_text::read_text;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::path::Path;

/// Settings without effect on a merge: they concern training, or matter only together with a refused setting.
const OF_NO_EFFECT: &[&str] = &[
    "task_type",
    "auto_mapping",
    "peft_version",
    "revision",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "ensure_weight_tying",
    "runtime_config",
];

/// Settings that [`AdapterConfig::parse`] reads.
const READ: &[&str] = &[
    "peft_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
    "bias",
    "lora_bias",
    "fan_in_fan_out",
    "init_lora_weights",
];

/// Settings of other kinds of adapters, and the names of these kinds.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "DoRA, which scales every column of a layer's weights anew"),
    ("use_qalora", "QA-LoRA, which pools the inputs of its layers"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("alora_invocation_tokens", "activated LoRA, which applies from certain tokens on"),
    ("arrow_config", "Arrow, which routes between adapters"),
    ("kasa_config", "KaSA, which cuts singular values off the weights"),
    ("velora_config", "VeLoRA"),
    ("monteclora_config", "MonteCLoRA"),
    ("layer_replication", "a model with repeated layers, which the base does not have"),
    ("megatron_config", "an adapter of Megatron's layers, which are sharded"),
    ("trainable_token_indices", "trained rows of the embedding (trainable tokens)"),
    ("target_parameters", "LoRA on single parameters"),
];

/// Initializations that leave the base's weights unchanged. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) subtract a
/// part of them first.
const PLAIN_STARTS: &[&str] = &["gaussian", "eva", "orthogonal", "mica"];

/// Advice for an adapter that cannot be merged here.
const ADVICE: &str = "merge it with PEFT (merge_and_unload, save_pretrained) and convert the result";

/// Maximum number of rank or alpha patterns. They are compiled one after the other.
pub(crate) const MAX_PATTERNS: usize = 1024;

/// Maximum number of layer patterns. All are kept compiled.
const MAX_LAYER_PATTERNS: usize = 16;

/// A checked `adapter_config.json`.
#[derive(Debug)]
pub(crate) struct AdapterConfig {
    /// `r`, the rank unless `rank_pattern` matches.
    pub(crate) rank: usize,
    /// `lora_alpha`, the alpha unless `alpha_pattern` matches.
    pub(crate) alpha: f64,
    /// Whether alpha is divided by the root of the rank rather than by the rank (`use_rslora`).
    pub(crate) rank_stabilized: bool,
    /// Regexes of module names and the rank of those modules; the first that matches decides.
    pub(crate) rank_pattern: Vec<(String, f64)>,
    /// The same for alpha.
    pub(crate) alpha_pattern: Vec<(String, f64)>,
    /// The modules that have matrices of the adapter.
    pub(crate) targets: Names,
    /// Exceptions from these.
    pub(crate) excluded: Option<Names>,
    /// If not empty, the only layers that have matrices.
    pub(crate) layers: Option<Vec<usize>>,
    /// Regexes for the name before the number of a layer. Any name if there are none.
    pub(crate) layers_pattern: Vec<String>,
    /// Ends of the names of modules that are saved whole.
    pub(crate) modules_to_save: Vec<String>,
    /// Whether the second matrix of each pair has a bias.
    pub(crate) lora_bias: bool,
    /// Whether matrices are said to be stored transposed. No layer of GPT-NeoX stores them so.
    pub(crate) fan_in_fan_out: bool,
    /// The base that the adapter was trained on: an id of the Hub, or a path.
    pub(crate) base_model: Option<String>,
}

/// The modules that a setting applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Whole names, or their endings after a dot.
    Ends(Vec<String>),
    /// A regex of the whole name.
    Pattern(String),
    /// Every matrix except the two vocabulary matrices.
    AllLinear,
}

impl AdapterConfig {
    /// Reads and checks `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &read_text(path, CONFIG_LIMIT_BYTES).map_err(Error::read(path))?)
    }

    /// Checks the text of a config; `path` is for messages.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let fields = Fields::parse(path, text)?;
        check_kind(&fields)?;
        check_start(&fields)?;
        // Parsed again for the order of the patterns. Keys are known to be unique.
        let Patterns { rank_pattern, alpha_pattern } =
            pythia_json::parse(text).map_err(|reason| Error::json(path, "", reason))?;
        let config = Self {
            rank: fields.required_count("r")?,
            alpha: fields.number("lora_alpha")?.ok_or_else(|| fields.error("lora_alpha", "missing"))?,
            rank_stabilized: fields.flag("use_rslora")?.unwrap_or(false),
            rank_pattern: rank_pattern.map_or_else(Vec::new, |Ordered(pairs)| pairs),
            alpha_pattern: alpha_pattern.map_or_else(Vec::new, |Ordered(pairs)| pairs),
            targets: targets(&fields)?,
            excluded: names(&fields, "exclude_modules")?,
            layers: layers(&fields)?,
            layers_pattern: fields.text_or_texts("layers_pattern")?.unwrap_or_default(),
            modules_to_save: fields.text_or_texts("modules_to_save")?.unwrap_or_default(),
            lora_bias: fields.flag("lora_bias")?.unwrap_or(false),
            fan_in_fan_out: fields.flag("fan_in_fan_out")?.unwrap_or(false),
            base_model: fields.text("base_model_name_or_path")?.filter(|name| !name.is_empty()).map(str::to_owned),
        };
        config.check_patterns(&fields)?;
        Ok(config)
    }

    /// The factor of a pair of matrices.
    pub(crate) fn scale(&self, rank: usize, alpha: f64) -> f64 {
        alpha / if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 }
    }

    fn check_patterns(&self, fields: &Fields<'_>) -> Result<(), Error> {
        for (key, found, most) in [
            ("rank_pattern", self.rank_pattern.len(), MAX_PATTERNS),
            ("alpha_pattern", self.alpha_pattern.len(), MAX_PATTERNS),
            ("layers_pattern", self.layers_pattern.len(), MAX_LAYER_PATTERNS),
        ] {
            if found > most {
                return Err(fields.error(key, format!("{found} patterns, at most {most} are read")));
            }
        }
        let is_rank = |rank: f64| rank.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&rank);
        if let Some((pattern, rank)) = self.rank_pattern.iter().find(|(_, rank)| !is_rank(*rank)) {
            return Err(fields.error("rank_pattern", format!("{}: {rank}, wanted a rank", excerpt(pattern))));
        }
        Ok(())
    }
}

/// Refuses other kinds of adapters, and unsupported variants of LoRA.
fn check_kind(fields: &Fields<'_>) -> Result<(), Error> {
    match fields.text("peft_type")? {
        Some("LORA") => {}
        Some(other) => {
            return Err(fields.error("peft_type", format!("{}, wanted \"LORA\": {ADVICE}", excerpt(other))));
        }
        None => return Err(fields.error("peft_type", "missing, wanted \"LORA\"")),
    }
    for &(key, what) in REFUSED {
        if !fields.is_off(key) {
            return Err(fields.error(key, format!("this adapter is {what}: {ADVICE}")));
        }
    }
    let known = |key: &str| READ.contains(&key) || OF_NO_EFFECT.contains(&key);
    match fields.keys().into_iter().find(|key| !known(key) && !fields.is_off(key)) {
        Some(key) => {
            Err(fields.error("", format!("{} is a setting this program does not know: {ADVICE}", excerpt(key))))
        }
        None => Ok(()),
    }?;
    match fields.text("bias")? {
        None | Some("none" | "all" | "lora_only") => Ok(()),
        Some(other) => {
            Err(fields.error("bias", format!("{}, wanted \"none\", \"all\" or \"lora_only\"", excerpt(other))))
        }
    }
}

/// Refuses adapters that fit only a base whose weights were changed before the training.
fn check_start(fields: &Fields<'_>) -> Result<(), Error> {
    const KEY: &str = "init_lora_weights";
    if fields.is_flag_or_absent(KEY) {
        return Ok(());
    }
    match fields.text(KEY)? {
        Some(start) if PLAIN_STARTS.contains(&start) => Ok(()),
        Some(start) => Err(fields.error(
            KEY,
            format!(
                "{} changes the base's weights before the training: save the adapter as plain LoRA with PEFT \
                 (path_initial_model_for_weight_conversion)",
                excerpt(start)
            ),
        )),
        None => Ok(()),
    }
}

fn targets(fields: &Fields<'_>) -> Result<Names, Error> {
    match names(fields, "target_modules")? {
        Some(Names::Pattern(text)) if text.eq_ignore_ascii_case("all-linear") => Ok(Names::AllLinear),
        Some(names) => Ok(names),
        // PEFT's default for GPT-NeoX.
        None => Ok(Names::Ends(vec![Kind::AttnQkv.hf_module().to_owned()])),
    }
}

fn names(fields: &Fields<'_>, key: &str) -> Result<Option<Names>, Error> {
    match fields.is_text(key) {
        true => Ok(fields.text(key)?.map(|pattern| Names::Pattern(pattern.to_owned()))),
        false => Ok(fields.text_or_texts(key)?.map(Names::Ends)),
    }
}

/// An empty list is no restriction.
fn layers(fields: &Fields<'_>) -> Result<Option<Vec<usize>>, Error> {
    Ok(fields.index_or_indices("layers_to_transform")?.filter(|layers| !layers.is_empty()))
}

/// The members whose order matters.
#[derive(Debug)]
struct Patterns {
    rank_pattern: Option<Ordered>,
    alpha_pattern: Option<Ordered>,
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Patterns, A::Error> {
                let mut patterns = Patterns { rank_pattern: None, alpha_pattern: None };
                while let Some(key) = access.next_key::<String>()? {
                    match key.as_str() {
                        "rank_pattern" => patterns.rank_pattern = access.next_value()?,
                        "alpha_pattern" => patterns.alpha_pattern = access.next_value()?,
                        _ => _ = access.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(patterns)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// An object of numbers, in its order.
#[derive(Debug)]
struct Ordered(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = access.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<AdapterConfig, String> {
        let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
        change(config.as_object_mut().unwrap());
        AdapterConfig::parse(Path::new("a.json"), &config.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_setting_is_read_refused_or_of_no_effect() {
        // The fields of LoraConfig in PEFT 0.21, and those of older versions that configs still carry.
        let fields = "task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode r \
                      target_modules exclude_modules lora_alpha lora_dropout fan_in_fan_out bias use_rslora \
                      modules_to_save init_lora_weights layers_to_transform layers_pattern rank_pattern alpha_pattern \
                      megatron_config megatron_core trainable_token_indices loftq_config eva_config corda_config \
                      lora_ga_config use_dora velora_config alora_invocation_tokens use_qalora qalora_group_size \
                      monteclora_config layer_replication runtime_config lora_bias target_parameters use_bdlora \
                      arrow_config kasa_config ensure_weight_tying";
        for field in fields.split_whitespace() {
            let lists =
                [READ.contains(&field), OF_NO_EFFECT.contains(&field), REFUSED.iter().any(|row| row.0 == field)];
            assert_eq!(lists.iter().filter(|&&listed| listed).count(), 1, "{field}");
        }
    }

    #[test]
    fn patterns_are_counted_before_they_are_compiled() {
        let many = |n: usize| -> Vec<String> { (0..n).map(|i| format!("h{i}")).collect() };
        for (key, most, value) in [
            ("layers_pattern", MAX_LAYER_PATTERNS, json!(many(MAX_LAYER_PATTERNS + 1))),
            ("rank_pattern", MAX_PATTERNS, many(MAX_PATTERNS + 1).into_iter().map(|name| (name, json!(1))).collect()),
        ] {
            let error = parse(|config| drop(config.insert(key.to_owned(), value))).unwrap_err();
            assert!(error.contains(&format!("at most {most} are read")), "{error}");
        }
    }

    #[test]
    fn other_kinds_of_adapter_are_refused_by_name() {
        let cases = [
            ("peft_type", json!("IA3"), "peft_type: \"IA3\", wanted \"LORA\""),
            ("peft_type", json!("LOHA"), "\"LOHA\""),
            ("peft_type", json!("PROMPT_TUNING"), "\"PROMPT_TUNING\""),
            ("peft_type", Value::Null, "peft_type: missing"),
            ("use_dora", json!(true), "use_dora: this adapter is DoRA"),
            ("use_qalora", json!(true), "QA-LoRA"),
            ("megatron_config", json!({"a": 1}), "Megatron"),
            ("layer_replication", json!([[0, 2]]), "repeated layers"),
            ("trainable_token_indices", json!([1]), "trainable tokens"),
            ("target_parameters", json!(["a.weight"]), "single parameters"),
            ("alora_invocation_tokens", json!([1]), "activated LoRA"),
            ("use_new_thing", json!(0.5), "\"use_new_thing\" is a setting this program does not know"),
            ("init_lora_weights", json!("pissa"), "init_lora_weights: \"pissa\" changes the base's weights"),
            ("init_lora_weights", json!("pissa_niter_4"), "path_initial_model_for_weight_conversion"),
            ("init_lora_weights", json!("corda"), "\"corda\" changes"),
            ("init_lora_weights", json!(3), "wanted a string"),
            ("bias", json!("some"), "bias: \"some\""),
            ("r", json!(0), "r: found"),
            ("r", json!(-8), "r: found"),
            ("r", Value::Null, "r: missing"),
            ("lora_alpha", json!("8"), "lora_alpha: found"),
            ("lora_alpha", Value::Null, "lora_alpha: missing"),
            ("rank_pattern", json!({"a": 0}), "rank_pattern: \"a\": 0, wanted a rank"),
            ("rank_pattern", json!({"a": 1.5}), "wanted a rank"),
            ("rank_pattern", json!([1]), "object of numbers"),
            ("alpha_pattern", json!({"a": "b"}), "not the JSON expected"),
            ("target_modules", json!([1]), "target_modules: found"),
            ("layers_to_transform", json!("a"), "layers_to_transform: found"),
            ("modules_to_save", json!({}), "modules_to_save: found"),
        ];
        for (key, value, wanted) in cases {
            let message = parse(|config| _ = config.insert(key.to_owned(), value)).unwrap_err();
            assert!(message.starts_with("a.json: ") && message.contains(wanted), "{key}: {message}");
        }
        for off in [Value::Null, json!(false), json!([]), json!({}), json!("")] {
            for key in ["use_dora", "megatron_config", "use_new_thing"] {
                parse(|config| _ = config.insert(key.to_owned(), off.clone())).unwrap();
            }
        }
    }

    #[test]
    fn patterns_keep_their_order() {
        let text = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"z": 1, "a": 2, "m": 3}}"#;
        let config = AdapterConfig::parse(Path::new("a.json"), text).unwrap();
        let names: Vec<&str> = config.rank_pattern.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "m"]);
        let twice = text.replace("\"m\"", "\"a\"");
        assert!(AdapterConfig::parse(Path::new("a.json"), &twice).unwrap_err().to_string().contains("comes twice"));
    }

    #[test]
    fn scales_are_alpha_over_rank_or_over_its_root() {
        let scale = |stabilized: bool| {
            let config = parse(|config| _ = config.insert("use_rslora".to_owned(), json!(stabilized))).unwrap();
            config.scale(config.rank, config.alpha)
        };
        assert_eq!((scale(false), scale(true)), (2.0, 4.0));
    }
}
