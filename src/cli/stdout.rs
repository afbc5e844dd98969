use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, ErrorKind, IsTerminal};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

/// The capacity of a pipe. Its content cannot be replaced by newer data, so it is as little as the system
/// allows.
const PIPE_BYTES: usize = 4096;
/// The size of a write into a pipe, for the same reason, and elsewhere.
const TO_PIPE: usize = 8 * 1024;
const TO_OTHERS: usize = 64 * 1024;

/// Standard output of a command that goes on for long.
pub(super) struct Stdout {
    stdout: tokio::io::Stdout,
    is_pipe: bool,
}

impl Stdout {
    pub fn open() -> Self {
        Self { stdout: tokio::io::stdout(), is_pipe: shrink(&io::stdout()) }
    }

    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// How much to write at once.
    pub fn most(&self) -> usize {
        if self.is_pipe { TO_PIPE } else { TO_OTHERS }
    }

    /// Returns whether there still is a reader: `| head` may have seen enough.
    ///
    /// # Errors
    /// If it cannot be written for another reason.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let written = async {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        match written.await {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true).context("cannot write to standard output"),
        }
    }

    /// Waits until the reader has gone, also while there is nothing to write.
    pub async fn unread() {
        let (tell, told) = oneshot::channel();
        // A thread, which ends with the process: an event loop would get no event for this.
        std::thread::spawn(move || {
            let stdout = io::stdout();
            // Polled for no event, it reports only that the other end is gone.
            let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
            while let Err(rustix::io::Errno::INTR) = poll(&mut descriptors, None) {}
            let _ = tell.send(());
        });
        // The sender is not dropped before it has sent.
        let _ = told.await;
    }
}

/// Whether it is a pipe; if so, its capacity is reduced, if the system can do that.
#[cfg(target_os = "linux")]
fn shrink(stdout: &io::Stdout) -> bool {
    rustix::pipe::fcntl_setpipe_size(stdout, PIPE_BYTES).is_ok()
        // It may hold more already.
        || rustix::pipe::fcntl_getpipe_size(stdout).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn shrink(_: &io::Stdout) -> bool {
    !Stdout::is_terminal()
}
