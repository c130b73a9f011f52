//! Lanes as an array: the oracle with one lane, and what CPUs without an own form use with four.

use super::Lanes;
use crate::fit::MAGIC;
use std::array::from_fn;
use std::ops::{Add, BitAnd, Div, Mul, Not, Sub};

/// `N` lanes.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const N: usize>([f32; N]);

/// Truths of `N` lanes.
#[derive(Clone, Copy)]
pub(crate) struct Truths<const N: usize>([bool; N]);

macro_rules! operator {
    ($trait:ident $name:ident $op:tt) => {
        impl<const N: usize> $trait for Portable<N> {
            type Output = Self;
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                Self(from_fn(|i| self.0[i] $op other.0[i]))
            }
        }
    };
}
operator!(Add add +);
operator!(Sub sub -);
operator!(Mul mul *);
operator!(Div div /);

impl<const N: usize> BitAnd for Truths<N> {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] & other.0[i]))
    }
}

impl<const N: usize> Not for Truths<N> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(self.0.map(|t| !t))
    }
}

// SAFETY: no CPU features.
unsafe impl<const N: usize> Lanes for Portable<N> {
    const N: usize = N;
    type Mask = Truths<N>;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; N])
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(*from.first_chunk().expect("a value per lane"))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        *to.first_chunk_mut().expect("a place for every lane") = self.0;
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(from_fn(|i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Truths<N> {
        Truths(from_fn(|i| self.0[i] < other.0[i]))
    }
    #[inline(always)]
    fn select(mask: Truths<N>, a: Self, b: Self) -> Self {
        Self(from_fn(|i| if mask.0[i] { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn any(mask: Truths<N>) -> bool {
        mask.0.contains(&true)
    }
    #[inline(always)]
    fn nearest_any(self) -> Self {
        Self(self.0.map(|x| (((x + MAGIC).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000) as f32))
    }
}
