//! Which files of a dataset's repository hold a split: those that the head of its README names, or those whose names
//! say so, by the conventions of the Python library `datasets`.
//!
//! ```text
//! configs:
//! - config_name: ARC-Easy
//!   data_files:
//!   - split: test
//!     path: ARC-Easy/test-*
//! ```

/// Formats that rows are read from, most wanted first.
const FORMATS: [&str; 3] = [".parquet", ".jsonl", ".json"];

/// Other names of splits.
const SYNONYMS: [(&str, &[&str]); 3] =
    [("train", &["training"]), ("validation", &["valid", "dev", "val"]), ("test", &["testing", "eval"])];

/// What was found of a split.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'n> {
    /// Its files, in the order of their rows.
    pub(crate) files: Vec<&'n str>,
    /// Whether these are certainly all of them, even if the list of names has only some of the repository's files.
    pub(crate) is_all: bool,
}

/// The files among `names`, in order of the alphabet, that hold the rows of a split. `None` if there are none.
pub(crate) fn find<'n>(names: &[&'n str], readme: &str, config: Option<&str>, split: &str) -> Option<Found<'n>> {
    let of_format = |files: Vec<&'n str>| {
        FORMATS.iter().find_map(|format| {
            let files: Vec<&str> = files.iter().copied().filter(|name| name.ends_with(format)).collect();
            (!files.is_empty()).then_some(files)
        })
    };
    if let Some(patterns) = declared(readme, config, split) {
        let files = names.iter().copied().filter(|name| patterns.iter().any(|pattern| matches(pattern, name)));
        let files = of_format(files.collect())?;
        let is_named = patterns.iter().all(|pattern| !pattern.contains('*') && files.contains(&pattern.as_str()));
        return Some(Found { is_all: is_named || has_all_parts(&files), files });
    }
    let folders: Vec<String> = match config {
        None | Some("default") => ["data/", "", "default/"].map(str::to_owned).into(),
        Some(config) => vec![format!("{config}/"), format!("data/{config}/")],
    };
    let synonyms = SYNONYMS.iter().find(|(name, _)| *name == split).map_or(&[][..], |(_, others)| others);
    for word in std::iter::once(split).chain(synonyms.iter().copied()) {
        for folder in &folders {
            let files = names
                .iter()
                .copied()
                .filter(|name| name.strip_prefix(folder.as_str()).is_some_and(|rest| is_of(rest, word)));
            if let Some(files) = of_format(files.collect()) {
                return Some(Found { is_all: has_all_parts(&files), files });
            }
        }
    }
    None
}

/// Whether a file, named from its configuration's folder on, is called after a split.
fn is_of(name: &str, split: &str) -> bool {
    let begins = name.strip_prefix(split).is_some_and(|rest| rest.starts_with(['-', '.', '/', '_']));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let ends = stem.strip_suffix(split).is_some_and(|rest| rest.ends_with(['-', '_']) && !rest.contains('/'));
    begins || ends
}

/// Whether names like `x-00000-of-00002.parquet` are complete.
fn has_all_parts(files: &[&str]) -> bool {
    let parts = files.iter().map(|name| {
        let (stem, _) = name.rsplit_once('.')?;
        let (rest, n) = stem.rsplit_once("-of-")?;
        let (_, i) = rest.rsplit_once('-')?;
        Some((i.parse::<usize>().ok()?, n.parse::<usize>().ok()?))
    });
    let Some(parts) = parts.collect::<Option<Vec<_>>>() else { return false };
    parts.iter().enumerate().all(|(i, part)| *part == (i, files.len()))
}

/// Whether `name` is matched by `pattern`, in which `*` stands for anything but a slash and `**` for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(at) = pattern.find('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(&pattern[..at]) else { return false };
    let (after, is_deep) = match pattern[at..].strip_prefix("**") {
        Some(after) => (after.strip_prefix('/').unwrap_or(after), true),
        None => (&pattern[at + 1..], false),
    };
    let longest = if is_deep { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
    (0..=longest).filter(|&i| rest.is_char_boundary(i)).any(|i| matches(after, &rest[i..]))
}

/// The patterns that the head of the README gives for a split of a configuration.
fn declared(readme: &str, config: Option<&str>, split: &str) -> Option<Vec<String>> {
    let configs = configs(readme);
    let named = |name: &str| configs.iter().find(|config| config.name == name);
    let config = match config {
        Some(name) => named(name),
        None => named("default").or_else(|| configs.first().filter(|_| configs.len() == 1)),
    }?;
    let patterns: Vec<String> =
        config.files.iter().filter(|(name, _)| name == split).map(|(_, pattern)| pattern.clone()).collect();
    (!patterns.is_empty()).then_some(patterns)
}

/// A configuration in the head of a README.
#[derive(Debug, Default)]
struct Config {
    name: String,
    /// Splits and patterns of their files.
    files: Vec<(String, String)>,
}

