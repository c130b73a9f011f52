//! Memory on the device.

use super::Ptr;
use super::context::Context;
use super::driver::{self, ok};
use crate::error::Error;
use cudarc::driver::sys;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Readable bytes past the end of every allocation, because kernels load whole words around a block.
const PADDING: usize = 64;

/// Memory on the device, zeroed, aligned to 256; 64 bytes past its end may be read. Freed when dropped, after all work
/// that was launched before.
pub(crate) struct Memory {
    at: Ptr,
    /// Includes the padding.
    bytes: usize,
    context: Arc<Context>,
}

impl Memory {
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        if context.spoils() {
            return Err(Error::Device("memory cannot be allocated while a graph is recorded".to_owned()));
        }
        context.bind().map_err(Error::Device)?;
        let padded = bytes.checked_add(PADDING).ok_or(Error::OutOfMemory { wanted: bytes, free: free()?.0 })?;
        let mut at = 0;
        // SAFETY: writes an address; freed when dropped.
        let code = unsafe { driver::cuMemAlloc_v2(&mut at, padded) };
        if code == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(Error::OutOfMemory { wanted: bytes, free: free()?.0 });
        }
        ok(code).map_err(|problem| Error::Device(format!("allocating {bytes} bytes: {problem}")))?;
        let memory = Self { at: Ptr(at), bytes: padded, context: Arc::clone(context) };
        context.allocated.fetch_add(padded, Ordering::Relaxed);
        // SAFETY: just allocated, with as many bytes.
        ok(unsafe { driver::cuMemsetD8Async(at, 0, padded, context.stream()) }).map_err(Error::Device)?;
        Ok(memory)
    }

    /// Its start.
    pub(crate) fn ptr(&self) -> Ptr {
        self.at
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; everything launched before is waited for. After a failure of the device the
        // driver refuses, and the memory ends with the context.
        unsafe {
            let _ = self.context.bind();
            let _ = self.context.synchronize();
            let _ = driver::cuMemFree_v2(self.at.0);
        }
        self.context.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Free and total bytes of the device of this thread's context.
pub(super) fn free() -> Result<(usize, usize), Error> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: writes two numbers.
    ok(unsafe { driver::cuMemGetInfo_v2(&mut free, &mut total) }).map_err(Error::Device)?;
    Ok((free, total))
}
