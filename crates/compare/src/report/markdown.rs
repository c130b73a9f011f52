//! `report.md`: the answers, the whole table and the notes.

use super::{Report, SideBySide, Tasks, columns};
use pythia_show::markdown;

/// The file's content.
pub(crate) fn render(report: &Report) -> String {
    let mut out =
        format!("# {}: quantization levels compared with {}\n\n", markdown(&report.source), markdown(&report.base));
    let answers: Vec<String> = report.answer.sentences.iter().map(|sentence| markdown(sentence)).collect();
    if !answers.is_empty() {
        out += &format!("{}\n", list(&answers));
    }
    if let Some(series) = &report.side_by_side {
        out += &format!("{}:\n\n{}\n", SideBySide::TITLE, series.table().to_markdown());
    }
    if let Some(tasks) = &report.tasks {
        out += &format!("{}:\n\n{}\n", Tasks::TITLE, tasks.table().to_markdown());
    }
    out += &columns::full_table(report).to_markdown();
    out.push('\n');
    out + &list(&report.notes(markdown))
}

fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {item}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn has_answers_a_row_per_level_and_the_notes() {
        let report = sample::report(7);
        let text = render(&report);
        let rows = text.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(rows, 2 + 7, "{text}");
        for entry in &report.entries {
            assert!(text.contains(&format!("| {} ", entry.name)), "{}", entry.name);
        }
        assert!(text.contains("Protocol `llama`") && text.contains("int8"));
        assert!(text.find("- Smallest level with").unwrap() < text.find("| level").unwrap(), "{text}");
    }
}
