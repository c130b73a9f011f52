//! A GPU: memory, copies and launches, all in one stream and therefore in order.

mod context;
mod describe;
pub(crate) mod driver;
mod memory;
mod modules;
mod staging;
#[cfg(test)]
mod tests;

use crate::compile::{self, Architecture, Kernel, Unit};
use crate::error::Error;
use crate::layout::Layout;
use cudarc::driver::sys;
use driver::ok;
use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use context::Context;
pub use describe::Description;
pub(crate) use memory::Memory;

/// A GPU. It may be used from any thread; launches from several threads run in some order.
///
/// Launches neither wait nor return errors. The first failure is kept, everything after it is skipped, and
/// [`check`](Self::check) returns it.
pub struct Device {
    modules: modules::Modules,
    staging: Mutex<staging::Staging>,
    last: Mutex<Option<Kernel>>,
    name: String,
    multiprocessors: usize,
    has_tensor_cores: bool,
    context: Arc<Context>,
}

/// An address on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Ptr(pub(crate) u64);

impl Ptr {
    /// `bytes` further on.
    pub(crate) fn add(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// The arguments of a kernel: one struct. See [`shared_structs!`](crate::layout::shared_structs).
///
/// # Safety
/// `#[repr(C)]`, without padding, and with the layout of the struct of this name in the kernels' sources.
pub(crate) unsafe trait Args: Copy {
    /// What the compiler of the kernels checks.
    const LAYOUT: Layout;
}

/// The oldest compute capability with a dot product of four bytes.
const OLDEST: (u32, u32) = (6, 1);

/// The oldest one with int8 tensor cores.
const TENSOR_CORES: (u32, u32) = (7, 5);

/// Blocks of a grid, in each direction.
const GRID_LIMITS: [usize; 3] = [0x7FFF_FFFF, 0xFFFF, 0xFFFF];

impl Device {
    /// How many GPUs there are.
    ///
    /// # Errors
    /// If there is no driver, or it finds none.
    pub fn count() -> Result<usize, Error> {
        driver::load()?;
        let mut count = 0;
        // SAFETY: writes a number.
        ok(unsafe { driver::cuDeviceGetCount(&mut count) }).map_err(Error::Unavailable)?;
        Ok(count as usize)
    }

    /// GPU number `ordinal` of the driver.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or it is too old.
    pub fn open(ordinal: usize) -> Result<Self, Error> {
        let count = Self::count()?;
        if ordinal >= count {
            return Err(Error::Unavailable(match count {
                0 => driver::NO_GPU.to_owned(),
                1 => format!("no GPU {ordinal}: there is one, GPU 0"),
                _ => format!("no GPU {ordinal}: there are {count}, GPU 0 to {}", count - 1),
            }));
        }
        let unavailable = |problem| Error::Unavailable(format!("GPU {ordinal}: {problem}"));
        let device = describe::handle(ordinal).map_err(unavailable)?;
        let capability = describe::capability(device).map_err(unavailable)?;
        let name = describe::name(device).map_err(unavailable)?;
        if capability < OLDEST {
            let ((major, minor), (wanted, least)) = (capability, OLDEST);
            return Err(unavailable(format!(
                "{name} has compute capability {major}.{minor}, {wanted}.{least} or later is needed"
            )));
        }
        let context = Arc::new(Context::new(device).map_err(unavailable)?);
        Ok(Self {
            modules: modules::Modules::new(Architecture { major: capability.0, minor: capability.1 }),
            staging: Mutex::new(staging::Staging::new().map_err(unavailable)?),
            last: Mutex::new(None),
            name: format!("cuda:{ordinal} {name}"),
            multiprocessors: describe::multiprocessors(device).map_err(unavailable)?,
            has_tensor_cores: capability >= TENSOR_CORES,
            context,
        })
    }

    /// Its number and name: `cuda:0 NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its description.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn describe(&self) -> Result<Description, Error> {
        self.context.bind().map_err(Error::Device)?;
        describe::describe(self.context.device)
    }

    /// Free and total bytes of memory.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), Error> {
        self.context.bind().map_err(Error::Device)?;
        memory::free()
    }

    /// Bytes of its memory used by weights, caches and everything else of its models.
    pub fn allocated(&self) -> usize {
        self.context.allocated.load(Ordering::Relaxed)
    }

    /// Calls `hook` with the name of each unit of kernels before it is compiled. Units in the disk cache are not
    /// compiled.
    pub fn on_compile(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.modules.on_compile(Box::new(hook));
    }

    /// Waits for everything launched so far.
    ///
    /// # Errors
    /// The first failure. Nothing has run after it, and nothing will.
    pub fn check(&self) -> Result<(), Error> {
        if !self.context.has_failed() {
            self.keep("waiting", self.context.bind().and_then(|()| self.context.synchronize()));
        }
        self.context.failure().map_or(Ok(()), Err)
    }

    /// Returns a known failure, without waiting for launches.
    pub(crate) fn known_failure(&self) -> Result<(), Error> {
        self.context.failure().map_or(Ok(()), Err)
    }

