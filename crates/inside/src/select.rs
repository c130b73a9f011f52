//! Which hooks are meant.

use crate::Error;
use crate::change::unchangeable;
use pythia_model::{Hook, Site};
use pythia_schema::Hparams;

/// Hooks of a model, in the order in which a pass comes to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<Hook>);

impl Selection {
    /// The hooks that any of the selectors names. A selector is a name in one of these spellings, with `*` for any
    /// characters; several can be in one string, with commas between them:
    ///
    /// - of TransformerLens: `blocks.*.hook_resid_post`, `ln_final.hook_normalized`, `logits`;
    /// - of a module of Hugging Face, for what it puts out: `gpt_neox.layers.3.mlp`;
    /// - the same without `gpt_neox.`, as EleutherAI's sparsify has it: `layers.3.mlp`.
    ///
    /// # Errors
    /// If a selector names no hook of the model.
    pub fn parse<S: AsRef<str>>(selectors: &[S], hparams: &Hparams) -> Result<Self, Error> {
        Self::choose(selectors, hparams, |_| true)
    }

    /// The same of the hooks that [can change](Site::can_change): `*` stands for these alone.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if a selector names none that can change.
    pub fn to_change<S: AsRef<str>>(selectors: &[S], hparams: &Hparams) -> Result<Self, Error> {
        Self::choose(selectors, hparams, |hook| hook.site.can_change())
    }

    fn choose<S: AsRef<str>>(selectors: &[S], hparams: &Hparams, may: impl Fn(Hook) -> bool) -> Result<Self, Error> {
        let all = Hook::all(hparams);
        let mut chosen = vec![false; all.len()];
        for selector in selectors.iter().flat_map(|list| list.as_ref().split(',')).map(str::trim) {
            let (mut found, mut refused) = (false, None);
            for (chosen, &hook) in chosen.iter_mut().zip(&all) {
                if names(hook).any(|name| matches(selector, &name)) {
                    match may(hook) {
                        true => (*chosen, found) = (true, true),
                        false => refused = Some(hook),
                    }
                }
            }
            if let Some(hook) = refused.filter(|_| !found) {
                return Err(unchangeable(hook));
            }
            if !found {
                return Err(Error::NoHook { selector: selector.to_owned(), nearest: nearest(selector, &all) });
            }
        }
        Ok(Self(all.into_iter().zip(chosen).filter_map(|(hook, chosen)| chosen.then_some(hook)).collect()))
    }

    /// These hooks, in this order.
    pub fn of(hooks: impl IntoIterator<Item = Hook>) -> Self {
        Self(hooks.into_iter().collect())
    }

    /// The hooks.
    pub fn hooks(&self) -> &[Hook] {
        &self.0
    }

    /// Whether a hook is among them.
    pub fn has(&self, hook: Hook) -> bool {
        self.0.contains(&hook)
    }
}

/// Modules of `GPTNeoXForCausalLM` that put out what is seen at a hook: full names. Those of a block begin with
/// `gpt_neox.layers.N`.
pub fn modules(hook: Hook) -> Vec<String> {
    let of_block: &[&str] = match hook.site {
        Site::Embed => return vec!["gpt_neox.embed_in".to_owned()],
        Site::FinalNorm => return vec!["gpt_neox.final_layer_norm".to_owned()],
        Site::Logits => return vec!["embed_out".to_owned(), "lm_head".to_owned()],
        Site::AttnIn => &[".input_layernorm"],
        Site::Q | Site::K | Site::V => &[".attention.query_key_value"],
        Site::AttnOut => &[".attention", ".attention.dense"],
        Site::MlpIn => &[".post_attention_layernorm"],
        Site::MlpPre => &[".mlp.dense_h_to_4h"],
        Site::MlpPost => &[".mlp.act"],
        Site::MlpOut => &[".mlp", ".mlp.dense_4h_to_h"],
        Site::ResidPost => &[""],
        Site::ResidPre | Site::RotQ | Site::RotK | Site::Scores | Site::Pattern | Site::Z | Site::ResidMid => &[],
    };
    let Some(layer) = hook.layer else { return Vec::new() };
    of_block.iter().map(|module| format!("gpt_neox.layers.{layer}{module}")).collect()
}

