//! The search of the grid formats: a scale per group and the entries of a codebook for its magnitudes.

use super::group::{Columns, Group, MAX_RUNS, Plain};
use super::neighbours::{CHUNK, Cell, Neighbours};
use crate::fit::MAGIC;
use crate::lanes::{Lanes, MAX_LANES};
use crate::search::{Batch, positive};

/// How a format searches. Every number is the reference's.
pub(crate) struct GridSearch<const DIM: usize> {
    pub(crate) neighbours: &'static Neighbours<DIM>,
    /// Signs are stored as 7 bits of 8: their minuses must be even.
    pub(crate) even_signs: bool,
    /// Mean squares count this often in the weights.
    pub(crate) sigma2: f32,
    pub(crate) plain: Plain,
    /// Groups whose largest value is below this are stored as zeros.
    pub(crate) empty: f32,
    pub(crate) start: Start,
    /// Inverse scales are tried this many steps down and up...
    pub(crate) tries: i8,
    /// ... of this size.
    pub(crate) step: f32,
    pub(crate) again: Again,
    /// What the scale of the super-block is multiplied by before it is stored.
    pub(crate) fudge: f32,
}

/// What the largest code is first laid on.
pub(crate) enum Start {
    /// The largest value.
    Largest,
    /// What a scale search without a codebook makes the largest.
    Fitted,
}

/// Which entries are looked up again with the scale that was found.
pub(crate) enum Again {
    /// Those of points that were off the grid.
    OffGrid,
    /// All of a group, if any was off the grid or none was found.
    AllIfAny,
    /// All.
    All,
}

/// A super-block on its way into bytes.
#[derive(Clone, Copy)]
pub(crate) struct Encoded {
    /// Its scale.
    pub(crate) d: f32,
    /// Codes of the group scales.
    pub(crate) scales: [u8; 16],
    /// Entries of the codebook; half as many where they are of 8 elements.
    pub(crate) entries: [u16; 64],
    /// Of each run of 8 elements, bit 0 first, set for minus. Of seven elements where the eighth follows.
    pub(crate) signs: [u8; 32],
}

/// Elements of a super-block.
const ELEMS: usize = 256;
/// Entries of a codebook in the largest group.
const MAX_ENTRIES: usize = 8;

/// What was found for a group per lane.
struct Fit<V> {
    scale: V,
    /// Entries, as integers.
    entries: [V; MAX_ENTRIES],
    /// Signs per run of eight, as integers.
    signs: [V; MAX_RUNS],
}

/// A group per lane, rounded with one scale.
struct Snapped<V, const SIZE: usize> {
    /// `2 * code + 1` of every element.
    odds: [V; SIZE],
    entries: [V; MAX_ENTRIES],
    /// 1 where the rounded point was no entry, else 0.
    off_grid: [V; MAX_ENTRIES],
}

impl<const DIM: usize> GridSearch<DIM> {
    /// Quantizes a super-block per lane, in groups of `SIZE`.
    #[inline(always)]
    pub(crate) fn encode<V: Lanes, const SIZE: usize>(&self, batch: &Batch<V>) -> [Encoded; MAX_LANES] {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let mean_square = V::splat(self.sigma2) * Batch::sum_of_squares(&batch.x) / V::splat(ELEMS as f32);
        let mut encoded = [Encoded { d: 0.0, scales: [0; 16], entries: [0; 64], signs: [0; 32] }; MAX_LANES];
        let mut scales = [zero; 16];
        let mut max = zero;
        let (entries_each, runs_each) = (SIZE / DIM, SIZE / 8);
        for (g, scale) in scales[..ELEMS / SIZE].iter_mut().enumerate() {
            let group = Group::<V, SIZE>::new(batch, g, mean_square, self.plain, self.even_signs);
            let fit = self.fit(&group);
            *scale = fit.scale;
            max = max.max(fit.scale);
            for p in 0..entries_each {
                let entries = integers(fit.entries[p]);
                for lane in 0..V::N {
                    encoded[lane].entries[g * entries_each + p] = entries[lane];
                }
            }
            for run in 0..runs_each {
                let signs = integers(fit.signs[run]);
                for lane in 0..V::N {
                    encoded[lane].signs[g * runs_each + run] = signs[lane] as u8;
                }
            }
        }
        let d = max / V::splat(31.0);
        let inverse = one / d;
        for (g, &scale) in scales[..ELEMS / SIZE].iter().enumerate() {
            let codes = integers((V::splat(0.5) * (inverse * scale - one)).nearest_any().clamp(0.0, 15.0));
            for lane in 0..V::N {
                encoded[lane].scales[g] = codes[lane] as u8;
            }
        }
        let (max, d) = (max.to_array(), (d * V::splat(self.fudge)).to_array());
        for lane in 0..V::N {
            if max[lane] != 0.0 {
                encoded[lane].d = d[lane];
                continue;
            }
            encoded[lane].scales = [0; 16];
            // Such a super-block decodes to zeros whatever its codes; some formats keep those of the search.
            if self.even_signs {
                (encoded[lane].entries, encoded[lane].signs) = ([0; 64], [0; 32]);
            }
        }
        encoded
    }

