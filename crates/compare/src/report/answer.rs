//! Answers to the most common questions about the table, a sentence each.
//!
//! - **Good enough** is the smallest level whose perplexity is at most [`LIMIT_PERCENT`] above the base's. The standard
//!   error of the paired difference decides how certain that is: two standard errors on either side are possible.
//! - **The knee** is a point of the curve of log KLD over size. The curve consists of the levels smaller than the base
//!   that no smaller or equal file beats. The knee is the level furthest below the straight line from the smallest to
//!   the largest. Below it, a byte saved costs more on average than above it. A curve needs at least [`LEAST_LEVELS`]
//!   levels, and a nearly straight curve has no knee.
//! - Of several files of one level and size, only the one with the smallest divergence counts for these two.
//! - **What fits** is the level with the smallest divergence among those whose [`Memory`] is at most the given size.

use super::{Entry, Estimate, SideBySide};
use pythia_show::number::{bytes, plain, signed};
use serde::Serialize;

/// Allowed increase of perplexity over the base's.
pub(super) const LIMIT_PERCENT: f64 = 1.0;
/// Standard errors on either side that may be chance.
const CHANCE: f64 = 2.0;
/// Least distance of the knee below the line, as a share of the height of the curve. The levels of one family of
/// formats deviate from a straight line by about half as much.
const LEAST_BEND: f64 = 0.05;
/// Least number of levels on a curve for a knee.
const LEAST_LEVELS: usize = 5;
/// Common memory sizes, in GB. If no size is requested, those that separate levels are reported.
const USUAL_SIZES: [u64; 8] = [1, 2, 4, 8, 16, 24, 32, 64];

/// The answers, as data and in words.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// One or two sentences for each of the following.
    pub sentences: Vec<String>,
    /// The smallest level that is good enough, if there is one.
    pub good_enough: Option<GoodEnough>,
    /// Name of the level at the knee. `None` if the curve has no knee, or fewer than `LEAST_LEVELS` levels.
    pub knee: Option<String>,
    /// An entry per size of memory.
    pub fits: Vec<Fit>,
}

/// A level at most `LIMIT_PERCENT` above the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoodEnough {
    /// Its name.
    pub level: String,
    /// The allowed increase over the base, in percent.
    pub limit_percent: f64,
    /// Whether it is still good enough with two standard errors more.
    pub is_certain: bool,
    /// The smallest level for which that is certain; may be the same.
    pub certain: Option<String>,
    /// A smaller level for which it is possible.
    pub possible: Option<String>,
}

/// The best level for a size of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// The size.
    pub memory_bytes: u64,
    /// Name of the best level that fits, if one does.
    pub level: Option<String>,
    /// Memory of that level, or of the smallest level if none fits.
    pub needed_bytes: u64,
}

impl Answer {
    /// Answers for the base and its levels. `sizes` are sizes of memory in bytes; if empty, common sizes that separate
    /// levels are used.
    pub fn of(entries: &[Entry], sizes: &[u64]) -> Self {
        let Some(base) = entries.iter().find(|entry| entry.against_base.is_none()) else { return Self::default() };
        let mut answer = Self::default();
        let best = best_of_each_size(entries);
        answer.judge(base, &best);
        answer.bend(base, &best);
        answer.fill(entries, sizes);
        answer
    }

    /// With the sentences about series before all others.
    #[must_use]
    pub fn with_series(mut self, series: Option<&SideBySide>) -> Self {
        self.sentences.splice(0..0, series.into_iter().flat_map(SideBySide::sentences));
        self
    }

