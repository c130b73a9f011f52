//! Attention of one head's queries over its part of the cache.

use super::cache::{KvShape, KvType, TILE};
use super::int8::Int8Head;
use super::weights::HeadWeights;
use crate::element::Element;
use crate::isa::{Isa, Kernel, Supported};
use crate::math;
use crate::matmul::CACHE_LINE_BYTES;
use crate::shared::SharedMut;
use pythia_tensor::blocks;
use std::cell::Cell;
use std::marker::PhantomData;

/// Some queries of one head of one sequence, at consecutive positions.
pub(super) struct Head<'a> {
    pub(super) shape: KvShape,
    /// The head's part of the cache; keys and values of the queries' own positions are there.
    pub(super) keys: &'a [u8],
    pub(super) values: &'a [u8],
    pub(super) head: usize,
    /// As [`super::Attention::qkv`], queries rotated; nobody writes this head's part of these rows.
    pub(super) qkv: SharedMut<'a, f32>,
    pub(super) first_row: usize,
    pub(super) n: usize,
    /// Position of the first query; query i sees keys `0..=first_position + i`.
    pub(super) first_position: usize,
    /// As [`super::Attention::out`]; this task alone works on the head's part of these rows.
    pub(super) out: SharedMut<'a, f32>,
    /// Where scores and pattern of these queries go, if anybody wants them.
    pub(super) weights: Option<HeadWeights<'a>>,
}

impl Head<'_> {
    pub(super) fn dispatch(self, isa: Supported) {
        match self.shape.ty {
            KvType::F16 => isa.dispatch(Over::<blocks::F16>(self, PhantomData)),
            KvType::F32 => isa.dispatch(Over::<f32>(self, PhantomData)),
            KvType::Q8_0 => isa.dispatch(Int8Head::new(self)),
        }
    }
}

/// A head over a cache of elements `E`, known when the kernel is compiled: a test per load would cost as much as what
/// it guards.
struct Over<'a, E>(Head<'a>, PhantomData<E>);

thread_local! {
    /// Scores; taken and put back, so that no closure stands between a kernel and its features.
    static SCORES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl<E: Element> Kernel for Over<'_, E> {
    type Output = ();

    /// Per group of queries: how many, tiles of keys at once, sixteens of dimensions at once. Enough sums to hide the
    /// latency of their additions, few enough for the registers; for one query the sums are what there is.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let head = self.0;
        let mut scores = SCORES.take();
        let (mut q, end) = (0, head.n);
        while q < end {
            if I::TUNING.attend_queries >= 8 && end - q >= 8 {
                head.queries::<I, E, 8, 2, 2>(isa, q, &mut scores);
                q += 8;
            } else if end - q >= 4 {
                head.queries::<I, E, 4, 1, 1>(isa, q, &mut scores);
                q += 4;
            } else if I::TUNING.attend_queries >= 8 {
                head.queries::<I, E, 1, 8, 8>(isa, q, &mut scores);
                q += 1;
            } else {
                head.queries::<I, E, 1, 4, 4>(isa, q, &mut scores);
                q += 1;
            }
        }
        SCORES.set(scores);
    }
}

