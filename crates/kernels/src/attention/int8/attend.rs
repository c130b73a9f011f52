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
use crate::quantize::{codes, scale_of};
use std::cell::Cell;

/// A head whose cache is of bytes.
pub(in crate::attention) struct Int8Head<'a>(pub(in crate::attention) Head<'a>);

/// What the tasks of a thread use again.
#[derive(Default)]
struct Scratch {
    /// Codes of `Q` queries, a word per step of 4 dimensions: `[step][Q]`.
    queries: Vec<i32>,
    /// Per unit of dimensions and query: its scale, times that of scores; and what its sum starts from.
    units: Vec<(f32, i32)>,
    /// Scores, then exponentials, of `Q` queries: `[Q][keys]`.
    scores: Vec<f32>,
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
        let (mut q, end) = (0, self.0.n);
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
    fn queries<I: Isa, const Q: usize, const K: usize, const D: usize>(
        &self,
        isa: I,
        q: usize,
        scratch: &mut Scratch,
    ) {
        let head = &self.0;
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
        while tile < tiles {
            self.scores::<I, Q, 1>(isa, tile, tiles, scratch);
            tile += 1;
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
        let head = &self.0;
        let steps = head.shape.padded_dim() / 4;
        scratch.queries.resize(Q * steps, 0);
        scratch.units.resize(Q * steps.div_ceil(UNIT / 4), (0.0, 0));
        let of_scores = 1.0 / (head.shape.head_dim as f32).sqrt();
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
    fn scores<I: Isa, const Q: usize, const K: usize>(
        &self,
        isa: I,
        tile: usize,
        tiles: usize,
        scratch: &mut Scratch,
    ) {
        let head = &self.0;
        let (tile_bytes, codes_bytes) = (head.shape.key_tile_bytes(), head.shape.padded_dim() * TILE);
        let keys = head.keys[..tiles * tile_bytes][tile * tile_bytes..][..K * tile_bytes].as_ptr();
        if Q == 1 {
            // One query is done with its keys as soon as they are there; the values are asked for meanwhile.
            let value_bytes = head.shape.value_tile_bytes();
            let mut line = 0;
            while line < K * value_bytes {
                isa.prefetch(head.values.as_ptr().wrapping_add(tile * value_bytes + line));
                line += CACHE_LINE_BYTES;
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
    fn weights<I: Isa, const Q: usize>(
        &self,
        isa: I,
        q: usize,
        i: usize,
        padded: usize,
        scratch: &mut Scratch,
    ) -> f32 {
        let head = &self.0;
        let seen = head.first_position + q + i + 1;
        let row = &mut scratch.scores[i * padded..][..padded];
        row[seen..].fill(UNSEEN);
        if let Some(weights) = &head.weights {
            weights.store_scores(q + i, &row[..seen], 1.0);
        }
        let (mut largest, mut broken) = (isa.splat(f32::NEG_INFINITY), isa.splat(0.0));
        for x in row.as_chunks::<TILE>().0 {
            // SAFETY: an array of 16 floats.
            let x = unsafe { isa.load(x.as_ptr()) };
            largest = isa.max(largest, x);
            broken = isa.fma(x, isa.splat(0.0), broken);
        }
        let max = isa.splat(isa.max_lane(largest));
        let (value_bytes, codes_bytes) = (head.shape.value_tile_bytes(), head.shape.padded_dim() * TILE);
        let mut sum = isa.splat(0.0);
        for (g, x) in row.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let weights = &mut scratch.weights[2 * g * Q..][..2 * Q];
            if g * GROUP >= seen {
                (weights[i], weights[Q + i]) = ([0; TILE], [0; TILE]);
                scratch.scales[g * Q + i] = 0.0;
                continue;
            }
            let tiles = &head.values[2 * g * value_bytes..][..2 * value_bytes];
            // SAFETY: 16 floats each.
            unsafe {
                let e = [
                    math::exp(isa, isa.sub(isa.load(x.as_ptr()), max)),
                    math::exp(isa, isa.sub(isa.load(x.as_ptr().add(TILE)), max)),
                ];
                sum = isa.add(isa.add(sum, e[0]), e[1]);
                if head.weights.is_some() {
                    isa.store(x.as_mut_ptr(), e[0]);
                    isa.store(x.as_mut_ptr().add(TILE), e[1]);
                }
                let scales = [tiles[codes_bytes..].as_ptr(), tiles[value_bytes + codes_bytes..].as_ptr()];
                let mut scales = [isa.load(scales[0].cast()), isa.load(scales[1].cast())];
                if (g + 1) * GROUP > seen {
                    scales = seen_only(isa, scales, seen - g * GROUP);
                }
                let w = [isa.mul(e[0], scales[0]), isa.mul(e[1], scales[1])];
                let amax = f32::from_bits(isa.largest_magnitude(w[0], w[1]));
                let (scale, inverse) = scale_of(amax);
                isa.store_i8(weights[i].as_mut_ptr(), codes(isa, w[0], amax, inverse));
                isa.store_i8(weights[Q + i].as_mut_ptr(), codes(isa, w[1], amax, inverse));
                scratch.scales[g * Q + i] = scale;
            }
        }
        // Adding 0 to a positive sum changes nothing.
        let sum = isa.sum(sum) + isa.sum(broken);
        if let Some(weights) = &head.weights {
            weights.store_pattern(q + i, &row[..seen], 1.0 / sum);
        }
        sum
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
        let head = &self.0;
        let (tile_bytes, row_bytes) = (head.shape.value_tile_bytes(), head.shape.padded_dim() * 4);
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
