//! The arrays of a shard, and where their values lie in its file.

use super::dtype::Dtype;
use super::plan::{Columns, Plan};
use super::{npz, safetensors};
use pythia_convert::output::AtomicFile;
use pythia_model::hook::Width;
use pythia_schema::Hparams;
use serde::{Deserialize, Serialize};

/// Container of the arrays of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Read by `safetensors.safe_open`.
    #[default]
    Safetensors,
    /// Read by `numpy.load`: a zip file of `.npy` files, not compressed.
    Npz,
}

impl Format {
    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
        }
    }
}

/// Type of the numbers of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    I64,
    I32,
    Value(Dtype),
}

impl Scalar {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::I32 => 4,
            Self::Value(dtype) => dtype.bytes(),
        }
    }
}

/// An array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) scalar: Scalar,
    pub(super) shape: Vec<usize>,
}

impl Entry {
    fn new(name: impl ToString, scalar: Scalar, shape: &[usize]) -> Self {
        Self { name: name.to_string(), scalar, shape: shape.to_vec() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product::<u64>() * self.scalar.bytes() as u64
    }
}

/// The arrays of a shard, and where they lie. Those of larger numbers come first, so that all are aligned.
pub(super) struct Layout {
    format: Format,
    entries: Vec<Entry>,
    /// Where the values of each begin.
    starts: Vec<u64>,
    /// Bytes of the file.
    total: u64,
    /// Written around the values.
    metadata: Vec<(String, String)>,
    columns_rows: usize,
    columns_weights: usize,
    /// First entry of a sequence's own arrays, by sequence.
    own: Vec<Option<usize>>,
    first_hook: usize,
}

/// Names of the arrays that say where rows come from. Their order is that of the entries.
const OFFSETS: &str = "offsets";
const TEXTS: &str = "texts";
const TOKENS: &str = "tokens";
const POSITIONS: &str = "positions";

impl Layout {
    pub(super) fn new(
        format: Format,
        plan: &Plan,
        columns: &Columns,
        hparams: &Hparams,
        metadata: Vec<(String, String)>,
    ) -> Self {
        let (n, rows, value) = (plan.sequences.len(), plan.rows, Scalar::Value(columns.dtype));
        let mut entries = vec![
            Entry::new(OFFSETS, Scalar::I64, &[n + 1]),
            Entry::new(TEXTS, Scalar::I64, &[n]),
            Entry::new(TOKENS, Scalar::I32, &[rows]),
            Entry::new(POSITIONS, Scalar::I32, &[rows]),
        ];
        let with_rows = || plan.sequences.iter().filter(|sequence| sequence.rows > 0);
        if columns.has_keys() {
            for sequence in with_rows() {
                let name = format!("{TOKENS}/{}", sequence.number);
                entries.push(Entry::new(name, Scalar::I32, &[sequence.tokens.len()]));
            }
        }
        let first_hook = entries.len();
        for &(hook, width) in &columns.rows {
            let shape = match hook.site.width() {
                Width::Heads => vec![rows, hparams.n_head, width / hparams.n_head],
                _ => vec![rows, width],
            };
            entries.push(Entry::new(hook, value, &shape));
        }
        let mut own = vec![None; n];
        for (own, sequence) in own.iter_mut().zip(&plan.sequences).filter(|(_, sequence)| sequence.rows > 0) {
            *own = Some(entries.len());
            for hook in &columns.weights {
                let name = format!("{hook}/{}", sequence.number);
                entries.push(Entry::new(name, value, &[columns.n_head, sequence.rows, sequence.tokens.len()]));
            }
        }
        let (starts, total) = match format {
            Format::Safetensors => safetensors::places(&entries, &metadata),
            Format::Npz => npz::places(&entries, &metadata),
        };
        let (columns_rows, columns_weights) = (columns.rows.len(), columns.weights.len());
        Self { format, entries, starts, total, metadata, columns_rows, columns_weights, own, first_hook }
    }

    /// Bytes of the file.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Where the rows of a hook begin, by its place among those that have rows.
    pub(super) fn rows(&self, hook: usize) -> u64 {
        assert!(hook < self.columns_rows, "a hook with rows");
        self.starts[self.first_hook + hook]
    }

    /// Where the scores or the pattern of a sequence begin, by its place among such hooks.
    pub(super) fn weights(&self, sequence: usize, hook: usize) -> Option<u64> {
        assert!(hook < self.columns_weights, "scores or a pattern");
        self.own[sequence].map(|first| self.starts[first + hook])
    }

    /// Writes what is known before the values: where rows come from.
    pub(super) fn write_index(&self, plan: &Plan, columns: &Columns, file: &AtomicFile) -> Result<(), crate::Error> {
        let (mut offsets, mut texts, mut tokens, mut positions) = (vec![0u8; 8], Vec::new(), Vec::new(), Vec::new());
        let mut next_keys = 4;
        for sequence in &plan.sequences {
            offsets.extend_from_slice(&((sequence.first_row + sequence.rows) as i64).to_le_bytes());
            texts.extend_from_slice(&(sequence.text as i64).to_le_bytes());
            for position in columns.positions.of(sequence.tokens.len()) {
                tokens.extend_from_slice(&(sequence.tokens[position] as i32).to_le_bytes());
                positions.extend_from_slice(&(position as i32).to_le_bytes());
            }
            if columns.has_keys() && sequence.rows > 0 {
                let keys: Vec<u8> = sequence.tokens.iter().flat_map(|&token| (token as i32).to_le_bytes()).collect();
                file.write_at(&keys, self.starts[next_keys])?;
                next_keys += 1;
            }
        }
        for (bytes, start) in [offsets, texts, tokens, positions].iter().zip(&self.starts) {
            file.write_at(bytes, *start)?;
        }
        Ok(())
    }

    /// Writes what stands around the values, when all of them are written.
    pub(super) fn finish(&self, file: &AtomicFile) -> Result<(), crate::Error> {
        match self.format {
            Format::Safetensors => Ok(file.write_at(&safetensors::header(&self.entries, &self.metadata), 0)?),
            Format::Npz => npz::finish(&self.entries, &self.metadata, file),
        }
    }
}