impl Head<'_> {
    /// `Q` queries from `q` on; `K` tiles of keys and `D` sixteens of dimensions at once.
    #[inline(always)]
    fn queries<I: Isa, E: Element, const Q: usize, const K: usize, const D: usize>(
        &self,
        isa: I,
        q: usize,
        scores: &mut Vec<f32>,
    ) {
        let head_dim = self.shape.head_dim;
        // Keys seen by the last of the queries, in whole tiles.
        let keys = self.first_position + q + Q;
        let padded = keys.next_multiple_of(TILE);
        scores.resize(Q * padded, 0.0);
        let mut tile = 0;
        while tile + K <= padded / TILE {
            self.scores::<I, E, Q, K>(isa, q, tile, scores, padded);
            tile += K;
        }
        while tile < padded / TILE {
            // A round takes as long as its sums' additions, however many sums there are: few rounds for what is left.
            let left = if Q == 1 { padded / TILE - tile } else { 1 };
            match left {
                1 => self.scores::<I, E, Q, 1>(isa, q, tile, scores, padded),
                2 => self.scores::<I, E, Q, 2>(isa, q, tile, scores, padded),
                3 => self.scores::<I, E, Q, 3>(isa, q, tile, scores, padded),
                _ => self.scores::<I, E, Q, 4>(isa, q, tile, scores, padded),
            }
            tile += left.min(4);
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut inverse_sums = [0.0; Q];
        for (i, inverse) in inverse_sums.iter_mut().enumerate() {
            let seen = self.first_position + q + i + 1;
            let row = &mut scores[i * padded..][..padded];
            row[seen..].fill(UNSEEN);
            if let Some(weights) = &self.weights {
                weights.store_scores(q + i, &row[..seen], scale);
            }
            *inverse = 1.0 / exponentials(isa, row, scale);
            if let Some(weights) = &self.weights {
                weights.store_pattern(q + i, &row[..seen], *inverse);
            }
        }
        let sixteens = self.shape.padded_dim() / TILE;
        let mut d = 0;
        while d + D <= sixteens {
            self.values::<I, E, Q, D>(isa, q, d, scores, padded, &inverse_sums);
            d += D;
        }
        if D > 4 && d + 4 <= sixteens {
            self.values::<I, E, Q, 4>(isa, q, d, scores, padded, &inverse_sums);
            d += 4;
        }
        while d < sixteens {
            self.values::<I, E, Q, 1>(isa, q, d, scores, padded, &inverse_sums);
            d += 1;
        }
    }

    /// Dot products of `Q` queries with the keys of `K` tiles.
    #[inline(always)]
    fn scores<I: Isa, E: Element, const Q: usize, const K: usize>(
        &self,
        isa: I,
        q: usize,
        tile: usize,
        scores: &mut [f32],
        padded: usize,
    ) {
        let head_dim = self.shape.head_dim;
        let tile_bytes = TILE * head_dim * size_of::<E>();
        let keys = self.keys[..padded / TILE * tile_bytes][tile * tile_bytes..][..K * tile_bytes].as_ptr();
        let mut queries = [std::ptr::null(); Q];
        for i in 0..Q {
            queries[i] = self.query(q + i).as_ptr();
        }
        // One query is done with its keys as soon as they are there; the values are asked for meanwhile.
        let ahead = tile * TILE * self.shape.padded_dim() * size_of::<E>();
        let ahead_per_dim = K * TILE * size_of::<E>();
        let mut acc = [[isa.splat(0.0); K]; Q];
        for d in 0..head_dim {
            if Q == 1 {
                let mut line = 0;
                while line < ahead_per_dim {
                    isa.prefetch(self.values.as_ptr().wrapping_add(ahead + d * ahead_per_dim + line));
                    line += CACHE_LINE_BYTES;
                }
            }
            let mut key = [isa.splat(0.0); K];
            for k in 0..K {
                // SAFETY: the 16 elements of dimension `d` in tile `k` of those behind `keys`.
                key[k] = unsafe { E::load(isa, keys.add(k * tile_bytes + d * TILE * size_of::<E>()).cast()) };
            }
            for i in 0..Q {
                // SAFETY: `head_dim` floats behind each pointer.
                let query = isa.splat(unsafe { *queries[i].add(d) });
                for k in 0..K {
                    acc[i][k] = isa.fma(query, key[k], acc[i][k]);
                }
            }
        }
        for i in 0..Q {
            let row = scores[i * padded + tile * TILE..][..K * TILE].as_mut_ptr();
            for k in 0..K {
                // SAFETY: 16 floats within the row.
                unsafe { isa.store(row.add(k * TILE), acc[i][k]) };
            }
        }
    }

    /// Weighted sums of `D` sixteens of the values' dimensions.
    #[inline(always)]
    fn values<I: Isa, E: Element, const Q: usize, const D: usize>(
        &self,
        isa: I,
        q: usize,
        d: usize,
        weights: &[f32],
        padded: usize,
        inverse_sums: &[f32; Q],
    ) {
        let shape = &self.shape;
        let row_bytes = shape.padded_dim() * size_of::<E>();
        let seen = self.first_position + q + 1;
        let keys = seen + Q - 1;
        assert!(keys <= padded && weights.len() >= Q * padded && (d + D) * TILE <= shape.padded_dim());
        let values = self.values[..keys * row_bytes][d * TILE * size_of::<E>()..].as_ptr();
        let mut acc = [[isa.splat(0.0); D]; Q];
        for key in 0..keys {
            let mut value = [isa.splat(0.0); D];
            for n in 0..D {
                // SAFETY: sixteens `d..d + D` of row `key`.
                value[n] = unsafe { E::load(isa, values.add(key * row_bytes + n * TILE * size_of::<E>()).cast()) };
            }
            // Keys that all queries see, then those that only the later ones do: a weight of 0 would not do for the
            // others, as adding 0 can change the sign of a zero.
            if key < seen {
                for i in 0..Q {
                    // SAFETY: element `key` of row `i`, which has `padded`.
                    let weight = isa.splat(unsafe { *weights.get_unchecked(i * padded + key) });
                    for n in 0..D {
                        acc[i][n] = isa.fma(weight, value[n], acc[i][n]);
                    }
                }
            } else {
                for i in 1..Q {
                    if key < seen + i {
                        let weight = isa.splat(weights[i * padded + key]);
                        for n in 0..D {
                            acc[i][n] = isa.fma(weight, value[n], acc[i][n]);
                        }
                    }
                }
            }
        }
        for i in 0..Q {
            for n in 0..D {
                let y = isa.mul(acc[i][n], isa.splat(inverse_sums[i]));
                self.put(isa, q + i, d + n, y);
            }
        }
    }

    /// The query `i`, rotated.
    #[inline(always)]
    pub(super) fn query(&self, i: usize) -> &[f32] {
        let KvShape { head_dim, .. } = self.shape;
        let first = (self.first_row + i) * 3 * self.shape.width() + self.head * head_dim;
        // SAFETY: nobody writes this head's part of this row.
        unsafe { self.qkv.read(first, head_dim) }
    }

    /// Puts out a sixteen of dimensions, number `sixteen`, of query `i`.
    #[inline(always)]
    pub(super) fn put<I: Isa>(&self, isa: I, i: usize, sixteen: usize, y: I::F) {
        let first = sixteen * TILE;
        let len = TILE.min(self.shape.head_dim - first);
        let at = (self.first_row + i) * self.shape.width() + self.head * self.shape.head_dim + first;
        // SAFETY: this task alone works on this head of these queries.
        let out = unsafe { self.out.slice(at, len) };
        if len == TILE {
            // SAFETY: 16 floats.
            unsafe { isa.store(out.as_mut_ptr(), y) };
        } else {
            let mut lanes = [0.0f32; TILE];
            // SAFETY: an array of 16 floats.
            unsafe { isa.store(lanes.as_mut_ptr(), y) };
            out.copy_from_slice(&lanes[..len]);
        }
    }
}

