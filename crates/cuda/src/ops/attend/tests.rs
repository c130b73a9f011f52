use super::*;
use crate::device::Memory;
use crate::ops::append::{append, copy_prefix, kv_bytes};
use crate::ops::quantize::quantize;
use crate::testing::{Plain, QuantizedMemory, Random, assert_same_bits, download, upload};
use pythia_kernels::{Attention, Cpu, KvCache, KvType, RopeTable, Rotary};

/// Rows of a batch that are consecutive positions of a sequence.
#[derive(Clone, Copy, Debug)]
struct RowSpan {
    sequence: usize,
    first_position: usize,
    rows: usize,
}

/// Queries, keys and values of every position of every sequence, and what the CPU makes of them.
struct Case {
    shape: KvShape,
    rope: RopeTable,
    /// `[sequence][position][3 * width]`.
    qkv: Vec<Vec<f32>>,
    rotated: Vec<Vec<f32>>,
    /// `[sequence][position][width]`.
    out: Vec<Vec<f32>>,
}

impl Case {
    fn new(shape: KvShape, change: impl Fn(usize, &mut [f32])) -> Self {
        let width = shape.heads * shape.head_dim;
        let mut random = Random::new((shape.head_dim * shape.positions) as u64);
        // Rotated dimensions: a quarter, as in Pythia, of 80 that is 20.
        let rope = RopeTable::new(Rotary { base: 10_000.0, factor: 1.0, dims: shape.head_dim / 4 }, shape.positions);
        let cpu = Cpu::new(2, None).unwrap();
        let mut case = Self { shape, rope, qkv: vec![], rotated: vec![], out: vec![] };
        let mut cache = KvCache::new(shape);
        for sequence in 0..shape.sequences {
            let mut qkv: Vec<f32> = random.floats(shape.positions * 3 * width).iter().map(|x| 2.0 * x).collect();
            change(sequence, &mut qkv);
            case.qkv.push(qkv.clone());
            let mut out = vec![0.0; shape.positions * width];
            let spans = &[pythia_kernels::RowSpan { sequence, first_row: 0, rows: shape.positions, first_position: 0 }];
            cpu.attention(Attention {
                cache: &mut cache,
                rope: &case.rope,
                spans,
                qkv: &mut qkv,
                out: &mut out,
                weights: None,
            });
            case.rotated.push(qkv);
            case.out.push(out);
        }
        case
    }

    /// The rows of `spans` out of per-position rows of `width` floats.
    fn rows(&self, of: &[Vec<f32>], width: usize, spans: &[RowSpan]) -> Vec<f32> {
        let rows = |p: &RowSpan| &of[p.sequence][p.first_position * width..][..p.rows * width];
        spans.iter().flat_map(rows).copied().collect()
    }
}

/// A layer on the device.
struct Layer<'a> {
    device: &'a Device,
    case: &'a Case,
    keys: Memory,
    values: Memory,
    rope: Memory,
}

impl<'a> Layer<'a> {
    fn new(device: &'a Device, case: &'a Case) -> Self {
        let (keys, values) = kv_bytes(case.shape).unwrap();
        // Not zeroed: what lies behind a sequence's last position must not matter.
        let noise = |bytes: usize| upload(device, &vec![0xFFu8; bytes]);
        let turns: Vec<f32> = case.rope.turns().iter().flat_map(|&(cos, sin)| [cos, sin]).collect();
        Self { device, case, keys: noise(keys), values: noise(values), rope: upload(device, &turns) }
    }

    fn cache(&self) -> KvPtrs {
        KvPtrs { keys: self.keys.ptr(), values: self.values.ptr(), shape: self.case.shape }
    }

    /// Sequences and positions of the rows of `spans`.
    fn rows(&self, spans: &[RowSpan]) -> [Memory; 2] {
        let (mut sequences, mut positions) = (vec![], vec![]);
        for p in spans {
            sequences.extend(std::iter::repeat_n(p.sequence as u32, p.rows));
            positions.extend((p.first_position..p.first_position + p.rows).map(|p| p as u32));
        }
        [upload(self.device, &sequences), upload(self.device, &positions)]
    }

