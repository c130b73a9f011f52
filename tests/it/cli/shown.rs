//! `completions` and `man` of both programs, as shells and `man` take them.

use crate::common::{Outcome, PYTHIA_QUANT, PYTHIA_RUN, quant, run_model};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAMS: [&str; 2] = ["pythia-run", "pythia-quant"];

fn run<S: AsRef<OsStr>>(program: &str, folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    if program == "pythia-run" { run_model(folder, args) } else { quant(folder, args) }
}

/// A program of the system. `None`, and a line on stderr, if it is not there.
fn tool(name: &str) -> Option<Command> {
    let is_there = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        eprintln!("SKIPPED: {name} needed");
    }
    is_there.then(|| Command::new(name))
}

/// Writes the scripts for `shell` to `folder`, as `PROGRAM.SHELL`.
fn write_scripts(shell: &str, folder: &Path) {
    for program in PROGRAMS {
        let script = run(program, folder, ["completions", shell]).ok();
        fs::write(folder.join(format!("{program}.{shell}")), script).unwrap();
    }
}

#[test]
fn shells_can_read_their_scripts() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        write_scripts(shell, dir.path());
        let Some(mut command) = tool(shell) else { continue };
        for program in PROGRAMS {
            let output = command.args([check, &format!("{program}.{shell}")]).current_dir(dir.path()).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
            command = Command::new(shell);
        }
    }
}

/// Reads a script, and completes the last of the words after it as an interactive shell would.
const COMPLETE: &str = r#"
    source "$1.bash"
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    [[ $(complete -p "$1") =~ -F\ ([^ ]+) ]] || exit 1
    "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_options_and_values() {
    let dir = tempfile::tempdir().unwrap();
    write_scripts("bash", dir.path());
    if tool("bash").is_none() {
        return;
    }
    for (line, wanted) in [
        ("pythia-run gen", "generate"),
        ("pythia-run generate --acti", "--activations"),
        ("pythia-run generate m.gguf --activations ", "int8 f32"),
        ("pythia-quant me", ""),
        ("pythia-quant convert", "convert"),
        ("pythia-quant convert m -t Q4_K", "Q4_K_M Q4_K_S"),
        ("pythia-quant compare m --quantizer f", "feedback"),
        ("pythia-quant sweep emit sl", "slurm"),
        ("pythia-quant cache list --j", "--json"),
    ] {
        let words = ["-c", COMPLETE, "bash"].into_iter().chain(line.split(' '));
        let output = Command::new("bash").args(words).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        let completed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(completed.split_whitespace().collect::<Vec<_>>().join(" "), wanted, "{line}");
    }
}

#[test]
fn pages_are_written_to_a_folder_and_render_without_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/man1");
    for program in PROGRAMS {
        let man = ["man", "-o", "new/man1"];
        assert_eq!(run(program, dir.path(), man).ok(), "");
        let first = folder.join(format!("{program}.1"));
        assert_eq!(fs::read_to_string(&first).unwrap(), run(program, dir.path(), ["man"]).ok());

        // Nothing is replaced unless that is asked for.
        fs::write(&first, "mine").unwrap();
        run(program, dir.path(), man).fails(program, 2, &["already exists (--force replaces it)"]);
        assert_eq!(fs::read_to_string(&first).unwrap(), "mine");
        run(program, dir.path(), man.into_iter().chain(["--force"])).ok();
        assert_ne!(fs::read_to_string(&first).unwrap(), "mine");
    }
    let pages: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for name in ["pythia-run-generate.1", "pythia-quant-sweep-plan.1", "pythia-quant-man.1"] {
        assert!(pages.contains(&folder.join(name)), "{name}: {pages:?}");
    }
    if tool("groff").is_none() {
        return;
    }
    for page in &pages {
        let output = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-P-cbou"]).arg(page).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}: {output:?}", page.display());
        assert!(String::from_utf8(output.stdout).unwrap().contains("\nSYNOPSIS\n"), "{}", page.display());
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    // The script is longer than a pipe holds.
    for (program, args) in [(PYTHIA_QUANT, &["completions", "bash"][..]), (PYTHIA_RUN, &["man"])] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(program).args(args).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_shell_that_is_not_known_is_refused() {
    let refused = run("pythia-run", Path::new("."), ["completions", "tcsh"]);
    refused.fails("pythia-run", 2, &["'tcsh'", "[possible values: bash, elvish, fish, powershell, zsh]"]);
}
