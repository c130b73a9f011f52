//! A mutable slice that the tasks of one job write disjoint parts of.

use std::marker::PhantomData;

/// A slice shared among tasks. Who takes parts of it answers for their being disjoint.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts through `unsafe` methods whose callers promise that no two tasks share one.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Where an element is, or would be: to prefetch it.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> *const T {
        self.start.wrapping_add(index)
    }

    /// `len` elements from `first`.
    ///
    /// # Safety
    /// No other live part may overlap it.
    ///
    /// # Panics
    /// If it is out of bounds.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the point of the type
    pub(crate) unsafe fn slice(&self, first: usize, len: usize) -> &'a mut [T] {
        assert!(first <= self.len && len <= self.len - first, "part out of bounds");
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }

    /// The same to read: other tasks may read it too.
    ///
    /// # Safety
    /// No live part that is written may overlap it.
    ///
    /// # Panics
    /// If it is out of bounds.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, first: usize, len: usize) -> &'a [T] {
        assert!(first <= self.len && len <= self.len - first, "part out of bounds");
        // SAFETY: in bounds by the assertion, written by nobody by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(first), len) }
    }
}
