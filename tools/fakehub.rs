//! Plays the Hugging Face Hub on this machine, to try what downloads do when they are slow, cut off or killed:
//!
//! ```text
//! cargo run --example fakehub -- DIR --repo EleutherAI/pythia-70m --rate 2000000 &
//! HF_ENDPOINT=http://127.0.0.1:8731 HF_HUB_CACHE=/tmp/cache pythia-quant convert EleutherAI/pythia-70m -t Q8_0
//! ```
//!
//! It prints its address when it is ready, and runs until it is ended. DIR holds the files of the repository, which
//! are read into memory; the repository of a dataset, `--repo datasets/OWNER/NAME`, may have folders. Whatever the program is killed at, two things must hold of the cache: every file in `blobs/` whose
//! name is only a digest has that digest, and every link in `snapshots/` leads to a file. A run that is not killed
//! then goes on where the last one stopped.

#![allow(dead_code, reason = "the tests use the rest of the server")]

#[path = "../tests/it/hub/server.rs"]
mod server;

use clap::Parser;
use server::{FakeHub, Fault, Files, Repo};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

/// Plays the Hugging Face Hub with one repository
#[derive(Debug, Parser)]
#[command(name = "fakehub")]
struct Args {
    /// The files of the repository
    dir: PathBuf,
    /// What the repository is called
    #[arg(long, default_value = "EleutherAI/pythia-70m")]
    repo: String,
    /// A branch beside main with the same files; may be repeated
    #[arg(long)]
    branch: Vec<String>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8731)]
    port: u16,
    /// Bytes per second that a connection sends
    #[arg(long)]
    rate: Option<usize>,
    /// End every connection that sends weights after so many bytes
    #[arg(long, value_name = "BYTES")]
    drop_after: Option<usize>,
}

/// Adds the files of a folder, whose names begin with `prefix`.
fn add(files: &mut Files, dir: &Path, prefix: &str, is_deep: bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_file() {
            files.insert(name, fs::read(entry.path())?.into());
        } else if is_deep && entry.path().is_dir() {
            add(files, &entry.path(), &format!("{name}/"), is_deep)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut files = Files::new();
    add(&mut files, &args.dir, "", args.repo.starts_with("datasets/"))?;
    let mut repo = Repo::new(&args.repo, files.clone());
    repo.branches.extend(args.branch.into_iter().map(|branch| (branch, files.clone())));
    let hub = FakeHub::start_at(vec![repo], args.port)?;
    if let Some(rate) = args.rate {
        hub.set_rate(rate);
    }
    if let Some(n) = args.drop_after {
        hub.fault("/blob/", usize::MAX, Fault::Drop(n));
    }
    writeln!(io::stdout(), "{}", hub.endpoint())?;
    loop {
        thread::park();
    }
}
