//! The operations every instruction set provides, and the one place that chooses among them.
//!
//! Kernels are written once, generic over [`Isa`]. An ISA is a token: a zero-sized value that is made only after its
//! features were found, so holding one proves that the CPU has them. Vectors of floats have 16 lanes on every ISA,
//! whatever the registers' width, because the numeric contract fixes which lane sums what: a narrow ISA uses several
//! registers for one vector, and every operation returns the same bits everywhere. Vectors of bytes only lead to
//! integer sums, which are exact in any order, so they are as wide as a register.

/// Writes operations whose bodies are intrinsics, with the one reason why calling those is sound.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operations {
    () => {};
    (fn $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty $body:block $($rest:tt)*) => {
        #[inline(always)]
        #[allow(unused_unsafe)] // where the body only calls shared helpers
        fn $name($self $(, $arg: $ty)*) -> $ret {
            // SAFETY: `self` is a token, which exists only where the CPU has the features of these intrinsics.
            unsafe { $body }
        }
        operations! { $($rest)* }
    };
    (unsafe fn $name:ident($self:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty $body:block $($rest:tt)*) => {
        #[inline(always)]
        #[allow(unused_unsafe)]
        unsafe fn $name($self $(, $arg: $ty)*) -> $ret {
            // SAFETY: as above for the features; the caller answers for the memory behind the pointers.
            unsafe { $body }
        }
        operations! { $($rest)* }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operations;
mod scalar;
#[cfg(test)]
mod tests;
mod tuning;

pub(crate) use operations::Operations;
use std::fmt;
use std::str::FromStr;
pub(crate) use tuning::{GemmTile, Tile, TileSize, Tuning};

/// An instruction set: its operations, and functions that are compiled for it.
pub(crate) trait Isa: Operations + Call {}

impl<T: Operations + Call> Isa for T {}

/// What `isas!` adds to the operations.
pub(crate) trait Call {
    /// Runs a kernel as a function of its own. What many kernels share is compiled once so, rather than into each.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
}

/// A computation that is generic over the ISA: a struct of its arguments.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The body. Must be `#[inline(always)]`, so that it is compiled with the features of the trampoline.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Per row: `cfg`, variant, token, name, features. The levels, their proofs, the trampolines, the detection order (the
/// last supported row wins) and `PYTHIA_ISA` all come from here, so that they cannot drift apart.
macro_rules! isas {
    ($($(#[$cfg:meta])* $variant:ident, $token:ty, $name:literal, [$($feature:tt),*], $doc:literal;)*) => {
        /// An instruction set level that kernels are compiled for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum IsaLevel {
            $($(#[$cfg])* #[doc = $doc] $variant,)*
        }

        /// Proof that this CPU has a level: its token. It is all that kernels can be dispatched on.
        #[derive(Clone, Copy)]
        pub(crate) enum Supported {
            $($(#[$cfg])* $variant($token),)*
        }

        impl IsaLevel {
            /// Every level compiled in, slowest first, whether this CPU has it or not.
            pub const ALL: &[IsaLevel] = &[$($(#[$cfg])* IsaLevel::$variant,)*];

            /// Its name, as `PYTHIA_ISA` takes it.
            pub fn name(self) -> &'static str {
                match self { $($(#[$cfg])* IsaLevel::$variant => $name,)* }
            }

            /// The proof that this CPU has it.
            pub(crate) fn supported(self) -> Option<Supported> {
                match self {
                    $($(#[$cfg])* IsaLevel::$variant => {
                        let found = true $(&& detected!($feature))*;
                        // SAFETY: the CPU has every feature of the row.
                        found.then(|| Supported::$variant(unsafe { <$token>::new() }))
                    })*
                }
            }
        }

        impl Supported {
            /// The level that it proves.
            pub(crate) fn level(self) -> IsaLevel {
                match self { $($(#[$cfg])* Self::$variant(_) => IsaLevel::$variant,)* }
            }

            /// How its kernels use registers.
            pub(crate) fn tuning(self) -> Tuning {
                match self { $($(#[$cfg])* Self::$variant(_) => <$token>::TUNING,)* }
            }

            /// Runs a kernel compiled for this level.
            #[inline]
            pub(crate) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
                match self { $($(#[$cfg])* Self::$variant(token) => token.call(kernel),)* }
            }
        }

        $($(#[$cfg])*
        impl Call for $token {
            #[inline(always)]
            fn call<K: Kernel>(self, kernel: K) -> K::Output {
                $(#[target_feature(enable = $feature)])*
                #[inline(never)]
                fn trampoline<K: Kernel>(token: $token, kernel: K) -> K::Output {
                    kernel.run(token)
                }
                #[allow(unused_unsafe)] // a row without features
                // SAFETY: the token proves that the CPU has every feature of the row.
                unsafe { trampoline(self, kernel) }
            }
        })*
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! detected {
    ($feature:tt) => {
        std::arch::is_x86_feature_detected!($feature)
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! detected {
    ($feature:tt) => {
        std::arch::is_aarch64_feature_detected!($feature)
    };
}

isas! {
    Scalar, scalar::Scalar, "scalar", [], "Portable code; the oracle of the others, and slow.";
    #[cfg(target_arch = "x86_64")]
    Avx2, avx2::Avx2<false>, "avx2", ["avx2", "fma", "f16c"], "x86-64 with AVX2, FMA and F16C.";
    #[cfg(target_arch = "x86_64")]
    AvxVnni, avx2::Avx2<true>, "avx-vnni", ["avx2", "fma", "f16c", "avxvnni"], "The same with AVX-VNNI.";
    #[cfg(target_arch = "x86_64")]
    Avx512, avx512::Avx512, "avx512",
        ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"],
        "x86-64 with AVX-512 and VNNI.";
    #[cfg(target_arch = "aarch64")]
    Neon, neon::Neon<false, false>, "neon", ["neon"], "AArch64 without the dot-product instructions.";
    #[cfg(target_arch = "aarch64")]
    NeonDot, neon::Neon<true, false>, "neon-dotprod", ["neon", "dotprod"], "AArch64 with SDOT.";
    #[cfg(target_arch = "aarch64")]
    NeonMatrix, neon::Neon<true, true>, "neon-i8mm", ["neon", "dotprod", "i8mm"], "AArch64 with SDOT and SMMLA.";
}

impl IsaLevel {
    /// Whether this CPU can run it.
    pub fn is_supported(self) -> bool {
        self.supported().is_some()
    }

    /// The best level of this CPU.
    pub fn detect() -> Self {
        Supported::all().last().map_or(Self::Scalar, Supported::level)
    }

    /// The level that `PYTHIA_ISA` names, else the best of this CPU.
    ///
    /// # Errors
    /// If the variable names none, or one that this CPU lacks.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var("PYTHIA_ISA") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::detect()),
        }
    }
}

impl Supported {
    /// Of every level that this CPU has, slowest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        IsaLevel::ALL.iter().filter_map(|level| level.supported())
    }

    /// Of the level that results are tested against.
    #[cfg(test)]
    pub(crate) fn scalar() -> Self {
        IsaLevel::Scalar.supported().unwrap()
    }
}

impl fmt::Display for IsaLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An ISA name that cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaError(pub(crate) String);

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Supported::all().map(|isa| isa.level().name()).collect();
        let found = pythia_text::quoted(&self.0, '\'', 40);
        write!(f, "ISA {found} is not one that this CPU can run: {}", names.join(", "))
    }
}

impl std::error::Error for IsaError {}

impl FromStr for IsaLevel {
    type Err = IsaError;

    /// Parses a name; levels that this CPU lacks are refused.
    fn from_str(s: &str) -> Result<Self, IsaError> {
        let found = Self::ALL.iter().find(|l| l.name().eq_ignore_ascii_case(s) && l.is_supported());
        found.copied().ok_or_else(|| IsaError(s.to_owned()))
    }
}
