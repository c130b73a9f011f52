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
mod scalar;
#[cfg(test)]
mod tests;
mod tuning;

use crate::codebook::Codebook;
use crate::matmul::CACHE_LINE_BYTES;
use std::fmt;
use std::ops::IndexMut;
use std::str::FromStr;
pub(crate) use tuning::{GemmTile, Tile, TileSize, Tuning};

/// The operations. See the module documentation for what they may rely on.
///
/// # Safety
/// A value of an implementing type must exist only where the CPU has the features its operations use.
/// The operations that take a pointer need as many readable (writable) bytes behind it as they name, at any alignment.
#[allow(clippy::missing_safety_doc)] // the pointer operations' duty is stated once, above
pub(crate) unsafe trait Operations: Copy + Send + Sync + 'static {
    /// 16 f32.
    type F: Copy;
    /// 16 i32, or 16 lanes of 4 bytes.
    type N: Copy;
    /// 16 bytes of each of `16 / PARTS` rows.
    type B: Copy;
    /// 4 i32 of each of those rows: sums over 4 neighbouring bytes of a [`Self::B`].
    type Q: Copy;
    /// A value for every part of 16 rows: an array of [`Self::PARTS`].
    type Parts<V: Copy>: Copy + IndexMut<usize, Output = V>;

    /// Vectors of bytes that hold 16 rows together. Part p has rows p, p + PARTS, p + 2 PARTS and so on.
    const PARTS: usize;
    /// Whether a vector of bytes has 32, so that it also holds a unit of one row; see [`Self::reduce_rows`].
    const HOLDS_UNIT: bool = false;
    /// What [`Self::prepare_i8`] adds to codes: 128 where the dot instruction wants its left side unsigned.
    const I8_BIAS: i32;
    /// How kernels use the registers.
    const TUNING: Tuning;

    fn splat(self, x: f32) -> Self::F;
    /// 16 floats.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// 16 floats.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// 16 f16.
    unsafe fn load_f16(self, p: *const u8) -> Self::F;
    /// 16 f16, rounded to nearest even.
    unsafe fn store_f16(self, p: *mut u8, v: Self::F);
    /// 16 bf16.
    unsafe fn load_bf16(self, p: *const u8) -> Self::F;
    /// 16 f16, `stride` bytes apart.
    unsafe fn gather_f16(self, p: *const u8, stride: usize) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; operands are never NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; operands are never NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// Magnitude of `a`, sign of `sign`.
    fn copysign(self, a: Self::F, sign: Self::F) -> Self::F;
    /// Per lane `if a < b { x } else { y }`.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// Sum of the lanes by halving: l + (l + 8), then 4, 2, 1.
    fn sum(self, a: Self::F) -> f32;
    /// Lane l: [`Self::sum`] of vector l.
    fn sum_each(self, vectors: [Self::F; 16]) -> Self::F;
    /// Largest lane.
    fn max_lane(self, a: Self::F) -> f32;
    /// Bits of the largest magnitude in both: those of infinity or above if a lane is not finite.
    fn largest_magnitude(self, a: Self::F, b: Self::F) -> u32;
    /// Per lane the larger of the bits as unsigned numbers: of floats that are not negative the larger, or one that is not
    /// a number.
    fn max_bits(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lane l: the largest of the lanes of vector l, as [`Self::max_bits`] has it.
    fn max_bits_each(self, vectors: [Self::F; 16]) -> Self::F;
    /// Nearest integers, ties to even.
    fn round(self, a: Self::F) -> Self::N;
    fn to_float(self, a: Self::N) -> Self::F;
    /// 2^n for n in -126..=127.
    fn pow2(self, n: Self::N) -> Self::F;

    fn splat_int(self, x: i32) -> Self::N;
    /// 64 bytes.
    unsafe fn load_int(self, p: *const u32) -> Self::N;
    /// 64 bytes.
    unsafe fn store_int(self, p: *mut u32, v: Self::N);
    fn add_int(self, a: Self::N, b: Self::N) -> Self::N;
    fn or_int(self, a: Self::N, b: Self::N) -> Self::N;
    fn and_int(self, a: Self::N, mask: u32) -> Self::N;
    /// Every lane shifted left by `by` bits.
    fn shl_int(self, a: Self::N, by: usize) -> Self::N;
    /// Every lane shifted right by `by` bits, copies of its sign moving in.
    fn shr_int(self, a: Self::N, by: usize) -> Self::N;
    /// The f16 in the lower half of every lane.
    fn half_to_float(self, a: Self::N) -> Self::F;
    /// 16 integers in -128..=127, as bytes; returns their sum.
    unsafe fn store_i8(self, p: *mut u8, v: Self::N) -> i32;

    /// The same value for every part.
    fn parts<V: Copy>(self, v: V) -> Self::Parts<V>;
    fn splat_bytes(self, x: u8) -> Self::B;
    /// As many bytes as a vector has: 16 of each row of a part, one row after another.
    unsafe fn load_bytes(self, p: *const u8) -> Self::B;
    /// 16 bytes of each row of a part, `stride` bytes apart.
    unsafe fn rows(self, p: *const u8, stride: usize) -> Self::B;
    /// The same 4 bytes in every word.
    fn repeated_word(self, x: i32) -> Self::B;
    /// The same 16 bytes for every row.
    unsafe fn repeated(self, p: *const u8) -> Self::B;
    /// The bits of 4 bytes of each row, `stride` bytes apart: of the first 2 bytes, then of the last 2. A byte is 16
    /// where its bit is set, else 0.
    unsafe fn fifth_bits(self, p: *const u8, stride: usize) -> [Self::B; 2];
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    fn and(self, a: Self::B, mask: u8) -> Self::B;
    /// Every byte shifted right by `by` bits.
    fn shr(self, a: Self::B, by: usize) -> Self::B;
    /// Every byte shifted left by `by` bits.
    fn shl(self, a: Self::B, by: usize) -> Self::B;
    /// Every byte replaced by the one it numbers, 0..16, among the 16 of its row in `table`, and 128 by 0.
    fn lookup(self, table: Self::B, indices: Self::B) -> Self::B;
    fn and_each(self, a: Self::B, b: Self::B) -> Self::B;
    fn xor(self, a: Self::B, b: Self::B) -> Self::B;
    /// Every 4 bytes, as a little-endian word, shifted left by `by` bits.
    fn shl_words(self, a: Self::B, by: usize) -> Self::B;
    /// Prepared codes, negated where bit `j % 8` of byte `j` of `signs` is set.
    fn negate(self, codes: Self::B, signs: Self::B) -> Self::B;
    /// Finds the entries that 8 u16 per row number, of 16 rows, for `fours` and `eights`. The default leaves the
    /// numbers as they are, and those two look the entries up.
    ///
    /// # Safety
    /// Numbers are below `N`.
    #[inline(always)]
    unsafe fn find<const DIM: usize, const N: usize>(
        self,
        _book: &Codebook<DIM, N>,
        numbers: Self::Parts<Self::B>,
    ) -> Self::Parts<Self::B> {
        numbers
    }
    /// Of 8 entries of a row that were found, prepared codes: of the first four, then of the last.
    ///
    /// # Safety
    /// `found` comes from `find`, for the same codebook.
    unsafe fn fours<const N: usize>(self, book: &Codebook<4, N>, found: Self::B) -> [Self::B; 2];
    /// Of the first four or the last four entries of a row that were found, as `half` is 0 or 1, prepared codes: of the
    /// first two of them, then of the last.
    ///
    /// # Safety
    /// As above.
    unsafe fn eights<const N: usize>(self, book: &Codebook<8, N>, found: Self::B, half: usize) -> [Self::B; 2];
    /// Two's complement codes as [`Self::dot_i8`] wants its left side: plus [`Self::I8_BIAS`].
    fn prepare_i8(self, a: Self::B) -> Self::B;
    /// The 16 bytes of one row of a part, the `row`th, as integers: signs extended.
    fn widen(self, a: Self::B, row: usize) -> Self::N;
    /// The 16 bytes of each of 16 rows as 4 words: vector w has word w of row l in lane l.
    fn transpose(self, rows: Self::Parts<Self::B>) -> [Self::N; 4];
    /// The same for rows in memory, `stride` bytes apart.
    #[inline(always)]
    unsafe fn words(self, p: *const u8, stride: usize) -> [Self::N; 4] {
        let mut rows = self.parts(self.splat_bytes(0));
        for part in 0..Self::PARTS {
            // SAFETY: the caller's promise.
            rows[part] = unsafe { self.rows(p.wrapping_add(part * stride), Self::PARTS * stride) };
        }
        self.transpose(rows)
    }

    /// The same for interleaved rows, whose parts are the words of all rows, one part after another.
    fn as_words(self, parts: Self::Parts<Self::B>) -> [Self::N; 4];

    fn splat_quads(self, x: i32) -> Self::Q;
    /// The sums of 16 interleaved rows: of the first `PARTS / 4` parts.
    fn join_quads(self, parts: Self::Parts<Self::Q>) -> Self::N;
    /// `acc` plus the sums of `w * a` over 4 neighbours; `w` in 0..=127, `a` in -127..=127.
    fn dot_u7(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q;
    /// The same for prepared signed codes.
    fn dot_i8(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q;
    /// Lane l: the sum over the 4 of row l.
    fn reduce(self, rows: Self::Parts<Self::Q>) -> Self::N;
    /// What `dot_u7` does, for codes of at most 6 bits. Sums may be of 16 bits: at most two products are added, and only
    /// `reduce_few` and `reduce_rows` read them.
    #[inline(always)]
    fn dot_few(self, acc: Self::Q, w: Self::B, a: Self::B) -> Self::Q {
        self.dot_u7(acc, w, a)
    }
    /// The same sums, kept in their register, and later loads behind them. Else the compiler may load for all parts first,
    /// and put what the registers do not hold back into memory.
    #[inline(always)]
    fn made(self, sums: Self::Q) -> Self::Q {
        sums
    }
    /// What `reduce` does, for sums of `products` products by `dot_few`, of codes of `bits` bits.
    #[inline(always)]
    fn reduce_few(self, rows: Self::Parts<Self::Q>, _bits: u32, _products: usize) -> Self::N {
        self.reduce(rows)
    }
    /// The same for 16 vectors of one product each, where every vector has 32 codes of one row: sums of the first 16 and of
    /// the last, or twice of all 32 if not `split`.
    #[inline(always)]
    unsafe fn reduce_rows(self, _rows: *const Self::Q, _bits: u32, _split: bool) -> [Self::N; 2] {
        unreachable!("vectors hold no unit")
    }

    /// What `made` does, for products of interleaved rows.
    #[inline(always)]
    fn kept(self, sums: Self::Q) -> Self::Q {
        sums
    }
    /// `acc[m]` plus the products of words of interleaved rows with `a[..][m]`, `kept`. Codes are as in `dot_steps`.
    #[inline(always)]
    fn dot_words<const W: usize, const M: usize>(
        self,
        mut acc: [Self::Q; M],
        w: [Self::B; W],
        a: &[[i32; M]; W],
        bits: u32,
    ) -> [Self::Q; M] {
        for m in 0..M {
            for i in 0..W {
                let a = self.repeated_word(a[i][m]);
                acc[m] = if bits == 8 { self.dot_i8(acc[m], w[i], a) } else { self.dot_u7(acc[m], w[i], a) };
            }
            acc[m] = self.kept(acc[m]);
        }
        acc
    }

    /// Per lane `acc + w . a` over 4 bytes; `w` in 0..=127; `a` holds the same 4 signed bytes for every lane.
    fn dot4_u7(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// The same for prepared signed codes.
    fn dot4_i8(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// The same for signed codes in -127..=127, not prepared, where the bytes of `a` are in 0..=127.
    fn dot4_by_u7(self, acc: Self::N, w: Self::N, a: i32) -> Self::N;
    /// Where the word `lane` of step `step` is among those that `dot_steps` reads.
    #[inline(always)]
    fn step_word(self, step: usize, lane: usize) -> usize {
        16 * step + lane
    }
    /// 4 steps of the integer GEMM: 4 codes of each of 16 rows in each, unsigned or prepared. 256 bytes, laid out as
    /// `dot_steps` reads them; by default one after another.
    #[inline(always)]
    unsafe fn store_steps(self, p: *mut u32, steps: [Self::N; 4]) {
        for (i, step) in steps.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { self.store_int(p.add(16 * i), step) };
        }
    }
    /// `acc[p][m]` plus the products of `a.len()` steps (a multiple of 4) at `w[p]` with `a[..][m]`. Codes are in
    /// `0..1 << bits`, at most 7, or prepared signed ones where `bits` is 8.
    #[inline(always)]
    unsafe fn dot_steps<const P: usize, const M: usize>(
        self,
        mut acc: [[Self::N; M]; P],
        w: [*const u32; P],
        a: &[[i32; M]],
        bits: u32,
    ) -> [[Self::N; M]; P] {
        for (step, a) in a.iter().enumerate() {
            for p in 0..P {
                // SAFETY: the caller's promise.
                let w = unsafe { self.load_int(w[p].add(16 * step)) };
                for m in 0..M {
                    acc[p][m] =
                        if bits == 8 { self.dot4_i8(acc[p][m], w, a[m]) } else { self.dot4_u7(acc[p][m], w, a[m]) };
                }
            }
        }
        acc
    }

    /// Asks for the cache line of `p`, into the second cache; the address need not be readable.
    fn prefetch(self, p: *const u8);
    /// The same for all lines of `bytes` bytes, a line's distance from `p` each.
    #[inline(always)]
    fn prefetch_bytes(self, p: *const u8, bytes: usize) {
        // Not `step_by`, which is not unrolled.
        let mut at = 0;
        while at < bytes {
            self.prefetch(p.wrapping_add(at));
            at += CACHE_LINE_BYTES;
        }
    }
    /// Keeps the compiler from moving loads and prefetches past this point, though not from reusing what was loaded.
    fn in_order(self);
    /// The same number, which the compiler must take for a new one: multiples of a stride are then found where they are
    /// used. Sixteen of them kept from block to block would not fit the registers, and fetching them is dearer.
    fn renewed(self, n: usize) -> usize;
}

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
