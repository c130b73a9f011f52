//! Writes the text of every unit of kernels to a folder, with the compiler's options, as `tools/cuda_compile.py` and
//! people with a profiler want them: `cargo run -p pythia-cuda --example sources -- FOLDER`.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("a folder to write to is needed"));
    };
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("options"), pythia_cuda::OPTIONS.join("\n"))?;
    for (unit, text) in pythia_cuda::units() {
        fs::write(folder.join(format!("{unit}.cu")), text)?;
    }
    Ok(())
}
