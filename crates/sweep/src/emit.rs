//! Scripts that run a sweep by the engines of clusters. No engine is linked in: every script calls
//! `pythia-quant sweep run SWEEP --shard I/N` and acts on its exit codes.
//!
//! Exit code 0 means that all cells of the shard are done, 65 that some failed for good, 75 that the same command may
//! succeed later. A shard that ran before computes only what is missing, so engines may repeat shards as they like.

mod hyperqueue;
mod kubernetes;
mod needs;
mod parallel;
mod quote;
mod slurm;
mod snakemake;

use crate::{Error, Sweep};
use needs::Needs;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What runs the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A Slurm job array.
    Slurm,
    /// A task array of HyperQueue.
    HyperQueue,
    /// GNU parallel on one machine.
    Parallel,
    /// A Kubernetes Job with indexed completions.
    Kubernetes(Pod),
    /// Snakemake 7 or later.
    Snakemake,
}

/// What Kubernetes needs to know besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The container image that has the program.
    pub image: String,
    /// The volume claim that has the sweep.
    pub claim: String,
    /// Where the claim is mounted in the container. The sweep has the same path there as here. `None` for the parent folder
    /// of the sweep.
    pub mount: Option<PathBuf>,
}

/// What every script has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The program, absolute or found by `PATH`.
    pub program: PathBuf,
    /// Shards; `None` for as many as take about two hours each. There are never more than groups.
    pub shards: Option<usize>,
    /// Threads of a shard.
    pub threads: usize,
    /// How many shards run at once; `None` for as many as the engine likes.
    pub at_once: Option<usize>,
    /// Folder for unfinished files. `$NAME` at its start is a variable of the machine that runs the shard.
    pub scratch: Option<PathBuf>,
    /// Whether downloads are deleted after their group.
    pub evict: bool,
    /// Whether the shards open no connections.
    pub offline: bool,
    /// Seconds before a shard that may succeed later is tried again, where the engine does not decide that itself.
    pub retry_seconds: u64,
}

/// The script of `engine` for `sweep`.
///
/// # Errors
/// If the sweep has no cells, a number cannot be met, or a path cannot be written in the script.
pub fn script(sweep: &Sweep, engine: &Engine, options: &Options) -> Result<String, Error> {
    let job = Job::new(sweep, options)?;
    match engine {
        Engine::Slurm => slurm::script(&job),
        Engine::HyperQueue => Ok(hyperqueue::script(&job)),
        Engine::Parallel => Ok(parallel::script(&job)),
        Engine::Kubernetes(pod) => kubernetes::manifest(&job, pod),
        Engine::Snakemake => Ok(snakemake::file(&job)),
    }
}

/// The sweep as a script sees it.
struct Job {
    /// Absolute path of its folder.
    sweep: String,
    /// Name of the folder, of characters that are safe everywhere.
    name: String,
    program: String,
    /// A line without foreign text: how much there is to do.
    title: String,
    needs: Needs,
    at_once: Option<usize>,
    scratch: Option<Scratch>,
    /// Options of `run` without values.
    flags: Vec<&'static str>,
    retry_seconds: u64,
}

/// Where unfinished files go.
enum Scratch {
    /// A folder.
    Folder(String),
    /// A variable and what follows it.
    Variable { name: String, rest: String },
}

