//! Made-up reports for the tests of the writers, shaped like real ones.

use super::{
    AgainstBase, Answer, Arithmetic, Entry, Estimate, FORMAT, FileDigest, Machine, Memory, Origin, Provenance, Report,
    Scored, Speed, Spread,
};

/// Name, bytes, bits per weight, perplexity, mean KLD, same top: neighbouring levels differ as they do in practice.
const ROWS: &[(&str, u64, f64, f64, f64, f64)] = &[
    ("F16", 13_846_400, 16.0, 28.5795, 0.0, 1.0),
    ("Q8_0", 7_456_672, 8.5, 28.5791, 0.000116, 0.99209),
    ("Q6_K", 5_805_984, 6.56, 28.6109, 0.000678, 0.97995),
    ("Q5_1", 5_400_480, 6.0, 28.6324, 0.001864, 0.96762),
    ("Q5_0", 5_040_032, 5.5, 28.6132, 0.002274, 0.96424),
    ("Q4_1", 4_679_584, 5.0, 28.8230, 0.007191, 0.93964),
    ("Q4_0", 4_319_136, 4.5, 28.8254, 0.008345, 0.93280),
    ("Q4_K_S", 4_417_440, 4.6, 28.7583, 0.005366, 0.94687),
    ("Q4_K_M", 4_555_680, 4.8, 28.7453, 0.005478, 0.94755),
    ("Q5_K_S", 5_040_032, 5.5, 28.6383, 0.001811, 0.96849),
    ("Q5_K_M", 5_161_888, 5.7, 28.6344, 0.001679, 0.96982),
    ("IQ4_NL", 4_319_136, 4.5, 28.8078, 0.006753, 0.93873),
    ("IQ4_XS", 4_138_912, 4.25, 28.8323, 0.006955, 0.93838),
    ("IQ3_M", 3_762_080, 3.7, 29.1770, 0.022739, 0.88957),
    ("IQ3_S", 3_553_184, 3.4, 29.4931, 0.033320, 0.87346),
    ("Q3_K_L", 4_364_192, 4.3, 28.9710, 0.013231, 0.91615),
    ("Q3_K_M", 4_020_128, 3.9, 28.9848, 0.014997, 0.91160),
    ("Q3_K_S", 3_553_184, 3.4, 29.2994, 0.026817, 0.88347),
    ("Q2_K", 3_286_944, 3.0, 30.5993, 0.068013, 0.82292),
    ("BF16", 13_846_432, 16.0, 28.5789, 0.000012, 0.99783),
];

/// A report of the first `n` rows, at most 20.
pub(super) fn report(n: usize) -> Report {
    let mut entries: Vec<Entry> = ROWS.iter().take(n).map(entry).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_bytes));
    Report {
        format: FORMAT,
        source: "pythia-docs-6m".into(),
        provenance: Provenance {
            program: "pythia-quant 0.1.0".into(),
            date: "2026-11-29T08:40:00Z".into(),
            command: ["pythia-quant", "compare", "pythia-docs-6m", "-f", "heldout.txt"].map(String::from).to_vec(),
            origin: Origin { name: Some("pythia-docs-6m".into()), ..Origin::default() },
        },
        machine: Machine {
            device: "cpu".into(),
            cpu: "Example 9000 <32-core> Processor".into(),
            isa: "avx512-vnni".into(),
            threads: 2,
        },
        protocol: Scored {
            name: "llama".into(),
            text: "heldout.txt".into(),
            text_form: pythia_runtime::TextForm::default(),
            text_sha256: "ab".repeat(32),
            n_ctx: 512,
            chunks: 168,
            tokens_scored: 42_840,
        },
        arithmetic: Arithmetic { activations: "int8", gelu: "erf", kv_cache: "f16" },
        base: "F16".into(),
        process_per_level: true,
        busy: None,
        side_by_side: None,
        tasks: None,
        answer: Answer::of(&entries, &[]),
        entries,
    }
}

/// A report with each of seven levels as it is, with an importance matrix that changes all but Q8_0, and by a quantizer.
pub(super) fn series() -> Report {
    let mut report = report(0);
    let ways = [("plain", 1.0), ("imatrix", 0.97), ("feedback", 0.31)];
    for (way, factor) in ways {
        let levels = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"];
        for row in ROWS.iter().filter(|row| levels.contains(&row.0)) {
            let mut made = entry(row);
            let is_other = way != "plain" && (row.0 == "F16" || (way == "imatrix" && row.0 == "Q8_0"));
            let Some(against) = made.against_base.as_mut().filter(|_| !is_other) else {
                report.entries.extend((way == "plain").then_some(made));
                continue;
            };
            // A quantizer gains less where activations are rounded more coarsely than weights.
            against.kld_mean.value *= if row.0 == "Q8_0" { f64::sqrt(factor) } else { factor };
            against.perplexity_delta_percent.value *= factor;
            made.series = Some(way.to_owned());
            if way != "plain" {
                made.name = format!("{} {way}", row.0);
            }
            report.entries.push(made);
        }
    }
    report.entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_bytes));
    let order = ways.map(|(way, _)| way.to_owned());
    report.side_by_side = super::SideBySide::of(&mut report.entries, &order);
    report.answer = Answer::of(&report.entries, &[]).with_series(report.side_by_side.as_ref());
    report
}

fn entry(&(name, file_bytes, bits, ppl, kld, top): &(&str, u64, f64, f64, f64, f64)) -> Entry {
    let base = ROWS[0].3;
    let against_base = (name != "F16").then(|| AgainstBase {
        perplexity_delta: Estimate { value: ppl - base, se: 0.3 * kld.sqrt() },
        perplexity_delta_percent: Estimate { value: (ppl / base - 1.0) * 100.0, se: 30.0 * kld.sqrt() / base },
        kld_mean: Estimate { value: kld, se: kld * 0.0045 },
        kld_p99: kld * 6.3,
        kld_max: kld * 57.0,
        same_top: Estimate { value: top, se: (top * (1.0 - top) / 42_839.0).sqrt() },
        ..AgainstBase::default()
    });
    let around = |value: f64, runs| Spread { min: value * 0.98, max: value * 1.01, runs };
    let (prefill, decode) = (9_000.0 - 160.0 * bits, 9_000.0 / (bits + 3.0));
    let file = format!("pythia-docs-6m-{name}.gguf");
    Entry {
        name: name.into(),
        level: name.into(),
        series: (name != "F16").then(|| "plain".into()),
        files: vec![FileDigest { name: file.clone(), bytes: file_bytes, sha256: "cd".repeat(32) }],
        file,
        file_bytes,
        bits_per_weight: bits,
        bits_per_weight_blocks: bits + 0.07,
        imatrix: None,
        quantizer: None,
        recipe: None,
        requantized: Vec::new(),
        memory: Memory { context_tokens: 512, context_bytes: 10_000_000 },
        perplexity: Estimate { value: ppl, se: 0.3683 },
        against_base,
        kld_of_first_series: None,
        speed: Speed {
            prefill_tokens_per_second: prefill,
            prefill_spread: around(prefill, 5),
            decode_tokens_per_second: decode,
            decode_spread: around(decode, 4),
            contention: Some(0.001),
            peak_rss_bytes: Some(file_bytes + 12_000_000),
            gpu_bytes: None,
        },
    }
}
