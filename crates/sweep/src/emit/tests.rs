use super::*;
use crate::manifest::{Checkpoint, Estimate, Group, Manifest, Source};
use crate::spec::{Measure, Recipe, Spec, TextFile};
use std::process::Command;

/// Paths that are read wrongly wherever quotes are missing.
const NASTY: [&str; 12] = [
    "plain",
    "two words",
    "it's",
    "say \"so\"",
    "$HOME/$(id)/`id`",
    "{threads} %{CWD} {} %A",
    "line\nbreak",
    "# no comment",
    "back\\slash\\",
    "tab\t\u{7f}1\u{85}7",
    "näher \u{2028}日本\u{1f40d}",
    "-rf ; exit 3 & ! * ?",
];

fn sweep(folder: &Path, n_groups: usize) -> Sweep {
    let text = TextFile {
        name: "a.txt".to_owned(),
        path: "a.txt".to_owned(),
        sha256: String::new(),
        bytes: 4,
        unix_text: false,
    };
    let group = |i: usize| Group {
        group: format!("{i:016x}"),
        checkpoints: vec![Checkpoint {
            model: "m".to_owned(),
            revision: format!("step{i}"),
            step: Some(i as u64),
            source: Source::Folder { path: format!("step{i}") },
            warning: None,
        }],
        files: Vec::new(),
        estimate: Estimate { core_seconds: 3600.0, memory_bytes: 3 << 30, ..Estimate::default() },
    };
    let manifest = Manifest {
        program: "pythia-quant 0".to_owned(),
        spec: Spec {
            recipes: vec![Recipe::base()],
            measures: vec![Measure::Text { text, n_ctx: 512, max_chunks: None }],
            calibration: None,
            base_level: None,
            activations: "int8".to_owned(),
            gelu: None,
            keeps_chunks: false,
        },
        groups: (0..n_groups).map(group).collect(),
        cells: Vec::new(),
        missing: Vec::new(),
    };
    Sweep::create(folder, manifest, true, &()).unwrap()
}

fn options() -> Options {
    Options {
        program: "pythia-quant".into(),
        shards: None,
        threads: 8,
        at_once: None,
        scratch: None,
        evict: false,
        offline: false,
        retry_seconds: 0,
    }
}

fn pod() -> Engine {
    Engine::Kubernetes(Pod { image: "example.org/pythia:1".to_owned(), claim: "sweeps".to_owned(), mount: None })
}

fn all_engines() -> [Engine; 5] {
    [Engine::Slurm, Engine::HyperQueue, Engine::Parallel, pod(), Engine::Snakemake]
}

/// A folder with a program that notes its arguments, each ended by a zero byte, and leaves the exit codes of `codes` one by
/// one. Engines are played by `parallel` and `hq`, which run the first shard only.
fn stage(folder: &Path, codes: &str) {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
    };
    let program = "#!/bin/bash
