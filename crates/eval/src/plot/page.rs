//! The page: two plots per task, each with its table.

use super::TASKS;
use super::chart::{Chart, Curve, Mark};
use super::measured::{Measured, MeasuredTask};
use super::published::{Row, Suite, rows};
use pythia_runtime::eval::Estimate;
use pythia_show::html as escape;
use pythia_show::number::{plain, signed};
use pythia_show::plot::{Drawing, Words, page, table};

const STYLE: &str = include_str!("style.css");

const NOTES: [&str; 6] = [
    "Published values: evals/pythia-v1, evals/opt and evals/bloom of the repository EleutherAI/pythia, zero-shot. Pythia \
     stands at training step 143000 in the plots against parameters.",
    "Accuracy is the harness's acc, not acc_norm. For LAMBADA it is the share of documents whose last word greedy decoding \
     writes.",
    "Bars and +- are one standard error of an accuracy over its documents. Two models that were scored on the same \
     documents differ by less luck than two such errors together suggest; pythia-run eval compares levels in pairs.",
    "Parameters include the embeddings, also in names: Pythia 70m has 70 million.",
    "The published files give step 0 the answers of step 1, so step 0 is not shown. It would have no place on a \
     logarithmic axis either.",
    "Small differences from published values have other causes too: float16 weights there, other versions of the harness, \
     and with examples before the question another choice of these.",
];

const MILLION: f64 = 1e6;

/// A result on a task.
struct Mine<'a> {
    model: &'a Measured,
    task: &'a MeasuredTask,
}

pub(super) fn render(results: &[Measured]) -> String {
    let published = rows();
    let mut body = format!("<p class=\"summary\">{}</p>\n", escape(&summary(results)));
    for (index, (task, name, chance)) in TASKS.into_iter().enumerate() {
        let of_task: Vec<&Row> = published.iter().filter(|row| row.task == task).collect();
        let mine: Vec<Mine<'_>> =
            results.iter().filter_map(|model| Some(Mine { model, task: model.task(task)? })).collect();
        body += &format!("<h2>{}: accuracy against parameters</h2>\n", escape(name));
        body += &against_parameters(index, name, chance, &of_task, &mine);
        body += &format!("<h2>{}: accuracy against training step</h2>\n", escape(name));
        body += &against_steps(index, name, chance, &of_task, &mine);
    }
    let notes: String =
        NOTES.iter().map(|note| format!("<li>{}</li>\n", escape(note).replace("+-", "&#177;"))).collect();
    body += &format!("<h2>Notes</h2>\n<ul>\n{notes}</ul>\n");
    page("Evaluations of Pythia models", STYLE, &body)
}

fn summary(results: &[Measured]) -> String {
    let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("Results on the curves of the published Pythia, OPT and BLOOM models. Results: {names}.")
}

