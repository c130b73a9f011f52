//! Levels that were rounded in several ways, side by side.

use super::Entry;
use pythia_show::number::{bytes, signed, significant};
use pythia_show::{Align, Table};
use serde::Serialize;

/// Mean KLD by level and series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideBySide {
    /// The ways to round, at least two. The others are compared with the first.
    pub series: Vec<String>,
    /// A row per level, the largest first.
    pub levels: Vec<LevelRow>,
}

/// A level in every series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelRow {
    /// Its type: `Q4_0`.
    pub level: String,
    /// Size of the first of its files.
    pub file_bytes: u64,
    /// In the order of [`SideBySide::series`]; `None` where a series has no file of its own.
    pub klds: Vec<Option<SeriesKld>>,
}

/// A level in one series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesKld {
    /// Name of its entry.
    pub name: String,
    /// Its mean KLD.
    pub kld: f64,
    /// As a multiple of that of the first series; `None` in that, and where it is 0 or missing.
    pub of_first: Option<f64>,
}

/// Percent that something of this ratio is above the whole.
fn percent(ratio: f64) -> f64 {
    100.0 * (ratio - 1.0)
}

/// A ratio with what it is in percent: `0.298 (-70.2 %)`.
fn with_percent(ratio: f64) -> String {
    format!("{} ({} %)", significant(ratio, 3), signed(percent(ratio), 1))
}

impl SideBySide {
    /// The line above its table.
    pub(super) const TITLE: &'static str = "Mean KLD by quantizer";

    /// The series of `entries`, those of `order` first. The entries get their ratios to the first series. `None` unless
    /// a level is in two series.
    pub(crate) fn of(entries: &mut [Entry], order: &[String]) -> Option<Self> {
        let mut series: Vec<String> = Vec::new();
        let present = || entries.iter().filter_map(|entry| entry.series.clone());
        let requested = order.iter().filter(|name| present().any(|other| other == **name)).cloned();
        for name in requested.chain(present()) {
            if !series.contains(&name) {
                series.push(name);
            }
        }
        let mut levels: Vec<LevelRow> = Vec::new();
        for entry in entries.iter() {
            let at = series.iter().position(|name| entry.series.as_ref() == Some(name));
            let (Some(at), Some(against)) = (at, &entry.against_base) else { continue };
            let index = levels.iter().position(|row| row.level == entry.level).unwrap_or_else(|| {
                let (level, klds) = (entry.level.clone(), vec![None; series.len()]);
                levels.push(LevelRow { level, file_bytes: entry.file_bytes, klds });
                levels.len() - 1
            });
            let cell = SeriesKld { name: entry.name.clone(), kld: against.kld_mean.value, of_first: None };
            // A second file of the same sort goes by its own name, in the other table.
            levels[index].klds[at].get_or_insert(cell);
        }
        for row in &mut levels {
            let first = row.klds[0].as_ref().map(|cell| cell.kld).filter(|kld| *kld > 0.0);
            for cell in row.klds.iter_mut().skip(1).flatten() {
                cell.of_first = first.map(|first| cell.kld / first).filter(|ratio| ratio.is_finite());
            }
        }
        let side_by_side = Self { series, levels };
        if !side_by_side.levels.iter().any(|row| row.klds.iter().flatten().count() > 1) {
            return None;
        }
        side_by_side.sort(entries);
        Some(side_by_side)
    }

    /// Gives the entries their ratios, and puts the files of a level behind each other.
    fn sort(&self, entries: &mut [Entry]) {
        let cells = || self.levels.iter().flat_map(|row| row.klds.iter().flatten());
        for entry in entries.iter_mut() {
            entry.kld_of_first_series = cells().find(|cell| cell.name == entry.name).and_then(|cell| cell.of_first);
        }
        // Levels keep their order, which is by size. Metadata make files of a level differ by a few bytes.
        let names: Vec<String> = entries.iter().map(|entry| entry.level.clone()).collect();
        let level = |entry: &Entry| names.iter().position(|name| *name == entry.level);
        let series = |entry: &Entry| self.series.iter().position(|name| entry.series.as_ref() == Some(name));
        entries.sort_by_cached_key(|entry| (level(entry), series(entry)));
    }

    /// Index of the series of an entry; the first for the base.
    pub(super) fn index(&self, entry: &Entry) -> usize {
        self.series.iter().position(|name| entry.series.as_ref() == Some(name)).unwrap_or(0)
    }