    /// Finds scale and entries of a group: tries a range of scales, takes the one whose entries leave the smallest
    /// error with the scale that fits them best, and looks entries up once more with that scale.
    #[inline(always)]
    fn fit<V: Lanes, const SIZE: usize>(&self, group: &Group<V, SIZE>) -> Fit<V> {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let top = f32::from(2 * self.neighbours.levels - 1);
        let mut max = group.x[0];
        for i in 1..SIZE {
            max = max.max(group.x[i]);
        }
        let mut used = !max.lt(V::splat(self.empty));
        let mut scale = max / V::splat(top);
        if let Start::Fitted = self.start {
            (scale, _) = positive::fit(&group.x, &group.weights, f32::from(self.neighbours.levels + 1));
            max = scale * V::splat(f32::from(self.neighbours.levels));
            used = used & zero.lt(max);
        }
        let columns = Columns::new(group);
        let mut best = zero;
        let mut entries = [zero; MAX_ENTRIES];
        let mut off_grid = [if let Again::AllIfAny = self.again { one } else { zero }; MAX_ENTRIES];
        for n in -self.tries..=self.tries {
            let inverse = V::splat(top + f32::from(n) * self.step) / max;
            let snapped = self.snap(group, &columns, inverse, one / inverse);
            let (sum_qx, sum_q2) = group.sums(&snapped.odds);
            let better = zero.lt(sum_q2) & (best * sum_q2).lt(sum_qx * sum_qx);
            scale = V::select(better, sum_qx / sum_q2, scale);
            best = V::select(better, scale * sum_qx, best);
            for p in 0..SIZE / DIM {
                entries[p] = V::select(better, snapped.entries[p], entries[p]);
                off_grid[p] = V::select(better, snapped.off_grid[p], off_grid[p]);
            }
        }
        let mut any_off = zero;
        for off_grid in &off_grid[..SIZE / DIM] {
            any_off = any_off + *off_grid;
        }
        let mut again = used & zero.lt(scale);
        if !matches!(self.again, Again::All) {
            again = again & zero.lt(any_off);
        }
        if V::any(again) {
            let snapped = self.snap(group, &columns, one / scale, scale);
            for p in 0..SIZE / DIM {
                let mut anew = again;
                if let Again::OffGrid = self.again {
                    anew = anew & zero.lt(off_grid[p]);
                }
                entries[p] = V::select(anew, snapped.entries[p], entries[p]);
            }
            let (sum_qx, sum_q2) = group.sums(&self.odds::<V, SIZE>(&entries));
            scale = V::select(again & zero.lt(sum_q2), sum_qx / sum_q2, scale);
        }
        let negative = scale.lt(zero);
        let all_minus = V::splat(if self.even_signs { 127.0 } else { 255.0 });
        let mut signs = group.signs;
        for signs in &mut signs {
            *signs = V::select(negative, all_minus - *signs, *signs);
            *signs = V::select(used, *signs, zero);
        }
        for entry in &mut entries {
            *entry = V::select(used, *entry, zero);
        }
        Fit { scale: V::select(used, scale.abs(), zero), entries, signs }
    }

