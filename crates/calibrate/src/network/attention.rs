//! Causal attention with partial rotation, and its gradient.
//!
//! A row of queries, keys and values is all queries, then all keys, then all values, each head by head. The scores of
//! some queries are in memory at a time. Their number is part of the order in which gradients of keys and values are
//! summed.

use super::Network;
use super::ops::for_each_row;
use pythia_kernels::{MatRef, SeenRows, Store};
use std::ops::Range;

/// Queries whose scores are in memory at a time.
const QUERIES: usize = 128;

/// The parts of a row.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

/// One head of one window.
#[derive(Clone, Copy)]
struct Head {
    /// First row of the window.
    row: usize,
    /// First column of the head in the output.
    col: usize,
    head_dim: usize,
    n_embd: usize,
}

impl Head {
    /// Where its rows `positions` begin in rows of queries, keys and values.
    fn start(self, part: Part, positions: &Range<usize>) -> usize {
        (self.row + positions.start) * 3 * self.n_embd + part as usize * self.n_embd + self.col
    }

    fn part(self, part: Part, positions: Range<usize>, qkv: &[f32]) -> MatRef<'_> {
        MatRef::strided(&qkv[self.start(part, &positions)..], positions.len(), self.head_dim, 3 * self.n_embd)
    }

    /// Where its rows `positions` begin in the output.
    fn out(self, positions: &Range<usize>) -> usize {
        (self.row + positions.start) * self.n_embd + self.col
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

impl Network<'_> {
    /// Attention within windows of `n_ctx` rows: rotates the queries and keys in `qkv`, `[n, 3 n_embd]`, in place, and
    /// replaces `out` by the weighted values, `[n, n_embd]`.
    ///
    /// # Panics
    /// If `qkv` is not whole windows.
    pub fn attend(&self, n_ctx: usize, qkv: &mut [f32], out: &mut Vec<f32>) {
        let n_embd = self.hparams.n_embd;
        self.rotate(n_ctx, qkv, false);
        out.resize(qkv.len() / 3, 0.0);
        let mut p = Vec::new();
        for (head, queries) in self.parts(n_ctx, qkv.len()) {
            let keys = 0..queries.end;
            self.probabilities(head, queries.clone(), qkv, &mut p);
            let p = MatRef::new(&p, queries.len(), keys.len());
            let values = head.part(Part::Value, keys, qkv);
            self.cpu.gemm(p, values, Store::Set, &mut out[head.out(&queries)..], n_embd);
        }
    }

    /// Replaces `dqkv` by the gradient before the rotation, from `dout`, the gradient at the output of attention. `qkv`
    /// is rotated.
    pub(super) fn attend_backward(&self, n_ctx: usize, qkv: &[f32], dout: &[f32], dqkv: &mut Vec<f32>) {
        let stride = 3 * self.hparams.n_embd;
        dqkv.clear();
        dqkv.resize(qkv.len(), 0.0);
        let (mut p, mut dp) = (Vec::new(), Vec::new());
        for (head, queries) in self.parts(n_ctx, qkv.len()) {
            let keys = 0..queries.end;
            self.probabilities(head, queries.clone(), qkv, &mut p);
            let dout = MatRef::strided(&dout[head.out(&queries)..], queries.len(), head.head_dim, head.n_embd);
            let shaped = |p| MatRef::new(p, queries.len(), keys.len());
            let into = |part, range: &Range<usize>| head.start(part, range)..;

            let dvalues = &mut dqkv[into(Part::Value, &keys)];
            self.cpu.gemm(shaped(&p).t(), dout, Store::Add, dvalues, stride);

            dp.resize(p.len(), 0.0);
            self.cpu.gemm(dout, head.part(Part::Value, keys.clone(), qkv).t(), Store::Set, &mut dp, keys.len());
            let seen = SeenRows { cols: keys.len(), first: queries.start + 1 };
            self.cpu.softmax_backward(seen, head.scale(), &p, &mut dp);

            let dqueries = &mut dqkv[into(Part::Query, &queries)];
            self.cpu.gemm(shaped(&dp), head.part(Part::Key, keys.clone(), qkv), Store::Set, dqueries, stride);

            let dkeys = &mut dqkv[into(Part::Key, &keys)];
            self.cpu.gemm(shaped(&dp).t(), head.part(Part::Query, queries.clone(), qkv), Store::Add, dkeys, stride);
        }
        self.rotate(n_ctx, dqkv, true);
    }

    /// Some queries of a head at a time: all of a head in order, then the next head, then the next window.
    fn parts(&self, n_ctx: usize, qkv_len: usize) -> impl Iterator<Item = (Head, Range<usize>)> + use<> {
        let (n_embd, head_dim) = (self.hparams.n_embd, self.hparams.head_dim());
        let n = qkv_len / (3 * n_embd);
        assert!(qkv_len == 3 * n * n_embd && n.is_multiple_of(n_ctx), "whole windows");
        (0..n).step_by(n_ctx).flat_map(move |row| {
            (0..n_embd).step_by(head_dim).flat_map(move |col| {
                let head = Head { row, col, head_dim, n_embd };
                (0..n_ctx).step_by(QUERIES).map(move |first| (head, first..n_ctx.min(first + QUERIES)))
            })
        })
    }

    /// What each of `queries` gives to each key up to the last of them, `[queries, keys]`.
    fn probabilities(&self, head: Head, queries: Range<usize>, qkv: &[f32], p: &mut Vec<f32>) {
        let (n, first, keys) = (queries.len(), queries.start + 1, queries.end);
        p.resize(n * keys, 0.0);
        let (q, k) = (head.part(Part::Query, queries, qkv), head.part(Part::Key, 0..keys, qkv));
        self.cpu.gemm(q, k.t(), Store::Set, p, keys);
        self.cpu.softmax(SeenRows { cols: keys, first }, head.scale(), p);
    }

    /// Rotates queries and keys to their positions, or back.
    fn rotate(&self, n_ctx: usize, qkv: &mut [f32], back: bool) {
        let (n_embd, head_dim) = (self.hparams.n_embd, self.hparams.head_dim());
        let rope = self.rope(n_ctx);
        for_each_row(self.cpu.team(), qkv, 3 * n_embd, |row, qkv| {
            for head in qkv[..2 * n_embd].chunks_exact_mut(head_dim) {
                if back { rope.rotate_back(row % n_ctx, head) } else { rope.rotate(row % n_ctx, head) }
            }
        });
    }
}
