//! The manifest: all cells of a sweep, as lines of JSON.
//!
//! The first line states the format and the [`Spec`]. Then each [`Group`] is a line, followed by a line per [`Cell`] of it,
//! the groups that take longest first. [`Missing`] checkpoints are at the end. Every line has a `kind`.

use crate::spec::{Recipe, Spec};
use crate::{Error, id};
use pythia_text::path as shown;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Version of the layout of a manifest.
pub const FORMAT: &str = "pythia-sweep/1";
/// A longer line is not one of a manifest.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// All cells of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The program that planned it, with its version.
    pub program: String,
    /// What is measured.
    pub spec: Spec,
    /// The checkpoints with different contents.
    pub groups: Vec<Group>,
    /// What is computed, those of a group together.
    pub cells: Vec<Cell>,
    /// Checkpoints that were asked for and are not there.
    pub missing: Vec<Missing>,
}

/// Checkpoints with the same files: their cells are computed once, and together, because they share the base.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Group {
    /// Its id, from the digests of its files.
    pub group: String,
    /// The checkpoints, at least one. The first one is read.
    pub checkpoints: Vec<Checkpoint>,
    /// Configuration, tokenizer and weights, by name.
    pub files: Vec<SourceFile>,
    /// What it takes.
    pub estimate: Estimate,
}

/// A revision of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Checkpoint {
    /// Name of the model: `pythia-70m-deduped`.
    pub model: String,
    /// Branch, tag or commit on the Hub; name of the folder otherwise.
    pub revision: String,
    /// N, if the revision is called `stepN`.
    pub step: Option<u64>,
    /// Where it is.
    pub source: Source,
    /// What is reported of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Checkpoint {
    /// `MODEL@REVISION`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.revision)
    }
}

/// Where a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// On the Hugging Face Hub.
    Hub {
        /// The repository: `EleutherAI/pythia-70m`.
        repo: String,
        /// The commit.
        commit: String,
    },
    /// In a folder.
    Folder {
        /// Its path; relative ones from the sweep's folder.
        path: String,
    },
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// `sha256:` or `git-sha1:` and the digest in hexadecimal.
    pub digest: String,
    /// Whether it has weights.
    pub is_weights: bool,
}

/// What a group takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Estimate {
    /// Seconds of one core.
    pub core_seconds: f64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Bytes on the disk meanwhile, without the download.
    pub disk_bytes: u64,
    /// Bytes to download.
    pub download_bytes: u64,
}

/// One row of the results: a checkpoint, a recipe, a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its id.
    pub id: id::CellId,
    /// Index of its group.
    pub group: usize,
    /// Index of its checkpoint in the group.
    pub checkpoint: usize,
    /// Index of its recipe.
    pub recipe: usize,
    /// Index of its measure.
    pub measure: usize,
}

/// A checkpoint that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Missing {
    /// Name of the model.
    pub model: String,
    /// The revision.
    pub revision: String,
    /// Why.
    pub reason: String,
}

/// A line.
#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Sweep { format: String, program: String, groups: usize, cells: usize, missing: usize, spec: Spec },
    Group(Group),
    Cell(CellLine),
    Missing(Missing),
}

/// A cell as it is written: readable without the rest of the manifest.
#[derive(Deserialize, Serialize)]
struct CellLine {
    cell: id::CellId,
    group: String,
    model: String,
    revision: String,
    #[serde(flatten)]
    recipe: Recipe,
    measure: String,
}

impl Manifest {
    /// The checkpoint of a cell.
    pub fn checkpoint(&self, cell: &Cell) -> &Checkpoint {
        &self.groups[cell.group].checkpoints[cell.checkpoint]
    }

    /// The recipe of a cell.
    pub fn recipe(&self, cell: &Cell) -> &Recipe {
        &self.spec.recipes[cell.recipe]
    }

    /// The cells of a group.
    pub fn cells_of(&self, group: usize) -> &[Cell] {
        let start = self.cells.partition_point(|cell| cell.group < group);
        let end = self.cells.partition_point(|cell| cell.group <= group);
        &self.cells[start..end]
    }

    /// A cell in words, for messages: `pythia-70m@step0 Q4_0 on wiki.txt:512`.
    pub fn name(&self, cell: &Cell) -> String {
        let checkpoint = self.checkpoint(cell);
        let measure = self.spec.measures[cell.measure].name();
        format!("{} {} on {measure}", checkpoint.name(), self.recipe(cell).name())
    }

