//! The table of llama.cpp's flags, by program, and their meaning here.

/// Flags with the same meaning.
pub(super) struct Habit {
    pub(super) names: &'static [&'static str],
    /// The program that they apply to; both programs if empty.
    program: &'static str,
    pub(super) meaning: Meaning,
}

/// What a flag means here.
pub(super) enum Meaning {
    /// This option of ours, with the same value.
    Means(&'static str),
    /// Nothing, and why. The reason is empty if the flag asks for our default, which needs no note.
    NoEffect(Values, &'static str),
    /// Not available, and what to do instead.
    Missing(&'static str),
}

/// The value after a flag.
#[derive(Clone, Copy)]
pub(super) enum Values {
    None,
    One,
    /// Optional: on, off, auto, 0 or 1.
    Switch,
}

/// The row of `name` for this program.
pub(super) fn find(program: &str, name: &str) -> Option<&'static Habit> {
    let applies = |habit: &&Habit| habit.program.is_empty() || habit.program == program;
    HABITS.iter().filter(applies).find(|habit| habit.names.contains(&name))
}

const RUN: &str = "pythia-run";
const QUANT: &str = "pythia-quant";

macro_rules! habits {
    ($($program:expr, [$($name:literal),*] => $meaning:expr;)*) => {
        pub(super) const HABITS: &[Habit] =
            &[$(Habit { names: &[$($name),*], program: $program, meaning: $meaning }),*];
    };
}

use Meaning::{Means, Missing, NoEffect};
use Values::{None, One, Switch};

habits! {
    "", ["-ngl"] => Means("--gpu-layers");
    "", ["-dev"] => Means("--device");
    RUN, ["-ctk"] => Means("--cache-type-k");
    RUN, ["-ctv"] => Means("--cache-type-v");

    "", ["-fa", "--flash-attn"] =>
        NoEffect(Switch, "there is one kind of attention; it is exact, and its memory is linear in the context");
    "", ["-b", "--batch-size", "-ub", "--ubatch-size"] =>
        NoEffect(One, "the program chooses batch sizes itself, and they do not change results");
    RUN, ["-tb", "--threads-batch"] => NoEffect(One, "prompts and generation both use the threads of -t");
    // Of commands that run no model; the others have it.
    RUN, ["--mmap", "--no-mmap"] => NoEffect(None, "weights are not read here");
    RUN, ["-nr", "--no-repack"] => Means("--mmap");
    RUN, ["--mlock", "--direct-io", "-dio"] =>
        NoEffect(None, "weights are used from the mapped file, or from a copy of it: see --mmap and --no-mmap");
    RUN, ["-mmp"] => NoEffect(One, "where weights are read is said by --mmap or --no-mmap");
    RUN, ["-nkvo", "--no-kv-offload"] => NoEffect(None, "the key-value cache is on the same device as the model");
    RUN, ["--numa", "-C", "--cpu-mask", "-Cr", "--cpu-range", "--cpu-strict", "--prio", "--poll"] =>
        NoEffect(One, "the system places threads; choose processors with taskset or numactl");
    RUN, ["--keep"] => NoEffect(One, "the context never shifts: generation ends when it is full");
    RUN, ["--ctx-shift", "--context-shift", "--no-context-shift"] =>
        NoEffect(None, "the context never shifts: generation ends when it is full");
    RUN, ["-np"] => Means("--parallel");
    RUN, ["--parallel", "-ns", "--sequences"] => NoEffect(One, "this command runs a single sequence");
    RUN, ["-cb", "--cont-batching", "-nocb", "--no-cont-batching"] =>
        NoEffect(None, "this command runs a single sequence");
    RUN, ["--color"] => NoEffect(Switch, "output has no colours");
    RUN, ["-lv", "--log-verbosity", "--verbosity"] => NoEffect(One, "there is no log; -q turns the timings off");
    RUN, ["--log-disable", "--perf", "--no-perf"] => NoEffect(None, "there is no log; -q turns the timings off");
    RUN, ["-oe", "--output-err"] => NoEffect(One, "stderr gets only notes; -o chooses the format of the output");

    // Our defaults.
    RUN, ["--no-display-prompt", "-no-cnv", "--no-conversation", "-st", "--single-turn", "--simple-io", "--warmup",
          "--no-warmup", "--no-escape"] => NoEffect(None, "");
    QUANT, ["--no-ppl"] => NoEffect(None, "");

    "", ["-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "-mu", "--model-url", "-dr", "--docker-repo"] =>
        Missing("GGUF files are not downloaded; `pythia-quant convert OWNER/NAME -t Q4_0` makes one from a checkpoint of \
                 the Hub");
    RUN, ["-cnv", "--conversation", "-sys", "--system-prompt", "-sysf", "--system-prompt-file", "--chat-template",
          "--chat-template-file", "--jinja", "-i", "--interactive", "-if", "--interactive-first", "-mli",
          "--multiline-input"] =>
        Missing("these are base models without a chat mode; they continue the text given with -p");
    RUN, ["--rope-scaling", "--rope-scale", "--rope-freq-base", "--rope-freq-scale", "--yarn-orig-ctx",
          "--yarn-ext-factor", "--yarn-attn-factor", "--yarn-beta-slow", "--yarn-beta-fast", "-gan", "-gaw",
          "--override-kv"] =>
        Missing("the file defines the model; it cannot be changed at run time");
    RUN, ["--lora", "--lora-scaled"] =>
        Missing("merge the adapter when converting the checkpoint: `pythia-quant convert BASE --lora ADAPTER`");
    RUN, ["--grammar", "--grammar-file", "-j", "--json-schema", "-jf", "--json-schema-file", "-l", "--logit-bias",
          "--mirostat", "--typical", "--xtc-probability", "--xtc-threshold", "--dynatemp-range", "--dry-multiplier",
          "--presence-penalty", "--frequency-penalty", "--samplers", "--sampler-seq", "--top-n-sigma"] =>
        Missing("not supported; sampling has --temp, --top-k, --top-p, --min-p and --repeat-penalty");
    RUN, ["-md", "--model-draft", "--spec-draft-model"] => Means("--draft");
    RUN, ["--draft-n", "--spec-draft-n-max"] => Means("--draft-max");
    RUN, ["--draft-n-min", "--spec-draft-n-min"] => Means("--draft-min");
    RUN, ["--draft", "--draft-max", "--draft-min"] =>
        Missing("this command generates no text; `generate`, `bench` and `serve` have drafts");
    RUN, ["-ngld"] => Missing("the draft runs on the device of --device");
    RUN, ["-sm", "--split-mode", "-ts", "--tensor-split", "-mg", "--main-gpu", "-ot", "--override-tensor"] =>
        Missing("a model cannot be split between devices; --device chooses one");
    RUN, ["--kl-divergence", "--kl-divergence-base", "--save-all-logits"] =>
        Missing("use `pythia-quant compare BASE.gguf OTHER.gguf -f TEXT`, which needs no file of logits");
    RUN, ["--hellaswag", "--hellaswag-tasks", "--winogrande", "--winogrande-tasks", "--multiple-choice",
          "--multiple-choice-tasks"] =>
        Missing("use `pythia-run eval --tasks hellaswag`; `pythia-run eval --tasks list` shows all tasks");
    RUN, ["-pg", "-d", "--n-depth", "-embd", "--embeddings"] => Missing("not supported; the tests are -p and -n");
    QUANT, ["--leave-output-tensor"] =>
        Missing("use --output-tensor-type F16, which keeps the precision of an f16 checkpoint");
    QUANT, ["--include-weights", "--exclude-weights"] => Missing("an importance matrix is always used as a whole");
    QUANT, ["--keep-split"] => Missing("use --split-max-size or --split-max-tensors to split the output");
    QUANT, ["-ofreq", "--output-frequency", "--save-frequency"] =>
        Missing("the matrix is written once, at the end; --chunks shortens the run");
    QUANT, ["--prune-layers"] => Missing("layers cannot be removed");
}
