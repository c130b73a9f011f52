//! The figures of a page: curves per model, and maps of models over steps.

use super::chart::{Chart, Curve, Mark};
use super::grid::{Grid, Model, Point};
use super::heat::Heat;
use super::onset::Outliers;
use pythia_compare::report::TaskValue;
use pythia_show::html as escape;
use pythia_show::number::significant;
use pythia_show::plot::{Canvas, Drawing, Kind, Words};
use pythia_text::counted;
use std::collections::BTreeSet;

/// Colours of levels; further ones are dashed.
const COLOURS: usize = 8;
/// Up to so many models each have figures of the whole width.
const WIDE_MODELS: usize = 1;

/// Classes of the curve of a recipe: from the first level to the last in the order of colours.
fn class(recipe: usize, n_recipes: usize) -> String {
    if recipe == 0 {
        return "base-line".to_owned();
    }
    let (rank, levels) = (recipe - 1, n_recipes - 1);
    let colour = match levels {
        1 => 0,
        2..=COLOURS => rank * (COLOURS - 1) / (levels - 1),
        _ => rank % COLOURS,
    };
    if rank >= COLOURS { format!("level-{colour} again") } else { format!("level-{colour}") }
}

/// A curve per recipe over the steps of a model.
fn curves(
    grid: &Grid<'_>,
    model: &Model<'_>,
    recipes: impl DoubleEndedIterator<Item = usize>,
    value: impl Fn(&Point<'_>, usize) -> Option<f64>,
) -> Vec<Curve> {
    let names = grid.recipe_names();
    let curve = |recipe: usize| Curve {
        class: class(recipe, grid.n_recipes()),
        label: names[recipe].clone(),
        points: model.points.iter().filter_map(|point| Some((point.of.step?, value(point, recipe)?))).collect(),
    };
    recipes.map(curve).collect()
}

/// The steps of all models.
fn steps(grid: &Grid<'_>) -> Vec<u64> {
    let steps: BTreeSet<u64> =
        grid.models.iter().flat_map(|model| &model.points).filter_map(|point| point.of.step).collect();
    steps.into_iter().collect()
}

/// Rings around the values of outliers.
fn marks(model: &Model<'_>, outliers: &Outliers<'_>, value: impl Fn(&Point<'_>) -> Option<f64>) -> Vec<Mark> {
    let marked = model.points.iter().filter(|point| outliers.contains(&(model.name, point.of.revision.as_str())));
    let mark = |point: &Point<'_>| {
        let (step, y) = (point.of.step?, value(point)?);
        Some(Mark { step, y, tip: format!("step {step} is called out: {}", significant(y, 4)) })
    };
    marked.filter_map(mark).collect()
}

/// What a chart shows in words: the ends of its curves.
fn words(id: String, title: String, chart: &Chart) -> Words {
    let ends = chart.curves.iter().filter_map(|curve| {
        let ((first, from), (last, to)) = (curve.points.first()?, curve.points.last()?);
        let (from, to) = (significant(*from, 3), significant(*to, 3));
        Some(format!("{}: {from} at step {first}, {to} at step {last}", curve.label))
    });
    let description = ends.collect::<Vec<_>>().join("; ");
    Words { id, title, description }
}

/// Charts of every model. `charts` gives those of one, with their titles.
fn panels(grid: &Grid<'_>, id: &str, charts: impl Fn(&Model<'_>) -> Vec<(String, Chart)>) -> String {
    let mut out = String::new();
    let is_wide = grid.models.len() <= WIDE_MODELS;
    for (m, model) in grid.models.iter().enumerate() {
        let mut of_model = String::new();
        for (c, (title, chart)) in charts(model).into_iter().enumerate() {
            let words = words(format!("{id}-{m}-{c}"), format!("{}: {title}", model.name), &chart);
            if is_wide {
                let drawing = Drawing::new(|canvas| chart.render(canvas, &words));
                of_model += &drawing.map_or_else(String::new, |drawing| {
                    let Drawing { wide, narrow } = drawing;
                    format!("<div class=\"wide\">\n{wide}</div>\n<div class=\"narrow\">\n{narrow}</div>\n")
                });
            } else if let Some(svg) = chart.render(Canvas::Narrow, &words) {
                of_model += &format!("<div>\n{svg}</div>\n");
            }
        }
        match (of_model.is_empty(), is_wide) {
            (true, _) => {}
            (false, true) => out += &format!("<figure>\n{of_model}</figure>\n"),
            (false, false) => {
                out += &format!("<div class=\"panels\">\n<h3>{}</h3>\n{of_model}</div>\n", escape(model.name));
            }
        }
    }
    out
}