    fn rope(&self) -> Rope {
        Rope { turns: self.rope.ptr(), pairs: self.case.rope.pairs() as u64 }
    }

    /// Queries, keys and values of the rows of `spans`.
    fn qkv(&self, spans: &[RowSpan]) -> Memory {
        let width = 3 * self.case.shape.heads * self.case.shape.head_dim;
        upload(self.device, &self.case.rows(&self.case.qkv, width, spans))
    }

    /// Appends the rows of `spans`; returns their queries, keys and values. The queries are rotated, after a comparison
    /// with the CPU's.
    fn append(&self, spans: &[RowSpan]) -> Memory {
        let width = self.case.shape.heads * self.case.shape.head_dim;
        let n = spans.iter().map(|p| p.rows).sum();
        let qkv = self.qkv(spans);
        let [sequences, positions] = self.rows(spans);
        let rows = Rows { sequences: sequences.ptr(), positions: positions.ptr() };
        // SAFETY: memory of these sizes, positions within the cache.
        unsafe { append(self.device, rows, n, qkv.ptr(), self.rope(), self.cache()) };
        let queries = |qkv: &[f32]| qkv.chunks(3 * width).flat_map(|row| row[..width].to_vec()).collect::<Vec<_>>();
        let want = queries(&self.case.rows(&self.case.rotated, 3 * width, spans));
        let found = queries(&download(self.device, &qkv, n * 3 * width));
        assert_same_bits(&format!("rotated {spans:?}"), &found, &want);
        qkv
    }

    /// Attention of `spans`, cut into tiles of at most `rows`.
    fn many(&self, spans: &[RowSpan], rows: usize, qkv: &Memory) {
        let (mut tiles, mut first_row) = (vec![], 0);
        for p in spans {
            for first in (0..p.rows).step_by(rows) {
                let rows = rows.min(p.rows - first);
                tiles.extend([first_row + first, rows, p.sequence, p.first_position + first].map(|x| x as u32));
            }
            first_row += p.rows;
        }
        let n_tiles = tiles.len() / 4;
        let tiles = upload(self.device, &tiles);
        self.check(spans, &format!("tiles of {rows}"), |out| {
            // SAFETY: memory of these sizes, positions within the cache.
            unsafe { many(self.device, tiles.ptr(), n_tiles, qkv.ptr(), self.cache(), out) };
        });
    }

    /// Appends `spans`, a row of each sequence, and attends.
    fn one(&self, spans: &[RowSpan]) {
        let KvShape { heads, head_dim, .. } = self.case.shape;
        let (n, width) = (spans.len(), heads * head_dim);
        let qkv = self.qkv(spans);
        let [sequences, positions] = self.rows(spans);
        let rows = Rows { sequences: sequences.ptr(), positions: positions.ptr() };
        let scratch = upload(self.device, &vec![0xFFu8; scratch_bytes(n, self.case.shape)]);
        let room = quantizes(self.case.shape).then(|| [0; 2].map(|_| QuantizedMemory::new(self.device, n * width)));
        self.check(spans, "one", |out| {
            let results = Results { out, quantized: room.as_ref().map(|[room, _]| room.addresses()) };
            // SAFETY: memory of these sizes, positions within the cache.
            unsafe {
                one(self.device, rows, n, qkv.ptr(), self.rope(), self.cache(), scratch.ptr(), results);
                if let Some([_, apart]) = &room {
                    quantize(self.device, out, n, width, apart.addresses());
                }
            }
        });
        if let Some(both) = room {
            let [in_passing, apart] = both.map(|room| room.contents(self.device, n * width));
            assert_eq!(in_passing, apart, "{spans:?}");
        }
    }

