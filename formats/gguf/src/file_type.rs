//! The type of a whole file, `general.file_type`.

use crate::{Metadata, keys};
use std::fmt;

/// Calls `$callback! { rows }` with a row per file type: `Variant, id`. The variant is also its name.
macro_rules! for_each_file_type {
    ($callback:ident) => {
        $callback! {
            (F32, 0), (F16, 1), (Q4_0, 2), (Q4_1, 3), (Q8_0, 7), (Q5_0, 8), (Q5_1, 9), (Q2_K, 10), (Q3_K_S, 11),
            (Q3_K_M, 12), (Q3_K_L, 13), (Q4_K_S, 14), (Q4_K_M, 15), (Q5_K_S, 16), (Q5_K_M, 17), (Q6_K, 18),
            (IQ2_XXS, 19), (IQ2_XS, 20), (Q2_K_S, 21), (IQ3_XS, 22), (IQ3_XXS, 23), (IQ1_S, 24), (IQ4_NL, 25),
            (IQ3_S, 26), (IQ3_M, 27), (IQ2_S, 28), (IQ2_M, 29), (IQ4_XS, 30), (IQ1_M, 31), (BF16, 32), (TQ1_0, 36),
            (TQ2_0, 37), (MXFP4_MOE, 38), (NVFP4, 39), (Q1_0, 40),
        }
    };
}

macro_rules! define_file_type {
    ($(($variant:ident, $id:literal),)*) => {
        /// The value of `general.file_type`: the type, or the recipe of types, that most matrices are stored as.
        ///
        /// Ids and names are llama.cpp's `llama_ftype`. Names without a type of the same name, as `Q4_K_M`, are
        /// recipes that mix types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)] // the names the field uses
        #[repr(u32)]
        pub enum FileType {
            $(#[doc = concat!("`", stringify!($variant), "`")] $variant = $id,)*
        }

        impl FileType {
            /// Every file type, by ascending id.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The file type of this id.
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name: `Q4_K_M`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }
    };
}
for_each_file_type!(define_file_type);

impl FileType {
    /// The file type that a file states, if it is a known one.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        metadata.u32(keys::FILE_TYPE).ok().flatten().and_then(Self::from_id)
    }

    /// Its value in `general.file_type`.
    pub const fn id(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_llama_cpps() {
        assert_eq!(FileType::Q8_0.id(), 7);
        assert_eq!(FileType::from_id(15), Some(FileType::Q4_K_M));
        assert_eq!(FileType::from_id(4), None);
    }
}
