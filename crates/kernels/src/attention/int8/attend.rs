//! Attention of one head's queries over keys and values that are bytes.
//!
//! A query becomes bytes as keys do. Its score with a key adds the units of 32 dimensions, ascending. The exponentials
//! times the scales of their values become bytes again, a group of keys at a time, and an output adds the groups,
//! ascending. Nothing else is a float, so how many queries, keys and dimensions are worked on together is free.

use super::{GROUP, STEP_BYTES, UNIT, unit_codes};
use crate::attention::attend::{Head, UNSEEN};
use crate::attention::cache::TILE;
use crate::isa::{Isa, Kernel};
use crate::math;
use crate::matmul::CACHE_LINE_BYTES;
use crate::quantize::scales_of;
use std::cell::Cell;

/// A head whose cache is of bytes.
pub(in crate::attention) struct Int8Head<'a> {
    head: Head<'a>,
    /// Bytes of a tile of keys, and of a tile of values.
    key_tile: usize,
    value_tile: usize,
    /// Of both, the bytes of codes.
    codes: usize,
}

impl<'a> Int8Head<'a> {
    pub(in crate::attention) fn new(head: Head<'a>) -> Self {
        let shape = head.shape;
        let (key_tile, value_tile) = (shape.key_tile_bytes(), shape.value_tile_bytes());
        Self { head, key_tile, value_tile, codes: shape.padded_dim() * TILE }
    }
}

/// What the tasks of a thread use again.
#[derive(Default)]
struct Scratch {
    /// Codes of `Q` queries, a word per step of 4 dimensions: `[step][Q]`.
    queries: Vec<i32>,
    /// Per unit of dimensions and query: its scale, times that of scores; and what its sum starts from.
    units: Vec<(f32, i32)>,
    /// Scores, then exponentials, of `Q` queries: `[Q][keys]`.
    scores: Vec<f32>,
    /// Weights of a query, as many groups as there are lanes.
    weighted: Vec<[f32; GROUP]>,
    /// Codes of the weights: `[tile][Q][16 keys]`.
    weights: Vec<[u8; TILE]>,
    /// Their scales: `[group][Q]`.
    scales: Vec<f32>,
}

thread_local! {
    /// Taken and put back, so that no closure stands between a kernel and its features.
    static SCRATCH: Cell<Scratch> = const {
        Cell::new(Scratch {
            queries: Vec::new(),
            units: Vec::new(),
            scores: Vec::new(),
            weighted: Vec::new(),
            weights: Vec::new(),
            scales: Vec::new(),
        })
    };
}

impl Kernel for Int8Head<'_> {
    type Output = ();

    /// Per group of queries: how many, tiles of keys at once, sixteens of dimensions at once.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut scratch = SCRATCH.take();
        let (mut q, end) = (0, self.head.n);
        for i in 0..end {
            // Rows are far from each other: the processor does not guess the next one.
            let query = self.head.query(i);
            for line in (0..size_of_val(query)).step_by(CACHE_LINE_BYTES) {
                isa.prefetch(query.as_ptr().cast::<u8>().wrapping_add(line));
            }
        }
        while q < end {
            if I::TUNING.attend_queries >= 8 && end - q >= 8 {
                self.queries::<I, 8, 2, 2>(isa, q, &mut scratch);
                q += 8;
            } else if end - q >= 4 {
                self.queries::<I, 4, 1, 1>(isa, q, &mut scratch);
                q += 4;
            } else if I::TUNING.attend_queries >= 8 {
                self.queries::<I, 1, 8, 4>(isa, q, &mut scratch);
                q += 1;
            } else {
                self.queries::<I, 1, 4, 4>(isa, q, &mut scratch);
                q += 1;
            }
        }
        SCRATCH.set(scratch);
    }
}

