use crate::feed::{Feed, Source, SourceError};
use crate::hub::Replica;
use crate::market::{Event, Instruments, Timestamp};
use crate::tape::{Attachment, Batch, Detached, Epoch, Playhead};
use std::time::{Duration, Instant};

/// Events folded at a time.
const BATCH_EVENTS: usize = 1024;

/// Where a feed is to be wound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Beginning,
    /// As it was recorded.
    Moment(Timestamp),
}

/// Why a feed was not wound to where it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("it took more than {} s, and was given up", .0.as_secs())]
    TooLong(Duration),
}

/// Winds a feed that was taken off its tape to another moment: what lies before it is folded silently, so that the market is what it
/// would be had all of it been played. `known` gives the events that make the market as the tape knows it now.
///
/// It goes on from where the feed stands, if that is less to fold than from the place that `source` has for the moment.
///
/// Returns what is to be put on the tape in its place. Where that is not what was asked for, it is the feed as it was, or as far as it got.
pub fn wind(
    detached: Detached,
    source: &dyn Source,
    known: impl FnOnce() -> Vec<Event>,
    target: Target,
    patience: Duration,
) -> (Attachment, Result<(), WindError>) {
    let deadline = Instant::now() + patience;
    let to = match target {
        Target::Beginning => None,
        Target::Moment(to) => Some(to),
    };
    let mut winding = match to.map_or_else(|| source.open(), |to| source.open_at(to)) {
        Ok(feed) => Winding::new(feed),
        Err(error) => return (as_it_was(detached), Err(error.into())),
    };
    let Some(to) = to else { return (winding.end(Timestamp::from_nanos(i64::MIN)), Ok(())) };
    let reads_less = winding.playhead.next_at().is_none_or(|first| first <= detached.now);
    let as_recorded = detached.playhead.as_ref().is_some_and(|playhead| playhead.shift() == 0);
    if detached.is_pure && as_recorded && reads_less && detached.now <= to {
        let Detached { playhead: Some(playhead), instruments, now, .. } = detached else {
            unreachable!("there is one that stands as recorded")
        };
        winding = Winding::onwards(playhead, instruments, now, known());
        let outcome = winding.go(to, deadline);
        let reached = if outcome.is_ok() { to } else { winding.replica.time() };
        return (winding.end(reached), outcome.map_err(|_| WindError::TooLong(patience)));
    }
    let mut outcome = winding.go(to, deadline);
    if let Err(Stopped::Overlap) = outcome {
        winding = match source.open() {
            Ok(feed) => Winding::new(feed),
            Err(error) => return (as_it_was(detached), Err(error.into())),
        };
        winding.whole = true;
        outcome = winding.go(to, deadline);
    }
    match outcome {
        Ok(()) => (winding.end(to), Ok(())),
        Err(_) => (as_it_was(detached), Err(WindError::TooLong(patience))),
    }
}

fn as_it_was(detached: Detached) -> Attachment {
    let Detached { playhead, instruments, now, .. } = detached;
    Attachment { playhead, instruments, checkpoint: None, now }
}

/// A feed and the market that it has made so far.
struct Winding {
    playhead: Playhead,
    instruments: Instruments,
    replica: Replica,
    /// The feed began at its beginning, so that whatever it says is so.
    whole: bool,
}

enum Stopped {
    Late,
    /// A snapshot came of an instrument that something was known of already: one of several files has checkpoints of what another one tells, too.
    Overlap,
}

impl Winding {
    fn new(feed: Box<dyn Feed>) -> Self {
        // Whoever plays it hears of what cannot be read.
        let playhead = Playhead::new(feed, &mut |_| ());
        let replica = Replica::new(Epoch::new(0));
        let mut winding = Self { playhead, instruments: Instruments::default(), replica, whole: false };
        if let Some(first) = winding.playhead.next_at() {
            winding.fold(first, winding.playhead.opening().into_iter().collect());
        }
        winding
    }

    /// From a feed as it stands, and what is known by then.
    fn onwards(playhead: Playhead, instruments: Instruments, now: Timestamp, known: Vec<Event>) -> Self {
        let mut winding = Self { playhead, instruments, replica: Replica::new(Epoch::new(0)), whole: true };
        winding.fold(now, known);
        winding
    }

    /// Folds all that happens up to a moment.
    fn go(&mut self, to: Timestamp, deadline: Instant) -> Result<(), Stopped> {
        let mut events = Vec::new();
        while let Some(at) = self.playhead.next_at().filter(|&at| at <= to) {
            let before = events.len();
            self.playhead.take(&mut self.instruments, &mut events, &mut |_| ());
            // A snapshot holds for its own moment.
            let is_snapshot = |event: &Event| matches!(event, Event::Snapshot(..));
            let holds_snapshots = !self.whole && events[before..].iter().any(is_snapshot);
            let is_last = self.playhead.next_at().is_none_or(|next| next > to);
            if events.len() < BATCH_EVENTS && !is_last && !holds_snapshots {
                continue;
            }
            if holds_snapshots && events.iter().any(|event| self.overlaps(event)) {
                return Err(Stopped::Overlap);
            }
            events = self.fold(at, events);
            if Instant::now() >= deadline {
                return Err(Stopped::Late);
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

    /// What is to be put on the tape, which then stands at `at`, or where the feed begins or has ended before it.
    fn end(mut self, at: Timestamp) -> Attachment {
        let now =
            if self.playhead.next_at().is_some() { at.max(self.replica.time()) } else { self.replica.time() };
        // Time has passed, also where nothing happened.
        self.fold(now, Vec::new());
        let is_market = |event: &Event| !matches!(event, Event::Feed(_));
        let checkpoint = self.replica.checkpoint().filter(is_market).collect();
        Attachment {
            playhead: Some(self.playhead),
            instruments: self.instruments,
            checkpoint: Some(checkpoint),
            now,
        }
    }
}
