//! The output matrix and what follows it. Logits stay on the device unless they are asked for.

use super::buffer::Buffer;
use super::workspace::{Workspace, bytes_of};
use super::{CudaBackend, Matrix, download};
use crate::device::Ptr;
use crate::ops::{Output, head};
use pythia_kernels::{Epilogue, LogSumPart, Prediction};
use pythia_model::Error;
use pythia_model::backend::{Candidate, Largest};
use std::ops::Range;

impl CudaBackend {
    /// Puts the logits of these rows into the workspace, row by row: at most its `logit_rows`.
    fn compute_logits(&self, output: &Matrix, x: &Buffer, rows: &[usize], workspace: &Workspace) {
        for run in runs(rows) {
            let out = workspace.logits.ptr().add(run.start * output.rows * size_of::<f32>());
            self.multiply(output, x, rows[run.start], run.len(), Output::new(None, Epilogue::Store, out));
        }
    }

    pub(super) fn download_logits(
        &self,
        output: &Matrix,
        x: &Buffer,
        rows: &[usize],
        out: &mut [f32],
        workspace: &Workspace,
    ) -> Result<(), Error> {
        let n = workspace.logit_rows;
        for (rows, out) in rows.chunks(n).zip(out.chunks_mut(n * output.rows)) {
            self.compute_logits(output, x, rows, workspace);
            download(&self.device, workspace.logits.ptr(), out);
        }
        self.check()
    }

    pub(super) fn reduce_to_predictions(
        &self,
        output: &Matrix,
        x: &Buffer,
        rows: &[usize],
        targets: &[u32],
        out: &mut [Prediction],
        workspace: &Workspace,
    ) -> Result<(), Error> {
        let (device, vocab, n) = (&*self.device, output.rows, workspace.logit_rows);
        let parts_per_row = vocab.div_ceil(LogSumPart::LOGITS);
        for ((rows, targets), out) in rows.chunks(n).zip(targets.chunks(n)).zip(out.chunks_mut(n)) {
            self.compute_logits(output, x, rows, workspace);
            device.upload(workspace.targets.ptr(), &bytes_of(targets.iter().copied()));
            let (parts, target_logits) = (workspace.parts.ptr(), workspace.target_logits.ptr());
            // SAFETY: the workspace holds this many rows of logits, targets and results.
            unsafe {
                let (logits, targets) = (workspace.logits.ptr(), workspace.targets.ptr());
                head::parts(device, logits, rows.len(), vocab, targets, parts, target_logits);
            }
            let mut bytes = vec![0; rows.len() * parts_per_row * size_of::<LogSumPart>()];
            device.download(parts, &mut bytes);
            let parts = head::parts_of(&bytes);
            let mut logits = vec![0.0; rows.len()];
            download(device, target_logits, &mut logits);
            for ((out, logit), parts) in out.iter_mut().zip(logits).zip(parts.chunks_exact(parts_per_row)) {
                *out = Prediction::new(logit, parts.iter());
            }
        }
        self.check()
    }

    pub(super) fn select_largest(
        &self,
        output: &Matrix,
        x: &Buffer,
        row: usize,
        n: usize,
        largest: Largest,
        workspace: &Workspace,
    ) -> Result<Option<Vec<Candidate>>, Error> {
        let k = match largest {
            Largest::Top(k @ 1..=head::MOST_K) => k,
            Largest::Top(_) => return Ok(None),
            Largest::First => return self.select_first(output, x, row, n, workspace).map(Some),
        };
        self.compute_logits(output, x, &[row], workspace);
        // Ids, logits, and how many there would be: one run of words, so that one copy brings all.
        let words = workspace.candidates.ptr();
        let at = |word: usize| words.add(word * size_of::<u32>());
        let top = head::TopK { scratch: workspace.sorted.ptr(), ids: words, values: at(k), candidates: at(2 * k) };
        // SAFETY: the workspace holds the row's logits and the most candidates.
        unsafe { head::top_k(&self.device, workspace.logits.ptr(), 1, output.rows, n, k, top) };
        let words = self.download_words(words, 2 * k + 1)?;
        let found = words[2 * k] as usize;
        if found > k {
            return Ok(None);
        }
        let mut largest: Vec<_> = (0..found).map(|i| (words[i], f32::from_bits(words[k + i]))).collect();
        largest.sort_unstable_by_key(|candidate| candidate.0);
        Ok(Some(largest))
    }

    fn select_first(
        &self,
        output: &Matrix,
        x: &Buffer,
        row: usize,
        n: usize,
        workspace: &Workspace,
    ) -> Result<Vec<Candidate>, Error> {
        self.compute_logits(output, x, &[row], workspace);
        let best = workspace.candidates.ptr();
        // SAFETY: the workspace holds the row's logits and a candidate.
        unsafe { head::argmax(&self.device, workspace.logits.ptr(), 1, output.rows, n, best) };
        let words = self.download_words(best, 2)?;
        let found = (words[0] != head::NONE).then(|| (words[0], f32::from_bits(words[1])));
        Ok(found.into_iter().collect())
    }

    fn download_words(&self, from: Ptr, n: usize) -> Result<Vec<u32>, Error> {
        let mut bytes = vec![0; n * size_of::<u32>()];
        self.device.download(from, &mut bytes);
        self.check()?;
        Ok(bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
    }
}

/// Stretches of consecutive rows, as ranges of indices.
fn runs(rows: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = *rows.get(start)?;
        let len = rows[start..].iter().enumerate().take_while(|&(i, &row)| row == first + i).count();
        start += len;
        Some(start - len..start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_all_rows_in_order() {
        let of = |rows: &[usize]| runs(rows).collect::<Vec<_>>();
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[4, 4]), [0..1, 1..2]);
        assert_eq!(of(&[4, 5, 6, 9, 10, 2, 2]), [0..3, 3..5, 5..6, 6..7]);
    }
}
