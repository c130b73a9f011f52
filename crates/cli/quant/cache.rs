//! `pythia-quant cache`: what `compare` keeps from one run to the next.

use crate::exit::{self, Failure, IN_JSON};
use clap::Subcommand;
use pythia_compare::cache::{self, Cleared, models};
use pythia_show::{Align, Table, Width, number, wrap};
use pythia_text::path;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// List or clear the cache of `compare`: converted files and measurements
///
/// Everything in it can be created again. The folder is PYTHIA_CACHE/compare, or pythia/compare in XDG_CACHE_HOME or
/// ~/.cache.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Clear(Clear),
}

/// Show the contents of the cache, by model
#[derive(Debug, clap::Args)]
struct List {
    /// Folder of the cache [default: one in ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove the contents of the cache
///
/// Removes only files whose content shows that this program wrote them, and only for models that no run is using. Links
/// are not followed.
#[derive(Debug, clap::Args)]
struct Clear {
    /// Models, by their names in `cache list` [default: all]
    models: Vec<String>,
    /// Only models that were last used more than DAYS days ago
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// Show what would be removed, but remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder of the cache [default: one in ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The subcommand.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.action {
        Action::List(list) => print_list(list),
        Action::Clear(clear) => print_cleared(clear),
    }
}

fn root(named: Option<&Path>) -> Result<PathBuf, Failure> {
    cache::root(named).ok_or_else(|| Failure::usage("there is no home folder to keep a cache in; --cache names one"))
}

fn print_list(args: &List) -> Result<(), Failure> {
    let root = root(args.cache.as_deref())?;
    let models = models(&root);
    let bytes: u64 = models.iter().map(|model| model.bytes).sum();
    if args.json {
        let root = root.display().to_string();
        return exit::print_json(&serde_json::json!({ "folder": root, "bytes": bytes, "models": models }));
    }
    let mut table = Table::new([
        ("model", Align::Left, 0),
        ("files", Align::Right, 2),
        ("size", Align::Right, 0),
        ("unused for", Align::Right, 1),
        ("made from", Align::Left, 0),
    ]);
    for model in &models {
        let unused = age(Duration::from_secs(model.unused_seconds));
        table.push(vec![
            model.name.clone(),
            model.files.to_string(),
            number::bytes(model.bytes),
            unused,
            model.source.clone(),
        ]);
    }
    let width = Width::of_stdout();
    let n_models = if models.len() == 1 { "1 model".to_owned() } else { format!("{} models", models.len()) };
    let total = wrap(&format!("{}: {n_models}, {}", path(&root), number::bytes(bytes)), width, "  ");
    let table = (!table.is_empty()).then(|| table.to_terminal(width).with_remark(width, IN_JSON) + "\n");
    exit::print(&(table.unwrap_or_default() + &total))
}

/// A time in its largest unit.
fn age(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let seconds = time.as_secs();
    let unit = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    unit.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

fn print_cleared(args: &Clear) -> Result<(), Failure> {
    let root = root(args.cache.as_deref())?;
    let models = models(&root);
    if let Some(name) = args.models.iter().find(|name| !models.iter().any(|model| model.is_called(name))) {
        return Err(Failure::usage(format_args!("{name}: no such model in {}", path(&root))));
    }
    let oldest = args.older_than.map_or(0, |days| u64::from(days) * 86_400);
    let chosen = models.iter().filter(|model| {
        let is_named = args.models.is_empty() || args.models.iter().any(|name| model.is_called(name));
        is_named && model.unused_seconds >= oldest
    });
    let cleared: Vec<Cleared> = chosen.map(|model| model.clear(args.dry_run)).collect();
    if args.json {
        return exit::print_json(&serde_json::json!({ "dry_run": args.dry_run, "models": cleared }));
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut out = String::new();
    for model in &cleared {
        out += &format!("{}: {verb} {} files, {}\n", model.name, model.files, number::bytes(model.bytes));
        if let Some(kept) = &model.kept {
            out += &format!("{}: kept: {kept}\n", model.name);
        }
    }
    let bytes = cleared.iter().map(|model| model.bytes).sum();
    exit::print(&format!("{out}{verb} {} in all\n", number::bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_their_largest_unit() {
        let ages = [5, 119, 120, 7200, 172_800, 864_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["5 s", "119 s", "2 minutes", "2 hours", "2 days", "10 days"]);
    }
}
