//! One measured test, with the keys that llama-bench gives it, so that scripts made for its output read this too.

use super::Test;
use super::stopwatch::{mean_and_sd, median};
use pythia_runtime::device::{CPU, Limits};
use serde_json::{Map, Value, json};

/// What bounds a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Memory,
    Int8,
    F32,
}

impl Bound {
    fn limit(self, limits: &Limits) -> f64 {
        match self {
            Self::Memory => limits.gigabytes_per_second,
            Self::Int8 => limits.int8_gigaops_per_second,
            Self::F32 => limits.f32_gigaops_per_second,
        }
    }

    fn unit(self) -> &'static str {
        if self == Self::Memory { "GB/s" } else { "GOP/s" }
    }
}

/// Which of the machine's limits bounds a test, and how far it got. Both in billions per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// What was reached.
    pub(super) reached: f64,
    /// What the machine can do.
    pub(super) limit: f64,
    /// `GB/s` or `GOP/s`.
    pub(super) unit: &'static str,
    bound: Bound,
}

impl Share {
    pub(super) fn new(reached: f64, bound: Bound, limits: &Limits) -> Self {
        Self { reached, limit: bound.limit(limits), unit: bound.unit(), bound }
    }
}

/// The model and the settings of a test.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The file as it was named on the command line.
    pub(super) model_filename: String,
    /// Architecture, size and file type in words: `gptneox 7M Q4_0`.
    pub(super) model_type: String,
    /// Bytes of all tensors.
    pub(super) model_size: u64,
    /// Elements of all tensors.
    pub(super) model_n_params: u64,
    /// Where it ran: `cpu`, or the name of a GPU.
    pub(super) device: String,
    /// Name of the processor.
    pub(super) cpu: String,
    /// Instruction set of the kernels.
    pub(super) isa: String,
    /// Threads that computed.
    pub(super) threads: usize,
    /// `int8` or `f32`.
    pub(super) activations: String,
    /// Element type of the key-value cache.
    pub(super) kv_cache: String,
    /// Whether weights were read in the mapped file.
    pub(super) is_mapped: bool,
    /// Tokens of one call at most.
    pub(super) n_batch: usize,
}

impl Setup {
    /// Where it ran, and what is not as usual there.
    pub(super) fn backend(&self) -> String {
        let mut place = self.gpu().map_or_else(|| format!("CPU {}", self.isa), str::to_owned);
        if self.kv_cache != "f16" {
            place += &format!(", {} cache", self.kv_cache);
        }
        if !self.is_mapped {
            place += ", copied";
        }
        place
    }

    /// The GPU's name, if it ran on one.
    pub(super) fn gpu(&self) -> Option<&str> {
        (self.device != CPU).then_some(self.device.as_str())
    }
}

/// What came of a test that was run several times.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// What was run.
    pub(super) setup: Setup,
    /// Which test.
    pub test: Test,
    /// When the test began: UTC, ISO 8601.
    pub test_time: String,
    /// Nanoseconds of each repetition.
    pub samples_ns: Vec<u64>,
    /// How close the median came to the machine's limit.
    pub(super) share: Share,
}

impl TestResult {
    /// Tokens per second of each repetition.
    pub(super) fn samples_ts(&self) -> Vec<f64> {
        let tokens = self.test.tokens() as f64;
        self.samples_ns.iter().map(|&ns| tokens * 1e9 / ns.max(1) as f64).collect()
    }

    /// Compares with other limits than those that were known when it ran.
    pub fn hold_against(&mut self, limits: &Limits) {
        self.share.limit = self.share.bound.limit(limits);
    }

