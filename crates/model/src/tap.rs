//! What a forward pass does for those who watch or change it.

use crate::backend::{Backend, Batch};
use crate::hook::{Edits, Hook, Hooks, Part, Rows, RowsMut, Site, Values, Weights};
use pythia_kernels::{AttentionWeights, Cpu, Gelu};

/// Who watches and who changes a pass.
#[derive(Default)]
pub(crate) struct Taps<'a, 'h> {
    pub(crate) hooks: Option<&'a mut (dyn Hooks + 'h)>,
    pub(crate) edits: Option<&'a dyn Edits>,
}

impl Taps<'_, '_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_none() && self.edits.is_none()
    }
}

/// The taps of one pass. Compiled for `TAPPED = false` it holds no trace of them.
pub(crate) struct Tap<'a, 'h, B: Backend, const TAPPED: bool> {
    pub(crate) backend: &'a B,
    pub(crate) cpu: &'a Cpu,
    pub(crate) batch: Batch<'a>,
    pub(crate) taps: Taps<'a, 'h>,
    /// Where a device puts its rows.
    staging: [Vec<f32>; 2],
    attention: Attention,
}

/// Scores and patterns of the layer that runs.
#[derive(Default)]
struct Attention {
    scores: Vec<f32>,
    pattern: Vec<f32>,
}

impl<'a, 'h, B: Backend, const TAPPED: bool> Tap<'a, 'h, B, TAPPED> {
    pub(crate) fn new(backend: &'a B, cpu: &'a Cpu, batch: Batch<'a>, taps: Taps<'a, 'h>) -> Self {
        Self { backend, cpu, batch, taps, staging: [Vec::new(), Vec::new()], attention: Attention::default() }
    }

    fn sees(&self, hook: Hook) -> bool {
        self.taps.hooks.as_ref().is_some_and(|hooks| hooks.sees(hook))
    }

    /// Whether anybody wants it to be there: what a kernel would keep to itself is then stored.
    pub(crate) fn wants(&self, site: Site, layer: Option<usize>) -> bool {
        let hook = Hook { site, layer };
        TAPPED && (self.sees(hook) || self.taps.edits.is_some_and(|edits| site.can_change() && edits.changes(hook)))
    }

    /// The pass has come to a place whose values are the rows of a buffer.
    pub(crate) fn at(&mut self, site: Site, layer: Option<usize>, x: &mut B::Buffer) {
        self.at_part(site, layer, x, 0, 1);
    }

    /// As [`at`](Self::at), where the values are one of several equal parts of each row.
    pub(crate) fn at_part(&mut self, site: Site, layer: Option<usize>, x: &mut B::Buffer, index: usize, parts: usize) {
        if !TAPPED {
            return;
        }
        let (hook, batch, n) = (Hook { site, layer }, self.batch, self.batch.tokens.len());
        let part = |len: usize| Part { stride: len / n, first: len / n / parts * index, cols: len / n / parts };
        let [staging, _] = &mut self.staging;
        if let Some(edits) = self.taps.edits.filter(|edits| site.can_change() && edits.changes(hook)) {
            self.backend.edit(x, n, staging, &mut |rows| {
                let part = part(rows.len());
                edits.change(hook, batch, RowsMut::new(rows, part));
            });
        }
        if let Some(hooks) = self.taps.hooks.as_mut().filter(|hooks| hooks.sees(hook)) {
            let rows = self.backend.rows(x, n, staging);
            hooks.see(hook, batch, Values::Rows(Rows::new(rows, part(rows.len()))));
        }
    }

    /// Where attention leaves scores and patterns, if anybody wants them.
    pub(crate) fn attention_weights(&mut self, heads: usize, layer: Option<usize>) -> Option<AttentionWeights<'_>> {
        let [scores, pattern] = [Site::Scores, Site::Pattern].map(|site| self.wants(site, layer));
        if !(scores || pattern) {
            return None;
        }
        let len = AttentionWeights::len(heads, self.batch.spans);
        fn room(array: &mut Vec<f32>, len: usize) -> &mut [f32] {
            if array.len() != len {
                *array = vec![0.0; len];
            }
            array
        }
        let attention = &mut self.attention;
        Some(AttentionWeights {
            scores: scores.then(|| room(&mut attention.scores, len)),
            pattern: pattern.then(|| room(&mut attention.pattern, len)),
        })
    }

    /// Attention has left them.
    pub(crate) fn attended(&mut self, layer: Option<usize>) {
        if !TAPPED {
            return;
        }
        let Some(hooks) = &mut self.taps.hooks else { return };
        let Attention { scores, pattern } = &mut self.attention;
        for (site, array) in [(Site::Scores, scores), (Site::Pattern, pattern)] {
            let hook = Hook { site, layer };
            if hooks.sees(hook) {
                hooks.see(hook, self.batch, Values::Weights(Weights::new(array)));
            }
        }
    }

    /// `into += x`: the residual connection of a product that was stored on its own, with the bits of the epilogue.
    pub(crate) fn add(&mut self, x: &B::Buffer, into: &mut B::Buffer) {
        let n = self.batch.tokens.len();
        let [first, second] = &mut self.staging;
        let x = self.backend.rows(x, n, first);
        self.backend.edit(into, n, second, &mut |into| self.cpu.add(x, into));
    }

    /// GELU of a product that was stored before it, with the bits of the epilogue.
    pub(crate) fn gelu(&mut self, gelu: Gelu, x: &mut B::Buffer) {
        let [staging, _] = &mut self.staging;
        self.backend.edit(x, self.batch.tokens.len(), staging, &mut |x| self.cpu.gelu(gelu, x));
    }
}
