//! CUDA graphs: launches are recorded once and replayed in one call, which is then all that a step costs the host.

use crate::device::driver::{self, ok};
use crate::device::{Context, Device};
use crate::error::Error;
use cudarc::driver::sys;
use std::sync::{Arc, Mutex};

/// A sequence of launches, with their arguments as they were.
pub(crate) struct Graph {
    executable: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: a handle that belongs to the context, not to a thread.
unsafe impl Send for Graph {}
// SAFETY: nothing can be done with a shared one: replaying takes it for itself.
unsafe impl Sync for Graph {}

/// Allows one recording at a time. Launches of other threads stay in the device's stream.
static RECORDING: Mutex<()> = Mutex::new(());

impl Graph {
    /// Records the launches of `work` on this thread without running them. `None` if a kernel is not loaded yet,
    /// because loading cannot be recorded: run the same work once before. `None` also if the driver cannot create the
    /// graph, for example because memory is low; the work can then be run without it. Copies and allocations in `work`
    /// are errors.
    pub(crate) fn record(device: &Device, work: impl FnOnce()) -> Result<Option<Self>, Error> {
        let _one = RECORDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        device.check()?;
        let context = device.context();
        let failed = |problem| Error::Device(format!("recording a graph: {problem}"));
        context.bind().map_err(failed)?;
        let stream = Stream(context.new_stream().map_err(failed)?);
        // Captures only this thread, because others may allocate meanwhile.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: a stream of our own.
        ok(unsafe { driver::cuStreamBeginCapture_v2(stream.0, mode) }).map_err(failed)?;
        let recording = Recording { context, stream: &stream };
        recording.context.start_recording(stream.0);
        work();
        let (graph, whole) = recording.end();
        let graph = graph.map_err(failed)?;
        if let Some(failure) = context.failure() {
            return Err(failure);
        }
        if !whole {
            return Ok(None);
        }
        let mut executable = std::ptr::null_mut();
        // SAFETY: a whole graph; what is made is destroyed when dropped.
        let made = ok(unsafe { driver::cuGraphInstantiateWithFlags(&mut executable, graph.0, 0) });
        Ok(made.ok().map(|()| Self { executable, context: Arc::clone(context) }))
    }

    /// Runs it after everything launched before. A failure is kept, like that of a launch.
    ///
    /// # Safety
    /// The addresses in the arguments of all its launches must still be good for what the kernels do with them.
    pub(crate) unsafe fn replay(&mut self, device: &Device) {
        let context = device.context();
        if context.has_failed() {
            return;
        }
        if context.spoils() {
            return context.keep(Error::Device("replaying a graph while another is recorded".to_owned()));
        }
        let launched = context.bind().and_then(|()| {
            // SAFETY: the graph is of this context; what its kernels do is the caller's to answer for.
            ok(unsafe { driver::cuGraphLaunch(self.executable, context.stream()) })
        });
        device.keep("replaying a graph", launched);
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made in `record`, not used again. One that runs is freed by the driver when it has ended.
        let _ = self.context.bind().and_then(|()| ok(unsafe { driver::cuGraphExecDestroy(self.executable) }));
    }
}

/// Ends the capture, however `work` ends.
struct Recording<'a> {
    context: &'a Context,
    stream: &'a Stream,
}

impl Recording<'_> {
    fn end(self) -> (Result<Captured, String>, bool) {
        let whole = self.context.stop_recording();
        let captured = self.stream.end_capture();
        std::mem::forget(self);
        (captured, whole)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.context.stop_recording();
        let _ = self.stream.end_capture();
    }
}

/// The stream that is captured.
struct Stream(sys::CUstream);

impl Stream {
    fn end_capture(&self) -> Result<Captured, String> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: a stream that is captured; what it gives is destroyed when dropped.
        ok(unsafe { driver::cuStreamEndCapture(self.0, &mut graph) })?;
        Ok(Captured(graph))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: a stream of our own, not captured any more, with no work in it.
        let _ = unsafe { driver::cuStreamDestroy_v2(self.0) };
    }
}

/// A graph that is not executable.
struct Captured(sys::CUgraph);

impl Drop for Captured {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: from the end of a capture, not used again.
            let _ = unsafe { driver::cuGraphDestroy(self.0) };
        }
    }
}