    /// Finds the smallest level that is good enough.
    fn judge(&mut self, base: &Entry, entries: &[&Entry]) {
        let mut judged: Vec<(&Entry, Estimate)> = entries
            .iter()
            // A file that is not smaller than the base saves nothing.
            .filter(|entry| entry.file_bytes < base.file_bytes)
            .filter_map(|entry| Some((*entry, percent(entry)?)))
            .collect();
        judged.sort_by_key(|(entry, _)| entry.file_bytes);
        let upper = |e: Estimate| e.value + CHANCE * e.se;
        let lower = |e: Estimate| e.value - CHANCE * e.se;
        let certain = judged.iter().find(|(_, e)| upper(*e) <= LIMIT_PERCENT);
        let Some(at) = judged.iter().position(|(_, e)| e.value <= LIMIT_PERCENT) else {
            let nearest = judged.iter().min_by(|a, b| a.1.value.total_cmp(&b.1.value));
            self.sentences.extend(nearest.map(|(entry, e)| {
                let chance = if lower(*e) <= LIMIT_PERCENT { "; this text cannot tell that from 1 %" } else { "" };
                format!(
                    "No level's perplexity is within {LIMIT_PERCENT} % of {}'s. {} comes nearest, {} % above it{chance}.",
                    base.name,
                    entry.name,
                    with_error(*e)
                )
            }));
            return;
        };
        let (entry, e) = judged[at];
        let possible = judged[..at].iter().rfind(|(_, e)| lower(*e) <= LIMIT_PERCENT);
        let answer = GoodEnough {
            level: entry.name.clone(),
            limit_percent: LIMIT_PERCENT,
            is_certain: upper(e) <= LIMIT_PERCENT,
            certain: certain.map(|(entry, _)| entry.name.clone()),
            possible: possible.map(|(entry, _)| entry.name.clone()),
        };
        let mut sentence = format!(
            "Smallest level with a perplexity within {LIMIT_PERCENT} % of {}'s: {} ({} %), {} instead of {}.",
            base.name,
            entry.name,
            with_error(e),
            bytes(entry.file_bytes),
            bytes(base.file_bytes)
        );
        if !answer.is_certain {
            sentence += " The text is too short to be certain";
            sentence += &match certain {
                Some((entry, e)) => format!("; it is certain for {} ({} %).", entry.name, with_error(*e)),
                None => " for any level.".to_owned(),
            };
        }
        if let Some((entry, e)) = possible {
            let (name, size) = (&entry.name, bytes(entry.file_bytes));
            sentence +=
                &format!(" {name} ({} %, {size}) may be within it too; a longer text would show.", with_error(*e));
        }
        self.sentences.push(sentence);
        self.good_enough = Some(answer);
    }

    /// Finds the knee.
    fn bend(&mut self, base: &Entry, entries: &[&Entry]) {
        let curve = frontier(base, entries);
        let [first, .., last] = &curve[..] else { return };
        if curve.len() < LEAST_LEVELS {
            return;
        }
        let bends = below_chord(&curve);
        let Some((entry, bend)) = bends.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
        if *bend >= LEAST_BEND {
            self.knee = Some(entry.name.clone());
            self.sentences.push(format!(
                "Knee of the curve: {} ({}). Below this size, a byte saved costs more divergence, on average, than above \
                 it. (In log KLD over size, it is the level furthest below the straight line from {} to {}.)",
                entry.name,
                bytes(entry.file_bytes),
                first.name,
                last.name
            ));
        } else if bends.iter().all(|(_, bend)| bend.abs() < LEAST_BEND) {
            self.sentences.push(format!(
                "The curve has no knee between {} and {}: each byte saved raises the divergence by about the same factor.",
                first.name, last.name
            ));
        }
    }

    /// Finds what fits.
    fn fill(&mut self, entries: &[Entry], sizes: &[u64]) {
        let n_tokens = entries.iter().map(|entry| entry.memory.context_tokens).max().unwrap_or(0);
        let fits = if sizes.is_empty() { telling(entries) } else { sizes.iter().map(|&n| fit(entries, n)).collect() };
        for fit in &fits {
            let (size, needed) = (bytes(fit.memory_bytes), bytes(fit.needed_bytes));
            self.sentences.push(match &fit.level {
                Some(name) => {
                    format!(
                        "Best level that fits into {size} of memory with {n_tokens} tokens of context: {name} ({needed})."
                    )
                }
                None => format!(
                    "No level fits into {size} of memory with {n_tokens} tokens of context; the smallest needs {needed}."
                ),
            });
        }
        self.fits = fits;
    }
}

/// Increase of perplexity over the base's in percent, with the standard error of the paired difference. `None` for the
/// base, and for a level without a finite value.
pub(super) fn percent(entry: &Entry) -> Option<Estimate> {
    let percent = entry.against_base.as_ref()?.perplexity_delta_percent;
    (percent.value.is_finite() && percent.se.is_finite()).then_some(percent)
}

