//! Pipes that bytes pass through without being copied (splice(2)).
//!
//! Invariant: a pipe that is given back holds nothing; at most [`MAX_SPARE`] wait for their next use.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use parking_lot::Mutex;
use tokio::net::TcpStream;

/// What a pipe is asked to hold. The kernel keeps to 64 KiB where a user has taken many, which is enough too.
const PIPE_BYTES: i32 = 256 * 1024;

/// The most that one call moves.
const SPLICE_BYTES: usize = 256 * 1024;

/// Spare pipes, as many as two connections for each of 16 cores are busy with at a time.
const MAX_SPARE: usize = 64;

static SPARE: Mutex<Vec<Ends>> = Mutex::new(Vec::new());

struct Ends {
    reading: OwnedFd,
    writing: OwnedFd,
}

/// A pipe in use.
pub(super) struct Pipe {
    /// `None` once they have been given back.
    ends: Option<Ends>,
    filled: usize,
}

// === impl Pipe ===

impl Pipe {
    /// A pipe that holds nothing, if there is one to be had.
    pub(super) fn take() -> Option<Self> {
        let spare = SPARE.lock().pop();
        let ends = spare.or_else(|| match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
            Ok((reading, writing)) => {
                // One of the size that the kernel gives does as well.
                let _ = fcntl(&writing, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
                Some(Ends { reading, writing })
            }
            Err(error) => {
                tracing::debug!(%error, "no pipe to be had, bytes are copied");
                None
            }
        });
        ends.map(|ends| Self { ends: Some(ends), filled: 0 })
    }

    /// How many bytes it holds.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Moves bytes out of `socket`; 0 is its end.
    pub(super) fn fill(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let count = retry(|| splice(socket, None, &ends.writing, None, SPLICE_BYTES, flags()))?;
        self.filled += count;
        Ok(count)
    }

    /// Moves bytes into `socket`.
    pub(super) fn drain(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let count = retry(|| splice(&ends.reading, None, socket, None, self.filled, flags()))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.filled = self.filled.saturating_sub(count);
        Ok(count)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.filled > 0 {
            return;
        }
        if let Some(ends) = self.ends.take() {
            let mut spare = SPARE.lock();
            if spare.len() < MAX_SPARE {
                spare.push(ends);
            }
        }
    }
}