/// Perplexity and damage against the step.
pub(super) fn learning(grid: &Grid<'_>, text: usize, outliers: &Outliers<'_>) -> String {
    let steps = steps(grid);
    let points = || grid.models.iter().flat_map(|model| &model.points).filter(|point| point.of.step.is_some());
    let perplexities: Vec<f64> = points()
        .flat_map(|point| (0..grid.n_recipes()).filter_map(|recipe| grid.perplexity(point, recipe, text)))
        .collect();
    let damages: Vec<f64> = points()
        .flat_map(|point| (1..grid.n_recipes()).filter_map(|recipe| grid.damage(point, recipe, text)))
        .filter(|damage| *damage > 0.0)
        .collect();
    panels(grid, &format!("learning-{text}"), |model| {
        let perplexity = Chart {
            y_title: "perplexity".to_owned(),
            y_kind: Kind::Log,
            y_span: perplexities.clone(),
            steps: steps.clone(),
            // The base is drawn last, on top of the levels that it hides behind.
            curves: curves(grid, model, (0..grid.n_recipes()).rev(), |point, recipe| {
                grid.perplexity(point, recipe, text)
            }),
            marks: marks(model, outliers, |point| grid.perplexity(point, 0, text)),
        };
        let damage = Chart {
            y_title: "damage: mean KLD, nats per token".to_owned(),
            y_kind: Kind::Log,
            y_span: damages.clone(),
            steps: steps.clone(),
            curves: curves(grid, model, 1..grid.n_recipes(), |point, recipe| {
                grid.damage(point, recipe, text).filter(|damage| *damage > 0.0)
            }),
            marks: (1..grid.n_recipes())
                .flat_map(|recipe| marks(model, outliers, |point| grid.damage(point, recipe, text)))
                .filter(|mark| mark.y > 0.0)
                .collect(),
        };
        vec![("perplexity against step".to_owned(), perplexity), ("damage against step".to_owned(), damage)]
    })
}

/// The value of a task that is drawn: its first share, else its first value.
fn chosen(values: &[TaskValue]) -> Vec<(&TaskValue, String)> {
    let mut chosen: Vec<&TaskValue> = Vec::new();
    for value in values {
        match chosen.iter_mut().find(|other| other.task == value.task) {
            Some(other) if !other.is_share && value.is_share => *other = value,
            Some(_) => {}
            None => chosen.push(value),
        }
    }
    let title = |value: &TaskValue| match value.filter.as_str() {
        "none" => format!("{} {}", value.task, value.metric),
        filter => format!("{} {} {filter}", value.task, value.metric),
    };
    chosen.into_iter().map(|value| (value, title(value))).collect()
}