/// The configurations in the head of a README, which is YAML. Only the lists above are understood; what is written in
/// another way is as if it were not there.
fn configs(readme: &str) -> Vec<Config> {
    let mut lines = readme.lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let head = lines.take_while(|line| line.trim_end() != "---");
    let block = head.skip_while(|line| line.trim_end() != "configs:").skip(1);
    let block = block.take_while(|line| line.starts_with([' ', '-', '#']) || line.trim().is_empty());
    let mut configs: Vec<Config> = Vec::new();
    let mut depth = None;
    let mut split = String::new();
    for line in block {
        let (indent, mut item) = (line.len() - line.trim_start().len(), line.trim());
        let mut is_first = false;
        if let Some(rest) = item.strip_prefix("- ") {
            is_first = true;
            item = rest.trim_start();
        }
        let depth = *depth.get_or_insert(indent);
        if is_first && indent == depth {
            configs.push(Config::default());
        }
        let Some(config) = configs.last_mut() else { continue };
        match item.split_once(':').map(|(key, value)| (key.trim_end(), plain(value))) {
            Some(("config_name", name)) => config.name = name.to_owned(),
            Some(("split", name)) => split = name.to_owned(),
            Some(("path", "")) => {}
            Some(("path", path)) => config.files.push((split.clone(), path.to_owned())),
            // An element of a list of paths.
            None if is_first && indent > depth => config.files.push((split.clone(), plain(item).to_owned())),
            _ => {}
        }
    }
    configs
}

/// A YAML scalar without quotes and space.
fn plain(value: &str) -> &str {
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "---\nlicense: mit\nconfigs:\n- config_name: ARC-Challenge\n  data_files:\n  - split: train\n    \
        path: ARC-Challenge/train-*\n  - split: test\n    path: \"ARC-Challenge/test-*\"\n- config_name: default\n  \
        data_files:\n    - split: test\n      path:\n        - data/a.jsonl\n        - 'data/b.jsonl'\n  default: true\n\
        language:\n- en\n---\n# Dataset\nconfigs:\n- config_name: text\n";

    fn found<'n>(names: &[&'n str], readme: &str, config: Option<&str>, split: &str) -> (Vec<&'n str>, bool) {
        find(names, readme, config, split).map_or((Vec::new(), false), |found| (found.files, found.is_all))
    }

    #[test]
    fn the_readme_decides() {
        let names = [
            "ARC-Challenge/test-00000-of-00002.parquet",
            "ARC-Challenge/test-00001-of-00002.parquet",
            "ARC-Challenge/test.jsonl",
            "README.md",
            "data/a.jsonl",
            "data/b.jsonl",
            "data/test.jsonl",
        ];
        let parts = found(&names, README, Some("ARC-Challenge"), "test");
        assert_eq!(parts, (names[..2].to_vec(), true));
        assert_eq!(found(&names[..1], README, Some("ARC-Challenge"), "test"), (names[..1].to_vec(), false));
        assert_eq!(found(&names, README, None, "test"), (names[4..6].to_vec(), true), "the default, file by file");
        assert_eq!(found(&names[..5], README, None, "test"), (names[4..5].to_vec(), false), "one is missing");
        assert_eq!(find(&names, README, Some("ARC-Challenge"), "train"), None);
        // Without configurations in the head.
        assert_eq!(found(&names, "# README", None, "test").0, ["data/test.jsonl"]);
        assert_eq!(found(&names, "---\nconfigs: [a]\n---\n", Some("ARC-Challenge"), "test").0.len(), 2);
    }

    #[test]
    fn names_say_what_is_in_a_file() {
        let one = |name: &'static str, config, split| found(&[name], "", config, split).0.len() == 1;
        assert!(one("data/test-00000-of-00001.parquet", None, "test"));
        assert!(one("test.jsonl", None, "test") && one("lambada_test.jsonl", None, "test"));
        assert!(one("main/train/0000.parquet", Some("main"), "train"));
        assert!(one("default/validation/0000.parquet", None, "validation"));
        assert!(one("validation.json", Some("default"), "validation") && one("data/dev.jsonl", None, "validation"));
        for (name, config, split) in [
            ("testament.jsonl", None, "test"),
            ("data/train.jsonl", None, "test"),
            ("main/test.jsonl", Some("other"), "test"),
            ("lambada_test_de.jsonl", None, "test"),
            ("test.csv", None, "test"),
            ("main/partial-train/0000.parquet", Some("main"), "train"),
        ] {
            assert!(!one(name, config, split), "{name}");
        }
    }

    #[test]
    fn stars_stand_for_anything_in_a_folder() {
        for (pattern, name) in
            [("a*", "a"), ("a*c", "abc"), ("*/b-*.x", "a/b-1.x"), ("**/b", "a/c/b"), ("**", "a/b"), ("**/b", "b")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*", "a/b"), ("a", "ab"), ("*b", "a/b"), ("a*c", "ab")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
