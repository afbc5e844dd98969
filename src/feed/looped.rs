use super::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use std::fmt::Display;

/// A recording in a loop. Each round begins one mean gap between batches after the end of the one before, so
/// that time never runs back; the events' own times are shifted alike.
pub struct Looped<Open> {
    open: Open,
    feed: Option<Box<dyn Feed>>,
    kind: FeedKind,
    shift: i64,
    /// When the present round is to begin, until its first batch is read.
    begins: Option<Timestamp>,
    round: Round,
    /// In earlier rounds.
    left_out: LeftOut,
}

/// Statistics of a round so far, in the recording's own time.
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
    /// Plays the feed of `open`, and opens it again each time it has ended.
    ///
    /// # Errors
    /// Those of the first `open`. Later ones are returned by [`Feed::next`], and end the feed.
    pub fn new(mut open: Open) -> Result<Self, Error> {
        Ok(Self::after(open()?, open))
    }

    /// Plays `first`, and then the feed of `open` in a loop.
    pub fn after(first: Box<dyn Feed>, open: Open) -> Self {
        let (kind, round) = (first.kind(), Round::default());
        Self { open, kind, feed: Some(first), shift: 0, begins: None, round, left_out: LeftOut::default() }
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
                out[start..].iter_mut().for_each(|event| event.put_off(self.shift));
                return Ok(Some(time.plus_nanos(self.shift)));
            }
            self.left_out.merge(&feed.left_out_by_kind());
            self.feed = None;
            // A recording without any batch would be reopened for ever.
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
        self.left_out.total() + self.feed.as_ref().map_or(0, |feed| feed.left_out())
    }

    fn left_out_by_kind(&self) -> LeftOut {
        let mut all = self.left_out.clone();
        if let Some(feed) = &self.feed {
            all.merge(&feed.left_out_by_kind());
        }
        all
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
