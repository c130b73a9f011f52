//! The forms a list of results is printed in.

use super::result::{Setup, TestResult, rate};
use super::stopwatch::{mean_and_sd, median};
use pythia_show::{Align, Cell, Csv, Quotes, Table, number};
use serde_json::Value;

/// A list of objects.
pub fn to_json(results: &[TestResult]) -> String {
    let list = Value::Array(results.iter().map(TestResult::to_json).collect());
    pythia_text::json(&format!("{list:#}\n"))
}

/// An object per line.
pub fn to_json_lines(results: &[TestResult]) -> String {
    results.iter().map(|result| pythia_text::json(&format!("{}\n", result.to_json()))).collect()
}

/// The columns of llama-bench's table, and how close each test came to the limit of the machine. What tells two tests
/// apart is not left out.
pub fn to_table(results: &[TestResult]) -> Table {
    let rank_of = |setting: fn(&Setup) -> String, rank| {
        let differs = results.windows(2).any(|pair| setting(&pair[0].setup) != setting(&pair[1].setup));
        if differs { 0 } else { rank }
    };
    let mut table = Table::new([
        ("model", Align::Left, 0),
        ("size", Align::Right, 0),
        ("params", Align::Right, 4),
        ("backend", Align::Left, rank_of(Setup::backend, 3)),
        ("threads", Align::Right, rank_of(|setup| setup.threads.to_string(), 2)),
        ("test", Align::Left, 0),
        ("t/s", Align::Right, 0),
        ("median t/s", Align::Right, 5),
        ("reached", Align::Right, 1),
        ("of limit", Align::Right, 0),
    ]);
    for result in results {
        let s = &result.setup;
        let samples = result.samples_ts();
        let (mean, sd) = mean_and_sd(&samples);
        table.push(vec![
            s.model_type.clone(),
            number::bytes(s.model_size),
            format!("{:.2} M", s.model_n_params as f64 / 1e6),
            s.backend(),
            s.threads.to_string(),
            result.test.name(),
            format!("{mean:.2} \u{b1} {sd:.2}"),
            format!("{:.2}", median(&samples)),
            rate(result.share.reached, result.share.unit, result.share.limit),
            format!("{:.0} %", result.share.percent()),
        ]);
    }
    table
}

/// Comma-separated values like llama-bench's: without the samples, every value in quotes.
pub fn to_csv(results: &[TestResult]) -> String {
    let Some(first) = results.first() else { return String::new() };
    let mut csv = Csv::new(first.fields().into_iter().map(|(name, _)| name), Quotes::Always);
    results.iter().for_each(|result| csv.push(result.fields().iter().map(|(_, value)| cell(value))));
    csv.finish()
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::String(text) => Cell::Text(text),
        // A number that is not finite.
        Value::Null => Cell::Value(String::new()),
        other => Cell::Value(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Test;
    use super::super::result::sample::result;
    use super::*;

    #[test]
    fn markdown_has_llama_bench_columns() {
        let text = to_table(&[result(Test::Prefill(512)), result(Test::Decode(128))]).to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        for column in ["model", "size", "params", "backend", "threads", "test", "t/s"] {
            assert!(lines[0].contains(column), "{column}");
        }
        assert!(lines[2].contains("pp512") && lines[2].contains("750.00 \u{b1} 353.55"), "{}", lines[2]);
        assert!(lines[3].contains("tg128") && lines[3].contains("25 %"), "{}", lines[3]);
    }

    #[test]
    fn machine_formats_agree() {
        let results = [result(Test::Prefill(512)), result(Test::Decode(128))];
        let list: Value = serde_json::from_str(&to_json(&results)).unwrap();
        let lines = to_json_lines(&results);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(list.as_array().unwrap(), &lines);
        let csv = to_csv(&results);
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.contains("\"a,b.gguf\""));
        assert_eq!(csv.lines().next().unwrap().split(',').count(), results[0].fields().len());
        let mut endless = result(Test::Decode(1));
        endless.share.reached = f64::INFINITY;
        assert!(to_csv(&[endless]).ends_with(",\"\",\"32.0\",\"GB/s\",\"\"\n"));
    }
}
