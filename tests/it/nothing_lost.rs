//! Outputs appear whole or not at all, sources stay as they are, and what a killed run leaves behind goes: the real
//! programs, killed, interrupted, without room, without permission, and pointed at their own inputs.
//!
//! `tools/kill9.py` does the killing at many more points.

use crate::common::{Outcome, PYTHIA_QUANT, PYTHIA_RUN, checkpoint, data, gguf, names, quant, run_model};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "pythia-quant";

/// Types that take long enough to be killed at.
const MANY: &str = "F32,F16,BF16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q3_K_M,Q2_K,IQ4_NL,IQ4_XS,Q4_0";

fn text() -> PathBuf {
    data("pythia-docs-6m/heldout.txt")
}

/// Starts `pythia-quant` in `folder`.
fn spawn(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(PYTHIA_QUANT);
    command.args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// The temporary files and folders in `folder`.
fn temporary(folder: &Path) -> Vec<String> {
    let all = if folder.is_dir() { names(folder) } else { Vec::new() };
    all.into_iter().filter(|name| name.starts_with('.') && name.contains(".pythia-")).collect()
}

/// Waits until `folder` holds something temporary. False if the child ended first.
fn wait_for_temporary(child: &mut Child, folder: &Path) -> bool {
    let start = Instant::now();
    while temporary(folder).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing appears in {}", folder.display());
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Starts a run and kills it as soon as `output` holds something temporary, in tries until it dies of that.
fn killed(folder: &Path, args: &[&str], output: &Path) {
    for _ in 0..20 {
        let mut child = spawn(folder, args);
        if wait_for_temporary(&mut child, output) {
            child.kill().unwrap();
            if !child.wait().unwrap().success() && !temporary(output).is_empty() {
                return;
            }
        }
    }
    panic!("20 runs ended before they could be killed: {args:?}");
}

/// Every file under the checkpoint of the tests, whose bytes nothing may change.
fn source_bytes() -> Vec<Vec<u8>> {
    names(&checkpoint()).iter().map(|name| fs::read(checkpoint().join(name)).unwrap()).collect()
}

#[test]
fn the_next_run_removes_what_a_killed_conversion_left() {
    let before = source_bytes();
    let dir = tempfile::tempdir().unwrap();
    let (source, source_gguf) = (checkpoint(), gguf("F32"));
    let [source, source_gguf] = [&source, &source_gguf].map(|path| path.to_str().unwrap());
    let convert = ["convert", source, "-t", MANY, "-o", "out", "--sha256", "--force"];
    killed(dir.path(), &convert, &dir.path().join("out"));
    let left = temporary(&dir.path().join("out"));
    assert!(source_bytes() == before);

    // Another target is none of its business, and a dry run makes nothing.
    quant(dir.path(), ["quantize", source_gguf, "out/other.gguf", "Q4_0", "-q"]).ok();
    quant(dir.path(), [&convert[..], &["--dry-run"]].concat()).ok();
    assert_eq!(temporary(&dir.path().join("out")), left);

    let again = quant(dir.path(), convert);
    let lines: Vec<&str> = again.stderr.lines().collect();
    assert_eq!(lines.len(), left.len(), "{again:?}");
    for name in &left {
        let n_lines = lines.iter().filter(|line| line.starts_with(&format!("out/{name}: removed "))).count();
        assert_eq!(n_lines, 1, "{name} in {again:?}");
    }
    again.ok();
    assert_eq!(names(&dir.path().join("out")).len(), 1 + 2 * MANY.split(',').count());
    let wanted = fs::read(gguf("Q4_0")).unwrap();
    assert!(fs::read(dir.path().join("out/pythia-docs-6m-Q4_0.gguf")).unwrap() == wanted);
    assert!(source_bytes() == before);
}

#[test]
fn the_next_run_removes_the_folder_of_a_killed_one_and_keeps_what_it_would_have_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let model = gguf("Q4_0");
    let model = model.to_str().unwrap();
    let dequantize = ["dequantize", model, "out", "--force"];
    quant(dir.path(), ["dequantize", model, "out", "--dtype", "f16", "-q"]).ok();
    let old = fs::read(dir.path().join("out/model.safetensors")).unwrap();
    for _ in 0..10 {
        killed(dir.path(), &dequantize, dir.path());
        // Killed at the very end, it may have been replaced.
        let now = fs::read(dir.path().join("out/model.safetensors")).unwrap();
        if now == old {
            break;
        }
    }
    assert!(fs::read(dir.path().join("out/model.safetensors")).unwrap() == old);
    let refused = quant(dir.path(), ["dequantize", model, "out"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(": removed "), "{refused:?}");
    assert_eq!(names(dir.path()), ["out"]);
    let forced = quant(dir.path(), dequantize);
    assert_eq!(forced.stderr, "", "nothing was left");
    forced.ok();
    assert!(fs::read(dir.path().join("out/model.safetensors")).unwrap().len() > old.len());
}

#[test]
fn a_run_that_is_still_alive_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (gguf("F32"), text());
    let [model, text] = [&model, &text].map(|path| path.to_str().unwrap());
    let mut living = spawn(dir.path(), &["imatrix", model, "-f", text, "-o", "i.gguf", "--force"]);
    assert!(wait_for_temporary(&mut living, dir.path()));
    let its = temporary(dir.path());
    let short = ["imatrix", model, "-f", text, "-o", "i.gguf", "--chunks", "1", "--force"];
    let second = quant(dir.path(), short);
    assert_eq!(second.stderr, "", "{second:?}");
    second.ok();
    assert!(living.try_wait().unwrap().is_none(), "the first one is to outlive the second");
    assert_eq!(names(dir.path()), [&its[..], &["i.gguf".to_owned()]].concat());
    let short_bytes = fs::read(dir.path().join("i.gguf")).unwrap();
    assert!(living.wait().unwrap().success());
    assert_eq!(names(dir.path()), ["i.gguf"]);
    assert!(fs::read(dir.path().join("i.gguf")).unwrap() != short_bytes, "the last one to end wins");

    killed(dir.path(), &["imatrix", model, "-f", text, "-o", "i.gguf", "--force"], dir.path());
    let third = quant(dir.path(), short);
    assert!(third.stderr.contains(": removed 0 bytes, the leftover of a killed run\n"), "{third:?}");
    third.ok();
    assert!(fs::read(dir.path().join("i.gguf")).unwrap() == short_bytes);
    assert_eq!(names(dir.path()), ["i.gguf"]);
}

/// A second is promised; the rest is for a machine that runs all tests at once.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Every command at work, or waiting for a text, stops in time when it is told to, once or twice, and leaves nothing.
/// `tools/signals.py` does that at random moments.
#[test]
fn signals_end_commands_in_time_and_leave_nothing() {
    let (model, source, text) = (gguf("F32"), checkpoint(), text());
    let [model, source, text] = [&model, &source, &text].map(|path| path.to_str().unwrap());
    // One thread of scalar code takes minutes.
    let slow = ["--threads", "1"];
    let cache = "--cache=.pythia-cache";
    let commands: [(&str, Vec<&str>, &str); 9] = [
        ("quant", vec!["convert", source, "-t", MANY, "-o", "new/deep/"], "new/deep"),
        ("quant", vec!["dequantize", model, "hf"], ""),
        ("quant", vec!["imatrix", model, "-f", text, "-o", "i.gguf"], ""),
        ("quant", vec!["imatrix", model, "-f", "pipe", "-o", "i.gguf"], ""),
        ("quant", vec!["compare", source, "-t", "Q8_0", "-f", text, "-o", "new/report", cache], "new/report"),
        ("run", vec!["perplexity", model, "-f", text, "--nll-out", "nll"], ""),
        ("run", vec!["perplexity", model, "-f", "pipe", "--nll-out", "nll"], ""),
        ("run", vec!["perplexity", model, "-f", "-", "--nll-out", "nll"], ""),
        ("run", vec!["generate", model, "-f", "pipe"], "never"),
    ];
    for (program, args, begins_in) in commands {
        for signals in [&["-INT"][..], &["-TERM"], &["-INT", "-INT"]] {
            let dir = tempfile::tempdir().unwrap();
            let pipe = dir.path().join("pipe");
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            // Somebody who never writes.
            let writer = fs::File::options().read(true).write(true).open(&pipe).unwrap();
            let program = if program == "run" { PYTHIA_RUN } else { PYTHIA_QUANT };
            let mut command = Command::new(program);
            command.args(&args).args(slow).env("PYTHIA_ISA", "scalar").current_dir(dir.path());
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            // Open until the end: waiting for the child would close it.
            let stdin = child.stdin.take();
            match begins_in {
                "never" => std::thread::sleep(Duration::from_secs(1)),
                folder => assert!(wait_for_temporary(&mut child, &dir.path().join(folder)), "{args:?} ended"),
            }
            let start = Instant::now();
            for signal in signals {
                Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
            }
            let status = child.wait().unwrap();
            let seconds = start.elapsed();
            let mut told = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
            assert_eq!(status.code(), Some(130), "{args:?}, {signals:?}: {told}");
            assert!(told.contains(": stopping\n") && seconds < STOPPED_WITHIN, "{args:?}: {seconds:?}: {told}");
            drop((writer, stdin));
            let left: Vec<String> = names(dir.path()).into_iter().filter(|name| name != ".pythia-cache").collect();
            assert_eq!(left, ["pipe"], "{args:?}, {signals:?}");
        }
    }
}

/// `nohup` has a program ignore SIGHUP: closing the terminal does not end a conversion of hours.
#[test]
fn hangups_that_are_ignored_stay_so() {
    let (dir, model) = (tempfile::tempdir().unwrap(), gguf("F32"));
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" HUP; exec "$@""#, "sh", PYTHIA_RUN, "perplexity"]);
    command.arg(model).args(["-f", "-", "--nll-out", "nll"]).current_dir(dir.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stdin = child.stdin.take();
    assert!(wait_for_temporary(&mut child, dir.path()));
    let send = |signal: &str, id: u32| Command::new("kill").arg(signal).arg(id.to_string()).status().unwrap();
    send("-HUP", child.id());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None, "it goes on");
    send("-TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[test]
fn an_interrupted_or_failed_conversion_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let args = ["convert", source.to_str().unwrap(), "-t", MANY, "-o", "new/deep/out", "--threads", "1"];
    let mut codes = Vec::new();
    for signal in ["-INT", "-TERM"] {
        let mut child = spawn(dir.path(), &args);
        assert!(wait_for_temporary(&mut child, &dir.path().join("new/deep/out")));
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        codes.push(child.wait().unwrap().code());
        assert_eq!(names(dir.path()), [""; 0], "{signal}");
    }
    assert_eq!(codes, [Some(130); 2]);

    // A GGUF file is as long as it says, but its weights are not finite.
    let broken = dir.path().join("broken.gguf");
    let mut bytes = fs::read(gguf("F32")).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&broken, bytes).unwrap();
    let failed = quant(dir.path(), ["quantize", "broken.gguf", "new/out/", "Q8_0,Q4_0"]);
    failed.fails(PROGRAM, 65, &["not finite"]);
    assert_eq!(names(dir.path()), ["broken.gguf"]);
}

/// Runs a program in a mount namespace where `full` is a tmpfs of 4 MB, prepared by `setup` (shell, in that folder), and
/// says what the tmpfs holds afterwards. `None`, and a line on stderr, where that is not permitted.
fn in_tmpfs(folder: &Path, setup: &str, program: &str, args: &[&str]) -> Option<(Outcome, Vec<String>)> {
    let can_mount = "mkdir -p full && mount -t tmpfs -o size=4m none full";
    let probe = Command::new("unshare").args(["-rm", "sh", "-c", can_mount]).current_dir(folder).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("SKIPPED: no tmpfs can be mounted here (unshare -rm)");
        return None;
    }
    let script = format!(r#"{can_mount} && (cd full && {setup}) && "$@"; code=$?; ls -A full > listing; exit $code"#);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, "sh", program]).args(args).current_dir(folder);
    let outcome = Outcome::from(command.output().unwrap());
    let listing = fs::read_to_string(folder.join("listing")).unwrap();
    Some((outcome, listing.lines().map(str::to_owned).collect()))
}

/// Commands that write into `full`, and a part of the name that their error is to give.
fn writers() -> Vec<(&'static str, Vec<String>, &'static str)> {
    let (quant, run) = (PYTHIA_QUANT, PYTHIA_RUN);
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (source, model, text) = (path(checkpoint()), path(gguf("F32")), path(text()));
    let other = path(gguf("Q4_0"));
    let args = |line: &str| {
        let line =
            line.replace("SOURCE", &source).replace("MODEL", &model).replace("TEXT", &text).replace("OTHER", &other);
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    vec![
        (quant, args("convert SOURCE -t Q4_0,F16 -o full/new"), "full/new/pythia-docs-6m-"),
        (quant, args("convert SOURCE -t Q8_0 -o full/x.gguf --sha256"), "full/x.gguf"),
        (quant, args("quantize MODEL full/x.gguf Q8_0"), "full/x.gguf"),
        (quant, args("dequantize MODEL full/out"), "full/out"),
        (quant, args("imatrix MODEL -f TEXT -o full/i.gguf --chunks 1"), "full/i.gguf"),
        (quant, args("compare MODEL OTHER -f TEXT --chunks 1 -c 64 -o full/report --cache cache -q"), "full/report"),
        (run, args("activations -m MODEL -f TEXT --chunks 1 -c 64 --hooks layers.0 -o full/new/a -q"), "full/new"),
        (run, args("perplexity -m MODEL -f TEXT --chunks 1 -c 64 --nll-out full/x.nll -q"), "full/x.nll"),
    ]
}

#[test]
fn a_full_disk_is_an_error_that_names_the_target_and_leaves_nothing() {
    let before = source_bytes();
    let fill = "head -c 100 /dev/zero > theirs && (cat /dev/zero > fill 2>/dev/null || true)";
    for (program, args, name) in writers() {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let Some((outcome, left)) = in_tmpfs(dir.path(), fill, program, &args) else { return };
        outcome.fails(program.rsplit('/').next().unwrap(), 74, &[name]);
        assert!(
            outcome.stderr.contains("bytes free, wanted") || outcome.stderr.contains("No space left"),
            "{outcome:?}"
        );
        assert_eq!(left, ["fill", "theirs"], "{args:?}");
    }
    assert!(source_bytes() == before);
}

#[test]
fn too_little_room_is_found_out_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    // Each file fits alone.
    let args = ["convert", source.to_str().unwrap(), "-t", "Q4_0,Q2_K", "-o", "full/new", "--json"];
    let Some((outcome, left)) = in_tmpfs(dir.path(), "true", PYTHIA_QUANT, &args) else { return };
    outcome.fails(PROGRAM, 74, &["full/new/pythia-docs-6m-", "cannot reserve its space", "bytes free, wanted"]);
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_the_target() {
    for (program, args, name) in writers() {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let setup = "mount -o remount,ro ../full";
        let Some((outcome, left)) = in_tmpfs(dir.path(), setup, program, &args) else { return };
        outcome.fails(
            program.rsplit('/').next().unwrap(),
            74,
            &[name.trim_end_matches("/pythia-docs-6m-"), "Read-only"],
        );
        assert_eq!(left, [""; 0], "{args:?}");
    }
}

/// Names in `dir` for the file `name` in it: itself, by a detour, by links to it and to the folder.
fn other_names(dir: &Path, name: &str) -> Vec<String> {
    use std::os::unix::fs::symlink;
    symlink(name, dir.join("symlink")).unwrap();
    symlink("symlink", dir.join("twice")).unwrap();
    fs::hard_link(dir.join(name), dir.join("hardlink")).unwrap();
    symlink(dir, dir.join("folder")).unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    let absolute = dir.join(name).to_str().unwrap().to_owned();
    let others = [format!("./{name}"), format!("sub/../{name}"), format!("folder/{name}"), "folder/hardlink".into()];
    [name, "symlink", "twice", "hardlink"].map(str::to_owned).into_iter().chain(others).chain([absolute]).collect()
}

/// Asserts that `line`, where OUT is each name of each of `inputs` in turn, is refused and changes no byte.
fn refuses_its_inputs(inputs: &[&str], line: &str) {
    for input in inputs {
        let dir = tempfile::tempdir().unwrap();
        let files = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "README.md"];
        for name in files {
            fs::copy(checkpoint().join(name), dir.path().join(name)).unwrap();
        }
        fs::copy(gguf("F32"), dir.path().join("model.gguf")).unwrap();
        fs::copy(text(), dir.path().join("text.txt")).unwrap();
        fs::copy(data("goldens/imatrix.gguf"), dir.path().join("imatrix.gguf")).unwrap();
        let before = fs::read(dir.path().join(input)).unwrap();
        let all = other_names(dir.path(), input);
        let listed = names(dir.path());
        for name in all {
            let args = line.split(' ').map(|word| if word == "OUT" { name.as_str() } else { word });
            let outcome = match line.starts_with("perplexity") {
                true => run_model(dir.path(), args),
                false => quant(dir.path(), args),
            };
            assert_eq!(outcome.code, Some(2), "{line}, OUT is {name}: {outcome:?}");
            assert!(outcome.stderr.contains("would replace the input"), "{line}, OUT is {name}: {outcome:?}");
            assert!(fs::read(dir.path().join(input)).unwrap() == before, "{line}, OUT is {name}");
            assert_eq!(names(dir.path()), listed, "{line}, OUT is {name}");
        }
    }
}

#[test]
fn an_output_is_never_an_input_by_whatever_name() {
    let folder = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"];
    refuses_its_inputs(&folder, "convert . -t Q8_0 -o OUT --force");
    refuses_its_inputs(&["model.safetensors", "config.json"], "convert model.safetensors -t Q8_0 -o OUT --force");
    refuses_its_inputs(&["imatrix.gguf"], "convert . -t Q4_K_M --imatrix imatrix.gguf -o OUT --force");
    refuses_its_inputs(&["model.gguf"], "quantize model.gguf OUT Q8_0 --force");
    refuses_its_inputs(&["imatrix.gguf"], "quantize model.gguf OUT Q4_K_M --imatrix imatrix.gguf --force");
    refuses_its_inputs(&["model.gguf", "text.txt"], "imatrix model.gguf -f text.txt -o OUT --force");
    refuses_its_inputs(&["model.gguf", "text.txt"], "perplexity -m model.gguf -f text.txt --nll-out OUT --force");
}

#[test]
fn folders_of_outputs_never_take_the_place_of_inputs() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |args: &[&str], wanted: &str| {
        let before = fs::read(gguf("F32")).unwrap();
        let outcome = quant(dir.path(), args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(wanted), "{args:?}: {outcome:?}");
        assert!(fs::read(gguf("F32")).unwrap() == before);
    };
    // A checkpoint's folder that holds the model, by its name and by a link's.
    quant(dir.path(), ["dequantize", gguf("F32").to_str().unwrap(), "out", "-q"]).ok();
    fs::hard_link(gguf("F32"), path("out/model.gguf"))
        .or_else(|_| fs::copy(gguf("F32"), path("out/model.gguf")).map(drop))
        .unwrap();
    symlink("out", path("link")).unwrap();
    for (model, target) in [("out/model.gguf", "out"), ("link/model.gguf", "./out"), ("out/model.gguf", "link/../out")]
    {
        refused(&["dequantize", model, target, "--force"], "would replace the input");
    }
    refused(&["dequantize", "out/model.gguf", "link", "--force"], "is not a folder");
    refused(&["dequantize", "out/model.gguf", "out/model.gguf", "--force"], "is not a folder");
    assert!(path("out/model.gguf").exists());

    // The text, a file of the comparison, and a file of the checkpoint under a report's name.
    fs::copy(text(), path("text.txt")).unwrap();
    fs::create_dir(path("report")).unwrap();
    for (input, name) in
        [("text.txt", "report.md"), ("out/model.gguf", "report.csv"), ("out/config.json", "report.json")]
    {
        for by_symlink in [true, false] {
            let (input, name) = (path(input), path("report").join(name));
            if by_symlink { symlink(&input, &name) } else { fs::hard_link(&input, &name) }.unwrap();
            let source = if input.ends_with("config.json") { "out" } else { "out/model.gguf" };
            let other = gguf("Q4_0");
            let other = other.to_str().unwrap();
            let args = ["compare", source, other, "-f", "text.txt", "-o", "report", "--force", "--cache=cache"];
            refused(&args, "would replace the input");
            fs::remove_file(name).unwrap();
        }
    }
}
