//! Matches the settings of an adapter with modules, by PEFT's rules.

use crate::config::{AdapterConfig, Names};
use crate::error::{Error, excerpt};
use regex::{Regex, RegexBuilder};
use std::path::Path;

/// Size limit of a compiled pattern, in bytes. The name of a module takes a few hundred.
const COMPILED_BYTES: usize = 1 << 18;

/// Rank and alpha of a module.
pub(super) type RankAndAlpha = (usize, f64);

/// The settings of one adapter, compiled.
#[derive(Debug)]
pub(super) struct Modules<'c> {
    config: &'c AdapterConfig,
    path: &'c Path,
    targets: Matcher<'c>,
    excluded: Option<Matcher<'c>>,
    /// Finds the number of a module's layer.
    layer: Vec<Regex>,
}

#[derive(Debug)]
enum Matcher<'c> {
    Ends(&'c [String]),
    Pattern(Regex),
    AllLinear,
}

impl Matcher<'_> {
    fn matches(&self, module: &str, is_vocab: bool) -> bool {
        match self {
            Self::Ends(ends) => ends.iter().any(|end| ends_in(module, end)),
            Self::Pattern(pattern) => pattern.is_match(module),
            Self::AllLinear => !is_vocab,
        }
    }
}

/// Whether `module` is `end`, or ends in a dot and `end`.
fn ends_in(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

impl<'c> Modules<'c> {
    /// `path` is that of the config.
    pub(super) fn new(config: &'c AdapterConfig, path: &'c Path) -> Result<Self, Error> {
        let matcher = |names: &'c Names, key| match names {
            Names::Ends(ends) => Ok(Matcher::Ends(ends)),
            Names::AllLinear => Ok(Matcher::AllLinear),
            Names::Pattern(pattern) => compile(path, key, pattern, |p| format!("^(?:{p})$")).map(Matcher::Pattern),
        };
        let mut layer = Vec::new();
        if config.layers.is_some() {
            for pattern in &config.layers_pattern {
                layer.push(compile(path, "layers_pattern", pattern, |p| format!(r"^(?:.*?\.)?(?:{p})\.([0-9]+)\."))?);
            }
            if layer.is_empty() {
                layer.push(compile(path, "layers_pattern", r"[^.]*", |p| format!(r"^.*?\.{p}\.([0-9]+)\."))?);
            }
        }
        Ok(Self {
            config,
            path,
            targets: matcher(&config.targets, "target_modules")?,
            excluded: config.excluded.as_ref().map(|names| matcher(names, "exclude_modules")).transpose()?,
            layer,
        })
    }

    /// Whether `module`, a matrix, has matrices of the adapter. `is_vocab` tells embedding and head from the linear
    /// layers.
    pub(super) fn is_target(&self, module: &str, is_vocab: bool) -> bool {
        let config = self.config;
        let is_excluded = self.excluded.as_ref().is_some_and(|names| names.matches(module, is_vocab));
        let is_saved = config.modules_to_save.iter().any(|saved| has_parts(module, saved));
        if is_excluded || is_saved || !self.targets.matches(module, is_vocab) {
            return false;
        }
        let Some(layers) = &config.layers else { return true };
        let number = self.layer.iter().find_map(|pattern| pattern.captures(module)?.get(1)?.as_str().parse().ok());
        number.is_some_and(|number: usize| layers.contains(&number))
    }

    /// Whether `module` is saved whole: `modules_to_save` names it or a module that contains it.
    pub(super) fn is_saved(&self, module: &str) -> bool {
        let ends = |saved: &String| {
            let dots = module.match_indices('.').map(|(at, _)| &module[..at]);
            dots.chain([module]).any(|outer| outer.ends_with(saved.as_str()))
        };
        self.config.modules_to_save.iter().any(ends)
    }

    /// Rank and alpha of each of `modules`.
    pub(super) fn ranks(&self, modules: &[&str]) -> Result<Vec<RankAndAlpha>, Error> {
        let config = self.config;
        let ranks = self.first_matches("rank_pattern", &config.rank_pattern, modules)?;
        let alphas = self.first_matches("alpha_pattern", &config.alpha_pattern, modules)?;
        let pair = |(rank, alpha): (Option<f64>, Option<f64>)| {
            (rank.map_or(config.rank, |rank| rank as usize), alpha.unwrap_or(config.alpha))
        };
        Ok(ranks.into_iter().zip(alphas).map(pair).collect())
    }

    /// The value of the first matching pattern for each module. Patterns are compiled one after the other to save
    /// memory.
    fn first_matches(
        &self,
        key: &str,
        patterns: &[(String, f64)],
        modules: &[&str],
    ) -> Result<Vec<Option<f64>>, Error> {
        let mut found = vec![None; modules.len()];
        for (pattern, number) in patterns {
            let pattern = compile(self.path, key, pattern, |p| format!(r"^(?:.*\.)?(?:{p})$"))?;
            for (found, module) in found.iter_mut().zip(modules) {
                if found.is_none() && pattern.is_match(module) {
                    *found = Some(*number);
                }
            }
        }
        Ok(found)
    }
}

/// Whether the parts of `module` between dots contain those of `saved` in sequence.
fn has_parts(module: &str, saved: &str) -> bool {
    format!(".{module}.").contains(&format!(".{saved}."))
}