    /// The time of the launches in `work`, from an idle device to an idle device.
    ///
    /// # Errors
    /// The first failure so far.
    pub fn time(&self, work: impl FnOnce()) -> Result<Duration, Error> {
        self.check()?;
        let start = Instant::now();
        work();
        self.check()?;
        Ok(start.elapsed())
    }

    /// Allocates zeroed memory.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Memory, Error> {
        Memory::new(&self.context, bytes)
    }

    /// Copies to the device. The host's bytes may be reused at once.
    pub(crate) fn upload(&self, to: Ptr, bytes: &[u8]) {
        self.copy("copying to the device", |staging, context| staging.upload(context, to, bytes));
    }

    /// Waits for everything before and copies to the host. After a failure the bytes are unchanged.
    pub(crate) fn download(&self, from: Ptr, bytes: &mut [u8]) {
        self.copy("copying to the host", |staging, context| staging.download(context, from, bytes));
    }

    fn copy(&self, what: &str, run: impl FnOnce(&mut staging::Staging, &Context) -> Result<(), String>) {
        if self.context.has_failed() {
            return;
        }
        if self.context.spoils() {
            return self.context.keep(Error::Device(format!("{what} while a graph is recorded")));
        }
        let mut staging = self.staging.lock().unwrap();
        self.keep(what, self.context.bind().and_then(|()| run(&mut staging, &self.context)));
    }

    /// Streaming multiprocessors.
    pub(crate) fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Whether kernels can be compiled for it.
    ///
    /// # Errors
    /// If there is no compiler that does.
    pub(crate) fn check_compiler(&self) -> Result<(), Error> {
        compile::check(self.modules.architecture())
    }

    /// Whether it has int8 tensor cores, which products with many rows need.
    pub(crate) fn has_tensor_cores(&self) -> bool {
        self.has_tensor_cores
    }

    /// Compiles and loads units of kernels, several at a time, so that first launches do not wait.
    pub(crate) fn prepare(&self, units: &[Unit]) -> Result<(), Error> {
        let next = Mutex::new(units.iter());
        let first_error = Mutex::new(None);
        let load = || {
            self.context.bind().map_err(Error::Device)?;
            while let Some(&unit) = { next.lock().unwrap().next() } {
                self.modules.prepare(&self.context, unit)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(units.len());
            for _ in 0..threads {
                scope.spawn(|| {
                    if let Err(error) = load() {
                        first_error.lock().unwrap().get_or_insert(error);
                    }
                });
            }
        });
        first_error.into_inner().unwrap().map_or(Ok(()), Err)
    }

    /// Runs a kernel over `grid` blocks of `threads`. An empty grid does nothing. A failure is kept and returned by
    /// [`check`](Self::check), and nothing runs after it.
    ///
    /// # Safety
    /// The addresses in `args` must be good for what the kernel does with them.
    pub(crate) unsafe fn launch<A: Args>(&self, kernel: Kernel, grid: [usize; 3], threads: usize, args: A) {
        if self.context.has_failed() || grid.contains(&0) {
            return;
        }
        let (stream, recorded) = self.context.target();
        if recorded && self.modules.loaded(kernel).is_none() {
            // Loading is not allowed during a recording. This recording is discarded, and the next one finds the
            // kernel.
            self.context.spoils();
            return;
        }
        // SAFETY: as the caller's.
        if let Err(error) = unsafe { self.try_launch(stream, kernel, grid, threads, args) } {
            self.context.keep(error);
        }
    }

    unsafe fn try_launch<A: Args>(
        &self,
        stream: sys::CUstream,
        kernel: Kernel,
        grid: [usize; 3],
        threads: usize,
        mut args: A,
    ) -> Result<(), Error> {
        if grid.iter().zip(GRID_LIMITS).any(|(&blocks, limit)| blocks > limit) {
            return Err(Error::Device(format!("{kernel}: a grid of {grid:?} blocks, {GRID_LIMITS:?} are possible")));
        }
        self.context.bind().map_err(Error::Device)?;
        let function = self.modules.load(&self.context, kernel)?;
        let [x, y, z] = grid.map(|blocks| blocks as u32);
        let mut params = [(&raw mut args).cast::<c_void>()];
        // SAFETY: the kernel takes one struct of this layout, which is copied before the call returns; its addresses
        // are the caller's to answer for.
        let launched = ok(unsafe {
            let null = std::ptr::null_mut();
            driver::cuLaunchKernel(function.0, x, y, z, threads as u32, 1, 1, 0, stream, params.as_mut_ptr(), null)
        });
        launched.map_err(|problem| Error::Device(format!("launching {kernel}: {problem}")))?;
        *self.last.lock().unwrap() = Some(kernel);
        Ok(())
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Keeps a failure. Kernels fail after their launch, so it may belong to an earlier launch.
    pub(crate) fn keep(&self, what: &str, result: Result<(), String>) {
        if let Err(problem) = result {
            let after = match *self.last.lock().unwrap() {
                Some(kernel) => format!(", after launching {kernel}"),
                None => String::new(),
            };
            self.context.keep(Error::Device(format!("{what}: {problem}{after}")));
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.context.bind().and_then(|()| self.context.synchronize());
        self.modules.unload();
        self.staging.get_mut().unwrap().free();
    }
}
