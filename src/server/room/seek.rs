//! Seeking: what comes before a moment is folded next to the tape, on a thread of its own, while the tape
//! goes on.

use crate::feed::{Feed, Source, SourceError, Stop};
use crate::hub::Replica;
use crate::market::{Event, Interval, Timestamp};
use crate::tape::{Attachment, Batch, Epoch, Fork, Numbering, Playhead};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Events folded at a time, and the most moments passed between two checks whether the seek is still wanted.
const BATCH_EVENTS: usize = 1024;

/// The target of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Beginning,
    /// In recorded time.
    Moment(Timestamp),
}

/// A running seek, for others to watch and to end.
#[derive(Debug)]
pub struct Course {
    pub stop: Stop,
    reached: AtomicI64,
}

/// Why a seek has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeekError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("it is not wanted any more")]
    Stopped,
}

impl Course {
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self { stop, reached: AtomicI64::new(i64::MIN) }
    }

    /// The moment it has reached; `None` before it has begun.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        match self.reached.load(Ordering::Relaxed) {
            i64::MIN => None,
            nanos => Some(Timestamp::from_nanos(nanos)),
        }
    }

    fn reach(&self, at: Timestamp) {
        self.reached.store(at.nanos(), Ordering::Relaxed);
    }
}

/// Brings a feed to another moment: what comes before it is folded silently, so that the market is as if all
/// of it had been played. Returns what then replaces the tape's feed; until then the tape is left alone.
///
/// `fork` is asked for a copy of what is on the tape, with the events that rebuild the market there, if the
/// tape is not later than the first moment given, and not earlier than the second: from there is less to fold
/// than from where `source` opens.
///
/// `rest` is called now and then with the time worked since, and may sleep.
///
/// # Errors
/// [`SeekError`]; nothing has changed then.
pub fn seek(
    source: &dyn Source,
    target: Target,
    fork: impl FnOnce(Timestamp, Option<Timestamp>) -> Option<(Fork, Vec<Event>)>,
    course: &Course,
    mut rest: impl FnMut(Duration),
) -> Result<Attachment, SeekError> {
    let Target::Moment(to) = target else {
        let folding = Folding::new(source.open()?);
        return folding.end(Timestamp::from_nanos(i64::MIN), course);
    };
    let mut folding = Folding::new(source.open_at(to)?);
    if let Some((Fork { playhead, numbering, now }, known)) = fork(to, folding.playhead.next_at()) {
        folding = Folding::onwards(playhead, numbering, now, known);
    }
    let mut outcome = folding.go(to, course, &mut rest);
    if let Err(Halted::Overlap) = outcome {
        folding = Folding::new(source.open()?);
        folding.whole = true;
        outcome = folding.go(to, course, &mut rest);
    }
    match outcome {
        Ok(()) => folding.end(to, course),
        Err(_) => Err(SeekError::Stopped),
    }
}

/// A feed and the market that it has made so far.
struct Folding {
    playhead: Playhead,
    numbering: Numbering,
    replica: Replica,
    /// The feed began at its beginning, so that it can be trusted about everything.
    whole: bool,
}

enum Halted {
    Stopped,
    /// A snapshot came for an instrument that was known already: one of several files has checkpoints of what
    /// another one contains, too.
    Overlap,
}

impl Folding {
    fn new(feed: Box<dyn Feed>) -> Self {
        // The player reports what cannot be read.
        let playhead = Playhead::new(feed, &mut |_| ());
        let replica = Replica::new(Epoch::new(0));
        let mut folding = Self { playhead, numbering: Numbering::default(), replica, whole: false };
        if let Some(first) = folding.playhead.next_at() {
            folding.fold(first, folding.playhead.opening().into_iter().collect());
        }
        folding
    }

    /// From a feed at its current moment, and what is known by then.
    fn onwards(playhead: Playhead, numbering: Numbering, now: Timestamp, known: Vec<Event>) -> Self {
        let mut folding = Self { playhead, numbering, replica: Replica::new(Epoch::new(0)), whole: true };
        folding.fold(now, known);
        folding
    }

    /// Folds all that happens up to a moment.
    fn go(&mut self, to: Timestamp, course: &Course, rest: &mut impl FnMut(Duration)) -> Result<(), Halted> {
        let (mut events, mut moments) = (Vec::new(), 0);
        let mut rested = Instant::now();
        while let Some(at) = self.playhead.next_at().filter(|&at| at <= to) {
            let taken = self.playhead.take(&mut |_| ());
            moments += 1;
            // A snapshot holds for its own moment.
            let is_snapshot = |event: &Event| matches!(event, Event::Snapshot(..));
            let holds_snapshots = !self.whole && taken.iter().any(is_snapshot);
            // As on a tape, no batch holds events of two seconds of the clock.
            let second_end = Interval::Second.start_of(at).plus_nanos(Interval::Second.nanos());
            let is_last = self.playhead.next_at().is_none_or(|next| next > to || next >= second_end);
            if self.playhead.taken().max(moments) < BATCH_EVENTS && !is_last && !holds_snapshots {
                continue;
            }
            self.numbering.play(self.playhead.let_out(), &mut events, &mut |_| ());
            if holds_snapshots && events.iter().any(|event| self.overlaps(event)) {
                return Err(Halted::Overlap);
            }
            events = self.fold(at, events);
            moments = 0;
            course.reach(at);
            rest(rested.elapsed());
            rested = Instant::now();
            if course.stop.is_set() {
                return Err(Halted::Stopped);
            }
        }
        Ok(())
    }

    fn overlaps(&self, event: &Event) -> bool {
        let Event::Snapshot(id, snapshot) = event else { return false };
        let traded = !snapshot.trades.is_empty() || snapshot.day.is_some();
        traded && self.replica.book(*id).is_some_and(|book| book.day.get().is_some())
    }

    /// Returns the memory of the events.
    fn fold(&mut self, at: Timestamp, events: Vec<Event>) -> Vec<Event> {
        let mut batch = Batch { position: self.replica.position().next(), time: at, events };
        self.replica.apply(&batch, &mut Vec::new());
        batch.events.clear();
        batch.events
    }

    /// What is put on the tape, which is then at `at`, or where the feed begins, or has ended before it.
    fn end(mut self, at: Timestamp, course: &Course) -> Result<Attachment, SeekError> {
        // A feed that is stopped ends early.
        if course.stop.is_set() {
            return Err(SeekError::Stopped);
        }
        let now =
            if self.playhead.next_at().is_some() { at.max(self.replica.time()) } else { self.replica.time() };
        // Time has passed, even without events.
        self.fold(now, Vec::new());
        let is_market = |event: &Event| !matches!(event, Event::Feed(_));
        let checkpoint = self.replica.checkpoint().filter(is_market).collect();
        Ok(Attachment { playhead: self.playhead, numbering: self.numbering, checkpoint, now })
    }
}
