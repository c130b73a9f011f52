//! Places of a forward pass whose values can be seen and changed, by the names of TransformerLens.
//!
//! Shapes are `[rows, ...]`, a row per token of a batch. Names and shapes are those of a `HookedTransformer` that was
//! loaded without processing of its weights, without the dimension of the batch.

use crate::backend::Batch;
use pythia_kernels::RowSpan;
use pythia_schema::{Hparams, Kind, TensorId};
use std::fmt;
use std::ops::Deref;

/// Columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `n_embd`: the residual stream, and what is added to it.
    Embd,
    /// `[n_head, head_dim]`, together `n_embd`.
    Heads,
    /// `n_ff`: neurons of the MLP.
    Neurons,
    /// Not by rows: `[n_head, rows, keys]` per sequence.
    Keys,
    /// `n_vocab`.
    Vocab,
}

macro_rules! sites {
    ($($(#[$doc:meta])* $site:ident = $name:literal, $width:ident;)*) => {
        /// Which value it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Site { $($(#[$doc])* $site),* }

        impl Site {
            /// All, in the order in which a pass comes to them.
            pub const ALL: &[Self] = &[$(Self::$site),*];

            /// Its name: whole, or what follows `blocks.N.`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$site => $name),* }
            }

            /// What a row of it has.
            pub fn width(self) -> Width {
                match self { $(Self::$site => Width::$width),* }
            }
        }
    };
}

sites! {
    /// Rows of the embedding.
    Embed = "hook_embed", Embd;
    /// What enters a block.
    ResidPre = "hook_resid_pre", Embd;
    /// Norm before attention, with gain and bias: what enters the matrix of queries, keys and values.
    AttnIn = "ln1.hook_normalized", Embd;
    /// Queries before rotation.
    Q = "attn.hook_q", Heads;
    /// Keys before rotation.
    K = "attn.hook_k", Heads;
    /// Values.
    V = "attn.hook_v", Heads;
    /// Queries after rotation.
    RotQ = "attn.hook_rot_q", Heads;
    /// Keys after rotation, before the cache rounds them to its type.
    RotK = "attn.hook_rot_k", Heads;
    /// Scores, divided by the root of a head's dimension; minus infinity for keys that the query does not see.
    Scores = "attn.hook_attn_scores", Keys;
    /// Softmax of the scores.
    Pattern = "attn.hook_pattern", Keys;
    /// Values weighted by the pattern: what enters the output matrix of attention.
    Z = "attn.hook_z", Heads;
    /// What attention adds to the residual stream, with the bias.
    AttnOut = "hook_attn_out", Embd;
    /// The residual stream between attention and MLP. Only models with a sequential residual have it.
    ResidMid = "hook_resid_mid", Embd;
    /// Norm before the MLP, with gain and bias.
    MlpIn = "ln2.hook_normalized", Embd;
    /// Neurons before GELU.
    MlpPre = "mlp.hook_pre", Neurons;
    /// Neurons after GELU.
    MlpPost = "mlp.hook_post", Neurons;
    /// What the MLP adds to the residual stream, with the bias.
    MlpOut = "hook_mlp_out", Embd;
    /// What leaves a block.
    ResidPost = "hook_resid_post", Embd;
    /// The last norm, with gain and bias: what enters the output matrix.
    FinalNorm = "ln_final.hook_normalized", Embd;
    /// Logits. They are not part of a pass: [`Context::logits`](crate::Context::logits) computes them.
    Logits = "logits", Vocab;
}

impl Site {
    /// Whether every block has one.
    pub fn is_of_block(self) -> bool {
        !matches!(self, Self::Embed | Self::FinalNorm | Self::Logits)
    }

    /// Whether a pass goes on with what it is changed to.
    pub fn can_change(self) -> bool {
        !matches!(self, Self::RotQ | Self::RotK | Self::Scores | Self::Pattern | Self::Logits)
    }

    /// Whether only a processor shows it: other devices keep it to themselves.
    pub fn needs_host(self) -> bool {
        matches!(self, Self::RotQ | Self::RotK | Self::Scores | Self::Pattern)
    }
}

/// A place of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Which value.
    pub site: Site,
    /// Of which block; `None` where there are none.
    pub layer: Option<usize>,
}

impl Hook {
    /// All that a model has, in the order in which a pass comes to them.
    pub fn all(hparams: &Hparams) -> Vec<Self> {
        let has = |site: Site| site != Site::ResidMid || !hparams.parallel_residual;
        let (block, whole): (Vec<Site>, Vec<Site>) =
            Site::ALL.iter().filter(|site| has(**site)).partition(|site| site.is_of_block());
        let first = whole.iter().filter(|site| **site < Site::ResidPre);
        let last = whole.iter().filter(|site| **site > Site::ResidPre);
        let of = |site: &Site| Self { site: *site, layer: None };
        let blocks =
            (0..hparams.n_layer).flat_map(|layer| block.iter().map(move |&site| Self { site, layer: Some(layer) }));
        first.map(of).chain(blocks).chain(last.map(of)).collect()
    }

