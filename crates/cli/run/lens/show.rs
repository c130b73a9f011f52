//! What `lens` shows to people: means of every layer, or every layer at some positions.

use pythia_inside::lens::{Lens, Reading, probability};
use pythia_runtime::{Text, Tokenizer};
use pythia_show::number::{plain, significant};
use pythia_show::{Align, Column, Table, Width, wrap};
use pythia_text::{counted, quoted};

/// Where all columns are.
const ELSEWHERE: &str = "--format jsonl and csv have them";

/// A table of means, or one for each of the positions.
pub(super) fn table(
    lens: &Lens,
    positions: Option<&[usize]>,
    tokenizer: &Tokenizer,
    text: &Text,
    width: Width,
) -> String {
    let head = format!("{} of {text}; no token is added. All numbers in nats.", counted(lens.ids.len(), "token"));
    let mut out = wrap(&head, width, "") + "\n";
    match positions {
        None => out += &means(lens, width),
        Some(positions) => positions.iter().for_each(|&position| out += &at(lens, position, tokenizer, width)),
    }
    out
}

fn means(lens: &Lens, width: Width) -> String {
    let mut table = Table::new([
        Column::new("layer", Align::Right),
        Column::new("same top", Align::Right),
        Column::new("KL to it", Align::Right),
        Column::new("entropy", Align::Right),
        Column::new("rank of next", Align::Right),
        Column::new("its log-likelihood", Align::Right),
    ]);
    for depth in &lens.depths {
        let summary = depth.summary();
        table.push(vec![
            depth.name(),
            format!("{} %", plain(100.0 * summary.agreement, 1)),
            plain(summary.kl, 4),
            plain(summary.entropy, 4),
            if summary.rank.is_nan() { "-".to_owned() } else { plain(summary.rank, 1) },
            if summary.log_likelihood.is_nan() { "-".to_owned() } else { plain(summary.log_likelihood, 4) },
        ]);
    }
    let about = "Means over the positions. same top: share of positions whose likeliest token is the model's own in the \
                 end; KL: divergence of what is read here from what the model predicts in the end; rank 1 is the likeliest.";
    format!("{}\n{}", table.to_terminal(width).with_remark(width, ELSEWHERE), wrap(about, width, ""))
}

fn at(lens: &Lens, position: usize, tokenizer: &Tokenizer, width: Width) -> String {
    let token = |id: u32| quoted(&tokenizer.decode(&[id], false), '"', 40);
    let here = token(lens.ids[position]);
    let next = lens.ids.get(position + 1).map_or("no token follows".to_owned(), |&id| format!("next {}", token(id)));
    let mut table = Table::new([
        Column::new("layer", Align::Right),
        Column::new("rank", Align::Right),
        Column::new("log-lik.", Align::Right),
        Column::new("entropy", Align::Right).rank(2),
        Column::new("KL", Align::Right).rank(1),
        Column::new("likeliest tokens, %", Align::Left),
    ]);
    for depth in &lens.depths {
        let reading = &depth.readings[position];
        table.push(vec![
            depth.name(),
            reading.next.map_or("-".to_owned(), |next| next.rank.to_string()),
            reading.next.map_or("-".to_owned(), |next| plain(next.log_likelihood, 3)),
            plain(reading.entropy, 3),
            plain(reading.kl, 3),
            likeliest(reading, token),
        ]);
    }
    let table = table.to_terminal(width).with_remark(width, ELSEWHERE);
    format!("{}{table}\n", wrap(&format!("token {position} {here}, {next}"), width, ""))
}

fn likeliest(reading: &Reading, token: impl Fn(u32) -> String) -> String {
    let percent = |likelihood: f64| significant(100.0 * probability(likelihood), 2);
    let tops = reading.top.iter().map(|&(id, likelihood)| format!("{} {}", token(id), percent(likelihood)));
    tops.collect::<Vec<_>>().join("  ")
}
