//! Removes prefixes of wrappers, which gives the names of `GPTNeoXForCausalLM`.
//!
//! All tensors of a checkpoint are renamed in the same way when they are listed. A prefix that only some of them have
//! is refused, because the folder could contain two models.

use crate::error::excerpt;
use pythia_schema::hf::{BASE, BASE_PARTS};

/// Prefixes of all names in a saved wrapped model: of data-parallel training, `torch.compile`, PEFT and PyTorch
/// Lightning.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "base_model.model.", "model."];

/// Maximum number of nested wrappers.
const LIMIT_WRAPPERS: usize = 8;

/// The renaming of a checkpoint's tensors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Renaming {
    /// Removed from every name.
    prefix: String,
    /// Whether the names are those of a model without a head.
    pub(crate) is_bare: bool,
}

impl Renaming {
    /// Finds the renaming for `names`. The error is a reason.
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Result<Self, String> {
        let mut names: Vec<&str> = names.collect();
        let mut prefix = String::new();
        for _ in 0..LIMIT_WRAPPERS {
            let Some(&wrapper) = WRAPPERS.iter().find(|wrapper| names.iter().any(|name| name.starts_with(**wrapper)))
            else {
                break;
            };
            all_or_none(wrapper, &names)?;
            names.iter_mut().for_each(|name| *name = &name[wrapper.len()..]);
            prefix += wrapper;
        }
        let is_bare = |name: &&str| BASE_PARTS.iter().any(|part| name.starts_with(part));
        let inner: Vec<&str> = names.into_iter().filter(|name| name.starts_with(BASE) || is_bare(name)).collect();
        if inner.iter().any(|name| name.starts_with(BASE)) {
            all_or_none(BASE, &inner)?;
            return Ok(Self { prefix, is_bare: false });
        }
        Ok(Self { prefix, is_bare: !inner.is_empty() })
    }

    /// The canonical name of one of these names.
    pub(crate) fn apply(&self, name: &str) -> String {
        let name = name.strip_prefix(&self.prefix).unwrap_or(name);
        match self.is_bare && BASE_PARTS.iter().any(|part| name.starts_with(part)) {
            true => format!("{BASE}{name}"),
            false => name.to_owned(),
        }
    }

    /// A note for the user, if names are changed.
    pub(crate) fn note(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.prefix.is_empty() {
            parts.push(format!("without the prefix {:?} that all of them have", self.prefix));
        }
        if self.is_bare {
            parts.push(format!("with the prefix {BASE:?} that those of a bare GPTNeoXModel lack"));
        }
        (!parts.is_empty()).then(|| format!("names of tensors are read {}", parts.join(" and ")))
    }
}

/// Refuses `names` if only some of them have `prefix`.
fn all_or_none(prefix: &str, names: &[&str]) -> Result<(), String> {
    let with = names.iter().find(|name| name.starts_with(prefix));
    let without = names.iter().find(|name| !name.starts_with(prefix));
    let (Some(with), Some(without)) = (with, without) else { return Ok(()) };
    let n = names.iter().filter(|name| name.starts_with(prefix)).count();
    Err(format!(
        "{n} of {} tensors have the prefix {prefix:?}, as {}, the others do not, as {}: wanted all or none",
        names.len(),
        excerpt(with),
        excerpt(without)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "gpt_neox.embed_in.weight",
        "gpt_neox.layers.0.attention.bias",
        "gpt_neox.final_layer_norm.bias",
        "embed_out.weight",
    ];

    fn renamed(names: &[String]) -> Result<(Vec<String>, Option<String>), String> {
        let renaming = Renaming::new(names.iter().map(String::as_str))?;
        Ok((names.iter().map(|name| renaming.apply(name)).collect(), renaming.note()))
    }

    #[test]
    fn every_nesting_of_wrappers_is_taken_off() {
        let (plain, note) = renamed(&NAMES.map(str::to_owned)).unwrap();
        assert_eq!((plain.as_slice(), note), (NAMES.map(str::to_owned).as_slice(), None));
        for prefix in [
            "module.",
            "_orig_mod.",
            "base_model.model.",
            "model.",
            "_orig_mod.module.",
            "module._orig_mod.",
            "base_model.model.module._orig_mod.",
        ] {
            let (plain, note) = renamed(&NAMES.map(|name| format!("{prefix}{name}"))).unwrap();
            assert_eq!(plain, NAMES, "{prefix}");
            assert!(note.unwrap().contains(&format!("{prefix:?}")), "{prefix}");
            // A model without a head in the same wrapping.
            let bare = NAMES[..3].iter().map(|name| format!("{prefix}{}", name.trim_start_matches(BASE)));
            let (plain, note) = renamed(&bare.collect::<Vec<_>>()).unwrap();
            assert_eq!(plain, NAMES[..3], "{prefix}");
            assert!(note.unwrap().contains("GPTNeoXModel"), "{prefix}");
        }
        // A head beside a bare model keeps its name.
        let (plain, _) = renamed(&NAMES.map(|name| name.trim_start_matches(BASE).to_owned())).unwrap();
        assert_eq!(plain, NAMES);
    }

    #[test]
    fn a_prefix_that_only_some_have_is_refused() {
        for (prefix, n) in [("module.", 1), ("_orig_mod.", 3), ("base_model.model.", 2)] {
            let names = NAMES.iter().enumerate().map(|(i, name)| match i < n {
                true => format!("{prefix}{name}"),
                false => (*name).to_owned(),
            });
            let reason = renamed(&names.collect::<Vec<_>>()).unwrap_err();
            assert!(reason.starts_with(&format!("{n} of 4 tensors have the prefix {prefix:?}, as")), "{reason}");
        }
        let mixed = ["gpt_neox.embed_in.weight", "layers.0.attention.bias", "embed_out.weight"].map(str::to_owned);
        let reason = renamed(&mixed).unwrap_err();
        assert!(reason.starts_with("1 of 2 tensors have the prefix \"gpt_neox.\""), "{reason}");
        // However many there are, the work is bounded.
        let deep = format!("{}x", "module.".repeat(1 << 20));
        let (plain, _) = renamed(std::slice::from_ref(&deep)).unwrap();
        assert!(plain[0].starts_with("module."));
    }
}
