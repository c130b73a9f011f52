//! The answer at the top: from which step on quantization hurts.

use super::grid::{Grid, Model};
use super::onset::{GROWN, LIMIT_PERCENT, Onset, Outliers};
use pythia_show::html as escape;
use pythia_show::number::{plain, signed, significant};
use pythia_show::plot::table;

/// An extreme in between is told if it is this many times beyond both ends.
const NOTABLE: f64 = 1.25;

/// Sentences, and for several models a table.
pub(super) struct Answer {
    pub(super) sentences: Vec<String>,
    /// HTML; empty for one model.
    pub(super) table: String,
}

impl Answer {
    pub(super) fn of(grid: &Grid<'_>, text: usize, outliers: &Outliers<'_>) -> Self {
        let names = grid.recipe_names();
        let onsets: Vec<Vec<Option<Onset>>> = (1..names.len())
            .map(|recipe| grid.models.iter().map(|model| Onset::of(grid, model, recipe, text, outliers)).collect())
            .collect();
        let mut sentences: Vec<String> = first_to_hurt(grid, &names[1..], &onsets).into_iter().collect();
        sentences.extend(learned(grid, text));
        for (name, of_level) in names[1..].iter().zip(&onsets) {
            let measured: Vec<(&Model<'_>, &Onset)> =
                grid.models.iter().zip(of_level).filter_map(|(model, onset)| Some((model, onset.as_ref()?))).collect();
            match &measured[..] {
                [] => {}
                [(_, onset)] if grid.models.len() == 1 => sentences.push(of_one(name, onset)),
                several => sentences.push(of_several(name, several)),
            }
        }
        let table = if grid.models.len() > 1 { onsets_table(grid, &names[1..], &onsets) } else { String::new() };
        Self { sentences, table }
    }
}

/// Which level hurts first, and when.
fn first_to_hurt(grid: &Grid<'_>, levels: &[String], onsets: &[Vec<Option<Onset>>]) -> Option<String> {
    let all = || levels.iter().zip(onsets).flat_map(|(level, of)| of.iter().flatten().map(move |onset| (level, onset)));
    all().next()?;
    let of = match &grid.models[..] {
        [_] => String::new(),
        models => format!(" in any of {} models", models.len()),
    };
    let Some(step) = all().filter_map(|(_, onset)| onset.hurts).min() else {
        return Some(format!(
            "No level certainly costs more than {LIMIT_PERCENT} % of perplexity at the last step{of}."
        ));
    };
    let mut first: Vec<&str> =
        all().filter(|(_, onset)| onset.hurts == Some(step)).map(|(level, _)| level.as_str()).collect();
    first.dedup();
    Some(format!(
        "Quantization begins to hurt at step {step}: from there on {} certainly cost{} more than {LIMIT_PERCENT} % of \
         perplexity, and no level does earlier{of}.",
        first.join(", "),
        if first.len() == 1 { "s" } else { "" }
    ))
}

/// What training does to the base.
fn learned(grid: &Grid<'_>, text: usize) -> Option<String> {
    let ends = |model: &Model<'_>| {
        let mut steps =
            model.points.iter().filter_map(|point| Some((point.of.step?, grid.perplexity(point, 0, text)?)));
        let first = steps.next()?;
        Some((first, steps.next_back().unwrap_or(first)))
    };
    let number = |value| significant(value, 4);
    match &grid.models[..] {
        [model] => {
            let ((first, from), (last, to)) = ends(model)?;
            Some(if first == last {
                format!("Only step {first} is measured: the base has a perplexity of {}.", number(from))
            } else {
                format!(
                    "The base's perplexity goes from {} at step {first} to {} at step {last}.",
                    number(from),
                    number(to)
                )
            })
        }
        models => {
            let at_end: Vec<(&str, f64)> =
                models.iter().filter_map(|model| Some((model.name, ends(model)?.1.1))).collect();
            let best = at_end.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
            let worst = at_end.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
            Some(format!(
                "At the last step, the base's perplexity is between {} ({}) and {} ({}).",
                number(best.1),
                best.0,
                number(worst.1),
                worst.0
            ))
        }
    }
}