impl Int8Head<'_> {
    /// `Q` queries from `q` on; `K` tiles of keys and `D` sixteens of dimensions at once.
    #[inline(always)]
    fn queries<I: Isa, const Q: usize, const K: usize, const D: usize>(&self, isa: I, q: usize, scratch: &mut Scratch) {
        let head = &self.head;
        self.quantize::<I, Q>(isa, q, scratch);
        // Keys seen by the last of the queries, in whole groups.
        let padded = (head.first_position + q + Q).next_multiple_of(GROUP);
        scratch.scores.resize(Q * padded, 0.0);
        scratch.weights.resize(Q * padded / TILE, [0; TILE]);
        scratch.scales.resize(Q * padded / GROUP, 0.0);
        let tiles = padded / TILE;
        let mut tile = 0;
        while tile + K <= tiles {
            self.scores::<I, Q, K>(isa, tile, tiles, scratch);
            tile += K;
        }
        // Groups have two tiles each.
        while K > 2 && tile < tiles {
            self.scores::<I, Q, 2>(isa, tile, tiles, scratch);
            tile += 2;
        }
        let mut inverse_sums = [0.0; Q];
        for (i, inverse) in inverse_sums.iter_mut().enumerate() {
            *inverse = 1.0 / self.weights::<I, Q>(isa, q, i, padded, scratch);
        }
        let sixteens = head.shape.padded_dim() / TILE;
        let mut d = 0;
        while d + D <= sixteens {
            self.values::<I, Q, D>(isa, q, d, padded, scratch, &inverse_sums);
            d += D;
        }
        while d < sixteens {
            self.values::<I, Q, 1>(isa, q, d, padded, scratch, &inverse_sums);
            d += 1;
        }
    }

    /// Queries as bytes.
    #[inline(always)]
    fn quantize<I: Isa, const Q: usize>(&self, isa: I, q: usize, scratch: &mut Scratch) {
        let head = &self.head;
        let steps = head.shape.padded_dim() / 4;
        scratch.queries.resize(Q * steps, 0);
        scratch.units.resize(Q * steps.div_ceil(UNIT / 4), (0.0, 0));
        let of_scores = std::f32::consts::LOG2_E / (head.shape.head_dim as f32).sqrt();
        for i in 0..Q {
            for (u, x) in head.query(q + i).chunks(UNIT).enumerate() {
                let (scale, codes, sum) = unit_codes(isa, x);
                scratch.units[u * Q + i] = (scale * of_scores, -I::I8_BIAS * sum);
                let words = scratch.queries[u * UNIT / 4 * Q..].as_chunks_mut::<Q>().0;
                for (word, code) in words.iter_mut().zip(codes.as_chunks::<4>().0) {
                    word[i] = i32::from_le_bytes(*code);
                }
            }
        }
    }

    /// Scores of `Q` queries with the keys of `K` tiles of `tiles`.
    #[inline(always)]
    fn scores<I: Isa, const Q: usize, const K: usize>(&self, isa: I, tile: usize, tiles: usize, scratch: &mut Scratch) {
        let head = &self.head;
        let (tile_bytes, codes_bytes) = (self.key_tile, self.codes);
        let keys = head.keys[..tiles * tile_bytes][tile * tile_bytes..][..K * tile_bytes].as_ptr();
        if Q == 1 {
            // One query is done with its keys as soon as they are there; the values are asked for meanwhile.
            let values = head.values.as_ptr().wrapping_add(tile * self.value_tile);
            for line in (0..K * self.value_tile).step_by(CACHE_LINE_BYTES) {
                isa.prefetch(values.wrapping_add(line));
            }
        }
        let units = scratch.units.as_chunks::<Q>().0;
        let mut acc = [[isa.splat(0.0); K]; Q];
        for (u, steps) in scratch.queries.as_chunks::<Q>().0.chunks(UNIT / 4).enumerate() {
            let mut sums = [[isa.splat_int(0); Q]; K];
            let mut at = [std::ptr::null(); K];
            for k in 0..K {
                for i in 0..Q {
                    sums[k][i] = isa.splat_int(units[u][i].1);
                }
                // SAFETY: the steps of unit `u` in tile `k` of those behind `keys`.
                at[k] = unsafe { keys.add(k * tile_bytes + u * UNIT / 4 * STEP_BYTES).cast() };
            }
            // SAFETY: a tile has as many steps as a query.
            let sums = unsafe { isa.dot_steps(sums, at, steps, 8) };
            for k in 0..K {
                // SAFETY: 16 scales of unit `u`, behind the codes of the tile.
                let scale = unsafe { isa.load(keys.add(k * tile_bytes + codes_bytes + u * TILE * 4).cast()) };
                for i in 0..Q {
                    let scale = isa.mul(isa.splat(units[u][i].0), scale);
                    acc[i][k] = isa.fma(isa.to_float(sums[k][i]), scale, acc[i][k]);
                }
            }
        }
        for i in 0..Q {
            let row = scratch.scores[(i * tiles + tile) * TILE..][..K * TILE].as_mut_ptr();
            for k in 0..K {
                // SAFETY: 16 floats within the row.
                unsafe { isa.store(row.add(k * TILE), acc[i][k]) };
            }
        }
    }

    /// Weights of query `q + i`, as bytes; returns the sum of its exponentials, which is not a number if a score is not
    /// finite. Lane l sums elements l, l + 16, ...
    #[inline(always)]
    fn weights<I: Isa, const Q: usize>(&self, isa: I, q: usize, i: usize, padded: usize, scratch: &mut Scratch) -> f32 {
        let head = &self.head;
        let seen = head.first_position + q + i + 1;
        let row = &mut scratch.scores[i * padded..][..padded];
        row[seen..].fill(UNSEEN);
        let (max, broken) = largest(isa, row);
        let mut sum = isa.splat(0.0);
        let groups = seen.div_ceil(GROUP);
        let weighted = &mut scratch.weighted;
        weighted.resize(TILE, [0.0; GROUP]);
        let weighted = weighted.first_chunk_mut::<TILE>().expect("just made");
        // As many groups at a time as there are lanes: their scales are found together.
        for first in (0..groups).step_by(TILE) {
            let n = TILE.min(groups - first);
            let mut amax = [isa.splat(0.0); TILE];
            for j in 0..n {
                let x = &row.as_chunks::<GROUP>().0[first + j];
                let mut scales = self.value_scales(isa, first + j);
                if (first + j + 1) * GROUP > seen {
                    scales = seen_only(isa, scales, seen - (first + j) * GROUP);
                }
                for h in 0..2 {
                    // SAFETY: half of an array of 32 floats.
                    unsafe {
                        let e = exponential(isa, isa.load(x.as_ptr().add(h * TILE)), max);
                        sum = isa.add(sum, e);
                        scales[h] = isa.mul(e, scales[h]);
                        isa.store(weighted[j].as_mut_ptr().add(h * TILE), scales[h]);
                    }
                }
                amax[j] = isa.max_bits(scales[0], scales[1]);
            }
            let (scales, inverses) = scales_of(isa, isa.max_bits_each(amax));
            let mut lanes = [[0.0f32; TILE]; 2];
            // SAFETY: 16 floats each.
            unsafe {
                isa.store(lanes[0].as_mut_ptr(), scales);
                isa.store(lanes[1].as_mut_ptr(), inverses);
            }
            let codes = &mut scratch.weights.as_chunks_mut::<Q>().0.as_chunks_mut::<2>().0[first..][..n];
            let scales = &mut scratch.scales.as_chunks_mut::<Q>().0[first..][..n];
            for j in 0..n {
                scales[j][i] = lanes[0][j];
                let inverse = isa.splat(lanes[1][j]);
                for h in 0..2 {
                    // SAFETY: half of an array of 32 floats, and 16 bytes.
                    unsafe {
                        let w = isa.mul(isa.load(weighted[j].as_ptr().add(h * TILE)), inverse);
                        isa.store_i8(codes[j][h][i].as_mut_ptr(), isa.round(w));
                    }
                }
            }
        }
        // Groups that only later queries see.
        let codes = &mut scratch.weights.as_chunks_mut::<Q>().0[2 * groups..];
        codes.iter_mut().for_each(|codes| codes[i] = [0; TILE]);
        let scales = &mut scratch.scales.as_chunks_mut::<Q>().0[groups..];
        scales.iter_mut().for_each(|scales| scales[i] = 0.0);
        // Adding 0 to a positive sum changes nothing.
        let sum = isa.sum(sum) + isa.sum(broken);
        if let Some(weights) = &head.weights {
            // The scores are no longer needed as they are.
            weights.store_scores(q + i, &row[..seen], std::f32::consts::LN_2);
            for x in row.as_chunks_mut::<TILE>().0 {
                // SAFETY: an array of 16 floats.
                unsafe { isa.store(x.as_mut_ptr(), exponential(isa, isa.load(x.as_ptr()), max)) };
            }
            weights.store_pattern(q + i, &row[..seen], 1.0 / sum);
        }
        sum
    }

    /// Scales of the values of a group.
    #[inline(always)]
    fn value_scales<I: Isa>(&self, isa: I, group: usize) -> [I::F; 2] {
        let head = &self.head;
        let bytes = self.value_tile;
        let tiles = head.values[2 * group * bytes..][..2 * bytes].as_ptr();
        // SAFETY: 16 floats behind the codes of each of the two tiles.
        unsafe {
            let scales = tiles.add(self.codes);
            [isa.load(scales.cast()), isa.load(scales.add(bytes).cast())]
        }
    }

    /// Weighted sums of `D` sixteens of the values' dimensions.
    #[inline(always)]
    fn values<I: Isa, const Q: usize, const D: usize>(
        &self,
        isa: I,
        q: usize,
        d: usize,
        padded: usize,
        scratch: &Scratch,
        inverse_sums: &[f32; Q],
    ) {
        let head = &self.head;
        let (tile_bytes, row_bytes) = (self.value_tile, self.codes / 4);
        assert!((d + D) * TILE <= head.shape.padded_dim(), "dimensions of the head");
        let tiles = head.values[..padded / TILE * tile_bytes].chunks_exact(2 * tile_bytes);
        let weights = scratch.weights.as_chunks::<Q>().0.as_chunks::<2>().0;
        let scales = scratch.scales.as_chunks::<Q>().0;
        let mut acc = [[isa.splat(0.0); D]; Q];
        for ((tiles, weights), scales) in tiles.zip(weights).zip(scales) {
            let mut sums = [[isa.splat_int(0); D]; Q];
            for (tile, weights) in weights.iter().enumerate() {
                for four in 0..TILE / 4 {
                    let mut value = [isa.splat_int(0); D];
                    for n in 0..D {
                        let at = tile * tile_bytes + four * row_bytes + (d + n) * STEP_BYTES;
                        // SAFETY: a step of the sixteens `d..d + D` in one of the two tiles.
                        value[n] = unsafe { isa.load_int(tiles.as_ptr().add(at).cast()) };
                    }
                    for i in 0..Q {
                        let weight = i32::from_le_bytes(weights[i].as_chunks::<4>().0[four]);
                        for n in 0..D {
                            sums[i][n] = isa.dot4_by_u7(sums[i][n], value[n], weight);
                        }
                    }
                }
            }
            for i in 0..Q {
                for n in 0..D {
                    acc[i][n] = isa.fma(isa.to_float(sums[i][n]), isa.splat(scales[i]), acc[i][n]);
                }
            }
        }
        for i in 0..Q {
            for n in 0..D {
                // Plus 0: a sum of nothing but zeros has no sign.
                let y = isa.fma(acc[i][n], isa.splat(inverse_sums[i]), isa.splat(0.0));
                head.put(isa, q + i, d + n, y);
            }
        }
    }
}

