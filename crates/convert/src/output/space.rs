//! Reserves disk space for a file before the work that fills it.

use std::fs::File;
use std::io;

/// Makes `file` `bytes` long and reserves the space where the system can, so that a full disk is an error at once and
/// not after hours. Elsewhere (network file systems, systems other than Linux) the file only gets its length.
///
/// # Errors
/// If less space is free, or the system refuses.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 || set_aside(file, bytes)? { Ok(()) } else { file.set_len(bytes) }
}

/// False if the system cannot reserve space.
#[cfg(target_os = "linux")]
fn set_aside(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
    use rustix::io::Errno;
    // Free space is checked first, because a failed allocation fills the disk for a moment, which disturbs others.
    if let Ok(system) = fstatvfs(file) {
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        // Some user-space file systems do not report their size.
        if system.f_blocks > 0 && free < bytes {
            let message = format!("found {free} bytes free, wanted {bytes}");
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
    }
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn set_aside(_file: &File, _bytes: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_long_as_asked_and_reads_as_zeros() {
        for bytes in [0, 1, 5000] {
            let file = tempfile::NamedTempFile::new().unwrap();
            reserve(file.as_file(), bytes).unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), vec![0; bytes as usize]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn more_than_any_disk_holds_is_refused_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = reserve(file.as_file(), 1 << 60).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("bytes free, wanted 1152921504606846976"), "{error}");
        assert_eq!(file.as_file().metadata().unwrap().len(), 0);
    }
}
