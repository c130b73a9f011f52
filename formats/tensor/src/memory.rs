//! Memory in large pages.

use std::io;
use std::ops::{Deref, DerefMut};

/// Zeroed bytes of the process's own, in pages of two megabytes where the system has them and leaves the choice to the
/// program. Large arrays that are read from end to end are read faster there: every page costs a search for where it is,
/// which takes longest in a virtual machine.
#[derive(Debug)]
pub struct LargePages {
    map: memmap2::MmapMut,
}

impl LargePages {
    /// `len` bytes. Those that nobody touches are not there.
    ///
    /// # Errors
    /// If the system refuses them, or `len` is 0.
    pub fn new(len: usize) -> io::Result<Self> {
        let map = memmap2::MmapMut::map_anon(len)?;
        // A system without large pages refuses the advice; the bytes are there all the same.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map })
    }
}

impl Deref for LargePages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for LargePages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}
