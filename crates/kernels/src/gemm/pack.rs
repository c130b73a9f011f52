//! Operands in the order the tile reads them: panels of a tile's rows of `a` and of its columns of `b`, step by step.
//!
//! Both sides are seen as `lanes x steps` here: rows of `a`, columns of `b`. What a side lacks in its last panel is
//! zero; those results are dropped.

use super::MatRef;
use super::transpose::transpose;
use crate::isa::{Isa, Kernel, Supported};
use crate::matmul::{LANES, Lanes};
use crate::shared::SharedMut;
use crate::team::Team;
use std::cell::Cell;
use std::ops::Range;

/// Elements that are packed before a thread looks for more, at least.
const GRAIN: usize = 8192;

/// Lanes of an operand, and how many make a panel.
pub(super) struct Side<'a> {
    pub(super) x: MatRef<'a>,
    pub(super) lanes: Range<usize>,
    pub(super) width: usize,
}

impl Side<'_> {
    fn panels(&self) -> usize {
        self.lanes.len().div_ceil(self.width)
    }
}

/// One run of a block.
#[derive(Default)]
pub(super) struct Panels {
    a: Vec<Lanes>,
    b: Vec<Lanes>,
}

thread_local! {
    /// Taken and put back, so that neither memory nor zeros are asked for again.
    pub(super) static PANELS: Cell<Panels> = Cell::new(Panels::default());
}

/// Vectors that a panel takes. A step is written as whole vectors, of which the next step takes back what is too much;
/// one more vector than the values need keeps the last step from the next panel.
fn panel_len(width: usize, steps: usize) -> usize {
    (width * steps).div_ceil(LANES) + 1
}

impl Panels {
    /// Packs some steps of `a` and of `b`.
    pub(super) fn pack(&mut self, team: &Team, isa: Supported, sides: [&Side; 2], steps: &Range<usize>, alone: bool) {
        let [a, b] = sides;
        let rooms = [room(&mut self.a, a, steps.len()), room(&mut self.b, b, steps.len())];
        let panels = a.panels() + b.panels();
        let grain = (GRAIN / (a.width * steps.len())).max(1);
        team.run_ranges(panels, if alone { panels } else { grain }, &|range| {
            for panel in range {
                let (which, index) = if panel < a.panels() { (0, panel) } else { (1, panel - a.panels()) };
                let side = sides[which];
                let len = panel_len(side.width, steps.len());
                // SAFETY: panels do not overlap, and each is packed by one task.
                let out = unsafe { rooms[which].slice(index * len, len) };
                isa.dispatch(Pack { side, first: side.lanes.start + index * side.width, steps: steps.clone(), out });
            }
        });
    }

    /// `[steps][width]`: the panel of rows of `a` with this number.
    #[inline(always)]
    pub(super) fn of_a(&self, index: usize, width: usize, steps: usize) -> &[f32] {
        panel(&self.a, index, width, steps)
    }

    /// `[steps][width]`: the panel of columns of `b` with this number.
    #[inline(always)]
    pub(super) fn of_b(&self, index: usize, width: usize, steps: usize) -> &[f32] {
        panel(&self.b, index, width, steps)
    }
}

/// Room for the panels of a side; what is there stays until it is packed over.
fn room<'a>(buffer: &'a mut Vec<Lanes>, side: &Side, steps: usize) -> SharedMut<'a, Lanes> {
    let len = side.panels() * panel_len(side.width, steps);
    if buffer.len() < len {
        buffer.resize(len, Lanes::default());
    }
    SharedMut::new(&mut buffer[..len])
}

#[inline(always)]
fn panel(panels: &[Lanes], index: usize, width: usize, steps: usize) -> &[f32] {
    let len = panel_len(width, steps);
    &Lanes::flat(&panels[index * len..][..len])[..width * steps]
}

/// A panel to be packed: lanes from `first` on.
struct Pack<'a> {
    side: &'a Side<'a>,
    first: usize,
    steps: Range<usize>,
    out: &'a mut [Lanes],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Side { x, width, .. } = *self.side;
        assert!(self.out.len() >= panel_len(width, self.steps.len()));
        let out = self.out.as_mut_ptr().cast::<f32>();
        for vector in (0..width).step_by(LANES) {
            let first = self.first + vector;
            let data = x.data.get(first * x.row_stride + self.steps.start * x.col_stride..).unwrap_or_default();
            let lanes = x.rows.saturating_sub(first).min(LANES);
            // SAFETY: a panel has room for a vector of each step, which begins `vector` values after its step.
            unsafe {
                let out = out.add(vector);
                if x.row_stride == 1 {
                    along_lanes(isa, data, x.col_stride, lanes, self.steps.len(), out, width);
                } else {
                    along_steps(isa, data, x.row_stride, lanes.min(width), self.steps.len(), out, width);
                }
            }
        }
    }
}

/// 16 lanes, of which the first `lanes` follow each other in memory and the others are zero, of each of `steps` that
/// are `stride` apart.
///
/// # Safety
/// 16 floats can be written at every step, `width` apart, and no later step has been.
#[inline(always)]
unsafe fn along_lanes<I: Isa>(
    isa: I,
    data: &[f32],
    stride: usize,
    lanes: usize,
    steps: usize,
    out: *mut f32,
    width: usize,
) {
    let mut partial = Lanes::default();
    for step in 0..steps {
        let data = data.get(step * stride..).unwrap_or_default();
        // SAFETY: 16 floats each, the caller's promise.
        unsafe {
            let values = if lanes == LANES {
                isa.load(data[..LANES].as_ptr())
            } else {
                partial.0[..lanes].copy_from_slice(&data[..lanes]);
                isa.load(partial.0.as_ptr())
            };
            isa.store(out.add(step * width), values);
        }
    }
}

/// The same where it is the steps that follow each other, and lanes are `stride` apart.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn along_steps<I: Isa>(
    isa: I,
    data: &[f32],
    stride: usize,
    lanes: usize,
    steps: usize,
    out: *mut f32,
    width: usize,
) {
    // Copied first: rows whose distance is a power of two fall on the same few places of the cache, and are best read
    // a line at a time.
    let mut square = [Lanes::default(); LANES];
    for first in (0..steps).step_by(LANES) {
        let len = LANES.min(steps - first);
        for lane in 0..lanes {
            let row = &data[lane * stride + first..][..len];
            if len == LANES {
                // SAFETY: 16 floats each.
                unsafe { isa.store(square[lane].0.as_mut_ptr(), isa.load(row.as_ptr())) };
            } else {
                square[lane].0[..len].copy_from_slice(row);
            }
        }
        // SAFETY: the caller's promise for `len` steps.
        unsafe { transpose(isa, &square, out.add(first * width), width, len) };
    }
}
