//! A GPU's context, its only stream of work, and the first failure.

use super::driver::{self, ok};
use crate::error::Error;
use cudarc::driver::sys;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

/// The GPU's primary context, and a stream of our own.
pub(crate) struct Context {
    pub(crate) device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    recorder: Mutex<Option<Recorder>>,
    /// Bytes of memory allocated by this crate.
    pub(super) allocated: AtomicUsize,
}

/// A thread whose launches are recorded in a graph and not run.
struct Recorder {
    thread: ThreadId,
    stream: sys::CUstream,
    /// Something could not be recorded.
    spoiled: bool,
}

// SAFETY: the driver's handles may be used from any thread; it locks what it must.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn new(device: sys::CUdevice) -> Result<Self, String> {
        let mut context = std::ptr::null_mut();
        // SAFETY: the device is one that the driver counted; released when dropped.
        ok(unsafe { driver::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        let mut this = Self {
            device,
            context,
            stream: std::ptr::null_mut(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            recorder: Mutex::new(None),
            allocated: AtomicUsize::new(0),
        };
        this.bind()?;
        this.stream = this.new_stream()?;
        Ok(this)
    }

    /// A stream that does not wait for others.
    pub(crate) fn new_stream(&self) -> Result<sys::CUstream, String> {
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes a handle.
        ok(unsafe { driver::cuStreamCreate(&mut stream, flags) })?;
        Ok(stream)
    }

    /// Makes this context current on this thread. Required before every other call.
    pub(crate) fn bind(&self) -> Result<(), String> {
        // SAFETY: the context is retained as long as `self` lives.
        ok(unsafe { driver::cuCtxSetCurrent(self.context) })
    }

    /// The stream that everything runs in.
    pub(crate) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// The stream for this thread's launches, and whether they are only recorded.
    pub(crate) fn target(&self) -> (sys::CUstream, bool) {
        match &*self.recorder.lock().unwrap() {
            Some(recorder) if recorder.thread == thread::current().id() => (recorder.stream, true),
            _ => (self.stream, false),
        }
    }

    /// Whether this thread's launches are recorded. An operation that cannot be recorded calls this, which invalidates
    /// the recording.
    pub(crate) fn spoils(&self) -> bool {
        match &mut *self.recorder.lock().unwrap() {
            Some(recorder) if recorder.thread == thread::current().id() => {
                recorder.spoiled = true;
                true
            }
            _ => false,
        }
    }

    /// Sends this thread's launches to `stream`. Recordings of other threads must have ended.
    pub(crate) fn start_recording(&self, stream: sys::CUstream) {
        let thread = thread::current().id();
        *self.recorder.lock().unwrap() = Some(Recorder { thread, stream, spoiled: false });
    }

    /// Ends the recording. Returns whether everything was recorded.
    pub(crate) fn stop_recording(&self) -> bool {
        self.recorder.lock().unwrap().take().is_some_and(|recorder| !recorder.spoiled)
    }

    /// Waits for all work.
    pub(crate) fn synchronize(&self) -> Result<(), String> {
        // SAFETY: the stream lives as long as `self`.
        ok(unsafe { driver::cuStreamSynchronize(self.stream) })
    }

    /// Whether something failed before.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Keeps the first failure.
    pub(crate) fn keep(&self, error: Error) {
        self.failure.lock().unwrap().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap().clone()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing holds the stream or the context any more; failures have nobody left to be told.
        unsafe {
            let _ = driver::cuCtxSetCurrent(self.context);
            if !self.stream.is_null() {
                let _ = driver::cuStreamSynchronize(self.stream);
                let _ = driver::cuStreamDestroy_v2(self.stream);
            }
            let _ = driver::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}
