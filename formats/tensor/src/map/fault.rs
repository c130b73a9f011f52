//! A mapped file that can no longer be read: another process has cut it off, or the disk has failed.
//!
//! Touching such a page raises SIGBUS. The default ends the program without a word; the handler here ends it with a
//! line that names the file. Everything it does is allowed in a signal handler: atomics, `write`, `pause`, `_exit`.
//!
//! What it reads is a table of the maps, which grows by parts of fixed size. No part is ever freed or moved, so a handler
//! may read all of them at any time; slots are used again.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
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

static TABLE: Part = Part::empty();

/// All slots there are.
fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(Some(&TABLE), |part| part.next()).flat_map(|part| &part.slots)
}

/// What the line begins with.
static PREFIX: OnceLock<String> = OnceLock::new();

/// The entry of one map in the table, for as long as this lives.
pub(super) struct Named(&'static Slot);

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Named")
    }
}

impl Named {
    /// Enters the map of `path` at these addresses.
    pub(super) fn new(path: &Path, addresses: Range<usize>) -> Self {
        let slot = claim();
        let shown = pythia_text::path(path).to_string();
        let name = &shown.as_bytes()[..shown.floor_char_boundary(NAME_BYTES)];
        for (place, &byte) in slot.name.iter().zip(name) {
            place.store(byte, Ordering::Relaxed);
        }
        slot.name_len.store(name.len(), Ordering::Relaxed);
        slot.len.store(addresses.len(), Ordering::Relaxed);
        slot.start.store(addresses.start, Ordering::Release);
        Self(slot)
    }
}

/// A slot that was free.
fn claim() -> &'static Slot {
    // No map ends there, so no fault lies in a slot that is being filled.
    const CLAIMED: usize = usize::MAX;
    let mut part = &TABLE;
    loop {
        let free = |slot: &&Slot| slot.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if let Some(slot) = part.slots.iter().find(free) {
            return slot;
        }
        part = part.grown();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// From now on, a mapped file that can no longer be read ends the program with exit code 74 and the line
/// `PROGRAM: error: FILE: ...`. Without this, and on systems without signals, the system ends it in silence.
pub fn exit_on_fault(program: &str) {
    if PREFIX.set(format!("{program}: error: ")).is_ok() {
        #[cfg(unix)]
        unix::install();
    }
}

#[cfg(unix)]
mod unix {
    use super::{NAME_BYTES, PREFIX, Slot, slots};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Exit code of `sysexits.h` for errors of input and output.
    const EXIT_IO: i32 = 74;
    /// Raised by the first of several threads that fault at once: it has the word.
    static REPORTING: AtomicBool = AtomicBool::new(false);

    pub(super) fn install() {
        // SAFETY: an all-zero sigaction is a valid value: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is initialised, and the handler has the signature that SA_SIGINFO asks for. Failure leaves
        // the default in place, which ends the program too.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }

    extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        // SAFETY: the system passes a valid siginfo to a handler installed with SA_SIGINFO; for SIGBUS it has an address.
        let address = unsafe { (*info).si_addr() } as usize;
        let Some(slot) = slots().find(|slot| holds(slot, address)) else {
            // No page of ours, or no fault at all but a signal somebody sent: the default action is next.
            // SAFETY: resets the action of one signal and raises it, which takes effect on return. No handler is
            // installed.
            unsafe {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                libc::raise(libc::SIGBUS);
            }
            return;
        };
        if REPORTING.swap(true, Ordering::Relaxed) {
            loop {
                // SAFETY: only waits; the thread that reports ends the process.
                unsafe { libc::pause() };
            }
        }
        let mut name = [0; NAME_BYTES];
        for (byte, stored) in name.iter_mut().zip(&slot.name) {
            *byte = stored.load(Ordering::Relaxed);
        }
        say(PREFIX.get().map_or(b"", |prefix| prefix.as_bytes()));
        say(&name[..slot.name_len.load(Ordering::Relaxed).min(NAME_BYTES)]);
        say(b": was cut off while it was in use, or cannot be read any more\n");
        // SAFETY: ends the process without running anything else.
        unsafe { libc::_exit(EXIT_IO) }
    }

    fn holds(slot: &Slot, address: usize) -> bool {
        let start = slot.start.load(Ordering::Acquire);
        start != 0 && address >= start && address - start < slot.len.load(Ordering::Relaxed)
    }

    fn say(bytes: &[u8]) {
        // SAFETY: pointer and length are of a live slice. A stderr that cannot be written is no reason to stay.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_come_and_go() {
        let in_use = || slots().filter(|slot| slot.start.load(Ordering::Acquire) == 0x7000).count();
        let named = Named::new(Path::new("a\nb"), 0x7000..0x8000);
        assert_eq!(in_use(), 1);
        let name: Vec<u8> = named.0.name[..4].iter().map(|b| b.load(Ordering::Relaxed)).collect();
        assert_eq!((name.as_slice(), named.0.name_len.load(Ordering::Relaxed)), (&br"a\nb"[..], 4));
        drop(named);
        assert_eq!(in_use(), 0);
    }

    #[test]
    fn there_is_a_slot_for_every_map() {
        let path = "x".repeat(1000);
        let entered = |named: &[Named]| {
            let table: HashSet<*const Slot> = slots().map(std::ptr::from_ref).collect();
            named
                .iter()
                .map(|named| std::ptr::from_ref(named.0))
                .filter(|slot| table.contains(slot))
                .collect::<HashSet<_>>()
                .len()
        };
        let many = || -> Vec<Named> {
            // From several threads, which may all find the table full at once.
            let part = || (0..PART_SLOTS).map(|i| Named::new(Path::new(&path), 0x9000 + i..0x9001 + i)).collect();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(part)).collect();
                threads
                    .into_iter()
                    .flat_map(|thread: std::thread::ScopedJoinHandle<'_, Vec<Named>>| thread.join().unwrap())
                    .collect()
            })
        };
        let first = many();
        assert_eq!(entered(&first), 4 * PART_SLOTS);
        drop(first);
        // Slots are used again.
        let n_slots = slots().count();
        let again = many();
        assert_eq!((entered(&again), slots().count()), (4 * PART_SLOTS, n_slots));
    }
}