/// A value per task against the step; with the headings.
pub(super) fn tasks(grid: &Grid<'_>, measure: usize) -> String {
    let steps = steps(grid);
    let points: Vec<Point<'_>> =
        grid.models.iter().flat_map(|model| &model.points).filter(|point| point.of.step.is_some()).copied().collect();
    let values =
        |point: &Point<'_>, recipe: usize| grid.done(point, recipe, measure).and_then(|done| done.tasks.as_deref());
    let mut titles: Vec<(String, bool)> = Vec::new();
    for values in points.iter().flat_map(|point| (0..grid.n_recipes()).filter_map(|recipe| values(point, recipe))) {
        for (value, title) in chosen(values) {
            if !titles.iter().any(|(other, _)| *other == title) {
                titles.push((title, value.is_share));
            }
        }
    }
    let of = |point: &Point<'_>, recipe: usize, title: &str| {
        let value = chosen(values(point, recipe)?).into_iter().find(|(_, other)| other == title)?.0.value;
        value.is_finite().then_some(value)
    };
    let kind = |is_share: bool| if is_share { Kind::Linear } else { Kind::Log };
    let span = |title: &str| -> Vec<f64> {
        points.iter().flat_map(|point| (0..grid.n_recipes()).filter_map(|recipe| of(point, recipe, title))).collect()
    };
    let spans: Vec<Vec<f64>> = titles.iter().map(|(title, _)| span(title)).collect();
    panels(grid, &format!("tasks-{measure}"), |model| {
        let chart = |((title, is_share), span): (&(String, bool), &Vec<f64>)| {
            let chart = Chart {
                y_title: title.clone(),
                y_kind: kind(*is_share),
                y_span: span.clone(),
                steps: steps.clone(),
                curves: curves(grid, model, (0..grid.n_recipes()).rev(), |point, recipe| of(point, recipe, title)),
                marks: Vec::new(),
            };
            (format!("{title} against step"), chart)
        };
        titles.iter().zip(&spans).map(chart).collect()
    })
}

/// Damage by model and step: a map per level, the worst level open; of a single model, one map with a row per level.
pub(super) fn maps(grid: &Grid<'_>, text: usize) -> String {
    let steps = steps(grid);
    let names = grid.recipe_names();
    let row = |model: &Model<'_>, recipe: usize| -> Vec<Option<f64>> {
        let at = |step: &u64| model.points.iter().find(|point| point.of.step == Some(*step));
        steps.iter().map(|step| grid.damage(at(step)?, recipe, text)).collect()
    };
    let title = |what: &str| format!("mean KLD of {what}, nats per token");
    let figure = |heat: &Heat, id: String| {
        let description =
            format!("{} over {}; the table below has all values", heat.rows.join(", "), counted(steps.len(), "step"));
        let words = Words { id, title: heat.title.clone(), description };
        let drawing = Drawing::new(|canvas| heat.render(canvas, &words))?;
        let Drawing { wide, narrow } = drawing;
        Some(format!("<div class=\"wide\">\n{wide}</div>\n<div class=\"narrow\">\n{narrow}</div>\n"))
    };
    if let [model] = &grid.models[..] {
        let heat = Heat {
            rows: names[1..].to_vec(),
            values: (1..names.len()).map(|recipe| row(model, recipe)).collect(),
            steps: steps.clone(),
            title: title("each level"),
        };
        return figure(&heat, format!("map-{text}")).unwrap_or_default();
    }
    let mut maps: Vec<(f64, usize, Heat)> = (1..names.len())
        .map(|recipe| {
            let values: Vec<Vec<Option<f64>>> = grid.models.iter().map(|model| row(model, recipe)).collect();
            let (sum, n) = values.iter().flatten().flatten().fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
            let rows = grid.models.iter().map(|model| model.name.to_owned()).collect();
            (
                sum / f64::from(n.max(1)),
                recipe,
                Heat { rows, steps: steps.clone(), values, title: title(&names[recipe]) },
            )
        })
        .collect();
    maps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let drawn =
        maps.iter().filter_map(|(_, recipe, heat)| Some((*recipe, figure(heat, format!("map-{text}-{recipe}"))?)));
    let drawn: Vec<(usize, String)> = drawn.collect();
    let with_rest = |(i, (recipe, map)): (usize, &(usize, String))| match i {
        0 => format!("<figure>\n{map}</figure>\n"),
        _ => format!("<details><summary>{}</summary>\n{map}</details>\n", escape(&names[*recipe])),
    };
    drawn.iter().enumerate().map(with_rest).collect()
}
