//! What every log promises: one order of all submissions, the same for every reader. Tape thread; a [`Bell`]
//! is rung by any thread.
//! Invariant: positions are dense from 1, and an entry never changes.

mod memory;

pub use memory::MemoryLog;

use super::handle::Request;
use super::{Epoch, Position, Submission};
use std::fmt;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

/// An ordered log of submissions, of one [`Epoch`]: in memory, in a directory, or a stream of another
/// server's.
///
/// What is appended is delivered only after it has been read back, so that all nodes that read a log deliver
/// the same. A log gives each submission the next position, from 1, and keeps the order in which one producer
/// appended. It may be slow, and it may return entries again that were read before. A producer that does not
/// know whether a submission arrived appends it again, so it may be on the log twice: a reader recognizes it
/// by its [id](super::SubmissionId). A log must not leave anything out.
///
/// An error is final: the log has already retried what it could. The tape ends with it.
pub trait Log: Send {
    fn epoch(&self) -> Epoch;

    /// Appends. [`Self::read`] returns it later, with its position.
    ///
    /// # Errors
    /// [`LogError`]. The submission may have arrived nevertheless.
    fn append(&mut self, submission: Submission) -> Result<(), LogError>;

    /// Appends the entries after a position to `out`, in order: as many as are there and as the log returns
    /// at a time; none if there is none yet. Does not wait for more.
    ///
    /// # Errors
    /// [`LogError`]: a log need not keep what its readers have read.
    fn read(&mut self, after: Position, out: &mut Vec<Entry>) -> Result<(), LogError>;

    /// From here on the log rings the bell when there is more to read than at the last call of
    /// [`Self::append`] or [`Self::read`].
    fn notify(&mut self, bell: Bell);
}

/// A submission that has its position.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    pub submission: Submission,
}

/// Why a log cannot be appended to, or read further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("{0}")]
    Failed(String),
    #[error("what follows position {} is not kept any more", .0.get())]
    Gone(Position),
    #[error("position {} is followed by {}: entries are missing", .after.get(), .found.get())]
    Missing { after: Position, found: Position },
    #[error("submission {expected} was appended before {found}, and is not there")]
    Lost { expected: u64, found: u64 },
    #[error("what was appended {} s ago cannot be read yet", .0.as_secs())]
    Silent(Duration),
}

/// Wakes a tape because its log may have more to read. Any thread may ring it; spurious rings are harmless.
#[derive(Clone)]
pub struct Bell {
    rung: Arc<(Mutex<bool>, Condvar)>,
    /// Does not keep the tape alive.
    tape: Weak<SyncSender<Request>>,
}

impl Bell {
    pub(super) fn new(tape: Weak<SyncSender<Request>>) -> Self {
        Self { rung: Arc::default(), tape }
    }

    pub fn ring(&self) {
        let (rung, waiting) = &*self.rung;
        *rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        waiting.notify_one();
        if let Some(tape) = self.tape.upgrade() {
            // If the queue is full the tape is awake, and reads the log after each request.
            let _ = tape.try_send(Request::Rung);
        }
    }

    /// Waits until it is rung, and resets it. Returns whether it was rung.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let (rung, waiting) = &*self.rung;
        let rung = rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = waiting.wait_timeout_while(rung, patience, |rung| !*rung);
        std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
