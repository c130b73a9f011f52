//! What only Hugging Face checkpoints name: where the model without a head is, and buffers.

/// Where a model with a head keeps the model without one.
pub const BASE: &str = "gpt_neox.";

/// What the names of `GPTNeoXModel`, the model without a head, start with.
pub const BASE_PARTS: [&str; 4] = ["embed_in.", "layers.", "final_layer_norm.", "rotary_emb."];

/// Ends of the names of constant buffers that older versions of Transformers saved along: the causal mask, its fill
/// value, the rotary frequencies. All follow from the hyperparameters.
const BUFFERS: [&str; 3] = [".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"];

/// Whether the tensor of this name is a constant buffer, which no model needs.
pub fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|end| name.ends_with(end))
}
