//! The tables of `docs/formats.md` say what the code does; `docs/architecture.md` names what exists.

use crate::common::tiny;
use pythia_convert::{Level, Recipe};
use pythia_schema::{Hparams, tensors};
use pythia_tensor::TensorType;

const PAGE: &str = include_str!("../../docs/formats.md");

/// The table whose first column has this title: its titles, then the cells of each row.
fn table(title: &str) -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines = PAGE.lines().skip_while(|line| !line.starts_with(&format!("| {title} |")));
    let titles = cells(lines.next().expect("the table"));
    (titles, lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect())
}

/// Where a tensor stands, which the conditions of the table refer to.
struct Position {
    layer: Option<usize>,
    layers: usize,
    importances: bool,
}

impl Position {
    /// The type that a cell gives here: `TYPE`, `CONDITION: TYPE` or `CONDITION: TYPE, else TYPE`.
    fn read(&self, cell: &str) -> Option<TensorType> {
        let (first, otherwise) = cell.split_once(", else ").unwrap_or((cell, ""));
        let name = match first.split_once(": ") {
            Some((condition, name)) if condition.split(" and ").all(|part| self.holds(part)) => name,
            Some(_) => otherwise,
            None => first,
        };
        (!name.is_empty()).then(|| name.parse().unwrap())
    }

    fn holds(&self, condition: &str) -> bool {
        let (i, n) = (self.layer.expect("a tensor of a layer"), self.layers);
        let (head, tail) = (n / 8, 7 * n / 8);
        match condition {
            "more bits" => i < head || i >= tail || (i - head) % 3 == 2,
            "middle" => head <= i && i < tail,
            "importances" => self.importances,
            "no importances" => !self.importances,
            _ => {
                let bound = condition.strip_prefix("i < ").expect(condition);
                i < bound
                    .strip_prefix("L/")
                    .map_or_else(|| bound.parse().unwrap(), |part| n / part.parse::<usize>().unwrap())
            }
        }
    }
}

fn model(n_layer: usize) -> Hparams {
    let (n_embd, n_ff) = (256, 1024);
    Hparams { n_layer, n_embd, n_head: 8, n_ff, n_vocab: 512, n_ctx: 64, n_rot: 8, ..tiny::hparams() }
}

#[test]
fn every_level_stores_what_its_row_says() {
    let (titles, rows) = table("level");
    let names: Vec<_> = rows.iter().map(|row| row[0].trim_end_matches(" *")).collect();
    assert_eq!(names, Level::ALL.iter().map(|level| level.name()).collect::<Vec<_>>());
    for (row, &level) in rows.iter().zip(Level::ALL) {
        assert_eq!(row[0].ends_with('*'), level.needs_importance(), "{level}: whether it needs importances");
        for (layers, importances) in [6, 12, 16, 24, 32, 33, 36].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let specs = tensors(&model(layers));
            let choices = Recipe::default().types(level, &specs, importances).unwrap();
            for (spec, choice) in specs.iter().zip(choices).filter(|(spec, _)| spec.id.is_matrix()) {
                let part = spec.gguf.split('.').rev().nth(1).unwrap();
                let column = titles.iter().position(|title| title.trim_matches('`') == part).expect(part);
                let at = Position { layer: spec.id.layer, layers, importances };
                let wanted = at.read(row[column]).or_else(|| at.read(row[1])).unwrap();
                assert_eq!(choice.ty, wanted, "{level}, {} of {layers} layers, importances {importances}", spec.gguf);
            }
        }
    }
}

#[test]
fn every_type_has_the_id_and_the_size_that_its_row_says() {
    let (_, rows) = table("type");
    assert_eq!(rows.len(), TensorType::ALL.len());
    for row in rows {
        let ty: TensorType = row[0].parse().unwrap();
        let (elems, bytes) = (ty.block_elems(), ty.block_bytes());
        let bits = 8.0 * bytes as f64 / elems as f64;
        assert_eq!(row[1..5], [ty.id().to_string(), elems.to_string(), bytes.to_string(), bits.to_string()], "{ty}");
    }
}

/// `docs/architecture.md` names files and folders. All of them exist, apart from the `x`, `y` and `z` that stand for
/// new ones.
#[test]
fn paths_of_the_architecture_exist() {
    const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_path =
        |word: &&str| ["crates/", "formats/", "tools/", "tests/"].iter().any(|folder| word.starts_with(folder));
    let is_new = |path: &str| ["/x.", "/y.", "/z."].iter().any(|name| path.contains(name));
    let paths: Vec<&str> = ARCHITECTURE.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths.into_iter().filter(|path| !is_new(path)) {
        assert!(root.join(path).exists(), "{path}");
    }
}
