//! Names of the metadata keys that every architecture shares.

/// Name of the architecture, which is also the prefix of its own keys.
pub const ARCHITECTURE: &str = "general.architecture";
/// What the file holds: `model`, `imatrix`.
pub const TYPE: &str = "general.type";
/// Alignment of tensor data in bytes, u32; 32 if absent.
pub const ALIGNMENT: &str = "general.alignment";
/// Human-readable name of the model.
pub const NAME: &str = "general.name";
/// Name of the model family, without its size.
pub const BASENAME: &str = "general.basename";
/// Parameter count as people write it: `410M`.
pub const SIZE_LABEL: &str = "general.size_label";
/// SPDX identifier of the model's licence.
pub const LICENSE: &str = "general.license";
/// What the tensors are mostly stored as, u32: [`FileType`](crate::FileType).
pub const FILE_TYPE: &str = "general.file_type";
/// Version of the quantized block layouts, u32; must be present once anything is quantized.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// The value of [`QUANTIZATION_VERSION`] for the block layouts of `pythia-tensor`.
pub const CURRENT_QUANTIZATION_VERSION: u32 = 2;
/// Number of files the model is split over, u16.
pub const SPLIT_COUNT: &str = "split.count";
/// Which of them this is, counted from 0, u16.
pub const SPLIT_NO: &str = "split.no";
/// Tensors of all of them together, i32.
pub const SPLIT_TENSORS_COUNT: &str = "split.tensors.count";

/// Kind of tokenizer: `gpt2` is byte-level BPE.
pub const TOKENIZER_MODEL: &str = "tokenizer.ggml.model";
/// How text is split before BPE.
pub const TOKENIZER_PRE: &str = "tokenizer.ggml.pre";
/// Token texts by id.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
/// Kind of each token, i32.
pub const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
/// Score of each token, f32; byte-level BPE has none.
pub const SCORES: &str = "tokenizer.ggml.scores";
/// BPE merges by rank, each two pieces with a space between.
pub const MERGES: &str = "tokenizer.ggml.merges";
/// Id of the token that begins a text, u32.
pub const BOS: &str = "tokenizer.ggml.bos_token_id";
/// Id of the token that ends a text, u32.
pub const EOS: &str = "tokenizer.ggml.eos_token_id";
/// Id of the token that stands for unknown text, u32.
pub const UNK: &str = "tokenizer.ggml.unknown_token_id";
/// Whether texts begin with the BOS token.
pub const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
/// Whether texts end with the EOS token.
pub const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
/// The whole `tokenizer.json` of the Hugging Face tokenizer.
pub const HUGGINGFACE_JSON: &str = "tokenizer.huggingface.json";
