//! What a download tells its caller.

/// Told how a download goes on, from several threads.
pub trait Progress: Send + Sync {
    /// All files together have this many bytes. Called once, before the first byte, and not at all if there is
    /// nothing to download.
    fn begin(&self, total_bytes: u64);

    /// This many bytes are there by now, those that an earlier run left included. It may also fall: where a server
    /// cannot resume, a file starts again.
    fn at(&self, done_bytes: u64);

    /// Something that a user should read: a line without its end.
    fn note(&self, line: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _total_bytes: u64) {}

    fn at(&self, _done_bytes: u64) {}

    fn note(&self, _line: &str) {}
}