    /// Writes the lines.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut line = |line: Line| -> std::io::Result<()> {
            let json = serde_json::to_string(&line)?;
            writeln!(out, "{}", pythia_text::json(&json))
        };
        line(Line::Sweep {
            format: FORMAT.to_owned(),
            program: self.program.clone(),
            groups: self.groups.len(),
            cells: self.cells.len(),
            missing: self.missing.len(),
            spec: self.spec.clone(),
        })?;
        let measures: Vec<String> = self.spec.measures.iter().map(crate::spec::Measure::name).collect();
        for (i, group) in self.groups.iter().enumerate() {
            line(Line::Group(group.clone()))?;
            for cell in self.cells_of(i) {
                let checkpoint = self.checkpoint(cell);
                line(Line::Cell(CellLine {
                    cell: cell.id,
                    group: group.group.clone(),
                    model: checkpoint.model.clone(),
                    revision: checkpoint.revision.clone(),
                    recipe: self.recipe(cell).clone(),
                    measure: measures[cell.measure].clone(),
                }))?;
            }
        }
        self.missing.iter().try_for_each(|missing| line(Line::Missing(missing.clone())))
    }

    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is not a manifest.
    pub fn read(path: &Path) -> Result<Self, Error> {
        // To open a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
            return Err(Error::Io { path: path.to_owned(), source: std::io::Error::other("not a regular file") });
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut reading = Reading::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = std::io::Read::take(&mut file, MAX_LINE_BYTES).read_until(b'\n', &mut line);
            if read.map_err(Error::io(path))? == 0 {
                break;
            }
            let wrong = |problem: String| Error::Data(format!("{}: line {number}: {problem}", shown(path)));
            let parsed = serde_json::from_slice(&line).map_err(|e| wrong(format!("not one of a manifest: {e}")))?;
            reading.add(parsed).map_err(wrong)?;
        }
        let manifest = reading.manifest.ok_or_else(|| Error::Data(format!("{}: is empty", shown(path))))?;
        let found = [manifest.groups.len(), manifest.cells.len(), manifest.missing.len()];
        if found != reading.counts {
            let ([g, c, m], [wg, wc, wm]) = (found, reading.counts);
            return Err(Error::Data(format!(
                "{}: {g} groups, {c} cells and {m} missing checkpoints, wanted {wg}, {wc} and {wm}",
                shown(path)
            )));
        }
        Ok(manifest)
    }
}

/// A manifest that is being read, with where its names are.
#[derive(Default)]
struct Reading {
    manifest: Option<Manifest>,
    checkpoints: HashMap<(String, String), usize>,
    recipes: HashMap<Recipe, usize>,
    measures: HashMap<String, usize>,
    ids: HashSet<id::CellId>,
    /// Groups, cells and missing checkpoints that the first line announces.
    counts: [usize; 3],
}

impl Reading {
    fn add(&mut self, line: Line) -> Result<(), String> {
        let Some(manifest) = &mut self.manifest else {
            let Line::Sweep { format, program, groups, cells, missing, spec } = line else {
                return Err("found another kind, wanted the kind sweep first".to_owned());
            };
            if format != FORMAT {
                return Err(format!("format {format}, wanted {FORMAT}"));
            }
            self.counts = [groups, cells, missing];
            self.recipes = spec.recipes.iter().cloned().zip(0..).collect();
            self.measures = spec.measures.iter().map(crate::spec::Measure::name).zip(0..).collect();
            if !spec.recipes.first().is_some_and(Recipe::is_base) || self.recipes.len() != spec.recipes.len() {
                return Err("wanted recipes of different names, the base first".to_owned());
            }
            if self.measures.len() != spec.measures.len() {
                return Err("two measures have one name".to_owned());
            }
            let (groups, cells, missing) = Default::default();
            self.manifest = Some(Manifest { program, spec, groups, cells, missing });
            return Ok(());
        };
        match line {
            Line::Sweep { .. } => return Err("a second line of the kind sweep".to_owned()),
            Line::Missing(missing) => manifest.missing.push(missing),
            Line::Group(group) => {
                if group.checkpoints.is_empty() || !id::is_id(&group.group) {
                    return Err("a group without checkpoints, or with an invalid id".to_owned());
                }
                let names = group.checkpoints.iter().map(|c| (c.model.clone(), c.revision.clone()));
                self.checkpoints = names.zip(0..).collect();
                manifest.groups.push(group);
            }
            Line::Cell(line) => {
                let group = manifest.groups.last().filter(|group| group.group == line.group);
                let found = (
                    group.map(|_| manifest.groups.len() - 1),
                    self.checkpoints.get(&(line.model, line.revision)),
                    self.recipes.get(&line.recipe),
                    self.measures.get(&line.measure),
                );
                let (Some(group), Some(&checkpoint), Some(&recipe), Some(&measure)) = found else {
                    return Err("names a group, checkpoint, recipe or measure that is not there".to_owned());
                };
                if !self.ids.insert(line.cell) {
                    return Err(format!("a second cell {}", line.cell));
                }
                manifest.cells.push(Cell { id: line.cell, group, checkpoint, recipe, measure });
            }
        }
        Ok(())
    }
}
