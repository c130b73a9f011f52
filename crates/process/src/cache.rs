//! Where programs keep what they can make again.

use std::path::PathBuf;

/// The folder for what this project's programs can make again: what `PYTHIA_CACHE` names, else `pythia` in the user's
/// folder for caches (`XDG_CACHE_HOME`, or `.cache` in the home folder). `None` if no variable names any. It need not
/// be there. `variable` is asked for the environment's variables.
pub fn user_cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let variable = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = variable("PYTHIA_CACHE") {
        return Some(folder);
    }
    // The specification says that a relative one is to be ignored.
    let caches = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    // A relative home would be another in every folder.
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).filter(|path| path.is_absolute());
    Some(caches.or_else(|| Some(home()?.join(".cache")))?.join("pythia"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_count_in_order() {
        let folder = |set: &[(&str, &str)]| {
            user_cache(|name| set.iter().find(|pair| pair.0 == name).map(|pair| PathBuf::from(pair.1)))
        };
        assert_eq!(folder(&[("PYTHIA_CACHE", "/p"), ("HOME", "/h")]), Some("/p".into()));
        assert_eq!(folder(&[("PYTHIA_CACHE", ""), ("HOME", "/h")]), Some("/h/.cache/pythia".into()));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/pythia".into()));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), Some("/h/.cache/pythia".into()));
        assert_eq!(folder(&[("USERPROFILE", "/u")]), Some("/u/.cache/pythia".into()));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "x"), ("HOME", "h")]), None);
        assert_eq!(folder(&[]), None);
    }
}
