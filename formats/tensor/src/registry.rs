//! The one list of tensor types. A new format is one row here and one file in `blocks/`.

use crate::blocks::{self, Block, Codec};
use crate::format::BlockFormat;
use pythia_task::ErrorKind;
use pythia_text::nearest_name;
use std::fmt;
use std::str::FromStr;

/// Calls `$callback! { rows }` with a row per tensor type: `Variant, Block, GGUF id, "name", "note"`.
///
/// Other crates pass their own macro to build what they need per format: dispatch arms, tests, benches. A format
/// without an implementation there is a compile error, never a run-time "not supported".
#[macro_export]
macro_rules! for_each_tensor_type {
    ($callback:path) => {
        $callback! {
            (F32, F32, 0, "F32", "IEEE single precision"),
            (F16, F16, 1, "F16", "IEEE half precision"),
            (Q4_0, Q4_0, 2, "Q4_0", "32 elements: f16 scale, 4-bit codes around 8"),
            (Q4_1, Q4_1, 3, "Q4_1", "32 elements: f16 scale and minimum, 4-bit codes"),
            (Q5_0, Q5_0, 6, "Q5_0", "32 elements: f16 scale, 5-bit codes around 16"),
            (Q5_1, Q5_1, 7, "Q5_1", "32 elements: f16 scale and minimum, 5-bit codes"),
            (Q8_0, Q8_0, 8, "Q8_0", "32 elements: f16 scale, 8-bit codes"),
            (Q2_K, Q2_K, 10, "Q2_K", "256 elements in 16 groups: f16 super-scales, 4-bit scales and minima, 2-bit codes"),
            (Q3_K, Q3_K, 11, "Q3_K", "256 elements in 16 groups: f16 super-scale, 6-bit scales, 3-bit codes"),
            (Q4_K, Q4_K, 12, "Q4_K", "256 elements in 8 groups: f16 super-scales, 6-bit scales and minima, 4-bit codes"),
            (Q5_K, Q5_K, 13, "Q5_K", "256 elements in 8 groups: f16 super-scales, 6-bit scales and minima, 5-bit codes"),
            (Q6_K, Q6_K, 14, "Q6_K", "256 elements in 16 groups: f16 super-scale, 8-bit group scales, 6-bit codes"),
            (IQ2_XXS, IQ2_XXS, 16, "IQ2_XXS", "256 elements in 8 groups: f16 super-scale, 4-bit scales, eights of a list of 256"),
            (IQ2_XS, IQ2_XS, 17, "IQ2_XS", "256 elements in 16 groups: f16 super-scale, 4-bit scales, eights of a list of 512"),
            (IQ3_XXS, IQ3_XXS, 18, "IQ3_XXS", "256 elements in 8 groups: f16 super-scale, 4-bit scales, fours of a list of 256"),
            (IQ4_NL, IQ4_NL, 20, "IQ4_NL", "32 elements: f16 scale, codes of 16 uneven levels"),
            (IQ3_S, IQ3_S, 21, "IQ3_S", "256 elements in 8 groups: f16 super-scale, 4-bit scales, fours of a list of 512"),
            (IQ2_S, IQ2_S, 22, "IQ2_S", "256 elements in 16 groups: f16 super-scale, 4-bit scales, eights of a list of 1024"),
            (IQ4_XS, IQ4_XS, 23, "IQ4_XS", "256 elements in 8 groups: f16 super-scale, 6-bit scales, codes of 16 uneven levels"),
            (BF16, BF16, 30, "BF16", "upper half of a single"),
        }
    };
}

/// Types of the GGUF id space that this project cannot read or write yet: `id, "name", block elements, block bytes`.
/// Known by size so that a file holding them can still be listed.
const FOREIGN: &[(u32, &str, usize, usize)] = &[
    (15, "Q8_K", 256, 292),
    (19, "IQ1_S", 256, 50),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
];

/// A GGUF tensor type that is known by name and size only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignType {
    /// Its id in GGUF files.
    pub id: u32,
    /// Its name, as in `Q4_K`.
    pub name: &'static str,
    /// Elements in a block.
    pub block_elems: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

impl ForeignType {
    /// The type of this GGUF id, if it is one that is known but not supported.
    pub fn from_id(id: u32) -> Option<Self> {
        FOREIGN.iter().find(|row| row.0 == id).map(|&(id, name, block_elems, block_bytes)| Self {
            id,
            name,
            block_elems,
            block_bytes,
        })
    }
}

