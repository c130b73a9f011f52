//! For every point of the full lattice: the entry of a codebook that it is, or the entries near it.

use std::array::from_fn;

/// Neighbours that are compared at a time, at most: [`MAX_LANES`](crate::lanes::MAX_LANES).
pub(super) const CHUNK: usize = crate::lanes::MAX_LANES;

/// A codebook as encoders look into it. Codes stand for the odd numbers `2 * code + 1` here, whatever the levels of the
/// format are: that is how the reference measures distances.
pub(crate) struct Neighbours<const DIM: usize> {
    /// Number of levels.
    pub(super) levels: u8,
    /// By point of the lattice, the first element's code counting one.
    cells: Vec<Cell>,
    /// Neighbours, a chunk after another: odd numbers, element by element.
    pub(super) chunks: Vec<[[f32; CHUNK]; DIM]>,
    /// And which entries they are.
    pub(super) entries: Vec<[u16; CHUNK]>,
    /// Odd numbers of every entry.
    pub(super) odds: Vec<[f32; DIM]>,
}

/// What is at a point of the lattice.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    /// The entry that the point is, or the first chunk of its neighbours.
    pub(super) first: u16,
    /// Number of neighbours; 0 for a point that is an entry. The last chunk repeats its last one.
    pub(super) count: u16,
}

impl<const DIM: usize> Neighbours<DIM> {
    /// Neighbours are the entries at the `distances` smallest distances that entries have from a point, by distance,
    /// then by index.
    pub(crate) fn new(codes: &[[u8; DIM]], levels: u8, distances: usize) -> Self {
        let odd = |code: u8| f32::from(2 * code + 1);
        let mut this = Self {
            levels,
            cells: Vec::new(),
            chunks: Vec::new(),
            entries: Vec::new(),
            odds: codes.iter().map(|entry| entry.map(odd)).collect(),
        };
        for n in 0..u32::from(levels).pow(DIM as u32) {
            let code = |i| (n / u32::from(levels).pow(i as u32) % u32::from(levels)) as u8;
            let near = nearest_entries(codes, from_fn(code), distances);
            if near[0].0 == 0 {
                this.cells.push(Cell { first: near[0].1, count: 0 });
                continue;
            }
            this.cells.push(Cell {
                first: u16::try_from(this.chunks.len()).expect("chunks are counted in 16 bits"),
                count: near.len() as u16,
            });
            for chunk in near.chunks(CHUNK) {
                let entries = from_fn(|lane| chunk[lane.min(chunk.len() - 1)].1);
                this.entries.push(entries);
                this.chunks.push(from_fn(|i| entries.map(|entry| odd(codes[usize::from(entry)][i]))));
            }
        }
        this
    }

    /// The entry that point `n` is, if it is one.
    pub(super) fn entry(&self, n: u16) -> Option<u16> {
        let cell = self.cells.get(usize::from(n))?;
        (cell.count == 0).then_some(cell.first)
    }

    /// What is at point `n`.
    #[inline(always)]
    pub(super) fn at(&self, n: u16) -> Cell {
        self.cells[usize::from(n)]
    }
}

/// Squared distance and index of the entries at the smallest distances, in order.
fn nearest_entries<const DIM: usize>(codes: &[[u8; DIM]], point: [u8; DIM], distances: usize) -> Vec<(u16, u16)> {
    let distance =
        |entry: &[u8; DIM]| entry.iter().zip(point).fold(0, |sum, (&a, b)| sum + u16::from(a.abs_diff(b)).pow(2));
    let mut near = Vec::new();
    // The smallest distances so far: an entry beyond them is not looked at again.
    let mut wanted = Vec::new();
    for (n, entry) in codes.iter().enumerate() {
        let d = distance(entry);
        if let Err(at) = wanted.binary_search(&d) {
            wanted.insert(at, d);
            wanted.truncate(distances);
        }
        if wanted.last() >= Some(&d) {
            near.push((d, n as u16));
        }
    }
    near.retain(|(d, _)| wanted.last() >= Some(d));
    near.sort_unstable();
    near
}
