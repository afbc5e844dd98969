use super::sim::SimConfig;
use super::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use std::fmt::Display;

/// A recording played over and over. Each round begins one mean gap between batches after the end of the one before, so that time never
/// runs back; the events' own times are shifted alike.
pub struct Looped<Open> {
    open: Open,
    feed: Option<Box<dyn Feed>>,
    kind: FeedKind,
    simulation: Option<SimConfig>,
    shift: i64,
    /// When the present round is to begin, where nothing of it was read yet.
    begins: Option<Timestamp>,
    round: Round,
    /// In the rounds before.
    left_out: u64,
}

/// What a round has shown so far, in the recording's own time.
#[derive(Default)]
struct Round {
    first: Option<Timestamp>,
    last: Timestamp,
    batches: i64,
}

impl Round {
    /// From the end of this round to the start of the next, at least 1 ns.
    fn gap(&self) -> i64 {
        let span = self.first.map_or(0, |first| self.last.nanos_since(first));
        (span / (self.batches - 1).max(1)).max(1)
    }
}

impl<Open, Error> Looped<Open>
where
    Open: FnMut() -> Result<Box<dyn Feed>, Error> + Send,
    Error: Display,
{
    /// Plays what `open` opens, and opens it again each time it has ended.
    ///
    /// # Errors
    /// What `open` gives the first time. Later failures come out of [`Feed::next`], and end the feed.
    pub fn new(mut open: Open) -> Result<Self, Error> {
        Ok(Self::after(open()?, open))
    }

    /// Plays `first`, and then again and again what `open` opens.
    pub fn after(first: Box<dyn Feed>, open: Open) -> Self {
        let (kind, simulation, round) = (first.kind(), first.simulation(), Round::default());
        Self { open, kind, simulation, feed: Some(first), shift: 0, begins: None, round, left_out: 0 }
    }
}

impl<Open, Error> Feed for Looped<Open>
where
    Open: FnMut() -> Result<Box<dyn Feed>, Error> + Send,
    Error: Display,
{
    fn kind(&self) -> FeedKind {
        self.kind
    }

    fn simulation(&self) -> Option<SimConfig> {
        self.simulation
    }

    fn shift(&self) -> i64 {
        self.shift
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let start = out.len();
        while let Some(feed) = &mut self.feed {
            if let Some(time) = feed.next(instruments, out)? {
                self.round.first.get_or_insert(time);
                if let Some(begins) = self.begins.take() {
                    self.shift = begins.nanos_since(time);
                }
                self.round.last = time;
                self.round.batches += 1;
                out[start..].iter_mut().for_each(|event| shift(event, self.shift));
                return Ok(Some(time.plus_nanos(self.shift)));
            }
            self.left_out += feed.left_out();
            self.feed = None;
            // A recording without any batch would be opened for ever.
            if self.round.batches > 0 {
                let ended = self.round.last.plus_nanos(self.shift);
                self.begins = Some(ended.plus_nanos(self.round.gap()));
                self.round = Round::default();
                let reopened = (self.open)().map_err(|error| FeedError {
                    place: "start of the next round".to_owned(),
                    reason: error.to_string(),
                })?;
                self.feed = Some(reopened);
            }
        }
        Ok(None)
    }

    fn left_out(&self) -> u64 {
        self.left_out + self.feed.as_ref().map_or(0, |feed| feed.left_out())
    }
}

fn shift(event: &mut Event, nanos: i64) {
    match event {
        Event::Quote(_, quote) => {
            quote.ts_event = quote.ts_event.plus_nanos(nanos);
            quote.ts_recv = quote.ts_recv.plus_nanos(nanos);
        }
        Event::Trade(_, trade) => {
            trade.ts_event = trade.ts_event.plus_nanos(nanos);
            trade.ts_recv = trade.ts_recv.plus_nanos(nanos);
        }
        Event::Status(_, status) => status.ts_event = status.ts_event.plus_nanos(nanos),
        // What a snapshot holds is as old as it is.
        Event::Instrument(_) | Event::Feed(_) | Event::Snapshot(..) | Event::Stats(_) | Event::Reset => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::script::{Script, play_at_most};

    #[track_caller]
    fn check(script: &'static str, batches: usize, expected: &[&str]) {
        let open = || Ok::<_, FeedError>(Box::new(Script::new(script)) as Box<dyn Feed>);
        assert_eq!(play_at_most(batches, &mut Looped::new(open).unwrap()), expected);
    }

    #[test]
    fn a_round_is_later_by_the_recordings_length_and_a_mean_gap() {
        let expected = ["10 A=1", "12 A=2", "16 A=3", "19 A=1", "21 A=2", "25 A=3", "28 A=1"];
        check("10:A=1 12:A=2 16:A=3", 7, &expected);
    }

    #[test]
    fn a_recording_of_one_moment_goes_on_by_a_nanosecond() {
        check("10:A=1", 3, &["10 A=1", "11 A=1", "12 A=1"]);
        check("10:A=1 10:A=2", 4, &["10 A=1", "10 A=2", "11 A=1", "11 A=2"]);
    }

    #[test]
    fn an_empty_recording_ends() {
        check("", 3, &[]);
    }

    #[test]
    fn a_recording_that_is_gone_is_told_once_and_ends() {
        let mut opened = 0;
        let open = move || {
            opened += 1;
            if opened == 1 { Ok(Box::new(Script::new("1:A=1")) as Box<dyn Feed>) } else { Err("gone") }
        };
        let expected = ["1 A=1", "start of the next round: gone"];
        assert_eq!(play_at_most(5, &mut Looped::new(open).unwrap()), expected);
    }
}
