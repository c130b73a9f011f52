//! The cache folder of the user.

use std::path::PathBuf;

/// The cache folder of this project's programs: `PYTHIA_CACHE`, or `pythia` in the user's cache folder
/// (`XDG_CACHE_HOME`, or `.cache` in the home folder). `None` if no variable is set. The folder may not exist.
/// `variable` reads variables of the environment.
pub fn user_cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let variable = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = variable("PYTHIA_CACHE") {
        return Some(folder);
    }
    // The XDG specification says that a relative path must be ignored.
    let caches = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    // A relative home would depend on the current folder.
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
