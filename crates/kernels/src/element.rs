//! Float types as they lie in memory: weights of a file, entries of a cache, what was decoded.

use crate::isa::Isa;
use pythia_tensor::blocks;

/// A type whose values become f32 as they are loaded.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// 16 elements, at any alignment.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load<I: Isa>(isa: I, p: *const Self) -> I::F;
}

macro_rules! element {
    ($($ty:ty, $load:ident;)*) => { $(
        impl Element for $ty {
            #[inline(always)]
            unsafe fn load<I: Isa>(isa: I, p: *const Self) -> I::F {
                // SAFETY: the caller's promise.
                unsafe { isa.$load(p.cast()) }
            }
        }
    )* };
}
element! {
    f32, load;
    blocks::F32, load;
    blocks::F16, load_f16;
    blocks::BF16, load_bf16;
}
