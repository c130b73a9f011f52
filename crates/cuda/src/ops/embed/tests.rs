use super::*;
use crate::testing::{Random, assert_same_bits, device, download, upload};

/// Rows of every type, repeated and out of order, against its decoder; nothing behind the output is written.
#[test]
fn rows_are_those_of_the_decoder() {
    let Some(device) = device() else { return };
    let tokens: [u32; 7] = [5, 0, 16, 5, 3, 15, 1];
    for &ty in TensorType::ALL {
        for cols in [ty.block_elems().max(UNIT), 1280] {
            let mut random = Random::new(ty.id().into());
            let mut table = random.weights(ty, 17, cols);
            // One row of any bytes: scales may be infinite or not numbers.
            let row_bytes = table.len() / 17;
            table[16 * row_bytes..].fill_with(|| random.next() as u8);
            let mut wanted = vec![0.0; (tokens.len() + 1) * cols];
            for (&token, out) in tokens.iter().zip(wanted.chunks_exact_mut(cols)) {
                ty.decode(&table[token as usize * row_bytes..][..row_bytes], out);
            }
            wanted[tokens.len() * cols..].fill(99.0);
            let (on_device, ids) = (upload(device, &table), upload(device, &tokens));
            let out = upload(device, &vec![99.0f32; wanted.len()]);
            // SAFETY: memory of these shapes, tokens of the table.
            unsafe { embed(device, ty, on_device.ptr(), cols, ids.ptr(), tokens.len(), out.ptr()) };
            assert_same_bits(&format!("{ty}, {cols} columns"), &download(device, &out, wanted.len()), &wanted);
        }
    }
}
