//! A page about a sweep: learning curves, damage against training, and what looks wrong.
//!
//! One file of HTML without scripts, which opens no connection. It depends on the manifest and the results alone.

mod answer;
mod chart;
mod figures;
mod grid;
mod heat;
mod onset;
mod suspects;

use crate::manifest::Manifest;
use crate::result::CellResult;
use crate::spec::Measure;
use crate::status::{Count, Status};
use answer::Answer;
use grid::Grid;
use pythia_show::html as escape;
use pythia_show::number::{signed, significant};
use pythia_show::plot::{page, table};
use pythia_text::counted;
use std::collections::BTreeSet;
use suspects::Suspects;

const STYLE: &str = include_str!("report/style.css");
/// Items of one kind that are shown before the rest is folded away.
const SHOWN_ITEMS: usize = 5;

/// The page, from the results of [`Sweep::results`](crate::Sweep::results).
pub fn render(manifest: &Manifest, results: &[Option<CellResult>]) -> String {
    let grid = Grid::new(manifest, results);
    let status = Status::of(manifest, results, false);
    let suspects = Suspects::of(&grid);
    let mut body = format!("<p class=\"summary\">{}</p>\n", text(&summary(&grid, &status)));
    for measure in grid.texts() {
        let answer = Answer::of(&grid, measure, &suspects.outliers);
        let sentences: String = answer.sentences.iter().map(|s| format!("<li>{}</li>\n", text(s))).collect();
        if !sentences.is_empty() {
            let on = if grid.texts().len() > 1 { format!(" On {}", name(&grid, measure)) } else { String::new() };
            body += &format!(
                "<div class=\"answer\">\n<h2>When does quantization begin to hurt?{}</h2>\n<ul>\n{sentences}</ul>\n\
                 <p class=\"note\">{}</p>\n{}</div>\n",
                text(&on),
                text(CERTAIN),
                answer.table
            );
        }
    }
    body += &called_out(&suspects);
    for measure in grid.texts() {
        let on = text(&name(&grid, measure));
        body += &section(
            &format!("Learning and damage on {on}"),
            LEARNING,
            &figures::learning(&grid, measure, &suspects.outliers),
        );
        body += &section(&format!("Damage by step on {on}"), MAPS, &figures::maps(&grid, measure));
    }
    for measure in grid.tasks() {
        body += &section("Tasks", TASKS, &figures::tasks(&grid, measure));
    }
    body += &values(&grid);
    body += &notes(&grid);
    page(&title(&grid), STYLE, &body)
}

const CERTAIN: &str = "What a level costs is the difference of its perplexity from the base's at the same step. It is certain \
    where it is above the limit by two standard errors; differences are paired token by token.";
const LEARNING: &str = "The lower axis is the training step, the same in all plots; step 0 stands apart, because a logarithmic \
    axis has no place for 0. All models share the left axes. A curve per level, with its name at its end; rings mark checkpoints \
    that are called out. Damage is the mean KLD (Kullback-Leibler divergence): how far a level's predictions are from those \
    of the base at the same step, averaged over the tokens of the text. Lower is better in both.";
const MAPS: &str = "Darker (brighter on a dark page) is more damage. Colours are bands of equal ratios between the least and \
    the largest value of a map. Empty places have no result. Columns are the steps of the sweep, as wide as each other.";
const TASKS: &str = "One value per task: its first accuracy, or else its first value. All models share the axes.";

fn section(title: &str, note: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<h2>{title}</h2>\n<p class=\"note\">{}</p>\n{content}", text(note))
}

/// Text with signs for errors.
fn text(text: &str) -> String {
    escape(text).replace("+-", "&#177;")
}

fn name(grid: &Grid<'_>, measure: usize) -> String {
    match &grid.manifest.spec.measures[measure] {
        Measure::Text { text, n_ctx, .. } => format!("{} ({n_ctx} tokens per chunk)", text.name),
        Measure::Tasks { .. } => "tasks".to_owned(),
    }
}

fn title(grid: &Grid<'_>) -> String {
    match &grid.models[..] {
        [model] => format!("Quantization over training: {}", model.name),
        models => format!("Quantization over training: {}", counted(models.len(), "model")),
    }
}

fn summary(grid: &Grid<'_>, status: &Status) -> String {
    let Count { done, failed, to_do } = status.cells;
    let checkpoints = grid.models.iter().map(|model| model.points.len()).sum();
    let mut out = format!(
        "{} of {}, {}. ",
        counted(checkpoints, "checkpoint"),
        counted(grid.models.len(), "model"),
        counted(grid.n_recipes() - 1, "level") + " and the base"
    );
    out += &match (failed, to_do) {
        (0, 0) => format!("All {} are done.", counted(done, "cell")),
        _ => format!("{} done, {failed} failed, {to_do} to do: the page shows what is there.", counted(done, "cell")),
    };
    out
}