fn against_parameters(index: usize, name: &str, chance: Option<f64>, rows: &[&Row], mine: &[Mine<'_>]) -> String {
    let curve = |suite: Suite| {
        let rows = rows.iter().filter(|row| row.suite == suite);
        let tip = |row: &&&Row| format!("{}: {}", row.model, with_error(row.last()));
        Curve {
            label: String::new(),
            class: suite_class(suite).to_owned(),
            dots: Some(rows.clone().map(|row| tip(&row)).collect()),
            points: rows.map(|row| (row.parameters / MILLION, row.last().value)).collect(),
        }
    };
    let shown: Vec<(&Mine<'_>, f64)> = mine
        .iter()
        .filter(|mine| mine.model.is_trained())
        .filter_map(|mine| Some((mine, mine.model.parameters?)))
        .collect();
    let legend = |suite: Suite| {
        let class = suite_class(suite);
        (format!("series-line {class}"), format!("dot {class}"), suite.name().replace("Pythia deduped", "deduped"))
    };
    let chart = Chart {
        x_title: "parameters, millions",
        curves: Suite::ALL.map(curve).into(),
        marks: shown.iter().map(|(mine, parameters)| mine.mark(*parameters / MILLION)).collect(),
        joined: Vec::new(),
        legend: Suite::ALL.map(legend).into(),
        chance,
    };
    let left_out = mine.len() - shown.len();
    let caption = format!(
        "Higher is better. Diamonds are the results, with bars of one standard error.{}{}",
        beside(&chart.marks),
        match left_out {
            0 => String::new(),
            n =>
                format!(" Not shown here: {n} of earlier training steps, or without a number of parameters (--params)."),
        }
    );
    let shown: Vec<&Mine<'_>> = shown.into_iter().map(|(mine, _)| mine).collect();
    let title = format!("{name}: accuracy against parameters");
    draw(&format!("parameters-{index}"), &title, &chart, &caption, rows)
        + &results_table(&title, &shown, rows)
        + &published_by_model(rows)
}

fn against_steps(index: usize, name: &str, chance: Option<f64>, rows: &[&Row], mine: &[Mine<'_>]) -> String {
    let shown: Vec<(&Mine<'_>, u64)> =
        mine.iter().filter_map(|mine| Some((mine, mine.model.step.filter(|step| *step > 0)?))).collect();
    let is_of_interest = |row: &Row| {
        let same = |mine: &&Mine<'_>| mine.model.origin.as_deref().is_some_and(|origin| size(origin) == row.size());
        mine.iter().all(|mine| mine.model.origin.is_none()) || mine.iter().any(|mine| same(&mine))
    };
    let curve = |row: &&&Row| {
        let rank = rows.iter().filter(|other| other.suite == row.suite).position(|other| other.model == row.model);
        let deduped = if row.suite == Suite::Deduped { " deduped" } else { "" };
        let pale = if is_of_interest(row) { "" } else { " pale" };
        Curve {
            label: if row.suite == Suite::Pythia { row.size().to_owned() } else { String::new() },
            class: format!("size-{}{deduped}{pale}", rank.unwrap_or(0)),
            dots: None,
            points: row.accuracies.iter().map(|(step, accuracy)| (*step as f64, accuracy.value)).collect(),
        }
    };
    let line =
        |class: &str, name: &str| (format!("series-line legend-line {class}"), "dot none".to_owned(), name.to_owned());
    let mut chart = Chart {
        x_title: "training step",
        curves: rows.iter().filter(|row| row.accuracies.len() > 1).map(|row| curve(&row)).collect(),
        marks: shown.iter().map(|(mine, step)| mine.mark(*step as f64)).collect(),
        joined: Vec::new(),
        legend: vec![line("", "Pythia"), line("deduped", "deduped")],
        chance,
    };
    let trainings: Vec<String> = shown.iter().map(|(mine, _)| mine.model.training()).collect();
    for (first, training) in trainings.iter().enumerate() {
        let mut joined: Vec<usize> = (0..shown.len()).filter(|&i| trainings[i] == *training).collect();
        if joined[0] == first && joined.len() > 1 {
            joined.sort_by_key(|&i| shown[i].1);
            // The last is named for all.
            for &i in &joined[..joined.len() - 1] {
                chart.marks[i].label.clear();
            }
            chart.joined.push(joined);
        }
    }
    let left_out = mine.len() - shown.len();
    let caption = format!(
        "Higher is better. A curve per model size, stronger for larger ones; dashed curves are the deduped models.{}{}",
        if chart.joined.is_empty() { "" } else { " A line joins results of one training." }.to_owned()
            + &beside(&chart.marks),
        match left_out {
            0 => String::new(),
            n => format!(" Not shown here: {n} without a training step (--step)."),
        }
    );
    let title = format!("{name}: accuracy against training step");
    let shown: Vec<&Mine<'_>> = shown.into_iter().map(|(mine, _)| mine).collect();
    draw(&format!("steps-{index}"), &title, &chart, &caption, rows)
        + &results_table(&title, &shown, rows)
        + &published_by_step(rows)
}

fn draw(id: &str, title: &str, chart: &Chart, caption: &str, rows: &[&Row]) -> String {
    let tips: Vec<&str> = chart.marks.iter().map(|mark| mark.tip.as_str()).collect();
    let published = rows.iter().filter(|row| row.suite == Suite::Pythia);
    let published = published.map(|row| format!("{}: {}", row.model, plain(row.last().value, 4)));
    let published = published.collect::<Vec<_>>().join("; ");
    let description = format!("Results: {}. Published, at the end of training: {published}", tips.join("; "));
    let words = Words { id: id.to_owned(), title: title.to_owned(), description };
    let drawing = Drawing::new(|canvas| chart.render(canvas, &words));
    drawing.map_or_else(String::new, |drawing| drawing.figure(caption))
}

fn beside(marks: &[Mark]) -> String {
    let shares = marks.iter().enumerate().any(|(i, mark)| marks[..i].iter().any(|other| other.x == mark.x));
    if shares { " Results that belong to one place of the lower axis stand side by side." } else { "" }.to_owned()
}

impl Mine<'_> {
    fn mark(&self, x: f64) -> Mark {
        let label = self.model.name.clone();
        let Estimate { value, se } = self.task.accuracy;
        Mark { label, x, y: value, error: se, tip: format!("{}: {}", self.model.name, with_error(self.task.accuracy)) }
    }

    /// The published model that this one is made from, at its step.
    fn published(&self, rows: &[&Row]) -> Option<Estimate> {
        let step = self.model.step?;
        let suite = self.model.suite()?;
        let row = rows.iter().find(|row| row.suite == suite && Some(row.model) == self.model.origin.as_deref())?;
        row.at(step)
    }
}

/// The results of a plot, with what is published of the same models.
fn results_table(name: &str, mine: &[&Mine<'_>], rows: &[&Row]) -> String {
    if mine.is_empty() {
        return "<p class=\"summary\">No result in this plot.</p>\n".to_owned();
    }
    let heads = ["result", "parameters", "step", "shots", "documents", "accuracy", "published", "difference"];
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let row = |mine: &&Mine<'_>| {
        let published = mine.published(rows);
        let difference = published.map(|theirs| signed(mine.task.accuracy.value - theirs.value, 4));
        vec![
            mine.model.name.clone(),
            mine.model.parameters.map_or("-".to_owned(), |n| plain(n, 0)),
            number(mine.model.step),
            number(mine.task.shots),
            number(mine.task.documents),
            with_error(mine.task.accuracy),
            published.map_or("-".to_owned(), with_error),
            difference.unwrap_or_else(|| "-".to_owned()),
        ]
    };
    values(&format!("{name}, results"), heads, mine.iter().map(row))
}

fn published_by_model(rows: &[&Row]) -> String {
    let heads = ["model", "parameters", "accuracy"];
    let cells = rows.iter().map(|row| vec![row.model.to_owned(), plain(row.parameters, 0), with_error(row.last())]);
    details("Published values", &values("Published values", heads, cells))
}

fn published_by_step(rows: &[&Row]) -> String {
    let curves: Vec<&&Row> = rows.iter().filter(|row| row.accuracies.len() > 1).collect();
    let name = |row: &&&Row| row.model.trim_start_matches("pythia-").replace("-deduped", " ded.");
    let heads: Vec<String> = std::iter::once("step".to_owned()).chain(curves.iter().map(name)).collect();
    let steps = curves.first().map_or(&[][..], |row| &row.accuracies);
    let cells = steps.iter().map(|(step, _)| {
        let accuracies = curves.iter().map(|row| row.at(*step).map_or("-".to_owned(), |a| plain(a.value, 4)));
        std::iter::once(step.to_string()).chain(accuracies).collect()
    });
    details("Published values by step", &values("Published values by step", heads, cells))
}

fn details(summary: &str, content: &str) -> String {
    format!("<details><summary>{}</summary>\n{content}</details>\n", escape(summary))
}

/// A table of texts.
fn values<H: AsRef<str>>(
    name: &str,
    heads: impl IntoIterator<Item = H>,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let rows = rows.map(|cells| cells.iter().map(|text| escape(text).replace("+-", "&#177;")).collect());
    table(name, "", heads.into_iter().map(|head| (head, "")), rows)
}

fn with_error(accuracy: Estimate) -> String {
    match accuracy.se {
        0.0 => plain(accuracy.value, 4),
        se => format!("{} +- {}", plain(accuracy.value, 4), plain(se, 4)),
    }
}

/// `70m` of `pythia-70m-deduped`.
fn size(origin: &str) -> &str {
    origin.split('-').nth(1).unwrap_or(origin)
}

/// The style of a suite's curve; those that may look alike without colour differ in their dashes.
fn suite_class(suite: Suite) -> &'static str {
    match suite {
        Suite::Pythia => "series-2",
        Suite::Deduped => "series-1",
        Suite::Opt => "series-3",
        Suite::Bloom => "series-0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, piqa: f64) -> Measured {
        let text = format!(
            r#"{{"results": {{"piqa": {{"acc,none": {piqa}, "acc_stderr,none": 0.0115}},
                "sciq": {{"acc,none": 0.6, "acc_stderr,none": 0.02}}}}, "n-shot": {{"piqa": 0}}, "config": {{}},
                "model_name": "{name}"}}"#
        );
        Measured::parse(&text).unwrap()
    }

    #[test]
    fn a_result_is_drawn_and_set_against_its_origin() {
        let page = render(&[measured("pythia-70m-Q4_0", 0.59)]);
        assert_eq!(page.matches("<svg").count(), 20, "five tasks, two plots, wide and narrow");
        assert_eq!(page.matches("<path class=\"mine\"").count(), 8, "two tasks");
        assert!(page.contains("<td>0.5947 &#177; 0.0115</td><td>-0.0047</td>"), "{page}");
        assert!(page.contains("size-0\"") && page.contains("size-1 pale\"") && !page.contains("size-0 pale"));
        assert!(!page.contains("NaN") && !page.contains("inf,"));
    }

    #[test]
    fn checkpoints_of_one_training_are_joined() {
        let page = render(&[measured("pythia-70m-step3000", 0.58), measured("pythia-70m-step512", 0.55)]);
        let line = page.lines().find(|line| line.starts_with("<polyline class=\"mine-line\"")).unwrap();
        let xs: Vec<f64> =
            line.split('"').nth(3).unwrap().split(' ').map(|p| p.split(',').next().unwrap().parse().unwrap()).collect();
        assert!(xs.len() == 2 && xs[0] < xs[1], "{line}");
        assert!(page.contains("Not shown here: 2 of earlier training steps"));
    }

    #[test]
    fn names_cannot_inject_markup() {
        let mut result = measured("x", 0.5);
        result.name = "</title><script>alert(1)</script><b>\u{202e}".to_owned();
        result.parameters = Some(1e8);
        let page = render(&[result]);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains('\u{202e}'));
    }

    #[test]
    fn no_result_is_a_page_of_published_values() {
        let page = render(&[]);
        assert!(!page.contains("class=\"mine\""));
        for element in ["html", "main", "table", "figure", "svg", "details", "tr", "td", "th"] {
            let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        for outside in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    /// To look at: set `PYTHIA_SAMPLE_PLOTS` to a file and open it.
    #[test]
    fn sample_page_on_request() {
        let Some(path) = std::env::var_os("PYTHIA_SAMPLE_PLOTS") else { return };
        let mut results: Vec<Measured> = [
            ("pythia-410m-F16", 0.667),
            ("pythia-410m-Q8_0", 0.666),
            ("pythia-410m-Q4_K_M", 0.655),
            ("pythia-410m-Q2_K", 0.59),
        ]
        .map(|(name, piqa)| measured(name, piqa))
        .into();
        let steps = [(512, 0.53), (3000, 0.57), (33000, 0.60), (143_000, 0.59)];
        results.extend(steps.map(|(step, piqa)| measured(&format!("pythia-70m-step{step}-Q4_0"), piqa)));
        std::fs::write(path, render(&results)).unwrap();
    }
}