/// Compiles `around(pattern)`, after checking that `pattern` alone is a regex.
fn compile(path: &Path, key: &str, pattern: &str, around: impl Fn(&str) -> String) -> Result<Regex, Error> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(COMPILED_BYTES).build();
    // `pattern` is checked alone first, because `a)|(b` would change its meaning within parentheses.
    build(pattern).and_then(|_| build(&around(pattern))).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
        Error::json(path, key, format!("{} is no pattern this program can match: {reason}", excerpt(pattern)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> AdapterConfig {
        let text = format!(r#"{{"peft_type": "LORA", "r": 8, "lora_alpha": 16{more}}}"#);
        AdapterConfig::parse(Path::new("a.json"), &text).unwrap()
    }

    fn targets(more: &str) -> Vec<&'static str> {
        const MODULES: [&str; 6] = [
            "gpt_neox.embed_in",
            "gpt_neox.layers.0.attention.query_key_value",
            "gpt_neox.layers.0.attention.dense",
            "gpt_neox.layers.1.attention.dense",
            "gpt_neox.layers.11.mlp.dense_4h_to_h",
            "embed_out",
        ];
        let config = config(more);
        let modules = Modules::new(&config, Path::new("a.json")).unwrap();
        MODULES.into_iter().filter(|module| modules.is_target(module, module.contains("embed_"))).collect()
    }

    #[test]
    fn targets_are_matched_as_peft_does() {
        let (qkv, dense0) = ("gpt_neox.layers.0.attention.query_key_value", "gpt_neox.layers.0.attention.dense");
        let (dense1, down) = ("gpt_neox.layers.1.attention.dense", "gpt_neox.layers.11.mlp.dense_4h_to_h");
        for (more, wanted) in [
            ("", vec![qkv]),
            (r#", "target_modules": null"#, vec![qkv]),
            (r#", "target_modules": ["dense"]"#, vec![dense0, dense1]),
            (
                r#", "target_modules": ["dense", "embed_out"], "exclude_modules": ["0.attention.dense"]"#,
                vec![dense1, "embed_out"],
            ),
            (r#", "target_modules": ["se"]"#, vec![]),
            (r#", "target_modules": "dense""#, vec![]),
            (r#", "target_modules": ".*(dense|embed_in)""#, vec!["gpt_neox.embed_in", dense0, dense1]),
            (r#", "target_modules": ".*dense.*", "exclude_modules": ".*[.]1[.].*""#, vec![dense0, down]),
            (r#", "target_modules": "All-Linear""#, vec![qkv, dense0, dense1, down]),
            (
                r#", "target_modules": ["dense", "dense_4h_to_h", "embed_out"], "layers_to_transform": [1, 11]"#,
                vec![dense1, down],
            ),
            (r#", "target_modules": ["dense"], "layers_to_transform": 0, "layers_pattern": "layers""#, vec![dense0]),
            (r#", "target_modules": ["dense"], "layers_to_transform": [0], "layers_pattern": ["h"]"#, vec![]),
            (r#", "target_modules": ["dense"], "layers_to_transform": []"#, vec![dense0, dense1]),
            (r#", "target_modules": ["dense", "embed_out"], "modules_to_save": ["embed_out", "1"]"#, vec![dense0]),
        ] {
            assert_eq!(targets(more), wanted, "{more}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let config = config(
            r#", "rank_pattern": {"dense": 2, "layers.0.attention.dense": 3, ".*value": 5, "ense": 7},
               "alpha_pattern": {"1.attention.dense": 4, "^gpt_neox.layers.0.attention.dense": 6}"#,
        );
        let modules = Modules::new(&config, Path::new("a.json")).unwrap();
        let ranks =
            modules.ranks(&["gpt_neox.layers.0.attention.dense", "layers.1.attention.dense", "query_key_value", "x"]);
        // As with Python's `re.match`, a `^` after `(.*\.)?` still matches at the very start.
        assert_eq!(ranks.unwrap(), [(2, 6.0), (2, 4.0), (5, 16.0), (8, 16.0)]);
    }

    #[test]
    fn saved_modules_are_found_by_their_ends_and_by_what_holds_them() {
        let config = config(r#", "modules_to_save": ["embed_out", "final_layer_norm", "layers.1"]"#);
        let modules = Modules::new(&config, Path::new("a.json")).unwrap();
        for (module, saved) in [
            ("embed_out", true),
            ("gpt_neox.final_layer_norm", true),
            ("gpt_neox.layers.1.mlp.dense_h_to_4h", true),
            ("gpt_neox.layers.11.mlp.dense_h_to_4h", false),
            ("gpt_neox.embed_in", false),
        ] {
            assert_eq!(modules.is_saved(module), saved, "{module}");
        }
    }

    #[test]
    fn patterns_of_another_dialect_or_of_endless_size_are_refused() {
        for (pattern, wanted) in [
            ("(?=a)b", "look-around"),
            ("a)|(b", "unopened"),
            ("a{1000}{1000}", "size limit"),
            ("(a)\\\\1", "backreference"),
        ] {
            let config = config(&format!(r#", "target_modules": "{pattern}""#));
            let message = Modules::new(&config, Path::new("a.json")).unwrap_err().to_string();
            assert!(message.starts_with("a.json: target_modules: ") && message.contains(wanted), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}