    /// Rounds a group with `inverse`, and moves what is off the grid to the neighbour that leaves the smallest error
    /// with `scale`.
    #[inline(always)]
    fn snap<V: Lanes, const SIZE: usize>(
        &self,
        group: &Group<V, SIZE>,
        columns: &Columns<SIZE>,
        inverse: V,
        scale: V,
    ) -> Snapped<V, SIZE> {
        let (zero, one, half) = (V::splat(0.0), V::splat(1.0), V::splat(0.5));
        let levels = f32::from(self.neighbours.levels);
        let scales = scale.to_array();
        let mut snapped = Snapped { odds: [zero; SIZE], entries: [zero; MAX_ENTRIES], off_grid: [zero; MAX_ENTRIES] };
        for p in 0..SIZE / DIM {
            let mut odds = [[0.0; MAX_LANES]; DIM];
            let mut point = zero;
            let mut place = 1.0;
            for (i, odds) in odds.iter_mut().enumerate() {
                let code = (half * (inverse * group.x[p * DIM + i] - one)).nearest_any().clamp(0.0, levels - 1.0);
                point = point + code * V::splat(place);
                place *= levels;
                (code + code + one).store(odds);
            }
            let points = integers(point);
            let (mut entries, mut off_grid) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            // First all lanes, then those off the grid: which ones they are cannot be predicted.
            let (mut near, mut count) = ([0; MAX_LANES], 0);
            for lane in 0..V::N {
                let cell = self.neighbours.at(points[lane]);
                entries[lane] = f32::from(cell.first);
                near[count] = lane;
                count += usize::from(cell.count != 0);
            }
            for &lane in &near[..count] {
                let cell = self.neighbours.at(points[lane]);
                let entry = self.nearest::<V, SIZE>(columns, p, lane, scales[lane], cell);
                for (odds, odd) in odds.iter_mut().zip(self.neighbours.odds[usize::from(entry)]) {
                    odds[lane] = odd;
                }
                entries[lane] = f32::from(entry);
                off_grid[lane] = 1.0;
            }
            for (i, odds) in odds.iter().enumerate() {
                snapped.odds[p * DIM + i] = V::load(odds);
            }
            snapped.entries[p] = V::load(&entries);
            snapped.off_grid[p] = V::load(&off_grid);
        }
        snapped
    }

    /// The neighbour with the smallest weighted error, the first of equals. Here a lane is a neighbour.
    #[inline(always)]
    fn nearest<V: Lanes, const SIZE: usize>(
        &self,
        columns: &Columns<SIZE>,
        p: usize,
        lane: usize,
        scale: f32,
        cell: Cell,
    ) -> u16 {
        let scale = V::splat(scale);
        let first = usize::from(cell.first);
        let (mut best, mut position) = (f32::INFINITY, 0.0);
        for n in (0..cell.count).step_by(V::N) {
            let at = usize::from(n);
            let chunk = &self.neighbours.chunks[first + at / CHUNK];
            let mut error = V::splat(0.0);
            for (i, odds) in chunk.iter().enumerate() {
                let difference = scale * V::load(&odds[at % CHUNK..]) - V::splat(columns.x[p * DIM + i][lane]);
                error = error + V::splat(columns.roots[p * DIM + i][lane]) * difference * difference;
            }
            let least = smallest(error);
            if least < best {
                best = least;
                let positions = V::select(error.ne(V::splat(least)), V::splat(f32::MAX), V::load(&POSITIONS));
                position = f32::from(n) + smallest(positions);
            }
        }
        let position = usize::from(position as u16);
        self.neighbours.entries[first + position / CHUNK][position % CHUNK]
    }

    /// `2 * code + 1` of every element of the entries of a group.
    #[inline(always)]
    fn odds<V: Lanes, const SIZE: usize>(&self, entries: &[V; MAX_ENTRIES]) -> [V; SIZE] {
        let mut odds = [V::splat(0.0); SIZE];
        for p in 0..SIZE / DIM {
            let entries = integers(entries[p]);
            let mut columns = [[0.0; MAX_LANES]; DIM];
            for lane in 0..V::N {
                for (column, odd) in columns.iter_mut().zip(self.neighbours.odds[usize::from(entries[lane])]) {
                    column[lane] = odd;
                }
            }
            for (i, column) in columns.iter().enumerate() {
                odds[p * DIM + i] = V::load(column);
            }
        }
        odds
    }
}

/// Positions in a chunk.
const POSITIONS: [f32; CHUNK] = {
    let mut positions = [0.0; CHUNK];
    let mut n = 0;
    while n < CHUNK {
        positions[n] = n as f32;
        n += 1;
    }
    positions
};

/// The smallest lane: by halves, which compiles to vector instructions where a search in order does not.
#[inline(always)]
fn smallest<V: Lanes>(x: V) -> f32 {
    let mut lanes = x.to_array();
    let mut half = V::N / 2;
    while half != 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] < lanes[i] { lanes[i + half] } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

/// Integers below 2^16, by lane.
#[inline(always)]
fn integers<V: Lanes>(x: V) -> [u16; MAX_LANES] {
    let lanes = (x + V::splat(MAGIC)).to_array();
    let mut integers = [0; MAX_LANES];
    for lane in 0..MAX_LANES {
        // The lowest bits of the mantissa are the integer.
        integers[lane] = lanes[lane].to_bits() as u16;
    }
    integers
}