    /// What `attend` writes against the CPU's output.
    fn check(&self, spans: &[RowSpan], what: &str, attend: impl FnOnce(Ptr)) {
        let shape = self.case.shape;
        let want = self.case.rows(&self.case.out, shape.heads * shape.head_dim, spans);
        let out = upload(self.device, &vec![f32::NAN; want.len()]);
        attend(out.ptr());
        assert_same_bits(&format!("{what}, {shape:?}, {spans:?}"), &download(self.device, &out, want.len()), &want);
    }
}

const TYPES: [KvType; 2] = [KvType::F16, KvType::F32];

fn span(sequence: usize, positions: std::ops::Range<usize>) -> RowSpan {
    RowSpan { sequence, first_position: positions.start, rows: positions.len() }
}

#[test]
fn prompts_have_the_cpus_bits_in_any_pieces() {
    let Some(device) = crate::testing::device() else { return };
    for (ty, head_dim) in TYPES.into_iter().flat_map(|ty| [8, 32, 64, 80, 128, 256].map(|dim| (ty, dim))) {
        let case = Case::new(KvShape { ty, sequences: 2, heads: 2, head_dim, positions: 100 }, |_, _| ());
        let layer = Layer::new(device, &case);
        // Two sequences in a batch, the second going on in the middle of a tile; then a last, short batch.
        for spans in
            [vec![span(1, 0..37), span(0, 0..1)], vec![span(0, 1..65), span(1, 37..99)], vec![span(1, 99..100)]]
        {
            let qkv = layer.append(&spans);
            layer.many(&spans, TILE_QUERIES, &qkv);
            layer.many(&spans, 7, &qkv);
        }
    }
}

#[test]
fn single_rows_have_the_cpus_bits() {
    let Some(device) = crate::testing::device() else { return };
    for (ty, head_dim) in TYPES.into_iter().flat_map(|ty| [8, 32, 64, 80, 128, 256].map(|dim| (ty, dim))) {
        let case = Case::new(KvShape { ty, sequences: 3, heads: 2, head_dim, positions: 150 }, |_, _| ());
        let layer = Layer::new(device, &case);
        layer.append(&[span(0, 0..150), span(1, 0..150), span(2, 0..150)]);
        // Keys of later positions are in the cache already: they must not be seen.
        for positions in [[0, 1, 149], [15, 16, 31], [32, 33, 63], [64, 127, 128], [129, 2, 17]] {
            let spans = [1, 0, 2].map(|s| span(s, positions[s]..positions[s] + 1));
            layer.one(&spans);
        }
    }
}

/// Generation leaves the cache that a prompt does.
#[test]
fn rows_are_appended_one_by_one() {
    let Some(device) = crate::testing::device() else { return };
    for (ty, head_dim) in TYPES.into_iter().flat_map(|ty| [32, 80].map(|dim| (ty, dim))) {
        let shape = KvShape { ty, sequences: 2, heads: 3, head_dim, positions: 132 };
        let case = Case::new(shape, |_, _| ());
        let (prompt, generation) = (Layer::new(device, &case), Layer::new(device, &case));
        prompt.append(&[span(0, 0..132), span(1, 0..132)]);
        generation.append(&[span(0, 0..120), span(1, 0..120)]);
        for position in 120..132 {
            generation.one(&[0, 1].map(|s| span(s, position..position + 1)));
        }
        let (keys, values) = kv_bytes(shape).unwrap();
        let contents = |layer: &Layer<'_>| -> [Vec<u8>; 2] {
            [download(device, &layer.keys, keys), download(device, &layer.values, values)]
        };
        assert!(contents(&prompt) == contents(&generation), "{shape:?}");
    }
}

