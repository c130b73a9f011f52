//! Embeds the kernels' sources: every file of `kernels/`, by its path there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("kernels");
    println!("cargo::rerun-if-changed=kernels");
    let mut files = Vec::new();
    list(&folder, &mut files)?;
    files.sort();
    let mut text = String::from("[\n");
    for file in files {
        let name = file.strip_prefix(&folder).unwrap().to_str().unwrap().replace('\\', "/");
        writeln!(text, "    ({name:?}, include_str!({:?})),", file.to_str().unwrap()).unwrap();
    }
    text.push(']');
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("files.rs"), text)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh") {
            files.push(path);
        }
    }
    Ok(())
}
