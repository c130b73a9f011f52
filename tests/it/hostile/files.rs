//! What a path can be besides a file of the right kind.

use super::checkpoint;
use super::model::changed;
use super::{Case, DATA, IO, USAGE, case, write};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const INFO: &str = "pythia-run info m.gguf";
const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 5\n";
const HTML: &str = "<!DOCTYPE html>\n<html><body>503</body></html>\n";

#[rustfmt::skip] // a table
pub(crate) const CASES: &[(Case, i32)] = &[
    (case("F1", "a folder for a model", |f| fs::create_dir(f.join("m.gguf")).unwrap(), INFO, "not a regular file"), IO),
    (case("F1", "a folder for weights", |f| folder(f, "model.safetensors"), CONVERT, "not a regular file"), DATA),
    (case("F1", "a folder for a config", |f| folder(f, "config.json"), CONVERT, "not a regular file"), DATA),
    (case("F2", "a pipe for a model", |f| pipe(f, "m.gguf"), INFO, "not a regular file"), IO),
    (case("F2", "a device for a model", |f| symlink("/dev/zero", f.join("m.gguf")).unwrap(), INFO, "not a regular file"), IO),
    (case("F2", "a pipe for weights", |f| instead(f, "model.safetensors", pipe), CONVERT, "not a regular file"), DATA),
    (case("F2", "a pipe for a tokenizer", |f| instead(f, "tokenizer.json", pipe), CONVERT, "not a regular file"), DATA),
    (case("F3", "LFS pointer for a model", |f| write(f, "m.gguf", LFS), INFO, "a Git LFS pointer"), DATA),
    (case("F3", "LFS pointer for weights", |f| text(f, "model.safetensors", LFS), CONVERT, "a Git LFS pointer"), DATA),
    (case("F3", "LFS pointer for a tokenizer", |f| text(f, "tokenizer.json", LFS), CONVERT, "a Git LFS pointer"), DATA),
    (case("F4", "HTML for a model", |f| write(f, "m.gguf", HTML), INFO, "an HTML page"), DATA),
    (case("F4", "HTML for weights", |f| text(f, "model.safetensors", HTML), CONVERT, "an HTML page"), DATA),
    (case("F4", "HTML for a config", |f| text(f, "config.json", HTML), CONVERT, "an HTML page"), DATA),
    (case("F7", "onto the input", |f| changed(f, |_| ()), "pythia-quant quantize m.gguf ./m.gguf Q8_0 --force", REPLACE), USAGE),
    (case("F7", "onto a link to the input", linked, "pythia-quant quantize m.gguf link.gguf Q8_0 --force", REPLACE), USAGE),
    (case("F7", "onto another name of the input", hard_linked, "pythia-quant quantize m.gguf hard.gguf Q8_0 --force", REPLACE), USAGE),
];

const REPLACE: &str = "the output would replace the input";

fn text(folder: &Path, name: &str, text: &str) {
    checkpoint::valid(folder);
    write(folder, name, text);
}

fn instead(folder: &Path, name: &str, make: fn(&Path, &str)) {
    checkpoint::valid(folder);
    fs::remove_file(folder.join(name)).expect("removed");
    make(folder, name);
}

fn folder(folder: &Path, name: &str) {
    instead(folder, name, |folder, name| fs::create_dir(folder.join(name)).expect("a folder"));
}

fn pipe(folder: &Path, name: &str) {
    assert!(Command::new("mkfifo").arg(folder.join(name)).status().expect("mkfifo").success());
}

fn linked(folder: &Path) {
    changed(folder, |_| ());
    symlink("m.gguf", folder.join("link.gguf")).expect("a link");
}

fn hard_linked(folder: &Path) {
    changed(folder, |_| ());
    fs::hard_link(folder.join("m.gguf"), folder.join("hard.gguf")).expect("a link");
}
