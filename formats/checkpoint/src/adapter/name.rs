//! Parses the names of tensors in the file of an adapter.

/// The prefix that PEFT puts before the model's names.
const PREFIX: &str = "base_model.model.";

/// Tensors of one module, or a whole tensor of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The module: `gpt_neox.layers.0.attention.dense`. Of a [`Role::Whole`] tensor, its own name.
    pub(super) module: String,
    pub(super) role: Role,
    /// The adapter's name in the program that saved it. PEFT usually leaves it out.
    pub(super) adapter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `lora_A` of a matrix: `[rank, columns]`.
    Down,
    /// `lora_B` of a matrix: `[rows, rank]`.
    Up,
    /// The bias of `lora_B`.
    UpBias,
    /// `lora_embedding_A`: `[rank, tokens]`.
    TokenDown,
    /// `lora_embedding_B`: `[width, rank]`.
    TokenUp,
    /// A tensor that replaces the base's.
    Whole {
        /// Whether PEFT had wrapped the module, as it does with those that have matrices of the adapter.
        wrapped: bool,
    },
    /// What `bias: "all"` saves of modules that are saved whole, beside them: PEFT reads `M.bias`, not
    /// `M.modules_to_save.bias` or `M.original_module.bias`. The module of it is `M`.
    Leftover,
}

impl Named {
    /// Parses `name`. The error is a reason.
    pub(super) fn parse(name: &str) -> Result<Self, &'static str> {
        let inner =
            name.strip_prefix(PREFIX).ok_or("wanted a name that begins with base_model.model., as PEFT writes it")?;
        let parts: Vec<&str> = inner.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err("wanted a name without empty parts");
        }
        let Some(at) = parts.iter().position(|part| part.starts_with("lora_")) else {
            return whole(&parts);
        };
        let role = match (parts[at], parts[at + 1..].last()) {
            ("lora_A", Some(&"weight")) => Role::Down,
            ("lora_B", Some(&"weight")) => Role::Up,
            ("lora_B", Some(&"bias")) => Role::UpBias,
            // Parameters, not modules: only the name of the adapter can follow.
            ("lora_embedding_A", _) => Role::TokenDown,
            ("lora_embedding_B", _) => Role::TokenUp,
            ("lora_magnitude_vector", _) => return Err("a magnitude of DoRA, which is not merged here"),
            _ => return Err("wanted lora_A.weight, lora_B.weight, lora_B.bias, lora_embedding_A or lora_embedding_B"),
        };
        let is_parameter = matches!(role, Role::TokenDown | Role::TokenUp);
        let between = &parts[at + 1..parts.len() - usize::from(!is_parameter)];
        match between {
            [] => Ok(Self { module: parts[..at].join("."), role, adapter: None }),
            [adapter] => Ok(Self { module: parts[..at].join("."), role, adapter: Some((*adapter).to_owned()) }),
            _ => Err("wanted at most the name of the adapter after lora_A or lora_B"),
        }
    }
}

/// A tensor of the model: `M.weight`, or `M.base_layer.weight`.
fn whole(parts: &[&str]) -> Result<Named, &'static str> {
    let named = |parts: &[&str], role| Ok(Named { module: parts.join("."), role, adapter: None });
    if let Some(at) = parts.iter().position(|part| ["modules_to_save", "original_module"].contains(part)) {
        return named(&parts[..at], Role::Leftover);
    }
    match parts {
        [module @ .., "base_layer", last] => named(&[module, &[*last]].concat(), Role::Whole { wrapped: true }),
        _ => named(parts, Role::Whole { wrapped: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peft_are_taken_apart() {
        let dense = "gpt_neox.layers.0.attention.dense";
        let whole = |wrapped| Role::Whole { wrapped };
        for (name, module, role, adapter) in [
            ("gpt_neox.layers.0.attention.dense.lora_A.weight", dense, Role::Down, None),
            ("gpt_neox.layers.0.attention.dense.lora_B.default.weight", dense, Role::Up, Some("default")),
            ("gpt_neox.layers.0.attention.dense.lora_B.bias", dense, Role::UpBias, None),
            ("gpt_neox.layers.0.attention.dense.lora_B.mine.bias", dense, Role::UpBias, Some("mine")),
            ("gpt_neox.embed_in.lora_embedding_A", "gpt_neox.embed_in", Role::TokenDown, None),
            ("gpt_neox.embed_in.lora_embedding_B.default", "gpt_neox.embed_in", Role::TokenUp, Some("default")),
            ("embed_out.weight", "embed_out.weight", whole(false), None),
            ("embed_out.base_layer.weight", "embed_out.weight", whole(true), None),
            ("a.final_layer_norm.original_module.bias", "a.final_layer_norm", Role::Leftover, None),
            ("a.final_layer_norm.modules_to_save.bias", "a.final_layer_norm", Role::Leftover, None),
            ("a.mlp.modules_to_save.default.dense_4h_to_h.bias", "a.mlp", Role::Leftover, None),
        ] {
            let parsed = Named::parse(&format!("base_model.model.{name}"));
            let adapter = adapter.map(str::to_owned);
            assert_eq!(parsed, Ok(Named { module: module.to_owned(), role, adapter }), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for (name, wanted) in [
            ("gpt_neox.layers.0.attention.dense.lora_A.weight", "begins with base_model.model."),
            ("base_model.model.a.lora_A", "wanted lora_A.weight"),
            ("base_model.model.a.lora_A.bias", "wanted lora_A.weight"),
            ("base_model.model.a.lora_A.x.y.weight", "at most the name of the adapter"),
            ("base_model.model.a.lora_embedding_A.x.y", "at most the name of the adapter"),
            ("base_model.model.a.lora_magnitude_vector", "DoRA"),
            ("base_model.model.a.lora_diag.weight", "wanted lora_A.weight"),
            ("base_model.model.", "empty parts"),
            ("base_model.model.a..lora_A.weight", "empty parts"),
        ] {
            let reason = Named::parse(name).unwrap_err();
            assert!(reason.contains(wanted), "{name}: {reason}");
        }
    }
}