fn called_out(suspects: &Suspects<'_>) -> String {
    if suspects.found.is_empty() {
        return format!(
            "<div class=\"suspects\">\n<h2>Nothing looks wrong</h2>\n<p class=\"note\">{}</p>\n</div>\n",
            text(&suspects::rule())
        );
    }
    let item = |item: &String| format!("<li>{}</li>\n", text(item));
    let part = |suspicion: &suspects::Suspicion| {
        let (shown, folded) = suspicion.items.split_at(suspicion.items.len().min(SHOWN_ITEMS));
        let shown: String = shown.iter().map(item).collect();
        let rest = if folded.is_empty() {
            String::new()
        } else {
            let all: String = folded.iter().map(item).collect();
            format!("<details><summary>{} more</summary>\n<ul>\n{all}</ul>\n</details>\n", folded.len())
        };
        format!("<h3>{}</h3>\n<ul>\n{shown}</ul>\n{rest}", text(&suspicion.title))
    };
    let parts: String = suspects.found.iter().map(part).collect();
    format!(
        "<div class=\"suspects\">\n<h2>Look at these checkpoints</h2>\n{parts}<p class=\"note\">{}</p>\n</div>\n",
        text(&suspects::rule())
    )
}

/// All values on texts: a table per model.
fn values(grid: &Grid<'_>) -> String {
    let mut out = String::new();
    for measure in grid.texts() {
        for model in &grid.models {
            let rows: Vec<Vec<String>> = model.points.iter().map(|point| row(grid, point, measure)).collect();
            let names = grid.recipe_names();
            let about = |i: usize| {
                if i == 0 { "perplexity" } else { "mean KLD; below, perplexity above the base's in percent" }
            };
            let heads = std::iter::once(("checkpoint".to_owned(), ""))
                .chain(names.into_iter().enumerate().map(|(i, n)| (n, about(i))));
            let title = format!("{} on {}", model.name, name(grid, measure));
            out += &format!(
                "<details><summary>{}</summary>\n{}</details>\n",
                text(&title),
                table(&title, "", heads, rows)
            );
        }
    }
    let note = "The base has its perplexity with the standard error of the text as a sample, which affects all levels alike. \
        Levels have the mean KLD from the base, and the difference of their perplexity from the base's in percent.";
    section("All values", note, &out)
}

fn row(grid: &Grid<'_>, point: &grid::Point<'_>, measure: usize) -> Vec<String> {
    let cell = |recipe: usize| {
        let Some(result) = grid.result(point, recipe, measure) else { return String::new() };
        if let Some(failed) = result.failed() {
            return format!("failed<span class=\"se\">{}</span>", failed.class.name());
        }
        let Some(score) = grid.score(point, recipe, measure) else { return String::new() };
        let (first, second) = match score.against_base {
            None => {
                let of = score.perplexity;
                (significant(of.value, 5), format!("+- {}", significant(of.se, 2)))
            }
            Some(against) => {
                let of = against.perplexity_delta_percent;
                (significant(against.kld_mean.value, 3), format!("{} %", signed(of.value, 2)))
            }
        };
        format!("{first}<span class=\"se\">{}</span>", text(&second))
    };
    std::iter::once(escape(&point.of.revision)).chain((0..grid.n_recipes()).map(cell)).collect()
}

