//! Kernels on the device. They are loaded at their first launch and kept.

use super::context::Context;
use super::driver::{self, ok};
use crate::compile::{self, Architecture, Kernel, Unit};
use crate::error::Error;
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, RwLock};

/// Called before a unit is compiled.
pub(super) type OnCompile = dyn Fn(&str) + Send + Sync;

/// The loaded units.
pub(super) struct Modules {
    architecture: Architecture,
    units: Mutex<HashMap<Unit, Arc<Slot>>>,
    functions: RwLock<HashMap<Kernel, Function>>,
    on_compile: RwLock<Option<Box<OnCompile>>>,
}

/// The module of a unit. Threads that need the same one wait for the first of them. A failed load can be tried again,
/// when there may be more memory.
type Slot = Mutex<Option<Module>>;

struct Module(sys::CUmodule);

/// A kernel to launch.
#[derive(Clone, Copy)]
pub(super) struct Function(pub(super) sys::CUfunction);

// SAFETY: handles that belong to the context, not to a thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Modules {
    pub(super) fn new(architecture: Architecture) -> Self {
        Self { architecture, units: Mutex::default(), functions: RwLock::default(), on_compile: RwLock::default() }
    }

    pub(super) fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub(super) fn on_compile(&self, hook: Box<OnCompile>) {
        *self.on_compile.write().unwrap() = Some(hook);
    }

    /// A kernel, if it is loaded.
    pub(super) fn loaded(&self, kernel: Kernel) -> Option<Function> {
        self.functions.read().unwrap().get(&kernel).copied()
    }

    /// A kernel, compiled and loaded if it is not yet.
    pub(super) fn load(&self, context: &Context, kernel: Kernel) -> Result<Function, Error> {
        if let Some(function) = self.loaded(kernel) {
            return Ok(function);
        }
        let module = self.load_unit(context, kernel.unit())?;
        let name = CString::new(kernel.name).expect("names of kernels are identifiers");
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded in this context; the name ends in a zero.
        ok(unsafe { driver::cuModuleGetFunction(&mut function, module, name.as_ptr()) })
            .map_err(|problem| Error::Device(format!("no kernel {kernel}: {problem}")))?;
        self.functions.write().unwrap().insert(kernel, Function(function));
        Ok(Function(function))
    }

    /// All kernels of a unit, compiled and loaded if they are not yet.
    pub(super) fn prepare(&self, context: &Context, unit: Unit) -> Result<(), Error> {
        self.load_unit(context, unit).map(|_| ())
    }

    fn load_unit(&self, context: &Context, unit: Unit) -> Result<sys::CUmodule, Error> {
        let slot = Arc::clone(self.units.lock().unwrap().entry(unit).or_default());
        let mut slot = slot.lock().unwrap();
        if slot.is_none() {
            *slot = Some(self.module(context, unit)?);
        }
        Ok(slot.as_ref().expect("just filled").0)
    }

    fn module(&self, context: &Context, unit: Unit) -> Result<Module, Error> {
        let image = compile::image(unit, self.architecture, |unit| {
            if let Some(hook) = &*self.on_compile.read().unwrap() {
                hook(unit);
            }
        })?;
        context.bind().map_err(Error::Device)?;
        let mut module = std::ptr::null_mut();
        // SAFETY: a whole image as the compiler made it (text ends in a zero); unloaded by `unload`.
        ok(unsafe { driver::cuModuleLoadData(&mut module, image.as_ptr().cast::<c_void>()) })
            .map_err(|problem| Error::Device(format!("loading the kernels of {unit}: {problem}")))?;
        Ok(Module(module))
    }

    /// Unloads everything, once nothing runs any more.
    pub(super) fn unload(&mut self) {
        for slot in self.units.get_mut().unwrap().values() {
            if let Some(module) = slot.lock().unwrap().take() {
                // SAFETY: loaded in `module`, not used again.
                let _ = unsafe { driver::cuModuleUnload(module.0) };
            }
        }
    }
}
