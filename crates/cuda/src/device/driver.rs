//! The driver's functions and error messages.
//!
//! The bindings look a function up when it is first called, and panic if the library or the function is missing. So
//! every function that this crate calls is in one list here, which is checked once before the first call.

use cudarc::driver::sys;
use std::ffi::CStr;
use std::sync::OnceLock;

use crate::error::Error;

macro_rules! calls {
    ($($name:ident)*) => {
        pub(crate) use sys::{$($name),*};
        const CALLS: &[&str] = &[$(stringify!($name)),*];
    };
}
calls! {
    cuInit cuDriverGetVersion cuGetErrorName cuGetErrorString
    cuDeviceGet cuDeviceGetCount cuDeviceGetName cuDeviceGetAttribute
    cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuCtxSetCurrent
    cuMemGetInfo_v2 cuMemAlloc_v2 cuMemFree_v2 cuMemHostAlloc cuMemFreeHost
    cuMemsetD8Async cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2
    cuStreamCreate cuStreamDestroy_v2 cuStreamSynchronize
    cuEventCreate cuEventRecord cuEventSynchronize cuEventDestroy_v2
    cuModuleLoadData cuModuleUnload cuModuleGetFunction cuLaunchKernel
    cuStreamBeginCapture_v2 cuStreamEndCapture
    cuGraphInstantiateWithFlags cuGraphDestroy cuGraphLaunch cuGraphExecDestroy
}

/// The first driver version that has all functions of the list.
const OLDEST: &str = "470 (CUDA 11.4)";

/// The message for a driver without a GPU.
pub(super) const NO_GPU: &str = "the NVIDIA driver finds no GPU";

/// The major CUDA version of the driver, if there is one.
pub(crate) fn cuda_major() -> Option<u32> {
    load().ok()?;
    let mut version = 0;
    // SAFETY: writes a number.
    ok(unsafe { cuDriverGetVersion(&mut version) }).ok()?;
    u32::try_from(version / 1000).ok()
}

/// Checks that the driver exists and has all functions, and initialises it.
pub(crate) fn load() -> Result<(), Error> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        // SAFETY: loads the driver's library, whose initialisers are trusted as those of any library of the system.
        if !unsafe { sys::is_culib_present() } {
            let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
            return Err(format!("no NVIDIA driver: {name} was not found"));
        }
        // SAFETY: as above; symbols are looked up, not called.
        let missing = CALLS.iter().find(|name| unsafe { sys::culib().get::<*const ()>(name.as_bytes()) }.is_err());
        if let Some(name) = missing {
            return Err(format!("the NVIDIA driver is too old: it has no {name}; {OLDEST} or later is needed"));
        }
        // SAFETY: the first call, with the only flags there are.
        match unsafe { cuInit(0) } {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(NO_GPU.to_owned()),
            sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
                Err("libcuda.so is a CUDA toolkit's stub, for linking only: the \
                 driver's must come first where libraries are looked for (LD_LIBRARY_PATH)"
                    .to_owned())
            }
            code => ok(code).map_err(|problem| format!("the NVIDIA driver does not start: {problem}")),
        }
    });
    loaded.clone().map_err(Error::Unavailable)
}

/// The result of a call, with a failure as a message.
pub(crate) fn ok(code: sys::CUresult) -> Result<(), String> {
    if code == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(describe(code)) }
}

/// A code's name and meaning.
fn describe(code: sys::CUresult) -> String {
    type Lookup = unsafe fn(sys::CUresult, *mut *const std::ffi::c_char) -> sys::CUresult;
    let text = |lookup: Lookup| {
        let mut text = std::ptr::null();
        // SAFETY: writes the address of a string that lives as long as the driver, or null.
        unsafe {
            let _ = lookup(code, &mut text);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    let name = text(cuGetErrorName).unwrap_or_else(|| format!("CUDA error {}", code as u32));
    match text(cuGetErrorString) {
        Some(meaning) => format!("{name} ({meaning})"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    /// A call that is not in the list would panic on a driver without it: nothing else may name the bindings'
    /// functions.
    #[test]
    fn every_call_is_in_the_list() {
        let sources = [
            include_str!("../device.rs"),
            include_str!("context.rs"),
            include_str!("memory.rs"),
            include_str!("modules.rs"),
            include_str!("staging.rs"),
            include_str!("../graph.rs"),
        ];
        for source in sources {
            assert!(!source.contains("sys::cu") && !source.contains("driver::result"), "not from the list");
        }
    }
}