macro_rules! define_tensor_type {
    ($(($variant:ident, $block:ident, $id:literal, $name:literal, $note:literal),)*) => {
        /// How the elements of a tensor are stored. The discriminant is the GGUF id.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)] // the names the field uses
        #[repr(u32)]
        pub enum TensorType {
            $(#[doc = $note] $variant = $id,)*
        }

        impl TensorType {
            /// Every type, by ascending GGUF id.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The type of this GGUF id.
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name as users type it, in capitals: `Q8_0`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One line on the layout.
            pub const fn note(self) -> &'static str {
                match self { $(Self::$variant => $note,)* }
            }

            /// Elements in a block: 1 for plain floats.
            pub const fn block_elems(self) -> usize {
                match self { $(Self::$variant => <blocks::$block as Block>::ELEMS,)* }
            }

            /// Bytes of a block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant => size_of::<blocks::$block>(),)* }
            }

            /// The format of its blocks, for quantizers that choose scales or codes themselves; `None` for plain floats.
            pub const fn block_format(self) -> Option<BlockFormat> {
                match self { $(Self::$variant => <blocks::$block as Codec>::FORMAT,)* }
            }

            fn encode_as(self, src: &[f32], importance: Option<&[f32]>, dst: &mut [u8]) {
                assert_eq!(src.len() / self.block_elems() * self.block_bytes(), dst.len(), "elements do not match blocks");
                assert!(src.len().is_multiple_of(self.block_elems()), "whole blocks");
                match self { $(Self::$variant => blocks::$block::encode(src, importance, blocks::cast_mut(dst)),)* }
            }

            /// Decodes `src` to f32, exactly as the reference does.
            ///
            /// # Panics
            /// If `src` is not a whole number of blocks or `dst` has not as many elements.
            pub fn decode(self, src: &[u8], dst: &mut [f32]) {
                match self { $(Self::$variant => decode_blocks(blocks::cast::<blocks::$block>(src), dst),)* }
            }
        }
    };
}
for_each_tensor_type!(define_tensor_type);

fn decode_blocks<B: Codec>(src: &[B], dst: &mut [f32]) {
    assert_eq!(dst.len(), src.len() * B::ELEMS, "elements do not match blocks");
    for (block, values) in src.iter().zip(dst.chunks_exact_mut(B::ELEMS)) {
        block.decode(values);
    }
}

impl TensorType {
    /// Its id in GGUF files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Encodes `src` by the reference algorithm of the format.
    ///
    /// # Panics
    /// If `src` is not a whole number of blocks or `dst` is not exactly as long as its encoding.
    pub fn encode(self, src: &[f32], dst: &mut [u8]) {
        self.encode_as(src, None, dst);
    }

    /// The same with an importance per column: its mean squared activation. Errors in columns that matter then count
    /// for more. Floats and Q8_0 have no use for it.
    ///
    /// # Panics
    /// As [`encode`](Self::encode), or if `src` is not whole rows of `importance.len()` elements, each of whole blocks.
    pub fn encode_weighted(self, src: &[f32], importance: &[f32], dst: &mut [u8]) {
        let cols = importance.len();
        assert!(cols != 0 && src.len().is_multiple_of(cols) && self.row_bytes(cols).is_some(), "whole rows");
        self.encode_as(src, Some(importance), dst);
    }

    /// Whether elements are integers with block scales, rather than floats.
    pub const fn is_quantized(self) -> bool {
        self.block_elems() > 1
    }

    /// Bytes of a row of `elems` elements; `None` if a block would straddle its end, or the count overflows.
    pub const fn row_bytes(self, elems: usize) -> Option<usize> {
        if elems.is_multiple_of(self.block_elems()) {
            (elems / self.block_elems()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// Bits stored per element, scales included.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_elems() as f64
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no tensor type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTypeError(String);

impl ParseTypeError {
    /// The kind of error: what was typed.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

impl fmt::Display for ParseTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = TensorType::ALL.iter().map(|t| t.name()).collect();
        let hint = nearest_name(&self.0, &names).map_or(String::new(), |name| format!(" (did you mean {name}?)"));
        write!(f, "unknown tensor type '{}'{hint}, wanted one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for ParseTypeError {}

impl FromStr for TensorType {
    type Err = ParseTypeError;

    /// Parses a name, upper or lower case.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|t| t.name().eq_ignore_ascii_case(s));
        found.copied().ok_or_else(|| ParseTypeError(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
            assert_eq!(ty.name().to_lowercase().parse(), Ok(ty));
            assert_eq!(ForeignType::from_id(ty.id()), None, "{ty} is both supported and foreign");
        }
        assert!("Q9_9".parse::<TensorType>().is_err());
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        let message = |text: &str| text.parse::<TensorType>().unwrap_err().to_string();
        for (text, meant) in [("q8", "Q8_0"), ("Q4-K", "Q4_K"), ("fp16", "F16"), ("iq4nl", "IQ4_NL"), ("bf-16", "BF16")]
        {
            assert!(message(text).contains(&format!("did you mean {meant}?")), "{}", message(text));
        }
        assert!(!message("x").contains("did you mean"));
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        assert_eq!(TensorType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(TensorType::Q8_0.row_bytes(65), None);
        assert_eq!(TensorType::Q6_K.row_bytes(128), None);
        assert_eq!(TensorType::F32.row_bytes(usize::MAX), None);
    }
}