/// Score of a key that a query does not see. Its exponential is 0, or 2^-126 with bytes, which no sum shows: the largest
/// score has 1. Unlike an infinity it passes for finite.
pub(super) const UNSEEN: f32 = f32::MIN;

/// Scales scores and replaces them by exponentials of their distance to the largest; returns the sum, which is not a
/// number if a score is not finite. Lane l sums elements l, l + 16, ...
#[inline(always)]
fn exponentials<I: Isa>(isa: I, row: &mut [f32], scale: f32) -> f32 {
    let scale = isa.splat(scale);
    let (lanes, _) = row.as_chunks_mut::<TILE>();
    let mut largest = isa.splat(f32::NEG_INFINITY);
    let mut broken = isa.splat(0.0);
    for x in &mut *lanes {
        // SAFETY: an array of 16 floats.
        unsafe {
            let scaled = isa.mul(isa.load(x.as_ptr()), scale);
            isa.store(x.as_mut_ptr(), scaled);
            largest = isa.max(largest, scaled);
            broken = isa.add(broken, isa.sub(scaled, scaled));
        }
    }
    let max = isa.splat(isa.max_lane(largest));
    let mut sum = isa.splat(0.0);
    for x in lanes {
        // SAFETY: an array of 16 floats.
        unsafe {
            let e = math::exp(isa, isa.sub(isa.load(x.as_ptr()), max));
            isa.store(x.as_mut_ptr(), e);
            sum = isa.add(sum, e);
        }
    }
    // Adding 0 to a positive sum changes nothing.
    isa.sum(sum) + isa.sum(broken)
}
