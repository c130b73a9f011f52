//! NVRTC, NVIDIA's run-time compiler, a library that is loaded when it is first needed.
//!
//! Its eleven functions are looked up here and not by the driver's bindings, which search only one list of names and
//! panic if they find none.

use super::search;
use super::{Architecture, Unit};
use crate::device::driver;
use crate::error::Error;
use libloading::Library;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

/// A program of the compiler.
type Program = *mut c_void;
/// 0, or an error code.
type Code = c_int;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($arg:ty),*) -> $result:ty;)*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($arg),*) -> $result,)*
        }

        impl Functions {
            /// # Safety
            /// The library must be NVRTC: its functions of these names have these types.
            unsafe fn new(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: as the caller says.
                unsafe { Ok(Self { $($field: *library.get($name.as_bytes())?,)* }) }
            }
        }
    };
}
functions! {
    version = "nvrtcVersion": fn(*mut c_int, *mut c_int) -> Code;
    error = "nvrtcGetErrorString": fn(Code) -> *const c_char;
    architectures = "nvrtcGetNumSupportedArchs": fn(*mut c_int) -> Code;
    architecture_list = "nvrtcGetSupportedArchs": fn(*mut c_int) -> Code;
    create = "nvrtcCreateProgram": fn(
        *mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
    ) -> Code;
    destroy = "nvrtcDestroyProgram": fn(*mut Program) -> Code;
    compile = "nvrtcCompileProgram": fn(Program, c_int, *const *const c_char) -> Code;
    log_size = "nvrtcGetProgramLogSize": fn(Program, *mut usize) -> Code;
    log = "nvrtcGetProgramLog": fn(Program, *mut c_char) -> Code;
    ptx_size = "nvrtcGetPTXSize": fn(Program, *mut usize) -> Code;
    ptx = "nvrtcGetPTX": fn(Program, *mut c_char) -> Code;
    cubin_size = "nvrtcGetCUBINSize": fn(Program, *mut usize) -> Code;
    cubin = "nvrtcGetCUBIN": fn(Program, *mut c_char) -> Code;
}

/// The compiler.
pub(crate) struct Nvrtc {
    functions: Functions,
    version: (c_int, c_int),
    architectures: Vec<u32>,
    identity: String,
}

/// The target of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A GPU's own instructions: `sm_90`.
    Native(u32),
    /// PTX, which the driver translates for a GPU that is newer than the compiler: `compute_90`.
    Virtual(u32),
}

/// Why a compilation failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The compiler failed.
    Failed(String),
    /// The source has errors: the messages of the compiler.
    Log(String),
}