here=$(dirname \"$0\")
[ \"$2\" = run ] || exit 0
printf '%s\\0' \"$@\" >>\"$here/arguments\"
read -r code <\"$here/codes\"
sed -i 1d \"$here/codes\"
exit $code
";
    write("program", program);
    write("codes", codes);
    write("hq", "#!/bin/bash\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nHQ_TASK_ID=0 exec \"$@\"\n");
    write("parallel", "#!/bin/bash\nexec bash -c 'shard 0'\n");
    write("scontrol", "#!/bin/bash\necho \"$@\" >>\"$(dirname \"$0\")/requeued\"\n");
}

/// Runs a shell script there. The exit code, the arguments of all runs, and what was requeued.
fn play(folder: &Path, text: &str) -> (Option<i32>, Vec<String>, String) {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let run = Command::new("bash")
        .args(["-c", text])
        .env("PATH", path)
        .envs([("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_ARRAY_JOB_ID", "1"), ("SLURM_JOB_ID", "7"), ("TMP_NAME", "/a b")])
        .output()
        .unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let arguments = read("arguments").split_terminator('\0').map(str::to_owned).collect();
    (run.status.code(), arguments, read("requeued"))
}

#[test]
#[cfg(unix)]
fn shell_scripts_give_the_program_its_paths_unchanged() {
    let temp = tempfile::tempdir().unwrap();
    for name in NASTY {
        let folder = temp.path().join(name);
        let sweep = sweep(&folder, 2);
        for engine in [Engine::Slurm, Engine::HyperQueue, Engine::Parallel] {
            let stage_folder = tempfile::tempdir_in(&folder).unwrap();
            stage(stage_folder.path(), "0\n");
            let program = stage_folder.path().join("program");
            let options = Options { program, scratch: Some(folder.join("scratch")), evict: true, ..options() };
            let text = script(&sweep, &engine, &options).unwrap();
            // Where a colon or so would end the entry of PATH, the played engines are elsewhere.
            let path = tempfile::tempdir().unwrap();
            stage(path.path(), "");
            let (code, _, _) = play(path.path(), &text);
            let arguments = std::fs::read_to_string(stage_folder.path().join("arguments")).unwrap_or_default();
            let arguments: Vec<&str> = arguments.split_terminator('\0').collect();
            let folder = folder.to_str().unwrap();
            let scratch = format!("{folder}/scratch");
            let wanted = ["sweep", "run", folder, "--shard", "0/1", "--threads", "8", "--scratch", &scratch, "--evict"];
            assert_eq!((code, &arguments[..]), (Some(0), &wanted[..]), "{engine:?} {text}");
        }
    }
}

#[test]
#[cfg(unix)]
fn exit_codes_lead_to_other_tries_or_to_the_end() {
    let temp = tempfile::tempdir().unwrap();
    let sweep = sweep(&temp.path().join("sweep"), 1);
    let run = |engine: &Engine, codes: &str| {
        let folder = tempfile::tempdir().unwrap();
        stage(folder.path(), codes);
        let options = Options { program: folder.path().join("program"), ..options() };
        let (code, arguments, requeued) = play(folder.path(), &script(&sweep, engine, &options).unwrap());
        (code.unwrap(), arguments.iter().filter(|argument| *argument == "run").count(), requeued)
    };
    for engine in [Engine::HyperQueue, Engine::Parallel] {
        assert_eq!(run(&engine, "75\n137\n0\n"), (0, 3, String::new()));
        assert_eq!(run(&engine, "75\n65\n0\n"), (65, 2, String::new()));
        assert_eq!(run(&engine, &"75\n".repeat(30)), (75, 20, String::new()));
    }
    assert_eq!(run(&Engine::Slurm, "75\n0\n"), (75, 1, "requeue 7\n".to_owned()));
    assert_eq!(run(&Engine::Slurm, "65\n0\n"), (65, 1, String::new()));
    assert_eq!(run(&Engine::Slurm, "137\n0\n"), (137, 1, String::new()));
}

#[test]
#[cfg(unix)]
fn words_of_the_shell_and_strings_are_what_they_quote() {
    for text in NASTY.iter().copied().chain([""]) {
        let word = quote::shell(text);
        assert!(!word.contains('\n'), "{word}");
        for locale in ["C", "C.UTF-8"] {
            let run = Command::new("bash").args(["-c", &format!("printf %s {word}")]).env("LC_ALL", locale).output();
            assert_eq!(String::from_utf8(run.unwrap().stdout).unwrap(), text, "{word}");
        }
        let read: String = serde_json::from_str(&quote::string(text)).unwrap();
        assert_eq!(read, text);
        assert!(!quote::string(text).contains(char::is_control));
    }
    assert_eq!(quote::container_argument("a$(B)$$"), "\"a$$(B)$$$$\"");
}

#[test]
fn scratch_may_be_a_variable_of_the_job() {
    let temp = tempfile::tempdir().unwrap();
    let sweep = sweep(&temp.path().join("s"), 1);
    let with = |scratch: &str| Options { scratch: Some(scratch.into()), ..options() };
    let text = script(&sweep, &Engine::Slurm, &with("$TMP_NAME/x y")).unwrap();
    assert!(text.contains("--scratch \"$TMP_NAME\"'/x y' &\n"), "{text}");
    assert!(text.contains("--tmp=1G"), "{text}");
    let text = script(&sweep, &Engine::Snakemake, &with("$TMP_NAME")).unwrap();
    assert!(text.contains("--scratch \\\"$TMP_NAME\\\"{SCRATCH:q}"), "{text}");
    for wrong in ["$", "$(id)", "$1", "$A-b", "${A}"] {
        let error = script(&sweep, &Engine::Slurm, &with(wrong)).unwrap_err().to_string();
        assert!(error.contains("$NAME/FOLDER"), "{error}");
    }
    let error = script(&sweep, &pod(), &with("$TMP_NAME")).unwrap_err().to_string();
    assert!(error.contains("such as /scratch"), "{error}");
}

#[test]
fn numbers_stay_within_what_engines_take() {
    let temp = tempfile::tempdir().unwrap();
    let sweep = sweep(&temp.path().join("My Sweep!"), 1200);
    let with = |shards, at_once| Options { shards, at_once, ..options() };
    // 1200 core-hours, 8 threads, two hours each.
    let text = script(&sweep, &Engine::Slurm, &with(None, Some(10))).unwrap();
    assert!(text.contains("#SBATCH --job-name=sweep-my-sweep\n#SBATCH --array=0-74%10\n"), "{text}");
    assert!(text.contains("#SBATCH --mem=4G\n#SBATCH --time=03:15:00\n"), "{text}");
    let error = script(&sweep, &Engine::Slurm, &with(Some(1100), None)).unwrap_err().to_string();
    assert!(error.contains("MaxArraySize"), "{error}");
    for engine in all_engines() {
        let text = script(&sweep, &engine, &with(Some(1), Some(99))).unwrap();
        assert!(text.starts_with('#') && text.ends_with('\n') && text.lines().all(|line| line.len() <= 130), "{text}");
    }
    assert!(script(&sweep, &pod(), &with(Some(1100), Some(7))).unwrap().contains("parallelism: 7\n"));
}

#[test]
#[cfg(unix)]
fn paths_that_are_not_unicode_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let temp = tempfile::tempdir().unwrap();
    let sweep = sweep(temp.path(), 1);
    let bytes = Path::new(OsStr::from_bytes(b"/a\xff"));
    for options in
        [Options { program: bytes.to_owned(), ..options() }, Options { scratch: Some(bytes.to_owned()), ..options() }]
    {
        for engine in all_engines() {
            let error = script(&sweep, &engine, &options).unwrap_err().to_string();
            assert!(error.contains("is not UTF-8") && error.contains("/a"), "{error}");
        }
    }
}

#[test]
fn a_claim_must_hold_the_sweep() {
    let temp = tempfile::tempdir().unwrap();
    let sweep = sweep(&temp.path().join("a/b"), 1);
    let mounted = |mount: PathBuf| {
        let pod = Pod { image: "i".to_owned(), claim: "c".to_owned(), mount: Some(mount) };
        script(&sweep, &Engine::Kubernetes(pod), &options())
    };
    assert!(mounted(temp.path().join("a")).is_ok());
    assert!(mounted(temp.path().join("c")).unwrap_err().to_string().contains("--mount"));
}