fn with_error(percent: Estimate) -> String {
    format!("{} +- {}", signed(percent.value, 2), plain(percent.se, 2))
}

fn kld(entry: &Entry) -> Option<f64> {
    entry.against_base.as_ref().map(|against| against.kld_mean.value)
}

/// The entries without those that a better one of the same level and size replaces. Files of a level that are rounded in
/// other ways have the same tensors in size, and differ by what their headers say of it.
fn best_of_each_size(entries: &[Entry]) -> Vec<&Entry> {
    /// What headers may add, as a share of the file.
    const HEADERS: f64 = 0.001;
    let is_replaced = |entry: &Entry| {
        entries.iter().any(|other| {
            let ratio = other.file_bytes as f64 / entry.file_bytes as f64;
            other.level == entry.level
                && (ratio - 1.0).abs() < HEADERS
                && kld(other) < kld(entry)
                && kld(other).is_some()
        })
    };
    entries.iter().filter(|entry| !is_replaced(entry)).collect()
}

/// The curve: levels smaller than the base, with some divergence, that no smaller or equal file beats. Smallest first.
fn frontier<'l>(base: &Entry, entries: &[&'l Entry]) -> Vec<&'l Entry> {
    let diverges = |entry: &Entry| kld(entry).is_some_and(|kld| kld.is_finite() && kld > 0.0);
    let usable = |entry: &&&Entry| entry.file_bytes < base.file_bytes && diverges(entry);
    let mut sorted: Vec<&Entry> = entries.iter().filter(usable).copied().collect();
    sorted.sort_by(|a, b| a.file_bytes.cmp(&b.file_bytes).then(kld(a).partial_cmp(&kld(b)).expect("no NaN is left")));
    let mut curve: Vec<&Entry> = Vec::new();
    for entry in sorted {
        if curve.last().is_none_or(|last| kld(entry) < kld(last)) {
            curve.push(entry);
        }
    }
    curve
}

/// Distance of each inner level below the line between the ends, in log KLD over size; negative above it. Both axes are
/// scaled to 0..1, so that units and the ratio of the axes do not matter.
fn below_chord<'l>(curve: &[&'l Entry]) -> Vec<(&'l Entry, f64)> {
    let [first, between @ .., last] = curve else { return Vec::new() };
    let log = |entry: &Entry| kld(entry).map_or(f64::NAN, f64::ln);
    let (low, high) = (log(last), log(first));
    let width = last.file_bytes as f64 - first.file_bytes as f64;
    let below = between.iter().map(|entry| {
        let x = (entry.file_bytes as f64 - first.file_bytes as f64) / width;
        let y = (log(entry) - low) / (high - low);
        (*entry, 1.0 - x - y)
    });
    below.collect()
}

/// The best level that takes at most `memory_bytes`.
fn fit(entries: &[Entry], memory_bytes: u64) -> Fit {
    let total = |entry: &Entry| entry.memory.total_bytes(entry.file_bytes);
    // The base has no distance to itself.
    let distance = |entry: &Entry| kld(entry).unwrap_or(0.0);
    let fitting = entries.iter().filter(|entry| total(entry) <= memory_bytes);
    let best = fitting.min_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.file_bytes.cmp(&b.file_bytes)));
    let least = entries.iter().map(total).min().unwrap_or(0);
    Fit { memory_bytes, level: best.map(|entry| entry.name.clone()), needed_bytes: best.map_or(least, total) }
}

