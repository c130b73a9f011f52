//! The sources, what each needs before it, and how they are put together.

use super::{Unit, tables};
use crate::ops;
use pythia_tensor::TensorType;

/// Every file of `kernels/`, by its path there.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What stands before every source.
const PRELUDE: &str = "prelude.cuh";
/// What stands before every format.
const BYTES: &str = "formats/bytes.cuh";

/// Which formats a source is compiled for.
enum Formats {
    /// It has nothing to do with formats.
    None,
    /// Those with blocks of 32 elements or more.
    Quantized,
    /// Every type of a tensor.
    All,
}

macro_rules! sources {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $formats:ident, [$($header:literal),*];)*) => {
        /// The files of `kernels/` that hold kernels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Source {
            $($(#[$doc])* $variant,)*
        }

        impl Source {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// The file's name without its extension.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn file(self) -> String {
                format!("{}.cu", self.name())
            }

            const fn formats(self) -> Formats {
                match self { $(Self::$variant => Formats::$formats,)* }
            }

            /// The headers it needs, in this order.
            const fn headers(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($header),*],)* }
            }
        }
    };
}

// The one list of sources: name, formats, headers.
sources! {
    /// Activations to int8.
    Quantize = "quantize", None, ["quantize.cuh"];
    /// Rows of the embedding table.
    Embed = "embed", All, ["decode.cuh"];
    /// Quantized weights times a few rows.
    Gemv = "gemv", Quantized, ["math.cuh", "quantize.cuh", "epilogue.cuh", "product.cuh"];
    /// Quantized weights times many rows.
    Gemm = "gemm", Quantized, ["math.cuh", "quantize.cuh", "epilogue.cuh", "product.cuh", "gemm.cuh"];
    /// Weights as floats times f32 rows.
    Float = "float", All, ["decode.cuh", "math.cuh", "epilogue.cuh"];
    /// LayerNorm.
    Norm = "norm", None, ["math.cuh", "quantize.cuh"];
    /// Rotation and appending to the cache.
    Append = "append", None, ["cache.cuh"];
    /// Attention.
    Attend = "attend", None, ["math.cuh", "quantize.cuh", "cache.cuh"];
    /// What follows the output matrix: log-sum-exp, the largest logits.
    Head = "head", None, ["math.cuh"];
    /// What the device could do at best.
    Limits = "limits", None, [];
}

/// Every unit there is.
pub(crate) fn units() -> impl Iterator<Item = Unit> {
    Source::ALL.iter().flat_map(|&source| {
        let formats = match source.formats() {
            Formats::None => vec![None],
            Formats::Quantized => TensorType::ALL.iter().filter(|ty| ty.block_elems() > 1).copied().map(Some).collect(),
            Formats::All => TensorType::ALL.iter().copied().map(Some).collect(),
        };
        formats.into_iter().map(move |format| Unit { source, format })
    })
}

/// The file of a format. Floats share one.
fn format_file(format: TensorType) -> String {
    match format {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => "formats/float.cuh".to_owned(),
        _ => format!("formats/{}.cuh", format.name().to_ascii_lowercase()),
    }
}

/// The text of a file of `kernels/`.
///
/// # Panics
/// If there is none: a test assembles every unit.
fn file(name: &str) -> &'static str {
    let file = FILES.iter().find(|file| file.0 == name);
    file.unwrap_or_else(|| panic!("there is no file kernels/{name}")).1
}

/// The whole text of a unit. Every line knows its file, for the compiler's messages.
pub(super) fn assemble(unit: Unit) -> String {
    let mut parts = vec![part(PRELUDE)];
    if let Some(format) = unit.format {
        let format_file = format_file(format);
        parts.push(part(BYTES));
        parts.extend(tables::of(format).map(|text| format!("#line 1 \"tables\"\n{text}")));
        parts.push(part(&format_file));
        let (name, elems, bytes) = (format.name(), format.block_elems(), format.block_bytes());
        parts.push(format!("typedef {name} Format;\n"));
        parts.push(format!("static_assert({name}::ELEMS == {elems} && {name}::BYTES == {bytes}, \"{name}\");\n"));
    }
    parts.extend(unit.source.headers().iter().copied().map(part));
    parts.push(part(&unit.source.file()));
    parts.concat()
}

/// What stands before every source.
#[cfg(test)]
pub(super) fn prelude() -> String {
    part(PRELUDE)
}

/// A file, and assertions that it and Rust declare the same.
fn part(name: &str) -> String {
    let asserts: String = ops::shared().filter(|shared| shared.file == name).map(|shared| shared.asserts()).collect();
    format!("#line 1 \"{name}\"\n{}\n{asserts}", file(name))
}
