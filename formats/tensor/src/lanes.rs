//! Several f32 side by side, one per block: how encoders search for scales.
//!
//! The reference searches are sequential inside a block and cannot be reordered without changing its bytes, but blocks
//! are independent. So a lane is a block: every lane performs the reference's float operations in its order, and the
//! bytes are the same however many lanes there are. Nothing here fuses a multiplication with an addition.
//!
//! This is the one place in `formats/` that knows CPU features. It decides how many blocks are encoded at once, never
//! what they become; tests hold every width to the one-lane form.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

pub(crate) use portable::Portable;
use std::ops::{Add, BitAnd, Div, Mul, Not, Sub};

/// A vector of f32.
///
/// # Safety
/// The methods are safe to call, but may use CPU features. A type whose methods do must therefore be private to its
/// module, and reach generic code only through an unsafe function there, whose callers check the features.
pub(crate) unsafe trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Number of lanes.
    const N: usize;
    /// A truth per lane.
    type Mask: Copy + BitAnd<Output = Self::Mask> + Not<Output = Self::Mask>;

    fn splat(x: f32) -> Self;
    /// The first `N` of a slice.
    fn load(from: &[f32]) -> Self;
    /// Into the first `N` of a slice.
    fn store(self, to: &mut [f32]);
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// `if self < other { self } else { other }`
    fn min(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`
    fn max(self, other: Self) -> Self;
    /// Whether `self < other`; false for what is not a number.
    fn lt(self, other: Self) -> Self::Mask;
    /// Per lane `if mask { a } else { b }`.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;
    /// Whether the mask holds in any lane.
    fn any(mask: Self::Mask) -> bool;
    /// The reference's conversion to an integer: adds 1.5 * 2^23 and takes 23 bits of the mantissa. The nearest
    /// integer, ties to even, for magnitudes below 2^22; what those bits say for others, which its searches do reach.
    fn nearest_any(self) -> Self;

    /// The nearest integer, ties to even, of a magnitude below 2^22.
    #[inline(always)]
    fn nearest(self) -> Self {
        let magic = Self::splat(crate::fit::MAGIC);
        (self + magic) - magic
    }

    /// Whether `self != other`, where neither is NaN.
    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        !(!self.lt(other) & !other.lt(self))
    }

    /// At least `low`, at most `high`.
    #[inline(always)]
    fn clamp(self, low: f32, high: f32) -> Self {
        self.max(Self::splat(low)).min(Self::splat(high))
    }

    /// Applies `f` lane by lane.
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut lanes = [0.0; MAX_LANES];
        self.store(&mut lanes);
        lanes.iter_mut().for_each(|x| *x = f(*x));
        Self::load(&lanes)
    }

    /// The lanes; those from `N` on are zero.
    #[inline(always)]
    fn to_array(self) -> [f32; MAX_LANES] {
        let mut lanes = [0.0; MAX_LANES];
        self.store(&mut lanes);
        lanes
    }
}

/// Lanes of the widest type.
pub(crate) const MAX_LANES: usize = 16;

/// A computation that any number of lanes can do: a struct of its arguments.
pub(crate) trait Task {
    /// Must be `#[inline(always)]`, as must be all it calls per lane, so that it is compiled with the features.
    fn run<V: Lanes>(self);
}

/// Runs a task with as many lanes as this CPU has.
pub(crate) fn dispatch(task: impl Task) {
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::detected() {
            // SAFETY: the features were just found.
            return unsafe { avx512::run(task) };
        }
        if avx2::detected() {
            // SAFETY: the feature was just found.
            return unsafe { avx2::run(task) };
        }
    }
    task.run::<Portable<4>>();
}

/// Runs a task with every kind of lanes that this CPU has: their names, and a task for each.
#[cfg(test)]
pub(crate) fn run_with_each<T: Task>(mut task: impl FnMut(&'static str) -> T) {
    task("4 portable lanes").run::<Portable<4>>();
    #[cfg(target_arch = "x86_64")]
    {
        if avx2::detected() {
            // SAFETY: the feature was just found.
            unsafe { avx2::run(task("8 lanes of AVX2")) };
        }
        if avx512::detected() {
            // SAFETY: the features were just found.
            unsafe { avx512::run(task("16 lanes of AVX-512")) };
        }
    }
}