/// What was measured, and with what.
fn notes(grid: &Grid<'_>) -> String {
    let spec = &grid.manifest.spec;
    let mut items: Vec<String> = vec![format!("Planned by {}.", grid.manifest.program)];
    let all = |of: fn(&CellResult) -> &str| {
        let values: BTreeSet<&str> = grid.results().map(of).filter(|value| !value.is_empty()).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    let programs = all(|result| &result.run.program);
    if !programs.is_empty() {
        let hosts: BTreeSet<&str> = grid.results().map(|result| result.run.host.as_str()).collect();
        items.push(format!(
            "Computed by {programs} on {} ({}; {}); the first group was begun at {}, the last one at {}.",
            counted(hosts.len(), "machine"),
            all(|result| &result.run.device),
            all(|result| &result.run.isa),
            grid.results().map(|result| result.run.started.as_str()).min().unwrap_or("-"),
            grid.results().map(|result| result.run.started.as_str()).max().unwrap_or("-"),
        ));
    }
    for measure in &spec.measures {
        items.push(match measure {
            Measure::Text { text, n_ctx, max_chunks } => format!(
                "{}: {} bytes, SHA-256 {}; chunks of {n_ctx} tokens, of which the second half is scored{}.",
                text.name,
                text.bytes,
                text.sha256,
                max_chunks.map_or(String::new(), |n| format!(", only the first {n}"))
            ),
            Measure::Tasks { names, shots, limit, sha256, .. } => format!(
                "Tasks {}{}{}; SHA-256 of prompts, choices and answers {sha256}.",
                names.join(", "),
                shots.map_or(String::new(), |n| format!(", {}", counted(n, "shot"))),
                limit.map_or(String::new(), |n| format!(", only {n} documents each"))
            ),
        });
    }
    let levels: Vec<String> = spec.recipes[1..].iter().map(|r| format!("{} ({})", r.level, r.quantizer)).collect();
    if !levels.is_empty() {
        items.push(format!("Levels, and how they are rounded: {}.", levels.join(", ")));
    }
    items.push(format!(
        "The base has {}; activations in products with quantized weights: {}; GELU: {}.",
        spec.base_level.as_ref().map_or("the type of the checkpoint".to_owned(), |level| format!("the level {level}")),
        spec.activations,
        spec.gelu.as_deref().unwrap_or("as the checkpoint says")
    ));
    if let Some(calibration) = &spec.calibration {
        items.push(format!("Calibrated on {}, SHA-256 {}.", calibration.name, calibration.sha256));
    }
    let items: String = items.iter().map(|item| format!("<li>{}</li>\n", text(item))).collect();
    format!("<h2>What was measured</h2>\n<ul>\n{items}</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Missing;
    use crate::result::ErrorClass;
    use crate::{Sweep, sample};

    fn check(page: &str) {
        for element in
            ["html", "main", "table", "figure", "svg", "details", "div", "ul", "li", "tr", "td", "th", "p", "h3"]
        {
            let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        for wrong in ["http:", "https:", "<script", "<link", "@import", "url(", "src=", "NaN", "\"inf", "-inf"] {
            assert!(!page.contains(wrong), "{wrong}");
        }
        let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "ids are unique");
    }

    #[test]
    fn one_model_has_its_curves_wide_and_narrow() {
        let manifest = sample::manifest(&["pythia-70m"], &[0, 1, 2, 4, 8, 64, 512, 1000], 4, true);
        let page = render(&manifest, &sample::results(&manifest));
        check(&page);
        // Perplexity, damage, a map, two tasks.
        assert_eq!(page.matches("<svg").count(), 2 * 5);
        assert!(
            page.contains("Nothing looks wrong") && page.contains("Q2_K: costs more than 1 % of perplexity from step")
        );
    }

    #[test]
    fn the_whole_suite_is_a_few_megabytes() {
        let names: Vec<String> = (0..16).map(|i| format!("pythia-{}m", 70 * (i + 1))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let manifest = sample::manifest(&names, &sample::pythia_steps(), 7, false);
        let page = render(&manifest, &sample::results(&manifest));
        check(&page);
        assert!(page.len() < 4_000_000, "{}", page.len());
        assert_eq!(page.matches("<h3>pythia-").count(), 16);
    }

    #[test]
    fn little_is_enough() {
        for (steps, levels) in [(&[0][..], 2), (&[1000], 0), (&[0, 1], 0), (&[5, 6], 1)] {
            let manifest = sample::manifest(&["pythia-70m"], steps, levels, false);
            let mut results = sample::results(&manifest);
            check(&render(&manifest, &results));
            results.iter_mut().for_each(|result| *result = None);
            check(&render(&manifest, &results));
        }
        let mut manifest = sample::manifest(&["a", "b"], &[0], 1, true);
        manifest.groups.iter_mut().for_each(|group| group.checkpoints[0].step = None);
        check(&render(&manifest, &sample::results(&manifest)));
        manifest.groups.clear();
        manifest.cells.clear();
        check(&render(&manifest, &[]));
    }

    #[test]
    fn names_and_numbers_do_no_harm() {
        let evil = "</title><script>alert(1)</script><b>\u{202e}";
        let mut manifest = sample::manifest(&[evil, "pythia-70m"], &[0, 1, 2, 4], 2, true);
        manifest.program = evil.into();
        manifest.spec.recipes[1].level = evil.into();
        let of = || evil.to_owned();
        manifest.missing.push(Missing { model: of(), revision: of(), reason: of() });
        manifest.groups[0].checkpoints[0].warning = Some(of());
        manifest.groups[1].checkpoints[0].revision = of();
        let mut results = sample::results(&manifest);
        results[4] = Some(sample::failed(&manifest, &manifest.cells[4], ErrorClass::System, evil));
        for result in results.iter_mut().skip(8).flatten() {
            result.run.host = of();
            let crate::Outcome::Done(done) = &mut result.outcome else { continue };
            let Some(score) = &mut done.text else { continue };
            (score.nll_sum, score.perplexity.value) = (f64::NAN, f64::INFINITY);
            if let Some(against) = &mut score.against_base {
                against.kld_mean.value = f64::NAN;
                against.perplexity_delta_percent.value = f64::NAN;
            }
        }
        let page = render(&manifest, &results);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains('\u{202e}'));
        let page = page.replace(">nan<", "><").replace("nan %", "").replace("&#177; nan", "").replace(">inf<", "><");
        check(&page);
    }

    /// To look at: set `PYTHIA_SAMPLE_SWEEP` to the folder of a sweep, and `PYTHIA_SAMPLE_PAGE` to a file.
    #[test]
    fn sample_page_on_request() {
        let folder = std::env::var_os("PYTHIA_SAMPLE_SWEEP");
        let Some((folder, page)) = folder.zip(std::env::var_os("PYTHIA_SAMPLE_PAGE")) else { return };
        let sweep = Sweep::open(folder.as_ref()).unwrap();
        std::fs::write(page, render(sweep.manifest(), &sweep.results())).unwrap();
    }
}