#[test]
fn a_copied_prefix_is_there_and_nothing_else_has_changed() {
    let Some(device) = crate::testing::device() else { return };
    for (ty, head_dim) in TYPES.into_iter().flat_map(|ty| [32, 80].map(|dim| (ty, dim))) {
        let shape = KvShape { ty, sequences: 3, heads: 2, head_dim, positions: 70 };
        let case = Case::new(shape, |_, _| ());
        let layer = Layer::new(device, &case);
        layer.append(&[0, 1, 2].map(|sequence| span(sequence, 0..70)));
        let (n_bytes, _) = kv_bytes(shape).unwrap();
        let contents = || [&layer.keys, &layer.values].map(|memory| download::<u8>(device, memory, n_bytes));
        let (head, row) = (n_bytes / 6, head_dim * Element::of(ty).bytes());
        for positions in [0usize, 1, 32, 33, 70] {
            let mut wanted = contents();
            // Keys come in whole tiles.
            for (bytes, rows) in wanted.iter_mut().zip([positions.next_multiple_of(32), positions]) {
                (0..2).for_each(|i| bytes.copy_within(i * head..i * head + rows * row, (4 + i) * head));
            }
            // SAFETY: a cache of this shape.
            unsafe { copy_prefix(device, layer.cache(), 0, 2, positions) };
            assert!(contents() == wanted, "{shape:?}, {positions} positions");
        }
    }
}

#[test]
fn long_sequences_have_the_cpus_bits() {
    let Some(device) = crate::testing::device() else { return };
    for ty in TYPES {
        // Enough positions that the stages of values are used again.
        let case = Case::new(KvShape { ty, sequences: 1, heads: 1, head_dim: 32, positions: 1500 }, |_, _| ());
        let layer = Layer::new(device, &case);
        layer.append(&[span(0, 0..1500)]);
        for position in [511, 640, 641, 1023, 1024, 1400, 1499] {
            let spans = [span(0, position..position + 1)];
            layer.one(&spans);
        }
        let spans = [span(0, 1437..1500)];
        let qkv = layer.append(&spans);
        layer.many(&spans, TILE_QUERIES, &qkv);
    }
}

#[test]
fn what_is_not_a_number_spreads_as_on_the_cpu() {
    let Some(device) = crate::testing::device() else { return };
    let shape = KvShape { ty: KvType::F16, sequences: 6, heads: 1, head_dim: 32, positions: 70 };
    let at = |position: usize, which: usize, dim: usize| (position * 3 + which) * 32 + dim;
    let case = Case::new(shape, |sequence, qkv| match sequence {
        0 => qkv[at(20, 1, 3)] = f32::NAN,
        1 => qkv[at(33, 1, 31)] = f32::INFINITY,
        2 => qkv[at(40, 2, 5)] = f32::NEG_INFINITY,
        // Infinite as f16 alone.
        3 => qkv[at(21, 2, 7)] = 1e6,
        4 => qkv[at(64, 0, 9)] = f32::NAN,
        // Scores far apart: most exponentials are 0, and 0 times infinity is not a number.
        _ => {
            qkv.iter_mut().for_each(|x| *x *= 300.0);
            qkv[at(2, 2, 0)] = f32::INFINITY;
        }
    });
    let layer = Layer::new(device, &case);
    let spans: Vec<_> = (0..shape.sequences).map(|s| span(s, 0..70)).collect();
    let qkv = layer.append(&spans);
    layer.many(&spans, TILE_QUERIES, &qkv);
    for position in [19, 20, 32, 33, 39, 40, 63, 64, 69] {
        let spans: Vec<_> = (0..shape.sequences).map(|s| span(s, position..position + 1)).collect();
        layer.one(&spans);
    }
}

#[test]
fn tiles_travel_as_their_words() {
    let tile = AttendTile { first_row: 1, rows: 2, sequence: 3, first_position: 4 };
    // SAFETY: four u32, nothing between them.
    let words: [u32; 4] = unsafe { std::mem::transmute(tile) };
    assert_eq!(words, [1, 2, 3, 4]);
    assert_eq!(u32::bytes(&words).len(), size_of::<AttendTile>());
}
