//! Weight files, written as they are made up.

use super::shape::{Fill, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pythia_checkpoint::Dtype;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZero;
use std::path::Path;
use std::thread;

/// Standard deviation of the noise.
pub(crate) const STD: f32 = 0.02;
/// Name of the index over several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Elements made by one thread at a time. Each chunk has a generator of its own, so threads do not change the bytes.
const CHUNK_ELEMS: usize = 1 << 19;

/// Writes `tensors` into one file of `dir`, or into several and an index if one would grow past `shard_bytes`.
/// Returns the bytes of tensor data.
pub(crate) fn write(
    dir: &Path,
    tensors: &[Tensor],
    dtype: Dtype,
    seed: u64,
    shard_bytes: Option<u64>,
) -> Result<u64, String> {
    let n_bytes = |tensor: &Tensor| tensor.n_elems() as u64 * dtype.size() as u64;
    let mut shards: Vec<Vec<(usize, &Tensor)>> = Vec::new();
    let mut filled = 0;
    for numbered in tensors.iter().enumerate() {
        let more = n_bytes(numbered.1);
        match shards.last_mut() {
            Some(shard) if shard_bytes.is_none_or(|limit| filled + more <= limit) => shard.push(numbered),
            _ => {
                shards.push(vec![numbered]);
                filled = 0;
            }
        }
        filled += more;
    }
    let total: u64 = tensors.iter().map(n_bytes).sum();
    let mut weight_map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", number + 1),
        };
        let path = dir.join(&name);
        write_file(&path, shard, dtype, seed).map_err(|e| format!("{}: {e}", path.display()))?;
        weight_map.extend(shard.iter().map(|(_, tensor)| (tensor.name.clone(), json!(name))));
    }
    if shards.len() > 1 {
        let path = dir.join(INDEX);
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        fs::write(&path, format!("{index:#}\n")).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(total)
}

/// Writes one safetensors file. Tensors come with their number in the model, which seeds their noise.
fn write_file(path: &Path, tensors: &[(usize, &Tensor)], dtype: Dtype, seed: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for (_, tensor) in tensors {
        let start = end;
        end += tensor.n_elems() * dtype.size();
        let entry = json!({"dtype": dtype.name(), "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // The format pads with spaces, so that the data is aligned.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;

    let n_threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut buffers = vec![Chunk::default(); n_threads];
    for &(number, tensor) in tensors {
        let n_chunks = tensor.n_elems().div_ceil(CHUNK_ELEMS);
        for first in (0..n_chunks).step_by(n_threads) {
            let round = &mut buffers[..n_threads.min(n_chunks - first)];
            thread::scope(|scope| {
                for (i, chunk) in round.iter_mut().enumerate() {
                    let start = (first + i) * CHUNK_ELEMS;
                    let n_elems = CHUNK_ELEMS.min(tensor.n_elems() - start);
                    let seed = mix(mix(seed ^ mix(number as u64)) ^ (first + i) as u64);
                    scope.spawn(move || chunk.fill(tensor.fill, seed, n_elems, dtype));
                }
            });
            for chunk in round {
                file.write_all(&chunk.bytes)?;
            }
        }
    }
    Ok(())
}

/// A run of elements of one tensor.
#[derive(Clone, Debug, Default)]
struct Chunk {
    values: Vec<f32>,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Makes up `n_elems` elements and their bytes.
    fn fill(&mut self, fill: Fill, seed: u64, n_elems: usize, dtype: Dtype) {
        self.values.resize(n_elems, 0.0);
        match fill {
            Fill::Noise => noise(seed, &mut self.values),
            Fill::One => self.values.fill(1.0),
            Fill::Zero => self.values.fill(0.0),
        }
        self.bytes.resize(n_elems * dtype.size(), 0);
        match dtype {
            Dtype::F32 => {
                for (bytes, value) in self.bytes.as_chunks_mut().0.iter_mut().zip(&self.values) {
                    *bytes = value.to_le_bytes();
                }
            }
            Dtype::F16 => narrow(&self.values, &mut self.bytes, f16::ZERO, f16::to_le_bytes),
            Dtype::BF16 => narrow(&self.values, &mut self.bytes, bf16::ZERO, bf16::to_le_bytes),
        }
    }
}

/// Rounds `values` to a half type by way of a slice on the stack, which `half` converts with the CPU's instructions.
fn narrow<H: Copy>(values: &[f32], bytes: &mut [u8], zero: H, to_le_bytes: fn(H) -> [u8; 2])
where
    [H]: HalfFloatSliceExt,
{
    const PART_ELEMS: usize = 1024;
    let mut halves = [zero; PART_ELEMS];
    for (values, bytes) in values.chunks(PART_ELEMS).zip(bytes.chunks_mut(2 * PART_ELEMS)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
            *bytes = to_le_bytes(*half);
        }
    }
}

/// Nearly normal values: sums of four 16-bit uniform numbers, all from one output of the generator. The tails end at
/// 3.46 standard deviations, which nothing measured here depends on; only integers and one product are involved, so
/// every machine makes the same values.
fn noise(seed: u64, values: &mut [f32]) {
    // Variance of a uniform number below 2^16 is 2^32 / 12, of the sum of four 2^32 / 3.
    let scale = STD / (65536.0 / 3f32.sqrt());
    for (i, value) in values.iter_mut().enumerate() {
        let bits = mix(seed.wrapping_add((i as u64).wrapping_mul(GOLDEN_GAMMA)));
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        *value = (sum as i32 - 2 * 65535) as f32 * scale;
    }
}

/// The step of SplitMix64: 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014), a bijection that any counter can be passed through.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
