//! The path over the log: what is submitted is appended, read back, numbered, and passed to all readers. Tape
//! thread.
//! Invariant: the same entries make the same batches everywhere; positions that readers get are dense; each
//! submission counts once.

use super::handle::Reply;
use super::log::{Bell, Log, LogError};
use super::{
    Anew, Batch, Content, Entry, Numbering, Position, Progress, Reader, Receipt, Submission, SubmissionId,
};
use crate::market::{Event, Timestamp};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Submissions that may be in flight on the log; with more, the tape waits.
const MOST_UNDER_WAY: usize = 64;
/// A log that has not returned what was appended within this time has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Folds a log into batches: of the same entries it makes the same ones everywhere.
pub(super) struct Sequencer {
    log: Box<dyn Log>,
    bell: Bell,
    readers: Vec<Box<dyn Reader>>,
    progress: Arc<Progress>,
    numbering: Numbering,
    /// Of the newest batch.
    position: Position,
    time: Timestamp,
    /// The number of the last submission read, by producer. A process is another producer each time it opens
    /// the log.
    numbers: FxHashMap<u64, u64>,
    /// Whether anything was published since the tape began, or began anew with another numbering.
    published: bool,
    /// How many publications had a valid event of the market.
    publications: u64,
    /// Identifies its own submissions; how many there are follows.
    producer: u64,
    submitted: u64,
    /// Its own submissions that were not read back yet, oldest first.
    under_way: VecDeque<UnderWay>,
    entries: Vec<Entry>,
    patience: Duration,
    failure: Option<LogError>,
}

struct UnderWay {
    number: u64,
    since: Instant,
    reply: Option<Reply<Receipt>>,
}

impl Sequencer {
    pub fn new(
        mut log: Box<dyn Log>,
        bell: Bell,
        readers: Vec<Box<dyn Reader>>,
        progress: Arc<Progress>,
    ) -> Self {
        log.notify(bell.clone());
        Self {
            log,
            bell,
            readers,
            progress,
            numbering: Numbering::default(),
            position: Position::START,
            time: Timestamp::from_nanos(i64::MIN),
            numbers: FxHashMap::default(),
            published: false,
            publications: 0,
            producer: rand::random(),
            submitted: 0,
            under_way: VecDeque::new(),
            entries: Vec::new(),
            patience: PATIENCE,
            failure: None,
        }
    }

    pub fn position(&self) -> Position {
        self.position
    }

    pub fn time(&self) -> Timestamp {
        self.time
    }

    pub fn numbering(&self) -> &Numbering {
        &self.numbering
    }

    pub fn published(&self) -> bool {
        self.published
    }

    pub fn publications(&self) -> u64 {
        self.publications
    }

    /// Whether one of its own submissions was not read back yet.
    pub fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Why there will be no further batch.
    pub fn failure(&self) -> Option<&LogError> {
        self.failure.as_ref()
    }

    /// Appends, and passes on what can be read by then. `reply` receives the outcome once it is read back,
    /// and is dropped if it never is.
    pub fn submit(&mut self, time: Timestamp, content: Content, reply: Option<Reply<Receipt>>) {
        if self.failure.is_some() {
            return;
        }
        self.submitted += 1;
        let id = SubmissionId { producer: self.producer, number: self.submitted };
        self.under_way.push_back(UnderWay { number: id.number, since: Instant::now(), reply });
        match self.log.append(Submission { id, time, content }) {
            Ok(()) => self.follow(),
            Err(error) => self.fail(error),
        }
        while self.under_way.len() > MOST_UNDER_WAY {
            self.wait();
        }
    }

    /// Waits until all its own submissions are read back, or the log has failed.
    pub fn settle(&mut self) {
        while self.is_waiting() {
            self.wait();
        }
    }

    /// Passes on what can be read by now.
    pub fn follow(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        while self.failure.is_none() {
            if let Err(error) = self.log.read(self.position, &mut entries) {
                self.fail(error);
            }
            let before = self.position;
            for entry in entries.drain(..) {
                self.take(entry);
            }
            if self.position == before {
                break;
            }
        }
        self.entries = entries;
        if self.failure.is_none() && self.left() == Some(Duration::ZERO) {
            self.fail(LogError::Silent(self.patience));
        }
    }

    /// Waits for the log to return something.
    fn wait(&mut self) {
        if let Some(left) = self.left() {
            self.bell.wait(left);
        }
        self.follow();
    }

    /// For how long the log may still be silent; `None` if nothing is in flight.
    fn left(&self) -> Option<Duration> {
        self.under_way.front().map(|oldest| self.patience.saturating_sub(oldest.since.elapsed()))
    }

    fn fail(&mut self, error: LogError) {
        self.under_way.clear();
        self.failure.get_or_insert(error);
    }

    fn take(&mut self, Entry { position, submission }: Entry) {
        // A log may return again what was read before.
        if position <= self.position || self.failure.is_some() {
            return;
        }
        if position != self.position.next() {
            return self.fail(LogError::Missing { after: self.position, found: position });
        }
        let Submission { id, time, content } = submission;
        let known = self.numbers.entry(id.producer).or_insert(0);
        let is_new = id.number > *known;
        *known = id.number.max(*known);
        let reply = if is_new && id.producer == self.producer {
            match self.under_way.pop_front() {
                Some(UnderWay { number, reply, .. }) if number == id.number => reply,
                oldest => {
                    let expected = oldest.map_or(self.submitted, |oldest| oldest.number);
                    return self.fail(LogError::Lost { expected, found: id.number });
                }
            }
        } else {
            None
        };
        self.position = position;
        self.time = self.time.max(time);
        // A duplicate has already had its effect; its position gets an empty batch.
        let content = if is_new { content } else { Content::Played(Vec::new()) };
        let receipt = self.append(time, content);
        if let Some(reply) = reply {
            reply(receipt);
        }
    }

    /// Numbers what has a position, and passes the batch to all readers.
    fn append(&mut self, time: Timestamp, content: Content) -> Receipt {
        let (mut events, mut receipt) = (Vec::new(), Receipt::default());
        let counted = match content {
            Content::Played(played) => {
                events.reserve_exact(played.len());
                let progress = &self.progress;
                self.numbering.play(played, &mut events, &mut |fault| progress.tell_fault(fault));
                events.len()
            }
            Content::Published(publication) => {
                receipt = self.numbering.publish(publication, time, &mut events);
                // What has nothing of the market is no sign of its life.
                if events.iter().any(Event::is_of_market) {
                    self.published = true;
                    self.publications += 1;
                }
                events.len()
            }
            Content::Anew(anew) => {
                let Anew { numbering, events: known } = *anew;
                if let Some(numbering) = numbering {
                    let before = std::mem::replace(&mut self.numbering, numbering);
                    self.numbering.keep_channels(before);
                    self.published = false;
                }
                self.time = time;
                events.push(Event::Reset);
                events.extend(known);
                0
            }
        };
        self.progress.appended(self.position, counted);
        let batch = Arc::new(Batch { position: self.position, time: self.time, events });
        for reader in &mut self.readers {
            reader.read(&batch);
        }
        Receipt { position: self.position, ..receipt }
    }
}

#[cfg(test)]
mod tests;
