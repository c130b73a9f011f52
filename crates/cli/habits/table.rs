//! The flags, by program, and what becomes of each. Names and meanings are those of llama.cpp's tools.

/// Flags of one meaning.
pub(super) struct Habit {
    pub(super) names: &'static [&'static str],
    /// The program that they are looked up for; both if empty.
    program: &'static str,
    pub(super) meaning: Meaning,
}

/// What becomes of a flag.
pub(super) enum Meaning {
    /// It is this option of ours, with the same value.
    Means(&'static str),
    /// It changes nothing here, and why; nothing is said where the flag asks for what happens anyway.
    NoEffect(Values, &'static str),
    /// There is no such thing here, and what to do instead.
    Missing(&'static str),
}

/// What follows a flag.
#[derive(Clone, Copy)]
pub(super) enum Values {
    None,
    One,
    /// on, off, auto, 0 or 1, or nothing.
    Switch,
}

/// The row that `name` stands in, for this program.
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
        NoEffect(Switch, "there is one kind of attention, exact and in memory that grows with the context only");
    "", ["-b", "--batch-size", "-ub", "--ubatch-size"] =>
        NoEffect(One, "the program chooses its batches, and results do not depend on them");
    RUN, ["-tb", "--threads-batch"] => NoEffect(One, "prompts and generation use the same threads, those of -t");
    RUN, ["--mlock", "--mmap", "--no-mmap", "-nr", "--no-repack", "--direct-io", "-dio"] =>
        NoEffect(None, "weights are always used as they lie in the mapped file");
    RUN, ["-mmp"] => NoEffect(One, "weights are always used as they lie in the mapped file");
    RUN, ["-nkvo", "--no-kv-offload"] => NoEffect(None, "the key-value cache is where the model is");
    RUN, ["--numa", "-C", "--cpu-mask", "-Cr", "--cpu-range", "--cpu-strict", "--prio", "--poll"] =>
        NoEffect(One, "threads run where the system puts them; taskset and numactl choose processors");
    RUN, ["--keep"] => NoEffect(One, "the context never shifts: a text ends where it is full");
    RUN, ["--ctx-shift", "--context-shift", "--no-context-shift"] =>
        NoEffect(None, "the context never shifts: a text ends where it is full");
    RUN, ["-np", "--parallel", "-ns", "--sequences"] => NoEffect(One, "there is one sequence");
    RUN, ["-cb", "--cont-batching", "-nocb", "--no-cont-batching"] => NoEffect(None, "there is one sequence");
    RUN, ["--color"] => NoEffect(Switch, "output has no colours");
    RUN, ["-lv", "--log-verbosity", "--verbosity"] => NoEffect(One, "there is no log; -q leaves out the timings");
    RUN, ["--log-disable", "--perf", "--no-perf"] => NoEffect(None, "there is no log; -q leaves out the timings");
    RUN, ["-oe", "--output-err"] => NoEffect(One, "stderr has notes only; -o is the form of what is printed");

    // What happens anyway.
    RUN, ["--no-display-prompt", "-no-cnv", "--no-conversation", "-st", "--single-turn", "--simple-io", "--warmup",
          "--no-warmup", "--no-escape"] => NoEffect(None, "");
    QUANT, ["--no-ppl"] => NoEffect(None, "");

    "", ["-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "-mu", "--model-url", "-dr", "--docker-repo"] =>
        Missing("GGUF files are not downloaded; `pythia-quant convert OWNER/NAME -t Q4_0` makes one from a checkpoint of \
                 the Hub");
    RUN, ["-cnv", "--conversation", "-sys", "--system-prompt", "-sysf", "--system-prompt-file", "--chat-template",
          "--chat-template-file", "--jinja", "-i", "--interactive", "-if", "--interactive-first", "-mli",
          "--multiline-input"] =>
        Missing("these are base models, which continue a text and hold no conversation; -p gives the text");
    RUN, ["--rope-scaling", "--rope-scale", "--rope-freq-base", "--rope-freq-scale", "--yarn-orig-ctx",
          "--yarn-ext-factor", "--yarn-attn-factor", "--yarn-beta-slow", "--yarn-beta-fast", "-gan", "-gaw",
          "--override-kv"] =>
        Missing("what the model is comes from its file and cannot be changed when it runs");
    RUN, ["--lora", "--lora-scaled"] =>
        Missing("adapters are merged when a checkpoint is converted: `pythia-quant convert BASE --lora ADAPTER`");
    RUN, ["--control-vector", "--control-vector-scaled", "--control-vector-layer-range"] =>
        Missing("there are no control vectors yet");
    RUN, ["--grammar", "--grammar-file", "-j", "--json-schema", "-jf", "--json-schema-file", "-l", "--logit-bias",
          "--mirostat", "--typical", "--xtc-probability", "--xtc-threshold", "--dynatemp-range", "--dry-multiplier",
          "--presence-penalty", "--frequency-penalty", "--samplers", "--sampler-seq", "--top-n-sigma"] =>
        Missing("no such way of sampling here; there are --temp, --top-k, --top-p, --min-p and --repeat-penalty");
    RUN, ["-md", "--model-draft", "-ngld", "--draft", "--draft-max", "--draft-min"] =>
        Missing("there are no draft models here");
    RUN, ["-sm", "--split-mode", "-ts", "--tensor-split", "-mg", "--main-gpu", "-ot", "--override-tensor"] =>
        Missing("a model is on one device as a whole; --device chooses it");
    RUN, ["--kl-divergence", "--kl-divergence-base", "--save-all-logits"] =>
        Missing("`pythia-quant compare BASE.gguf OTHER.gguf -f TEXT` measures divergence, with no file of logits between");
    RUN, ["--hellaswag", "--hellaswag-tasks", "--winogrande", "--winogrande-tasks", "--multiple-choice",
          "--multiple-choice-tasks"] => Missing("there are no tasks yet, only perplexity");
    RUN, ["-pg", "-d", "--n-depth", "-embd", "--embeddings"] => Missing("no such test; there are -p and -n");
    QUANT, ["--leave-output-tensor"] =>
        Missing("--output-tensor-type F16 keeps the output matrix as precise as the checkpoint's");
    QUANT, ["--include-weights", "--exclude-weights"] => Missing("an importance matrix is used as a whole");
    QUANT, ["--keep-split"] => Missing("--split-max-size and --split-max-tensors split what is written");
    QUANT, ["--tensor-type-file"] => Missing("--tensor-type REGEX=TYPE may be given several times");
    QUANT, ["-ofreq", "--output-frequency", "--save-frequency"] =>
        Missing("the matrix is written once, at the end; --chunks makes the run shorter");
    QUANT, ["--prune-layers"] => Missing("layers cannot be left out");
}
