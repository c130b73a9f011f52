//! The columns of the tables for people: one list, shown in a terminal, in Markdown and in HTML.

use super::number::{bytes, plain, rate, signed, significant};
use super::{AgainstBase, Estimate, Level, Report};
use crate::table::{Align, Table};

/// A column: what stands above it, how it is set, and the text of a cell.
pub(crate) struct Column {
    /// The heading, with the unit.
    pub(crate) title: &'static str,
    /// The heading explained, for a page that can show it on demand.
    pub(crate) about: &'static str,
    /// How cells are set.
    pub(crate) align: Align,
    /// Whether a terminal shows it too: lines there should stay short.
    in_terminal: bool,
    /// The cell of a level.
    pub(crate) cell: fn(&Level) -> String,
}

/// Every column, in order.
pub(crate) const COLUMNS: &[Column] = &[
    column("level", "the file's main tensor type", name).left().terminal(),
    column("size", "of the whole file, in decimal units", |l| bytes(l.file_bytes)).terminal(),
    column("bits/weight", "tensor bits per parameter, whole file", |l| plain(l.bits_per_weight, 2)).terminal(),
    column("in blocks", "tensor bits per parameter of the transformer blocks alone", |l| {
        plain(l.bits_per_weight_blocks, 2)
    })
    .terminal(),
    column("PPL", "perplexity, with the standard error of the text as a sample", |l| with_error(l.perplexity, 4))
        .terminal(),
    column("PPL - base", "difference of perplexities, with the standard error of the paired difference", |l| {
        against(l, |a| format!("{} +- {}", signed(a.perplexity_delta.value, 4), plain(a.perplexity_delta.se, 4)))
    }),
    column("PPL - base, %", "the difference as a share of the base's perplexity", |l| {
        against(l, |a| percent(a.perplexity_delta_percent))
    })
    .terminal(),
    column("mean KLD", "Kullback-Leibler divergence from the base's prediction, nats per token", |l| {
        against(l, |a| format!("{} +- {}", significant(a.kld_mean.value, 4), significant(a.kld_mean.se, 2)))
    })
    .terminal(),
    column("99 % KLD", "99 % of tokens have a smaller divergence", |l| against(l, |a| significant(a.kld_p99, 3)))
        .terminal(),
    column("max KLD", "the largest divergence at any token", |l| against(l, |a| significant(a.kld_max, 3))),
    column("same top, %", "tokens where level and base agree on the most likely next token", |l| {
        against(l, |a| with_error(Estimate { value: a.same_top.value * 100.0, se: a.same_top.se * 100.0 }, 2))
    })
    .terminal(),
    column("prefill tok/s", "prompt tokens per second", |l| rate(l.speed.prefill_tokens_per_second)).terminal(),
    column("decode tok/s", "generated tokens per second, one sequence", |l| rate(l.speed.decode_tokens_per_second))
        .terminal(),
    column("peak memory", "peak resident memory, or memory of the GPU, see the notes", |l| {
        l.speed.gpu_bytes.or(l.speed.peak_rss_bytes).map_or("-".into(), bytes)
    })
    .terminal(),
];

const fn column(title: &'static str, about: &'static str, cell: fn(&Level) -> String) -> Column {
    Column { title, about, align: Align::Right, in_terminal: false, cell }
}

impl Column {
    const fn left(mut self) -> Self {
        self.align = Align::Left;
        self
    }

    const fn terminal(mut self) -> Self {
        self.in_terminal = true;
        self
    }
}

fn name(level: &Level) -> String {
    if level.against_base.is_none() { format!("{} (base)", level.name) } else { level.name.clone() }
}

/// A difference with its error, marked where chance alone may have made it.
fn percent(estimate: Estimate) -> String {
    let mark = if estimate.may_be_chance() { "~" } else { "" };
    format!("{mark}{} +- {}", signed(estimate.value, 2), plain(estimate.se, 2))
}

fn with_error(estimate: Estimate, decimals: usize) -> String {
    format!("{} +- {}", plain(estimate.value, decimals), plain(estimate.se, decimals))
}

/// The base has no distance to itself.
fn against(level: &Level, cell: impl Fn(&AgainstBase) -> String) -> String {
    level.against_base.as_ref().map_or_else(|| "-".to_owned(), cell)
}

/// The whole table.
pub(crate) fn full_table(report: &Report) -> Table {
    table(report, |_| true)
}

/// The columns that matter most, for a terminal.
pub(crate) fn terminal_table(report: &Report) -> Table {
    table(report, |column| column.in_terminal)
}

fn table(report: &Report, wanted: impl Fn(&Column) -> bool) -> Table {
    let columns: Vec<&Column> = COLUMNS.iter().filter(|c| wanted(c)).collect();
    let mut table = Table::new(columns.iter().map(|c| (c.title, c.align)));
    for level in &report.levels {
        table.push(columns.iter().map(|c| (c.cell)(level)).collect());
    }
    table
}
