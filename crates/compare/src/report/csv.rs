//! `report.csv`: a line per level, numbers in full, empty where the base has no distance to itself.

use super::{AgainstBase, Entry, Report, Tasks};
use pythia_show::{Cell, Csv, Quotes};

/// A field of text or of a number that may be missing.
enum Field {
    Text(fn(&Entry) -> &str),
    Number(fn(&Entry) -> Option<f64>),
    Distance(fn(&AgainstBase) -> f64),
}

const FIELDS: &[(&str, Field)] = &[
    ("level", Field::Text(|l| &l.name)),
    ("file", Field::Text(|l| &l.file)),
    ("file_bytes", Field::Number(|l| Some(l.file_bytes as f64))),
    ("bits_per_weight", Field::Number(|l| Some(l.bits_per_weight))),
    ("bits_per_weight_blocks", Field::Number(|l| Some(l.bits_per_weight_blocks))),
    ("perplexity", Field::Number(|l| Some(l.perplexity.value))),
    ("perplexity_se", Field::Number(|l| Some(l.perplexity.se))),
    ("perplexity_delta", Field::Distance(|a| a.perplexity_delta.value)),
    ("perplexity_delta_se", Field::Distance(|a| a.perplexity_delta.se)),
    ("perplexity_delta_percent", Field::Distance(|a| a.perplexity_delta_percent.value)),
    ("perplexity_delta_percent_se", Field::Distance(|a| a.perplexity_delta_percent.se)),
    ("kld_mean", Field::Distance(|a| a.kld_mean.value)),
    ("kld_mean_se", Field::Distance(|a| a.kld_mean.se)),
    ("kld_p99", Field::Distance(|a| a.kld_p99)),
    ("kld_max", Field::Distance(|a| a.kld_max)),
    ("same_top", Field::Distance(|a| a.same_top.value)),
    ("same_top_se", Field::Distance(|a| a.same_top.se)),
    ("prefill_tokens_per_second", Field::Number(|l| Some(l.speed.prefill_tokens_per_second))),
    ("prefill_min", Field::Number(|l| Some(l.speed.prefill_spread.min))),
    ("prefill_max", Field::Number(|l| Some(l.speed.prefill_spread.max))),
    ("decode_tokens_per_second", Field::Number(|l| Some(l.speed.decode_tokens_per_second))),
    ("decode_min", Field::Number(|l| Some(l.speed.decode_spread.min))),
    ("decode_max", Field::Number(|l| Some(l.speed.decode_spread.max))),
    ("peak_rss_bytes", Field::Number(|l| l.speed.peak_rss_bytes.map(|b| b as f64))),
    ("gpu_bytes", Field::Number(|l| l.speed.gpu_bytes.map(|b| b as f64))),
    ("type", Field::Text(|l| &l.level)),
    ("series", Field::Text(|l| l.series.as_deref().unwrap_or_default())),
    ("kld_of_first_series", Field::Number(|l| l.kld_of_first_series)),
];

/// The file's content.
pub(crate) fn render(report: &Report) -> String {
    let more = report.tasks.as_ref().map_or_else(Vec::new, Tasks::csv_names);
    let names = FIELDS.iter().map(|(name, _)| *name).chain(more.iter().map(String::as_str));
    let mut csv = Csv::new(names, Quotes::WhereNeeded);
    for entry in &report.entries {
        let more = report.tasks.iter().flat_map(|tasks| tasks.csv_cells(&entry.name));
        let more = more.map(|number| Cell::Value(number.map_or_else(String::new, |n| n.to_string())));
        csv.push(FIELDS.iter().map(|(_, field)| cell(entry, field)).chain(more));
    }
    csv.finish()
}

fn cell<'l>(entry: &'l Entry, field: &Field) -> Cell<'l> {
    let number = match field {
        Field::Text(text) => return Cell::Text(text(entry)),
        Field::Number(number) => number(entry),
        Field::Distance(number) => entry.against_base.as_ref().map(number),
    };
    Cell::Value(number.map_or_else(String::new, |n| n.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_line_has_every_field() {
        let mut report = sample::report(3);
        report.entries[1].file = "a,b\"c".into();
        let csv = render(&report);
        assert!(csv.contains("\"a,b\"\"c\""), "{csv}");
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1].split(',').count(), FIELDS.len());
        assert_eq!(lines[2].split(',').count(), FIELDS.len() + 1, "the quoted comma");
        assert!(lines[1].contains(",,"), "the base has no distance");
        let mean = report.entries[2].against_base.as_ref().unwrap().kld_mean.value;
        assert!(lines[3].split(',').any(|cell| cell.parse() == Ok(mean)), "numbers survive in full");
    }
}
