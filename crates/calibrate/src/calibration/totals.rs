//! Sums of g gT and x xT while they grow.
//!
//! A window is added after the other, in f32 and in the order of [`Cpu::gram`]: at most some thousand sums of 256
//! products each, so that rounding stays far below what a few thousand tokens leave uncertain. Every total counts its
//! windows. So a run can stop between any two matrices and go on later: what a total has, it is not given again.

use super::format::{self, Header};
use crate::Error;
use crate::network::Observer;
use pythia_gguf::Gguf;
use pythia_kernels::{Cpu, MatRef};
use pythia_schema::{Kind, TensorId};
use std::collections::HashMap;
use std::sync::Arc;

/// A sum of outer products of some columns with themselves.
#[derive(Debug)]
pub(super) struct Square {
    first: usize,
    pub(super) rows: usize,
    pub(super) sums: Vec<f32>,
}

impl Square {
    fn new(first: usize, rows: usize) -> Self {
        Self { first, rows, sums: vec![0.0; rows * rows] }
    }
}

/// What is summed of the same rows.
#[derive(Debug)]
pub(super) struct Total {
    /// The matrices whose metric it is, or the one whose moment.
    ids: Vec<TensorId>,
    is_moment: bool,
    pub(super) squares: Vec<Square>,
    /// Number of windows in it.
    windows: usize,
}

impl Total {
    /// The sum of the diagonal.
    fn trace(&self) -> f64 {
        let diagonal = |square: &Square| (0..square.rows).map(|i| f64::from(square.sums[i * (square.rows + 1)])).sum();
        self.squares.iter().map::<f64, _>(diagonal).sum()
    }

    fn names(&self) -> impl Iterator<Item = (String, &Square)> {
        self.ids.iter().flat_map(move |&id| {
            self.squares.iter().enumerate().map(move |(i, square)| (name(id, self.is_moment, i), square))
        })
    }
}

fn name(id: TensorId, is_moment: bool, block: usize) -> String {
    match (id.kind, is_moment) {
        (Kind::TokenEmbd, _) => format::embedding_name(),
        (_, true) => format::moment_name(id),
        (_, false) => format::metric_name(id, block),
    }
}

/// All of a calibration.
pub(super) struct Totals {
    cpu: Arc<Cpu>,
    n_ctx: usize,
    all: Vec<Total>,
    /// Number of the first window of the group that is being added.
    pub(super) first_window: usize,
}

impl Totals {
    pub(super) fn new(cpu: Arc<Cpu>, header: &Header) -> Self {
        let total = |ids: Vec<TensorId>, is_moment, squares| Total { ids, is_moment, squares, windows: 0 };
        let n_embd = header.hparams.n_embd;
        let embedding = TensorId::weight(Kind::TokenEmbd, None);
        let mut all = vec![total(vec![embedding], false, vec![Square::new(0, n_embd)])];
        for id in format::matrices(header.hparams.n_layer) {
            if let Some(rows) = header.metric_rows(id) {
                // Both branches of a parallel residual end in one sum, whose gradient they share.
                let shared = header.hparams.parallel_residual && id.kind == Kind::FfnDown;
                let output = TensorId::weight(Kind::AttnOutput, id.layer);
                match all.iter_mut().find(|total| shared && !total.is_moment && total.ids[0] == output) {
                    Some(total) => total.ids.push(id),
                    None => {
                        let blocks = format::blocks(rows).map(|range| Square::new(range.start, range.len()));
                        all.push(total(vec![id], false, blocks.collect()));
                    }
                }
            }
            if let Some(cols) = header.moment_cols(id).filter(|_| header.inputs) {
                all.push(total(vec![id], true, vec![Square::new(0, cols)]));
            }
        }
        Self { cpu, n_ctx: header.n_ctx, all, first_window: 0 }
    }

    /// Windows that are in every total.
    pub(super) fn windows(&self) -> usize {
        self.all.iter().map(|total| total.windows).min().unwrap_or(0)
    }

    /// Windows in each total.
    pub(super) fn done(&self) -> Vec<u32> {
        self.all.iter().map(|total| total.windows as u32).collect()
    }

    /// Continues with the sums of a partial file, whose header has been checked.
    pub(super) fn restore(&mut self, gguf: &Gguf, bytes: &[u8], windows: usize) -> Result<(), pythia_gguf::Error> {
        let done = format::done(&gguf.metadata, self.all.len(), windows)?;
        for (total, done) in self.all.iter_mut().zip(done) {
            let (id, is_moment) = (total.ids[0], total.is_moment);
            for (i, square) in total.squares.iter_mut().enumerate() {
                square.sums = format::square(gguf, bytes, &name(id, is_moment, i), square.rows)?;
            }
            total.windows = done as usize;
        }
        Ok(())
    }

    /// The squares by the names of their tensors. Matrices may share one.
    pub(super) fn by_name(&self) -> HashMap<String, &Square> {
        self.all.iter().flat_map(Total::names).collect()
    }

    /// The matrices with metrics and the traces of these, as means over tokens: the embedding, then in the order of a
    /// forward pass.
    pub(super) fn traces(&self) -> Vec<(TensorId, f64)> {
        let metrics = self.all.iter().filter(|total| !total.is_moment);
        let mut traces: Vec<_> = metrics
            .flat_map(|total| {
                let tokens = (total.windows * self.n_ctx).max(1) as f64;
                total.ids.iter().map(move |&id| (id, total.trace() / tokens))
            })
            .collect();
        traces.sort_by_key(|(id, _)| (id.layer, id.kind as usize));
        traces
    }

    /// Checks that all sums are finite.
    pub(super) fn check(&self) -> Result<(), Error> {
        for total in &self.all {
            for (name, square) in total.names() {
                if !square.sums.iter().all(|sum| sum.is_finite()) {
                    return Err(Error::NotFinite { place: name });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, id: TensorId, is_moment: bool, x: &[f32]) {
        let found = self.all.iter_mut().find(|total| total.is_moment == is_moment && total.ids.contains(&id));
        let Some(total) = found else { return };
        let cols = total.squares.iter().map(|square| square.rows).sum();
        // Window by window, so that no bit depends on how they are grouped.
        for (i, window) in x.chunks_exact(self.n_ctx * cols).enumerate() {
            if self.first_window + i != total.windows {
                continue;
            }
            for Square { first, rows, sums } in &mut total.squares {
                self.cpu.gram(MatRef::strided(&window[*first..], self.n_ctx, *rows, cols), sums);
            }
            total.windows += 1;
        }
    }
}

impl Observer for Totals {
    fn input(&mut self, id: TensorId, x: &[f32]) {
        self.add(id, true, x);
    }

    fn gradient(&mut self, ids: &[TensorId], g: &[f32]) {
        self.add(ids[0], false, g);
    }
}