impl Nvrtc {
    /// The compiler of this machine. The search runs once.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        NVRTC.get_or_init(Self::find).as_ref().map_err(|problem| Error::Compiler(problem.clone()))
    }

    fn find() -> Result<Self, String> {
        let mut tried = Vec::new();
        let driver = driver::cuda_major();
        for candidate in search::candidates(&super::variable) {
            match Self::open(&candidate) {
                // A driver loads images of compilers up to its own major version.
                Ok(Self { version: (major, minor), .. }) if driver.is_some_and(|driver| major as u32 > driver) => {
                    let driver = driver.unwrap_or_default();
                    tried.push(format!(
                        "NVRTC {major}.{minor} is too new for a driver for CUDA {driver}: `pip install \
                         nvidia-cuda-nvrtc-cu{driver}` has one that is not"
                    ));
                }
                Ok(nvrtc) => return Ok(nvrtc),
                Err(problem) => tried.push(problem),
            }
        }
        // The loader's error about an existing file is more useful than "not found".
        let is_telling = |problem: &&String| !problem.contains("cannot open shared object file");
        let detail = tried.iter().find(is_telling);
        let named = super::variable(search::VARIABLE);
        Err(match (named, detail.or(tried.last())) {
            (Some(named), Some(detail)) => format!("no NVRTC at {} ({}): {detail}", named.display(), search::VARIABLE),
            (Some(named), None) => {
                format!("no NVRTC in {} ({}): it has no {}", named.display(), search::VARIABLE, search::NAMES[0])
            }
            (None, Some(detail)) if is_telling(&detail) => format!("no NVRTC that works: {detail}"),
            (None, _) => format!(
                "NVRTC, the compiler of the GPU's kernels, was not found: install the CUDA toolkit or `pip install \
                 nvidia-cuda-nvrtc-cu12`, or name the library in {}",
                search::VARIABLE
            ),
        })
    }

    pub(super) fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the initialisers of a library of this name are trusted as those of any library of the system.
        let library = unsafe { Library::new(path) }.map_err(reason)?;
        // SAFETY: a library of this name with these functions is NVRTC.
        let functions =
            unsafe { Functions::new(&library) }.map_err(|error| format!("{}: {}", path.display(), reason(error)))?;
        // SAFETY: only the emulator of the tests has this function, and it returns a string that lives as long as it.
        let emulation = unsafe {
            let function = library.get::<unsafe extern "C" fn() -> *const c_char>(b"pythiaEmulation");
            function.map_or(String::new(), |function| format!(" {}", CStr::from_ptr(function()).to_string_lossy()))
        };
        // Never unloaded, because its functions may be called as long as the program runs.
        std::mem::forget(library);
        let mut nvrtc = Self { functions, version: (0, 0), architectures: Vec::new(), identity: String::new() };
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: each writes a number, or as many as it said before.
        unsafe {
            nvrtc.ok((nvrtc.functions.version)(&mut major, &mut minor))?;
            nvrtc.ok((nvrtc.functions.architectures)(&mut count))?;
            let mut list = vec![0; count as usize];
            nvrtc.ok((nvrtc.functions.architecture_list)(list.as_mut_ptr()))?;
            nvrtc.architectures = list.into_iter().map(|architecture| architecture as u32).collect();
        }
        nvrtc.version = (major, minor);
        nvrtc.identity = format!("NVRTC {major}.{minor}{emulation}");
        Ok(nvrtc)
    }

    /// Its version, as part of the cache key.
    pub(super) fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Whether it compiles for the emulator of the tests.
    #[cfg(test)]
    pub(crate) fn is_emulated(&self) -> bool {
        self.identity.contains("emulation")
    }

    /// The target for a device.
    pub(super) fn target(&self, device: Architecture) -> Result<Target, Error> {
        target(device, &self.architectures).ok_or_else(|| {
            let (Architecture { major, minor }, (nvrtc, release)) = (device, self.version);
            Error::Compiler(format!(
                "NVRTC {nvrtc}.{release} does not compile for compute capability {major}.{minor} any more: name an \
                 older one in {}",
                search::VARIABLE
            ))
        })
    }

    /// Compiles a text to an image.
    pub(super) fn compile(&self, text: &str, target: Target, options: &[&str]) -> Result<Vec<u8>, Refusal> {
        let text = CString::new(text).expect("sources have no zeros");
        let options: Vec<_> = [format!("--gpu-architecture={target}")]
            .into_iter()
            .chain(options.iter().map(ToString::to_string))
            .map(|option| CString::new(option).expect("options have no zeros"))
            .collect();
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let functions = &self.functions;
        let mut program = OwnProgram { program: std::ptr::null_mut(), functions };
        let (null, name) = (std::ptr::null(), c"kernels.cu");
        // SAFETY: strings that end in a zero and outlive the calls; no headers. The program is destroyed when dropped.
        unsafe {
            let created = (functions.create)(&mut program.program, text.as_ptr(), name.as_ptr(), 0, null, null);
            self.ok(created).map_err(Refusal::Failed)?;
            let code = (functions.compile)(program.program, options.len() as c_int, options.as_ptr());
            if let Err(problem) = self.ok(code) {
                let log = self.read(&program, functions.log_size, functions.log).map_err(Refusal::Failed)?;
                let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
                return Err(if log.is_empty() { Refusal::Failed(problem) } else { Refusal::Log(log) });
            }
            match target {
                Target::Native(_) => self.read(&program, functions.cubin_size, functions.cubin),
                Target::Virtual(_) => self.read(&program, functions.ptx_size, functions.ptx),
            }
            .map_err(Refusal::Failed)
        }
    }

    /// Calls a pair of functions that return the size of a text or image, and its bytes.
    ///
    /// # Safety
    /// They must be such a pair.
    unsafe fn read(
        &self,
        program: &OwnProgram,
        size: unsafe extern "C" fn(Program, *mut usize) -> Code,
        bytes: unsafe extern "C" fn(Program, *mut c_char) -> Code,
    ) -> Result<Vec<u8>, String> {
        let mut length = 0;
        // SAFETY: as the caller says.
        unsafe {
            self.ok(size(program.program, &mut length))?;
            let mut buffer = vec![0_u8; length];
            self.ok(bytes(program.program, buffer.as_mut_ptr().cast()))?;
            Ok(buffer)
        }
    }

    fn ok(&self, code: Code) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: returns a string that lives as long as the library.
        let name = unsafe { CStr::from_ptr((self.functions.error)(code)) };
        Err(name.to_string_lossy().into_owned())
    }
}

/// The loader's message. The error's own text only names the failed function.
fn reason(error: libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The architecture of a device if the compiler knows it, otherwise the latest one before it.
fn target(device: Architecture, known: &[u32]) -> Option<Target> {
    let device = device.major * 10 + device.minor;
    match known.iter().copied().filter(|&architecture| architecture <= device).max()? {
        latest if latest == device => Some(Target::Native(device)),
        latest => Some(Target::Virtual(latest)),
    }
}

impl Target {
    /// The extension of its file.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Native(_) => "cubin",
            Self::Virtual(_) => "ptx",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(architecture) => write!(f, "sm_{architecture}"),
            Self::Virtual(architecture) => write!(f, "compute_{architecture}"),
        }
    }
}

impl Refusal {
    /// The error, for a unit.
    pub(super) fn of(self, unit: Unit) -> Error {
        match self {
            Self::Failed(problem) => Error::Compiler(format!("compiling the kernels of {unit}: {problem}")),
            Self::Log(log) => Error::Kernel { unit: unit.to_string(), log },
        }
    }
}

/// A program that is destroyed when dropped.
struct OwnProgram<'a> {
    program: Program,
    functions: &'a Functions,
}

impl Drop for OwnProgram<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by `create`, not used again.
            let _ = unsafe { (self.functions.destroy)(&mut self.program) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let known = [61, 75, 80, 86, 90];
        let target = |major, minor| target(Architecture { major, minor }, &known);
        assert_eq!(target(8, 6), Some(Target::Native(86)));
        assert_eq!(target(8, 9), Some(Target::Virtual(86)));
        assert_eq!(target(12, 0), Some(Target::Virtual(90)));
        assert_eq!(target(6, 0), None);
        assert_eq!(Target::Native(86).to_string(), "sm_86");
        assert_eq!(Target::Virtual(90).to_string(), "compute_90");
    }

    /// A file that is no library, and a library that is not this one, are errors and not crashes.
    #[test]
    fn other_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libnvrtc.so.12");
        std::fs::write(&file, "text").unwrap();
        assert!(Nvrtc::open(&file).is_err());
        let problem = Nvrtc::open(Path::new("libc.so.6")).err().unwrap();
        assert!(problem.contains("nvrtcVersion") || cfg!(not(target_os = "linux")), "{problem}");
    }
}