fn of_one(name: &str, onset: &Onset) -> String {
    let Onset { first, last, last_percent, least, worst, grown, hurts, hurting } = onset;
    let mut out = match (hurts, hurting) {
        (Some(step), _) if *step == last.0 && first.0 != last.0 => {
            format!("{name}: costs more than {LIMIT_PERCENT} % of perplexity only at step {step}, the last")
        }
        (Some(step), _) if *step == first.0 => {
            format!("{name}: costs more than {LIMIT_PERCENT} % of perplexity at every step")
        }
        (Some(step), _) => format!("{name}: costs more than {LIMIT_PERCENT} % of perplexity from step {step} on"),
        (None, (0, _)) => {
            format!("{name}: at no step does it certainly cost more than {LIMIT_PERCENT} % of perplexity")
        }
        (None, (n, all)) => format!(
            "{name}: certainly costs more than {LIMIT_PERCENT} % of perplexity at {n} of {all} steps, but not at the last"
        ),
    };
    let percent = match last_percent {
        of if of.value.is_finite() && of.se.is_finite() => {
            format!(" ({} +- {} % at step {})", signed(of.value, 2), plain(of.se, 2), last.0)
        }
        of if of.value.is_finite() => format!(" ({} % at step {})", signed(of.value, 2), last.0),
        _ => String::new(),
    };
    out += &percent;
    let number = |value| significant(value, 3);
    if first.0 == last.0 {
        out += &format!(". Damage (mean KLD): {}.", number(last.1));
        return out;
    }
    out += &format!(". Damage (mean KLD) goes from {} to {}", number(first.1), number(last.1));
    match grown {
        Some(step) => out += &format!("; from step {step} on it is at least {GROWN} times the first"),
        None => out += &format!("; at the end it is less than {GROWN} times the first"),
    }
    for (what, extreme, is_beyond) in [
        ("smallest", least, least.1 < first.1.min(last.1) / NOTABLE),
        ("largest", worst, worst.1 > first.1.max(last.1) * NOTABLE),
    ] {
        if is_beyond {
            out += &format!("; it is {what} at step {}: {}", extreme.0, number(extreme.1));
        }
    }
    out + "."
}

fn of_several(name: &str, measured: &[(&Model<'_>, &Onset)]) -> String {
    let mut hurts: Vec<(u64, &str)> =
        measured.iter().filter_map(|(model, onset)| Some((onset.hurts?, model.name))).collect();
    hurts.sort_unstable();
    let all = measured.len();
    let mut out = match &hurts[..] {
        [] => {
            format!("{name}: in no model does it certainly cost more than {LIMIT_PERCENT} % of perplexity at the end")
        }
        [(step, model)] => {
            format!(
                "{name}: costs more than {LIMIT_PERCENT} % of perplexity in 1 of {all} models, {model}, from step {step} on"
            )
        }
        several => {
            let (first, last) = (several[0], several[several.len() - 1]);
            let middle = several[(several.len() - 1) / 2].0;
            let costs =
                format!("{name}: costs more than {LIMIT_PERCENT} % of perplexity in {} of {all} models", several.len());
            if first.0 == last.0 {
                format!("{costs}, from step {} on", first.0)
            } else {
                format!(
                    "{costs}, first from step {} on ({}), last from step {} on ({}); in half of them by step {middle}",
                    first.0, first.1, last.0, last.1
                )
            }
        }
    };
    let least = measured.iter().min_by(|a, b| a.1.last.1.total_cmp(&b.1.last.1));
    let most = measured.iter().max_by(|a, b| a.1.last.1.total_cmp(&b.1.last.1));
    if let (Some(least), Some(most)) = (least, most) {
        let number = |value| significant(value, 2);
        out += &format!(
            ". Damage (mean KLD) at the last step: {} ({}) to {} ({})",
            number(least.1.last.1),
            least.0.name,
            number(most.1.last.1),
            most.0.name
        );
    }
    out + "."
}

/// A row per model, a column per level.
fn onsets_table(grid: &Grid<'_>, levels: &[String], onsets: &[Vec<Option<Onset>>]) -> String {
    let heads = std::iter::once("model").chain(levels.iter().map(String::as_str)).map(|head| (head, ""));
    let step = |step: Option<u64>| step.map_or("never".to_owned(), |step| step.to_string());
    let cell = |onset: &Option<Onset>| match onset {
        None => "-".to_owned(),
        Some(onset) => format!(
            "{}<span class=\"se\">{} &middot; {}</span>",
            step(onset.hurts),
            step(onset.grown),
            significant(onset.last.1, 2)
        ),
    };
    let rows = grid.models.iter().enumerate().map(|(m, model)| {
        std::iter::once(escape(model.name)).chain(onsets.iter().map(|of_level| cell(&of_level[m]))).collect()
    });
    format!(
        "<details><summary>By model</summary>\n<p class=\"note\">First step from which on a level certainly costs more than {LIMIT_PERCENT} % of perplexity. Below: \
         first step from which on its damage is at least {GROWN} times that of the first step, and its damage at the last \
         step (mean KLD, nats per token).</p>\n{}</details>\n",
        table("Where quantization begins to hurt", "", heads, rows)
    )
}