    /// A sentence per series after the first: how far below that it is.
    pub(super) fn sentences(&self) -> Vec<String> {
        let first = &self.series[0];
        let sentence = |(at, name): (usize, &String)| {
            let ratio = |row: &LevelRow| Some((row.level.clone(), row.klds[at].as_ref()?.of_first?));
            let mut ratios: Vec<(String, f64)> = self.levels.iter().filter_map(ratio).collect();
            ratios.retain(|(_, ratio)| *ratio > 0.0);
            ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
            match &ratios[..] {
                [] => None,
                [(level, ratio)] => {
                    Some(format!("{name}: mean KLD at {level} is {} of {first}'s.", with_percent(*ratio)))
                }
                [(best, least), .., (worst, most)] => {
                    let n = ratios.len();
                    let mean = (ratios.iter().map(|(_, ratio)| ratio.ln()).sum::<f64>() / n as f64).exp();
                    Some(format!(
                        "{name}: mean KLD is {} of {first}'s in the geometric mean of {n} levels, from {} at {best} to {} \
                         at {worst}.",
                        with_percent(mean),
                        with_percent(*least),
                        with_percent(*most)
                    ))
                }
            }
        };
        self.series.iter().enumerate().skip(1).filter_map(sentence).collect()
    }

    /// The headings of its table, with alignment and rank for leaving a column out.
    pub(super) fn headings(&self) -> Vec<(String, Align, u8)> {
        let first = &self.series[0];
        let mut headings = vec![("level".to_owned(), Align::Left, 0), ("size".to_owned(), Align::Right, 1)];
        for (at, name) in self.series.iter().enumerate() {
            headings.push((name.clone(), Align::Right, 0));
            if at > 0 {
                headings.push((format!("{name} / {first}"), Align::Right, 0));
            }
        }
        headings
    }

    /// The cells under [`headings`](Self::headings), a row per level.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let row = |row: &LevelRow| {
            let mut cells = vec![row.level.clone(), bytes(row.file_bytes)];
            for (at, cell) in row.klds.iter().enumerate() {
                cells.push(cell.as_ref().map_or("-".to_owned(), |cell| significant(cell.kld, 4)));
                if at > 0 {
                    let ratio = cell.as_ref().and_then(|cell| cell.of_first);
                    cells.push(ratio.map_or("-".to_owned(), with_percent));
                }
            }
            cells
        };
        self.levels.iter().map(row).collect()
    }

    /// The table for a terminal and Markdown.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(self.headings());
        self.rows().into_iter().for_each(|row| table.push(row));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn levels_stand_beside_what_they_are_in_other_series() {
        let report = sample::series();
        let side_by_side = report.side_by_side.as_ref().unwrap();
        assert_eq!(side_by_side.series, ["plain", "imatrix", "feedback"]);
        let levels: Vec<_> = side_by_side.levels.iter().map(|row| row.level.as_str()).collect();
        assert_eq!(levels, ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"]);
        let rows = side_by_side.rows();
        assert_eq!(rows[0], ["Q8_0", "7.5 MB", "0.0001160", "-", "-", "6.459e-5", "0.557 (-44.3 %)"]);
        assert_eq!(rows[4][4..], ["0.970 (-3.0 %)", "0.002587", "0.310 (-69.0 %)"]);
        // Levels of equal ratios may be named in any order.
        let start =
            "feedback: mean KLD is 0.337 (-66.3 %) of plain's in the geometric mean of 7 levels, from 0.310 (-69.0 %)";
        assert!(report.answer.sentences[1].starts_with(start), "{:?}", report.answer.sentences);
        assert!(report.answer.sentences[1].ends_with(" to 0.557 (-44.3 %) at Q8_0."), "{:?}", report.answer.sentences);
        assert!(report.answer.sentences[0].starts_with("imatrix: mean KLD is 0.970 (-3.0 %) of plain's"));
        let names: Vec<_> = report.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names[..6], ["F16", "Q8_0", "Q8_0 feedback", "Q6_K", "Q6_K imatrix", "Q6_K feedback"]);
        assert_eq!(report.entries[0].kld_of_first_series, None);
        assert_eq!(report.entries[5].kld_of_first_series, side_by_side.levels[1].klds[2].as_ref().unwrap().of_first);
    }

    #[test]
    fn there_are_no_series_where_no_level_is_in_two() {
        let mut report = sample::report(7);
        assert_eq!(SideBySide::of(&mut report.entries, &[]), None);
        // Some levels with an importance matrix, others without.
        report.entries[3].series = Some("imatrix".into());
        let before: Vec<String> = report.entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(SideBySide::of(&mut report.entries, &["imatrix".into()]), None);
        assert!(report.entries.iter().map(|entry| &entry.name).eq(&before));
        assert_eq!(SideBySide::of(&mut [], &["plain".into()]), None);
    }

    #[test]
    fn a_level_like_the_base_is_divided_by_nothing() {
        let mut report = sample::series();
        for entry in &mut report.entries {
            if let Some(against) = entry.against_base.as_mut().filter(|_| entry.level != "Q4_0") {
                against.kld_mean.value = if entry.series.as_deref() == Some("plain") { 0.0 } else { f64::NAN };
            }
        }
        let order = ["plain", "imatrix", "feedback"].map(String::from);
        let side_by_side = SideBySide::of(&mut report.entries, &order).unwrap();
        assert!(side_by_side.rows().iter().flatten().all(|cell| !cell.contains("inf") && !cell.contains("(NaN")));
        let sentences = side_by_side.sentences();
        assert_eq!(sentences[1], "feedback: mean KLD at Q4_0 is 0.310 (-69.0 %) of plain's.");
    }
}
