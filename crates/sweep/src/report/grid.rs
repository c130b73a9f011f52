//! The results of a sweep by model, checkpoint, recipe and measure.

use crate::manifest::{Checkpoint, Manifest};
use crate::order::{by_checkpoint, by_size};
use crate::result::{CellResult, Done, TextScore};
use crate::spec::Measure;
use std::collections::HashMap;

/// All results, and where they are.
pub(super) struct Grid<'a> {
    pub(super) manifest: &'a Manifest,
    /// Small models first.
    pub(super) models: Vec<Model<'a>>,
    results: &'a [Option<CellResult>],
    cells: HashMap<Key, usize>,
}

/// Group, checkpoint, recipe and measure of a cell.
type Key = (usize, usize, usize, usize);

/// A model with its checkpoints.
pub(super) struct Model<'a> {
    pub(super) name: &'a str,
    /// By step, those without one last.
    pub(super) points: Vec<Point<'a>>,
}

/// A checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    pub(super) of: &'a Checkpoint,
    pub(super) group: usize,
    checkpoint: usize,
}

impl<'a> Grid<'a> {
    pub(super) fn new(manifest: &'a Manifest, results: &'a [Option<CellResult>]) -> Self {
        let mut points: Vec<Point<'a>> = Vec::new();
        for (group, of) in manifest.groups.iter().enumerate() {
            points.extend(of.checkpoints.iter().enumerate().map(|(checkpoint, of)| Point { of, group, checkpoint }));
        }
        points.sort_by(|a, b| by_checkpoint(a.of, b.of));
        let mut models: Vec<Model<'a>> = Vec::new();
        for point in points {
            match models.last_mut() {
                Some(model) if model.name == point.of.model => model.points.push(point),
                _ => models.push(Model { name: &point.of.model, points: vec![point] }),
            }
        }
        models.sort_by(|a, b| by_size(a.name, b.name));
        let key = |cell: &crate::Cell| (cell.group, cell.checkpoint, cell.recipe, cell.measure);
        let cells = manifest.cells.iter().map(key).zip(0..).collect();
        Self { manifest, models, results, cells }
    }

    /// Number of recipes; the first one is the base.
    pub(super) fn n_recipes(&self) -> usize {
        self.manifest.spec.recipes.len()
    }

    /// Names of the recipes.
    pub(super) fn recipe_names(&self) -> Vec<String> {
        self.manifest.spec.recipes.iter().map(crate::Recipe::name).collect()
    }

    /// Indices of the measures on texts.
    pub(super) fn texts(&self) -> Vec<usize> {
        let measures = self.manifest.spec.measures.iter().enumerate();
        measures.filter(|(_, measure)| matches!(measure, Measure::Text { .. })).map(|(i, _)| i).collect()
    }

    /// Indices of the measures in tasks.
    pub(super) fn tasks(&self) -> Vec<usize> {
        let measures = self.manifest.spec.measures.iter().enumerate();
        measures.filter(|(_, measure)| matches!(measure, Measure::Tasks { .. })).map(|(i, _)| i).collect()
    }

    pub(super) fn result(&self, point: &Point<'_>, recipe: usize, measure: usize) -> Option<&'a CellResult> {
        let &cell = self.cells.get(&(point.group, point.checkpoint, recipe, measure))?;
        self.results.get(cell)?.as_ref()
    }

    pub(super) fn done(&self, point: &Point<'_>, recipe: usize, measure: usize) -> Option<&'a Done> {
        self.result(point, recipe, measure)?.done()
    }

    pub(super) fn score(&self, point: &Point<'_>, recipe: usize, measure: usize) -> Option<&'a TextScore> {
        self.done(point, recipe, measure)?.text.as_ref()
    }

    /// Perplexity; `None` if it is not a number above 0.
    pub(super) fn perplexity(&self, point: &Point<'_>, recipe: usize, measure: usize) -> Option<f64> {
        let value = self.score(point, recipe, measure)?.perplexity.value;
        (value.is_finite() && value > 0.0).then_some(value)
    }

    /// Mean divergence from the base; `None` for the base, and if it is not a number.
    pub(super) fn damage(&self, point: &Point<'_>, recipe: usize, measure: usize) -> Option<f64> {
        let value = self.score(point, recipe, measure)?.against_base?.kld_mean.value;
        value.is_finite().then_some(value)
    }

    /// All results that are there.
    pub(super) fn results(&self) -> impl Iterator<Item = &'a CellResult> {
        self.results.iter().flatten()
    }
}
