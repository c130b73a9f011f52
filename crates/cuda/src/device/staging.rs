//! Copies between host and device through pinned memory.
//!
//! Two pinned buffers take turns: while one is copied to the device, the next piece is copied (or paged in from a
//! mapped file) into the other. The driver does the same for pageable memory, but it does not specify when the caller
//! may reuse that memory, or whether a copy to the device waits for earlier work.

use super::Ptr;
use super::context::Context;
use super::driver::{self, ok};
use cudarc::driver::sys;
use std::ffi::c_void;

/// Size of a buffer: some 150 us of the fastest bus, so that the cost of starting a copy is small.
const PIECE: usize = 8 << 20;

/// The two buffers, and which is next.
pub(super) struct Staging {
    buffers: [Pinned; 2],
    next: usize,
}

/// A pinned buffer, and the event that follows its last copy.
struct Pinned {
    at: *mut u8,
    copied: sys::CUevent,
}

// SAFETY: pinned memory and events belong to a context, not to a thread.
unsafe impl Send for Staging {}

impl Staging {
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self { buffers: [Pinned::new()?, Pinned::new()?], next: 0 })
    }

    pub(super) fn upload(&mut self, context: &Context, to: Ptr, bytes: &[u8]) -> Result<(), String> {
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            let Pinned { at, copied } = self.buffers[self.next];
            self.next = 1 - self.next;
            // SAFETY: the buffer holds a piece, and the event says that the device has read the one before; the
            // caller answers for the address on the device.
            unsafe {
                ok(driver::cuEventSynchronize(copied))?;
                std::ptr::copy_nonoverlapping(piece.as_ptr(), at, piece.len());
                let to = to.add(i * PIECE).0;
                ok(driver::cuMemcpyHtoDAsync_v2(to, at.cast::<c_void>(), piece.len(), context.stream()))?;
                ok(driver::cuEventRecord(copied, context.stream()))?;
            }
        }
        Ok(())
    }

    pub(super) fn download(&mut self, context: &Context, from: Ptr, bytes: &mut [u8]) -> Result<(), String> {
        let Pinned { at, .. } = self.buffers[self.next];
        for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
            // SAFETY: the buffer holds a piece. An upload out of it ends before, in the order of the stream, and
            // this copy has ended when the stream is synchronised.
            unsafe {
                let from = from.add(i * PIECE).0;
                ok(driver::cuMemcpyDtoHAsync_v2(at.cast::<c_void>(), from, piece.len(), context.stream()))?;
                context.synchronize()?;
                std::ptr::copy_nonoverlapping(at, piece.as_mut_ptr(), piece.len());
            }
        }
        Ok(())
    }

    /// Frees the buffers, once the device is done with them.
    pub(super) fn free(&mut self) {
        for Pinned { at, copied } in &mut self.buffers {
            // SAFETY: from `new`, with no copy under way: the stream was synchronised. Not used again.
            unsafe {
                let _ = driver::cuEventDestroy_v2(*copied);
                let _ = driver::cuMemFreeHost(at.cast::<c_void>());
            }
        }
    }
}

impl Pinned {
    fn new() -> Result<Self, String> {
        let (mut at, mut copied) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: writes an address and a handle, freed by `Staging::free`.
        unsafe {
            ok(driver::cuMemHostAlloc(&mut at, PIECE, 0))?;
            ok(driver::cuEventCreate(&mut copied, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32))?;
        }
        Ok(Self { at: at.cast::<u8>(), copied })
    }
}