impl Job {
    fn new(sweep: &Sweep, options: &Options) -> Result<Self, Error> {
        let manifest = sweep.manifest();
        let folder = absolute(sweep.folder())?;
        let needs = Needs::of(&manifest.groups, options.shards, options.threads)?;
        let title = format!(
            "{} of {} in {}",
            pythia_text::counted(manifest.cells.len(), "cell"),
            pythia_text::counted(manifest.groups.len(), "checkpoint"),
            pythia_text::counted(needs.shards, "shard"),
        );
        let flags = [(options.evict, "--evict"), (options.offline, "--offline")];
        Ok(Self {
            name: safe_name(&folder),
            sweep: folder,
            program: program(&options.program)?,
            title,
            at_once: options.at_once.map(|n| n.clamp(1, needs.shards)),
            needs,
            scratch: options.scratch.as_deref().map(Scratch::new).transpose()?,
            flags: flags.iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| *flag).collect(),
            retry_seconds: options.retry_seconds,
        })
    }

    /// What is said at the top, as comments: how much there is to do, and where the numbers are from.
    fn header(&self, estimates: &[String]) -> String {
        let threads = pythia_text::counted(self.needs.threads, "thread");
        let mut header = format!("# {}, each on {threads}.\n", self.title);
        estimates.iter().for_each(|line| _ = writeln!(header, "# {line}"));
        header + "# What is done is not computed again, so this may be submitted again at any time.\n"
    }

    /// The options of `run` after the shard, for a shell.
    fn shell_options(&self) -> String {
        let mut options = format!("--threads {}", self.needs.threads);
        match &self.scratch {
            Some(Scratch::Folder(folder)) => _ = write!(options, " --scratch {}", quote::shell(folder)),
            Some(Scratch::Variable { name, rest }) => {
                let rest = if rest.is_empty() { String::new() } else { quote::shell(rest) };
                let _ = write!(options, " --scratch \"${name}\"{rest}");
            }
            None => {}
        }
        self.flags.iter().for_each(|flag| _ = write!(options, " {flag}"));
        options
    }

    /// The start of a shell script: the header and the variables `program` and `sweep`.
    fn shell_variables(&self) -> String {
        format!("program={}\nsweep={}\n", quote::shell(&self.program), quote::shell(&self.sweep))
    }

    /// A function for `bash` that runs the shard `$1` until it is done or has failed for good. A killed program is started
    /// again, because the next try may find more memory.
    fn shell_function(&self, log: &str) -> String {
        format!(
            "# Runs shard $1. Exit code 75 means \"later\", 137 that it was killed, perhaps because memory was short.
shard() {{
    local code try
    for try in {{1..20}}; do
        \"$program\" sweep run \"$sweep\" --shard \"$1/{shards}\" {options} >>\"{log}\" 2>&1
        code=$?
        case $code in
            75 | 137) sleep {wait} ;;
            *) break ;;
        esac
    done
    return $code
}}
",
            shards = self.needs.shards,
            options = self.shell_options(),
            wait = self.retry_seconds,
        )
    }

    /// The end of a shell script that waited for all shards, which left the exit code `failed`.
    fn shell_end() -> &'static str {
        "\"$program\" sweep status \"$sweep\"
\"$program\" sweep collect \"$sweep\" --force -o \"$sweep/results.csv\"
exit $failed
"
    }
}

impl Scratch {
    fn new(path: &Path) -> Result<Self, Error> {
        let text = utf8(path.as_os_str())?;
        let Some(variable) = text.strip_prefix('$') else {
            return absolute(path).map(Self::Folder);
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = variable.find(|c| !is_name(c)).unwrap_or(variable.len());
        let (name, rest) = variable.split_at(end);
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !(rest.is_empty() || rest.starts_with('/'))
        {
            let found = pythia_text::quoted(text, '\'', 60);
            return Err(Error::Request(format!("--scratch: found {found}, wanted a folder, or $NAME or $NAME/FOLDER")));
        }
        Ok(Self::Variable { name: name.to_owned(), rest: rest.to_owned() })
    }
}

/// The text of a path; scripts have no way to name others.
fn utf8(path: &OsStr) -> Result<&str, Error> {
    let wrong =
        || Error::Request(format!("{}: is not UTF-8, so a script cannot name it", pythia_text::path(path.as_ref())));
    path.to_str().ok_or_else(wrong)
}

fn absolute(path: &Path) -> Result<String, Error> {
    let path = std::path::absolute(path).map_err(Error::io(path))?;
    // `.` at the end stays otherwise.
    let path: PathBuf = path.components().collect();
    utf8(path.as_os_str()).map(str::to_owned)
}

/// A name without folders is found by `PATH`; other relative paths are from here.
fn program(path: &Path) -> Result<String, Error> {
    if path.components().count() > 1 { absolute(path) } else { utf8(path.as_os_str()).map(str::to_owned) }
}

/// The name of a folder as a DNS label, which is what the strictest engine takes: lower case letters, digits and `-`.
fn safe_name(folder: &str) -> String {
    let name = folder.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.replace(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()), "-");
    let name: String = name.trim_matches('-').chars().take(40).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "sweep".to_owned() } else { format!("sweep-{name}") }
}

#[cfg(test)]
mod tests;