/// The exponential of a score less the largest.
#[inline(always)]
fn exponential<I: Isa>(isa: I, score: I::F, max: I::F) -> I::F {
    math::exp2_of_negative(isa, isa.sub(score, max))
}

/// The largest of a row of scores; and a vector of zeros, or what is not a number if a score is not finite.
#[inline(always)]
fn largest<I: Isa>(isa: I, row: &[f32]) -> (I::F, I::F) {
    // Four of each, so that no round waits for the one before.
    let (mut largest, mut broken) = ([isa.splat(f32::NEG_INFINITY); 4], [isa.splat(0.0); 4]);
    let (fours, rest) = row.as_chunks::<TILE>().0.as_chunks::<4>();
    for x in fours {
        for j in 0..4 {
            // SAFETY: an array of 16 floats.
            let x = unsafe { isa.load(x[j].as_ptr()) };
            largest[j] = isa.max(largest[j], x);
            broken[j] = isa.fma(x, isa.splat(0.0), broken[j]);
        }
    }
    for x in rest {
        // SAFETY: an array of 16 floats.
        let x = unsafe { isa.load(x.as_ptr()) };
        largest[0] = isa.max(largest[0], x);
        broken[0] = isa.fma(x, isa.splat(0.0), broken[0]);
    }
    let max = isa.max(isa.max(largest[0], largest[1]), isa.max(largest[2], largest[3]));
    let broken = isa.add(isa.add(broken[0], broken[1]), isa.add(broken[2], broken[3]));
    (isa.splat(isa.max_lane(max)), broken)
}

/// The first `seen` of 32 scales; the others may be anything and become 0.
#[inline(always)]
fn seen_only<I: Isa>(isa: I, scales: [I::F; 2], seen: usize) -> [I::F; 2] {
    let mut lanes = [0.0f32; GROUP];
    // SAFETY: an array of 32 floats.
    unsafe {
        isa.store(lanes.as_mut_ptr(), scales[0]);
        isa.store(lanes.as_mut_ptr().add(TILE), scales[1]);
        lanes[seen..].fill(0.0);
        [isa.load(lanes.as_ptr()), isa.load(lanes.as_ptr().add(TILE))]
    }
}