    /// The hook of this name, such as `blocks.3.hook_resid_post`, whether or not a model has it.
    pub fn from_name(name: &str) -> Option<Self> {
        let find = |name: &str, of_block: bool| {
            Site::ALL.iter().copied().find(|site| site.name() == name && site.is_of_block() == of_block)
        };
        let Some(rest) = name.strip_prefix("blocks.") else {
            return find(name, false).map(|site| Self { site, layer: None });
        };
        let (layer, rest) = rest.split_once('.')?;
        let layer = layer.parse().ok().filter(|n: &usize| n.to_string() == layer)?;
        find(rest, true).map(|site| Self { site, layer: Some(layer) })
    }

    /// The matrix that these rows enter as they are, before a product rounds them to int8.
    pub fn matrix(self) -> Option<TensorId> {
        let kind = match self.site {
            Site::AttnIn => Kind::AttnQkv,
            Site::Z => Kind::AttnOutput,
            Site::MlpIn => Kind::FfnUp,
            Site::MlpPost => Kind::FfnDown,
            Site::FinalNorm => Kind::Output,
            _ => return None,
        };
        Some(TensorId::weight(kind, self.layer))
    }
}

/// The name.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "blocks.{layer}.")?;
        }
        f.write_str(self.site.name())
    }
}

/// Values at a hook.
#[derive(Debug)]
pub enum Values<'a> {
    /// A row per token of the batch.
    Rows(Rows<'a>),
    /// Scores or pattern: one sequence after another, each `[n_head, rows, first_position + rows]`.
    Weights(Weights<'a>),
}

/// Scores or patterns of a whole layer, which can be kept without a copy.
#[derive(Debug)]
pub struct Weights<'a>(&'a mut Vec<f32>);

/// Rows, which may be parts of wider ones.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    part: Part,
}

/// Rows that can be changed.
#[derive(Debug)]
pub struct RowsMut<'a> {
    data: &'a mut [f32],
    part: Part,
}

/// Which part of each row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Columns of the whole row.
    pub(crate) stride: usize,
    /// The first that belongs to the part.
    pub(crate) first: usize,
    /// How many do.
    pub(crate) cols: usize,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(values: &'a mut Vec<f32>) -> Self {
        Self(values)
    }

    /// The values, to keep: the next layer gets another array.
    pub fn take(self) -> Vec<f32> {
        std::mem::take(self.0)
    }
}

impl Deref for Weights<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0
    }
}

impl<'a> Rows<'a> {
    pub(crate) fn new(data: &'a [f32], part: Part) -> Self {
        Self { data, part }
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.part.cols
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        let Part { stride, first, cols } = self.part;
        self.data.chunks_exact(stride).map(move |row| &row[first..first + cols])
    }

    /// A row.
    ///
    /// # Panics
    /// If there is none.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.part.stride + self.part.first..][..self.part.cols]
    }
}

impl<'a> RowsMut<'a> {
    pub(crate) fn new(data: &'a mut [f32], part: Part) -> Self {
        Self { data, part }
    }

    /// The same rows, for a shorter time.
    pub fn reborrow(&mut self) -> RowsMut<'_> {
        RowsMut { data: self.data, part: self.part }
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.part.cols
    }

    /// A row.
    ///
    /// # Panics
    /// If there is none.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.part.stride + self.part.first..][..self.part.cols]
    }
}

/// Sees values while a pass runs.
pub trait Hooks {
    /// Whether it wants to see this. Where nobody does, a pass loses no time.
    fn sees(&self, hook: Hook) -> bool;

    /// The values at a hook, in the order of the pass.
    fn see(&mut self, hook: Hook, batch: Batch<'_>, values: Values<'_>);
}

/// Changes values while a pass runs: [`Model::edited`](crate::Model::edited).
pub trait Edits: Send + Sync {
    /// Whether it changes this. Only hooks that [can change](Site::can_change) are asked for.
    fn changes(&self, hook: Hook) -> bool;

    /// Changes rows at a hook. What becomes of a row must depend on its sequence's tokens and its position alone, not on
    /// its batch: then every text has the same bits whatever runs beside it.
    fn change(&self, hook: Hook, batch: Batch<'_>, rows: RowsMut<'_>);

    /// What is changed, a line each: whoever reports a number of the changed model can say what it is a number of.
    fn descriptions(&self) -> Vec<String>;

    /// A digest of all that the changes depend on, in hex: descriptions are short, and others may have the same.
    fn digest(&self) -> String;
}

/// The span of a batch that a row belongs to, and the row's position in its sequence.
///
/// # Panics
/// If the batch has no such row.
pub fn place(batch: Batch<'_>, row: usize) -> (RowSpan, usize) {
    let span = batch.spans.iter().find(|span| row < span.first_row + span.rows).expect("a row of the batch");
    (*span, span.first_position + row - span.first_row)
}
