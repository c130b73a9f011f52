//! Whether anybody reads what the program writes.

/// Waits until nobody reads `output` any more: all readers of a pipe have closed it, or a terminal is gone. Does not
/// return while somebody could read it, so never for a file. Returns false at once where the system cannot tell.
#[cfg(unix)]
pub fn await_no_reader(output: &impl std::os::fd::AsFd) -> bool {
    use std::os::fd::AsRawFd;
    // No events are asked for: errors and hang-ups are told in any case.
    let mut asked = libc::pollfd { fd: output.as_fd().as_raw_fd(), events: 0, revents: 0 };
    loop {
        // SAFETY: the pointer is to one structure, as the count says, which lives through the call.
        let n = unsafe { libc::poll(&raw mut asked, 1, -1) };
        let is_interrupted = n < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
        if !is_interrupted {
            return n > 0 && asked.revents & (libc::POLLERR | libc::POLLHUP) != 0;
        }
    }
}

/// The system cannot tell.
#[cfg(not(unix))]
pub fn await_no_reader<T>(_output: &T) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::await_no_reader;
    use std::io::Write;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_end_of_the_last_reader_is_noticed() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let other = reader.try_clone().unwrap();
        // What is not read yet does not matter.
        writer.write_all(&[0; 4096]).unwrap();
        let (done, noticed) = mpsc::channel();
        std::thread::spawn(move || done.send(await_no_reader(&writer)));
        drop(reader);
        assert_eq!(noticed.recv_timeout(Duration::from_millis(50)), Err(mpsc::RecvTimeoutError::Timeout));
        drop(other);
        assert_eq!(noticed.recv(), Ok(true));
    }
}
