//! The log in memory. Tape thread.
//! Invariant: it holds exactly what was appended and not read yet.

use super::{Bell, Entry, Log, LogError};
use crate::tape::{Epoch, Position, Submission};
use std::collections::VecDeque;

/// A log that is gone with its process and has one reader. It keeps what that reader has not read yet.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    /// Of the newest entry.
    end: Position,
    kept: VecDeque<Entry>,
}

impl MemoryLog {
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, end: Position::START, kept: VecDeque::new() }
    }
}

impl Log for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn append(&mut self, submission: Submission) -> Result<(), LogError> {
        self.end = self.end.next();
        self.kept.push_back(Entry { position: self.end, submission });
        Ok(())
    }

    /// Entries are returned once: a second read of the same position fails with [`LogError::Gone`].
    fn read(&mut self, after: Position, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let first = self.kept.front().map_or(self.end.next(), |entry| entry.position);
        if after.next() != first {
            return Err(LogError::Gone(after));
        }
        out.extend(self.kept.drain(..));
        Ok(())
    }

    /// What is appended can be read at once, so nobody needs waking.
    fn notify(&mut self, _: Bell) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Timestamp;
    use crate::tape::{Content, SubmissionId};

    #[test]
    fn entries_stand_in_the_order_in_which_they_were_appended_and_are_given_once() {
        let mut log = MemoryLog::new(Epoch::new(1));
        for number in 1..=3 {
            let id = SubmissionId { producer: 7, number };
            let content = Content::Played(Vec::new());
            log.append(Submission { id, time: Timestamp::default(), content }).unwrap();
        }
        let mut read = Vec::new();
        log.read(Position::START, &mut read).unwrap();
        let read: Vec<_> =
            read.iter().map(|entry| (entry.position.get(), entry.submission.id.number)).collect();
        assert_eq!(read, [(1, 1), (2, 2), (3, 3)]);
        let mut more = Vec::new();
        log.read(Position::new(3), &mut more).unwrap();
        assert_eq!(more.len(), 0);
        assert_eq!(log.read(Position::new(1), &mut more), Err(LogError::Gone(Position::new(1))));
    }
}
