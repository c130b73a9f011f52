//! The columns of the tables for people: one list, shown in a terminal, in Markdown and in HTML.

use super::{AgainstBase, Entry, Estimate, Report, SideBySide, Tasks};
use pythia_show::number::{bytes, plain, rate, signed, significant};
use pythia_show::{Align, Table, Width, wrap};

/// A column: heading, alignment, and the text of a cell.
pub(crate) struct Column {
    /// The heading, with the unit.
    pub(crate) title: &'static str,
    /// Explanation of the heading, for a tooltip.
    pub(crate) about: &'static str,
    /// Alignment of the cells.
    align: Align,
    /// Rank for leaving it out in a narrow terminal; see [`pythia_show::Column`].
    rank: u8,
    /// Text of the cell of a level.
    pub(crate) cell: fn(&Entry) -> String,
    /// The same for a terminal, without less important errors.
    short: Option<fn(&Entry) -> String>,
}

/// Every column, in order: level, size, quality (the most telling figures first), speed, the rest.
pub(crate) const COLUMNS: &[Column] = &[
    column("level", "the file's main tensor type", name).left(),
    column("size", "size of the whole file, in decimal units", |l| bytes(l.file_bytes)),
    column("mean KLD", "Kullback-Leibler divergence from the base's prediction, nats per token", |l| {
        against(l, |a| format!("{} +- {}", significant(a.kld_mean.value, 4), significant(a.kld_mean.se, 2)))
    })
    .short(|l| against(l, |a| significant(a.kld_mean.value, 4))),
    column("PPL - base, %", "difference of perplexities in percent of the base's, with its paired error", |l| {
        against(l, |a| marked(a.perplexity_delta_percent))
    }),
    column("same top, %", "tokens where level and base agree on the most likely next token", |l| {
        against(l, |a| with_error(percent(a.same_top), 2))
    })
    .rank(2)
    .short(|l| against(l, |a| plain(percent(a.same_top).value, 2))),
    column("PPL", "perplexity, with its sampling error", |l| with_error(l.perplexity, 4))
        .rank(1)
        .short(|l| plain(l.perplexity.value, 3)),
    column("prefill t/s", "prompt tokens per second", |l| rate(l.speed.prefill_tokens_per_second)).rank(4),
    column("decode t/s", "generated tokens per second, one sequence", |l| rate(l.speed.decode_tokens_per_second)),
    column("peak memory", "peak resident memory, or memory of the GPU, see the notes", |l| {
        l.speed.gpu_bytes.or(l.speed.peak_rss_bytes).map_or("-".into(), bytes)
    })
    .rank(3),
    column("bits/weight", "tensor bits per parameter, whole file", |l| plain(l.bits_per_weight, 2)).rank(5),
    column("in blocks", "tensor bits per parameter of the transformer blocks alone", |l| {
        plain(l.bits_per_weight_blocks, 2)
    })
    .rank(7),
    column("99 % KLD", "99 % of tokens have a smaller divergence", |l| against(l, |a| significant(a.kld_p99, 3)))
        .rank(6),
    column("max KLD", "the largest divergence at any token", |l| against(l, |a| significant(a.kld_max, 3))).rank(8),
    column("PPL - base", "difference of perplexities, with the standard error of the paired difference", |l| {
        against(l, |a| format!("{} +- {}", signed(a.perplexity_delta.value, 4), plain(a.perplexity_delta.se, 4)))
    })
    .rank(9),
];

const fn column(title: &'static str, about: &'static str, cell: fn(&Entry) -> String) -> Column {
    Column { title, about, align: Align::Right, rank: 0, cell, short: None }
}

impl Column {
    const fn left(mut self) -> Self {
        self.align = Align::Left;
        self
    }

    const fn rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }

    const fn short(mut self, cell: fn(&Entry) -> String) -> Self {
        self.short = Some(cell);
        self
    }
}

fn name(entry: &Entry) -> String {
    if entry.against_base.is_none() { format!("{} (base)", entry.name) } else { entry.name.clone() }
}

/// A difference with its error, marked if it may be chance.
fn marked(percent: Estimate) -> String {
    let mark = if percent.may_be_chance() { "~" } else { "" };
    format!("{mark}{} +- {}", signed(percent.value, 2), plain(percent.se, 2))
}

fn with_error(estimate: Estimate, decimals: usize) -> String {
    format!("{} +- {}", plain(estimate.value, decimals), plain(estimate.se, decimals))
}

fn percent(share: Estimate) -> Estimate {
    Estimate { value: share.value * 100.0, se: share.se * 100.0 }
}

/// Empty for the base.
fn against(entry: &Entry, cell: impl Fn(&AgainstBase) -> String) -> String {
    entry.against_base.as_ref().map_or_else(|| "-".to_owned(), cell)
}

/// The whole table.
pub(crate) fn full_table(report: &Report) -> Table {
    table(report, |column| column.cell)
}

/// The output for a terminal: the answers, the columns that fit, and the footnotes.
pub fn terminal(report: &Report, width: Width) -> String {
    let sentences = report.answer.sentences.iter().map(|sentence| wrap(sentence, width, "  "));
    let mut text: String = sentences.collect();
    if !text.is_empty() {
        text.push('\n');
    }
    if let Some(series) = &report.side_by_side {
        let table = series.table().to_terminal(width).with_remark(width, "report.md has them");
        text += &format!("{}:\n{table}\n", SideBySide::TITLE);
    }
    if let Some(tasks) = &report.tasks {
        let table = tasks.table().to_terminal(width).with_remark(width, "report.md has them");
        text += &format!("{}:\n{table}\n", Tasks::TITLE);
    }
    let table = table(report, |column| column.short.unwrap_or(column.cell));
    text += &table.to_terminal(width).with_remark(width, "report.md has them");
    let notes = report.footnotes();
    if !notes.is_empty() {
        text.push('\n');
    }
    text + &notes.iter().map(|note| wrap(note, width, "  ")).collect::<String>()
}

fn table(report: &Report, cell: impl Fn(&Column) -> fn(&Entry) -> String) -> Table {
    let mut table = Table::new(COLUMNS.iter().map(|c| (c.title, c.align, c.rank)));
    for entry in &report.entries {
        table.push(COLUMNS.iter().map(|c| cell(c)(entry)).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use pythia_show::text_width;

    #[test]
    fn the_table_of_a_terminal_fits_it() {
        let report = sample::report(20);
        for columns in [60, 80, 100, 120, 200] {
            let text = terminal(&report, Width::screen(columns));
            assert!(text.lines().all(|line| text_width(line) <= columns), "{columns}: {text}");
            for column in ["level", "size", "mean KLD", "PPL - base, %"] {
                assert!(text.contains(column), "{column} is missing at {columns}: {text}");
            }
        }
        let usual = terminal(&report, Width::screen(80));
        assert!(usual.contains("  decode t/s") && usual.contains("(not shown at this width: prefill t/s,"), "{usual}");
        assert!(!terminal(&report, Width::screen(300)).contains("not shown"));
    }

    #[test]
    fn answers_come_first() {
        let text = terminal(&sample::report(7), Width::pipe());
        assert!(text.starts_with("Smallest level with a perplexity within 1 % of F16's: Q4_0 ("), "{text}");
    }
}