    /// Every key with its value, in llama-bench's order, ours after it under a prefix.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value)> {
        let s = &self.setup;
        let (n_prompt, n_gen) = match self.test {
            Test::Prefill(n) => (n, 0),
            Test::Decode(n) => (0, n),
        };
        let (avg_ts, stddev_ts) = mean_and_sd(&self.samples_ts());
        let ns: Vec<f64> = self.samples_ns.iter().map(|&ns| ns as f64).collect();
        let (avg_ns, stddev_ns) = mean_and_sd(&ns);
        vec![
            ("build_commit", json!(concat!("pythia ", env!("CARGO_PKG_VERSION")))),
            ("build_number", json!(0)),
            ("cpu_info", json!(s.cpu)),
            ("gpu_info", json!(s.gpu().unwrap_or_default())),
            ("backends", json!(if s.gpu().is_some() { "CUDA" } else { "CPU" })),
            ("model_filename", json!(s.model_filename)),
            ("model_type", json!(s.model_type)),
            ("model_size", json!(s.model_size)),
            ("model_n_params", json!(s.model_n_params)),
            ("n_batch", json!(s.n_batch)),
            ("n_ubatch", json!(s.n_batch)),
            ("n_threads", json!(s.threads)),
            ("cpu_mask", json!("0x0")),
            ("cpu_strict", json!(false)),
            ("poll", json!(0)),
            ("type_k", json!(s.kv_cache)),
            ("type_v", json!(s.kv_cache)),
            ("n_gpu_layers", json!(if s.gpu().is_some() { 99 } else { 0 })),
            ("split_mode", json!("none")),
            ("main_gpu", json!(0)),
            ("no_kv_offload", json!(false)),
            ("flash_attn", json!(false)),
            ("tensor_split", json!("0.00")),
            ("use_mmap", json!(s.is_mapped)),
            ("embeddings", json!(false)),
            ("n_prompt", json!(n_prompt)),
            ("n_gen", json!(n_gen)),
            ("n_depth", json!(0)),
            ("test_time", json!(self.test_time)),
            ("avg_ns", json!(avg_ns.round() as u64)),
            ("stddev_ns", json!(stddev_ns.round() as u64)),
            ("avg_ts", json!(avg_ts)),
            ("stddev_ts", json!(stddev_ts)),
            ("pythia_median_ts", json!(median(&self.samples_ts()))),
            ("pythia_isa", json!(s.isa)),
            ("pythia_activations", json!(s.activations)),
            ("pythia_reached", json!(self.share.reached)),
            ("pythia_limit", json!(self.share.limit)),
            ("pythia_limit_unit", json!(self.share.unit)),
            ("pythia_percent_of_limit", json!(self.share.percent())),
        ]
    }

    /// All fields and the samples, as an object.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.fields().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        object.insert("samples_ns".to_owned(), json!(self.samples_ns));
        object.insert("samples_ts".to_owned(), json!(self.samples_ts()));
        Value::Object(object)
    }
}

/// A rate in billions of a unit per second, for people: in thousands of them where the `limit` is that high.
pub fn rate(billions: f64, unit: &str, limit: f64) -> String {
    match unit {
        "GOP/s" if limit >= 10_000.0 => format!("{:.1} TOP/s", billions / 1e3),
        _ => format!("{billions:.1} {unit}"),
    }
}

impl Share {
    /// Percent of the limit.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.reached / self.limit
    }
}

#[cfg(test)]
pub(super) mod sample {
    use super::*;
    use pythia_show::iso_time;

    /// A test at 1000 and 500 tokens per second.
    pub(crate) fn result(test: Test) -> TestResult {
        let tokens = test.tokens() as u64;
        TestResult {
            setup: Setup {
                model_filename: "a,b.gguf".into(),
                model_type: "gptneox 7M Q4_0".into(),
                model_size: 4_000_000,
                model_n_params: 6_836_224,
                device: "cpu".into(),
                cpu: "Example 9000".into(),
                isa: "avx2".into(),
                threads: 2,
                activations: "int8".into(),
                kv_cache: "f16".into(),
                is_mapped: true,
                n_batch: 512,
            },
            test,
            test_time: iso_time(0),
            samples_ns: vec![tokens * 1_000_000, tokens * 2_000_000],
            share: Share::new(8.0, Bound::Memory, &limits(32.0)),
        }
    }

    /// Of a machine that reads so many gigabytes per second.
    pub(crate) fn limits(gigabytes_per_second: f64) -> Limits {
        Limits { gigabytes_per_second, int8_gigaops_per_second: 2000.0, f32_gigaops_per_second: 500.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_from_times() {
        let mut result = sample::result(Test::Prefill(512));
        assert_eq!(result.test.name(), "pp512");
        assert_eq!(result.samples_ts(), [1000.0, 500.0]);
        let json = result.to_json();
        assert_eq!(json["avg_ts"], 750.0);
        assert_eq!(json["pythia_percent_of_limit"], 25.0);
        assert_eq!(json["samples_ns"].as_array().unwrap().len(), 2);
        result.hold_against(&sample::limits(64.0));
        assert_eq!(result.to_json()["pythia_percent_of_limit"], 12.5);
    }
}
