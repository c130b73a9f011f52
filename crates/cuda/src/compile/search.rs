//! Searches for NVRTC: through the loader, in CUDA toolkits, and in Python packages.

use std::fs;
use std::path::{Path, PathBuf};

/// The variable that names the library or its folder.
pub(super) const VARIABLE: &str = "PYTHIA_NVRTC";

/// Names of the library, best first. The first ones work with older drivers, and know older GPUs.
pub(super) const NAMES: [&str; 3] = if cfg!(windows) {
    ["nvrtc64_120_0.dll", "nvrtc64_130_0.dll", "nvrtc.dll"]
} else {
    ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"]
};

/// A variable of the environment, if it is set and not empty.
type Variable<'a> = dyn Fn(&str) -> Option<PathBuf> + 'a;

/// Candidates in search order: names for the loader, and existing files. Only that of the variable, if it is set.
pub(super) fn candidates(variable: &Variable<'_>) -> Vec<PathBuf> {
    if let Some(named) = variable(VARIABLE) {
        return if named.is_dir() { in_folder(&named) } else { vec![named] };
    }
    let by_name = NAMES.iter().map(PathBuf::from);
    by_name.chain(folders(variable).iter().flat_map(|folder| in_folder(folder))).collect()
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// Folders of toolkits, then of Python's packages.
fn folders(variable: &Variable<'_>) -> Vec<PathBuf> {
    // A relative path would depend on the folder in which the program is started, and the library is executed.
    let variable = |name: &str| variable(name).filter(|path| path.is_absolute());
    let mut folders = Vec::new();
    let toolkits = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(variable);
    for toolkit in toolkits.chain(children(Path::new("/usr/local"), "cuda")).chain(children(Path::new("/opt"), "cuda"))
    {
        folders.extend(["lib64", "lib", "bin", "bin/x64"].map(|lib| toolkit.join(lib)));
    }
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable);
    let homes = variable("HOME").map(|home| home.join(".local"));
    let system = ["/usr/local", "/usr"].map(PathBuf::from);
    for prefix in environments.chain(homes).chain(system) {
        folders.push(prefix.join("lib"));
        for python in children(&prefix.join("lib"), "python3").into_iter().chain([prefix.join("Lib")]) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(["cuda_nvrtc/lib", "cu13/lib", "cuda_nvrtc/bin"].map(|lib| nvidia.join(lib)));
            }
        }
    }
    folders
}

/// Folders in `folder` whose names begin with this, the latest version first.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut children: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    children.sort_by_key(|path| std::cmp::Reverse(version(path)));
    children
}

/// The numbers in a folder's name.
fn version(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path, files: &[&str]) {
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
    }

    #[test]
    #[cfg(unix)]
    fn order() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let packages = "venv/lib/python3.12/site-packages/nvidia";
        let cu12 = format!("{packages}/cuda_nvrtc/lib/libnvrtc.so.12");
        let cu13 = format!("{packages}/cu13/lib/libnvrtc.so.13");
        files(root, &["cuda/lib64/libnvrtc.so.13", "cuda/lib64/libnvrtc.so", "own/libnvrtc.so.12", &cu12, &cu13]);
        let found = |set: &[(&str, &str)]| -> Vec<String> {
            let variable = |name: &str| set.iter().find(|pair| pair.0 == name).map(|pair| root.join(pair.1));
            let candidates = candidates(&variable).into_iter();
            candidates.filter_map(|path| Some(path.strip_prefix(root).ok()?.to_str()?.to_owned())).collect()
        };
        let everything = [("CUDA_HOME", "cuda"), ("VIRTUAL_ENV", "venv")];
        assert_eq!(found(&everything), ["cuda/lib64/libnvrtc.so.13", "cuda/lib64/libnvrtc.so", &cu12, &cu13]);
        let named = |name| [("PYTHIA_NVRTC", name), ("CUDA_HOME", "cuda")];
        assert_eq!(found(&named("own")), ["own/libnvrtc.so.12"]);
        assert_eq!(found(&named("own/libnvrtc.so.12")), ["own/libnvrtc.so.12"]);
        assert_eq!(found(&named("venv")), [""; 0], "a folder without it");
        assert_eq!(candidates(&|_| None)[..2], ["libnvrtc.so.12", "libnvrtc.so.13"].map(PathBuf::from));
    }

    /// Relative to the folder that tests run in, the package's.
    #[test]
    fn relative_folders_are_not_searched() {
        let root = tempfile::tempdir_in(".").unwrap();
        let relative = Path::new(root.path().file_name().unwrap());
        let nvidia = relative.join("lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib");
        for folder in [relative.join("lib64"), relative.join("lib"), nvidia] {
            files(&folder, &NAMES);
        }
        for name in ["CUDA_PATH", "CUDA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME"] {
            let found = |path: &Path| {
                let candidates = candidates(&|other| (other == name).then(|| path.to_owned()));
                candidates.iter().filter(|found| found.to_string_lossy().contains(&*relative.to_string_lossy())).count()
            };
            assert_eq!(found(relative), 0, "{name}");
            assert_eq!(found(&root.path().canonicalize().unwrap()) > 0, name != "HOME", "{name}");
        }
    }

    #[test]
    fn versions() {
        let mut names = ["cuda-9.2", "cuda-12.10", "cuda-12.9"].map(PathBuf::from);
        names.sort_by_key(|path| std::cmp::Reverse(version(path)));
        assert_eq!(names, ["cuda-12.10", "cuda-12.9", "cuda-9.2"].map(PathBuf::from));
    }
}