/// The common sizes into which only some levels fit, one for each best level.
fn telling(entries: &[Entry]) -> Vec<Fit> {
    let largest = entries.iter().map(|entry| entry.memory.total_bytes(entry.file_bytes)).max().unwrap_or(0);
    let some = USUAL_SIZES.into_iter().map(|size| size * 1_000_000_000).filter(|&size| size < largest);
    let mut fits: Vec<Fit> = some.map(|size| fit(entries, size)).filter(|fit| fit.level.is_some()).collect();
    fits.dedup_by(|later, earlier| later.level == earlier.level);
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Memory, sample};

    /// Levels of a model whose base takes 100 MB: size in MB, percent above the base with its error, KLD.
    fn entries(rows: &[(&str, u64, f64, f64, f64)]) -> Vec<Entry> {
        let mut entries = sample::report(2).entries;
        let (base, entry) = (entries.remove(0), entries.remove(0));
        let rows = rows.iter().map(|&(name, megabytes, percent, se, kld)| {
            let mut entry = Entry { name: name.into(), file_bytes: megabytes * 1_000_000, ..entry.clone() };
            let against = entry.against_base.as_mut().unwrap();
            against.perplexity_delta_percent = Estimate { value: percent, se };
            against.kld_mean.value = kld;
            entry.memory = Memory { context_tokens: 2048, context_bytes: 50_000_000 };
            entry
        });
        let rows: Vec<Entry> = rows.collect();
        let memory = Memory { context_tokens: 2048, context_bytes: 50_000_000 };
        let base = Entry { name: "F16".into(), file_bytes: 100_000_000, memory, ..base };
        std::iter::once(base).chain(rows).collect()
    }

    #[test]
    fn the_smallest_level_within_a_percent_is_found_with_its_certainty() {
        let sure = [("Q8_0", 50, 0.01, 0.02, 1e-4), ("Q4_0", 30, 0.8, 0.05, 1e-2), ("Q2_K", 20, 7.0, 0.2, 1e-1)];
        let answer = Answer::of(&entries(&sure), &[]);
        let good = answer.good_enough.unwrap();
        assert_eq!((good.level.as_str(), good.is_certain, good.certain.as_deref()), ("Q4_0", true, Some("Q4_0")));
        assert_eq!(good.possible, None);
        assert_eq!(
            answer.sentences[0],
            "Smallest level with a perplexity within 1 % of F16's: Q4_0 (+0.80 +- 0.05 %), 30.0 MB instead of 100.0 MB."
        );

        let unsure = [("Q8_0", 50, 0.1, 0.2, 1e-4), ("Q4_0", 30, 0.9, 0.3, 1e-2), ("Q3_K", 25, 1.2, 0.3, 2e-2)];
        let answer = Answer::of(&entries(&unsure), &[]);
        let good = answer.good_enough.unwrap();
        assert_eq!((good.level.as_str(), good.is_certain), ("Q4_0", false));
        assert_eq!((good.certain.as_deref(), good.possible.as_deref()), (Some("Q8_0"), Some("Q3_K")));
        let sentence = &answer.sentences[0];
        assert!(sentence.contains("too short to be certain; it is certain for Q8_0 (+0.10 +- 0.20 %)"), "{sentence}");
        assert!(sentence.contains("Q3_K (+1.20 +- 0.30 %, 25.0 MB) may be within it too"), "{sentence}");
    }

    #[test]
    fn there_may_be_no_level_that_is_good_enough() {
        let answer = Answer::of(&entries(&[("Q4_0", 30, 3.0, 0.3, 1e-2), ("Q2_K", 20, 9.0, 0.3, 1e-1)]), &[]);
        assert_eq!(answer.good_enough, None);
        assert!(answer.sentences[0].contains("Q4_0 comes nearest, +3.00 +- 0.30 % above"), "{:?}", answer.sentences);
        // A level as large as the base saves nothing, and one without a number cannot be judged.
        let useless = entries(&[("F32", 200, 0.0, 0.0, 1e-6), ("odd", 20, f64::NAN, 0.1, f64::NAN)]);
        assert_eq!(Answer::of(&useless, &[]), Answer::default());
        assert_eq!(Answer::of(&[], &[1]), Answer::default());
    }

    #[test]
    fn the_knee_is_where_the_curve_bends() {
        let bent = [
            ("Q8_0", 80, 0.0, 0.1, 1e-4),
            ("Q6_K", 60, 0.0, 0.1, 2e-4),
            ("Q5_K", 50, 0.1, 0.1, 3e-4),
            ("beaten", 52, 0.1, 0.1, 4e-4),
            ("Q4_K", 40, 0.5, 0.1, 6e-3),
            ("Q3_K", 30, 1.5, 0.1, 1e-1),
        ];
        let answer = Answer::of(&entries(&bent), &[]);
        assert_eq!(answer.knee.as_deref(), Some("Q5_K"));
        let sentence = &answer.sentences[1];
        assert!(sentence.contains("Q5_K (50.0 MB)"), "{sentence}");
        assert!(sentence.contains("furthest below the straight line from Q3_K to Q8_0"), "{sentence}");
        // Four levels are too few to tell.
        assert_eq!(Answer::of(&entries(&bent[1..]), &[]).knee, None);
        assert_eq!(Answer::of(&entries(&bent[1..]), &[]).sentences.len(), 1);
        // A straight line in log KLD has none.
        let curve = |klds: [f64; 5]| {
            let sizes = [90, 80, 70, 60, 50];
            let rows: Vec<_> = std::iter::zip(["a", "b", "c", "d", "e"], std::iter::zip(sizes, klds))
                .map(|(name, (size, kld))| (name, size, 0.1, 0.1, kld))
                .collect();
            Answer::of(&entries(&rows), &[])
        };
        let answer = curve([1e-5, 1e-4, 1e-3, 1e-2, 1e-1]);
        assert_eq!(answer.knee, None);
        assert!(answer.sentences[1].starts_with("The curve has no knee between e and a"), "{:?}", answer.sentences);
        // Nothing is said of a curve that bends the other way, or of levels of one size.
        let hollow = curve([1e-5, 6e-2, 7e-2, 8e-2, 1e-1]);
        assert_eq!((hollow.knee, hollow.sentences.len()), (None, 1));
        let equal = [("a", 50, 0.0, 0.1, 1e-4), ("b", 50, 0.0, 0.1, 1e-3), ("c", 50, 0.1, 0.1, 1e-2)];
        assert_eq!(Answer::of(&entries(&equal), &[]).knee, None);
    }

    #[test]
    fn the_best_level_that_fits_is_the_nearest_to_the_base() {
        let entries =
            entries(&[("Q8_0", 50, 0.0, 0.1, 1e-4), ("Q4_1", 32, 0.9, 0.1, 2e-2), ("Q4_K", 30, 0.8, 0.1, 1e-2)]);
        let answer = Answer::of(&entries, &[1_000_000_000, 125_000_000, 101_000_000, 10_000_000]);
        let found: Vec<Option<&str>> = answer.fits.iter().map(|fit| fit.level.as_deref()).collect();
        let own = Memory::PROGRAM_BYTES;
        assert_eq!(answer.fits[0].needed_bytes, 150_000_000 + own);
        assert_eq!(found, [Some("F16"), Some("Q8_0"), Some("Q4_K"), None]);
        assert!(answer.sentences.last().unwrap().starts_with("No level fits into 10.0 MB"), "{:?}", answer.sentences);
        // Every level of a small model fits into every usual size: not worth a sentence.
        assert_eq!(Answer::of(&entries, &[]).fits, []);
    }

    #[test]
    fn of_files_of_a_size_the_best_counts() {
        let mut series = entries(&[
            ("Q4_0", 30_000, 0.8, 0.05, 1e-2),
            ("Q4_0 feedback", 30_001, 0.1, 0.05, 1e-3),
            ("Q3_K", 29_999, 0.9, 0.05, 2e-2),
        ]);
        series[0].file_bytes *= 1000;
        series[3].level = "Q3_K".into();
        let good = |entries: &[Entry]| Answer::of(entries, &[]).good_enough.unwrap().level;
        assert_eq!(good(&series), "Q3_K");
        assert_eq!(good(&series[..3]), "Q4_0 feedback");
        series[2].file_bytes *= 2;
        assert_eq!(good(&series[..3]), "Q4_0");
    }

    #[test]
    fn usual_sizes_are_answered_where_they_tell_levels_apart() {
        let mut entries = entries(&[("Q8_0", 50, 0.0, 0.1, 1e-4), ("Q4_0", 30, 0.9, 0.1, 1e-2)]);
        entries.iter_mut().for_each(|entry| entry.file_bytes *= 140);
        let fits = Answer::of(&entries, &[]).fits;
        let fits: Vec<_> = fits.iter().map(|fit| (fit.memory_bytes / 1_000_000_000, fit.level.as_deref())).collect();
        assert_eq!(fits, [(8, Some("Q8_0"))]);
    }
}
