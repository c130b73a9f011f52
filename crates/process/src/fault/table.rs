//! The table of maps that the handler reads. It grows by parts of fixed size. No part is ever freed or moved, so a
//! handler may read all of them at any time; slots are used again.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

/// Slots of a part of the table: as many maps as most processes ever have.
const PART_SLOTS: usize = 64;
/// Longest name, in bytes; what is longer is cut.
const NAME_BYTES: usize = 240;

/// Where a map lies and what its file is called. Free while `start` is 0.
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    name: [AtomicU8; NAME_BYTES],
    name_len: AtomicUsize,
}

impl Slot {
    const fn free() -> Self {
        Self {
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            name: [const { AtomicU8::new(0) }; NAME_BYTES],
            name_len: AtomicUsize::new(0),
        }
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && address >= start && address - start < self.len.load(Ordering::Relaxed)
    }
}

/// A part of the table. The first is there from the start, each further one lives as long as the process.
struct Part {
    slots: [Slot; PART_SLOTS],
    /// Null, or a part that was leaked.
    next: AtomicPtr<Part>,
}

impl Part {
    const fn empty() -> Self {
        Self { slots: [const { Slot::free() }; PART_SLOTS], next: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or what `Box::leak` returned in `grown`: valid for ever, and never written to but by atomics.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// The part after this one, made if there is none.
    fn grown(&self) -> &'static Self {
        if let Some(next) = self.next() {
            return next;
        }
        let new = Box::into_raw(Box::new(Self::empty()));
        match self.next.compare_exchange(std::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `new` came from a box that nobody frees.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: another thread was first, and nobody has seen `new`.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: as in `next`: it is not null.
                unsafe { &*other }
            }
        }
    }
}

static FIRST_PART: Part = Part::empty();

/// All slots there are.
fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(Some(&FIRST_PART), |part| part.next()).flat_map(|part| &part.slots)
}

/// Enters every map of this process.
pub(super) struct Table;

impl pythia_tensor::MapWatcher for Table {
    fn mapped(&self, path: &Path, addresses: Range<usize>) {
        let slot = claim();
        let shown = pythia_text::path(path).to_string();
        let name = &shown.as_bytes()[..shown.floor_char_boundary(NAME_BYTES)];
        for (place, &byte) in slot.name.iter().zip(name) {
            place.store(byte, Ordering::Relaxed);
        }
        slot.name_len.store(name.len(), Ordering::Relaxed);
        slot.len.store(addresses.len(), Ordering::Relaxed);
        slot.start.store(addresses.start, Ordering::Release);
    }

    fn unmapped(&self, addresses: Range<usize>) {
        // Maps that exist at the same time start at different addresses.
        if let Some(slot) = slots().find(|slot| slot.start.load(Ordering::Acquire) == addresses.start) {
            slot.start.store(0, Ordering::Release);
        }
    }
}

/// A slot that was free.
fn claim() -> &'static Slot {
    // No map ends there, so no fault lies in a slot that is being filled.
    const CLAIMED: usize = usize::MAX;
    let mut part = &FIRST_PART;
    loop {
        let free = |slot: &&Slot| slot.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if let Some(slot) = part.slots.iter().find(free) {
            return slot;
        }
        part = part.grown();
    }
}

/// The name of a file, copied out of the table without allocating.
pub(super) struct Name {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Name {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The file whose map holds `address`. Safe to call in a signal handler.
pub(super) fn name_at(address: usize) -> Option<Name> {
    let slot = slots().find(|slot| slot.holds(address))?;
    let mut bytes = [0; NAME_BYTES];
    for (byte, stored) in bytes.iter_mut().zip(&slot.name) {
        *byte = stored.load(Ordering::Relaxed);
    }
    Some(Name { bytes, len: slot.name_len.load(Ordering::Relaxed).min(NAME_BYTES) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_tensor::MapWatcher;

    #[test]
    fn names_come_and_go() {
        let name = |address| name_at(address).map(|name| name.bytes().to_vec());
        Table.mapped(Path::new("a\nb"), 0x7000..0x8000);
        assert_eq!((name(0x6fff), name(0x8000)), (None, None));
        assert_eq!((name(0x7000), name(0x7fff)), (Some(br"a\nb".to_vec()), Some(br"a\nb".to_vec())));
        Table.unmapped(0x7000..0x8000);
        assert_eq!(name(0x7000), None);
    }

    #[test]
    fn there_is_a_slot_for_every_map() {
        // The other test may hold one slot.
        const MAPS: usize = 4 * PART_SLOTS - 1;
        let path = "x".repeat(1000);
        let address = |n: usize| (n + 1) << 16;
        let with_all = |work: &(dyn Fn(usize) + Sync)| {
            // From several threads, which may all find the table full at once.
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || (thread..MAPS).step_by(4).for_each(work));
                }
            });
        };
        let entered = || (0..MAPS).filter(|&n| name_at(address(n)).is_some_and(|name| name.len == NAME_BYTES)).count();
        let map = |n: usize| Table.mapped(Path::new(&path), address(n)..address(n) + 1);
        with_all(&map);
        assert_eq!(entered(), MAPS);
        with_all(&|n| Table.unmapped(address(n)..address(n) + 1));
        assert_eq!(entered(), 0);
        // Slots are used again.
        let n_slots = slots().count();
        with_all(&map);
        assert_eq!((entered(), slots().count()), (MAPS, n_slots));
    }
}