/// Every name of a hook.
fn names(hook: Hook) -> impl Iterator<Item = String> {
    let modules = modules(hook).into_iter().flat_map(|module| {
        let short = module.strip_prefix("gpt_neox.").map(str::to_owned);
        [Some(module), short].into_iter().flatten()
    });
    std::iter::once(hook.to_string()).chain(modules)
}

/// Whether a name is what the pattern says, where `*` is any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn nearest(selector: &str, all: &[Hook]) -> Option<String> {
    /// What still passes for a slip.
    const ALIKE: f64 = 0.8;
    let scored = all.iter().flat_map(|&hook| names(hook)).map(|name| (strsim::jaro_winkler(selector, &name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= ALIKE).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hparams(parallel_residual: bool) -> Hparams {
        Hparams { parallel_residual, ..crate::toy::hparams(12, 2) }
    }

    fn select(selectors: &[&str]) -> Vec<String> {
        let selection = Selection::parse(selectors, &hparams(true)).unwrap();
        selection.hooks().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_spelling_names_the_same_hooks() {
        for selector in ["blocks.3.hook_mlp_out", "gpt_neox.layers.3.mlp", "layers.3.mlp", "layers.3.mlp.dense_4h_to_h"]
        {
            assert_eq!(select(&[selector]), ["blocks.3.hook_mlp_out"], "{selector}");
        }
        assert_eq!(select(&["layers.1"]), ["blocks.1.hook_resid_post"], "not those of layers 10 and 11");
        assert_eq!(
            select(&["layers.2.attention.query_key_value"]),
            ["blocks.2.attn.hook_q", "blocks.2.attn.hook_k", "blocks.2.attn.hook_v"]
        );
        assert_eq!(select(&["embed_out", "gpt_neox.embed_in"]), ["hook_embed", "logits"], "in the order of the pass");
        assert_eq!(select(&["blocks.*.hook_resid_post"]).len(), 12);
        assert_eq!(
            select(&["blocks.1*.hook_resid_post, hook_embed"]),
            ["hook_embed", "blocks.1.hook_resid_post", "blocks.10.hook_resid_post", "blocks.11.hook_resid_post"]
        );
        assert_eq!(select(&["*"]).len(), 12 * 16 + 3);
        assert_eq!(
            Selection::parse(&["*"], &hparams(false)).unwrap().hooks().len(),
            12 * 17 + 3,
            "with hook_resid_mid"
        );
    }

    #[test]
    fn a_name_of_nothing_is_refused_and_a_slip_is_guessed() {
        let error = |selector: &str| Selection::parse(&[selector], &hparams(true)).unwrap_err().to_string();
        assert_eq!(
            error("blocks.3.hook_resid_pst"),
            "hook 'blocks.3.hook_resid_pst': the model has none of this name; did you mean 'blocks.3.hook_resid_post'?"
        );
        for selector in
            ["", "blocks.12.hook_resid_post", "blocks.3.hook_resid_mid", "x\u{202e}y", "layers", "blocks.03.hook_z"]
        {
            assert!(error(selector).contains("none of this name"), "{selector}");
            assert!(!error(selector).contains('\u{202e}'));
        }
    }

    #[test]
    fn a_star_stands_for_what_can_change() {
        let hparams = hparams(true);
        let change = |selector: &str| Selection::to_change(&[selector], &hparams);
        assert_eq!(change("*").unwrap().hooks().len(), 12 * 12 + 2);
        assert_eq!(change("blocks.3.attn.*").unwrap().hooks().len(), 4, "q, k, v and z");
        for selector in ["logits", "blocks.3.attn.hook_pattern", "blocks.*.attn.hook_rot_k"] {
            let error = change(selector).unwrap_err().to_string();
            assert!(error.contains("can be seen but not changed"), "{error}");
        }
    }

    #[test]
    fn stars_are_any_characters() {
        for (pattern, name, wanted) in [
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("*", "", true),
            ("a*b*c", "a1b2b3c", true),
            ("ab*ba", "aba", false),
            ("*b", "ab", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
