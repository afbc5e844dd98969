use super::translate::Translator;
use super::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};

/// Several feeds on one clock: the batch of the earliest moment comes next; equal moments in the order of the
/// feeds.
pub struct Merged {
    kind: FeedKind,
    sources: Vec<Source>,
    /// Records left out by feeds that have ended.
    left_out: LeftOut,
}

/// One feed and the batch that was read ahead.
///
/// The batch keeps the feed's own instruments until it is due: a later batch of one feed may refine a scale
/// that an earlier, pending batch of another is in.
struct Source {
    feed: Box<dyn Feed>,
    instruments: Instruments,
    translator: Translator,
    events: Vec<Event>,
    /// The moment of `events`; `None` if the next batch has to be read.
    due: Option<Timestamp>,
}

impl Merged {
    /// Merges feeds of one kind.
    #[must_use]
    pub fn new(feeds: Vec<Box<dyn Feed>>) -> Self {
        let kind = feeds.first().map_or(FeedKind::Replay, |feed| feed.kind());
        let source = |feed| Source {
            feed,
            instruments: Instruments::default(),
            translator: Translator::default(),
            events: Vec::new(),
            due: None,
        };
        Self { kind, sources: feeds.into_iter().map(source).collect(), left_out: LeftOut::default() }
    }

    /// Reads each feed ahead by one batch; removes those that have ended.
    fn read_ahead(&mut self) -> Result<(), FeedError> {
        let mut index = 0;
        while let Some(source) = self.sources.get_mut(index) {
            if source.due.is_none() {
                source.due = source.feed.next(&mut source.instruments, &mut source.events)?;
            }
            if source.due.is_some() {
                index += 1;
            } else {
                self.left_out.merge(&self.sources.remove(index).feed.left_out_by_kind());
            }
        }
        Ok(())
    }
}

impl Feed for Merged {
    fn kind(&self) -> FeedKind {
        self.kind
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        self.read_ahead()?;
        let Some(source) = self.sources.iter_mut().min_by_key(|source| source.due) else {
            return Ok(None);
        };
        let due = source.due.take();
        let mut refused = None;
        for event in source.events.drain(..) {
            if let Err(error) = source.translator.translate(event, instruments, out) {
                refused = refused.or(Some(error));
            }
        }
        match refused {
            Some(error) => Err(FeedError { place: "merged feeds".to_owned(), reason: error.to_string() }),
            None => Ok(due),
        }
    }

    fn left_out(&self) -> u64 {
        self.left_out.total() + self.sources.iter().map(|source| source.feed.left_out()).sum::<u64>()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        let mut all = self.left_out.clone();
        self.sources.iter().for_each(|source| all.merge(&source.feed.left_out_by_kind()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::script::{Script, play};
    use proptest::prelude::*;

    #[track_caller]
    fn check(feeds: &[&'static str], expected: &[&str]) {
        let boxed = |text: &&'static str| Box::new(Script::new(text)) as Box<dyn Feed>;
        assert_eq!(play(&mut Merged::new(feeds.iter().map(boxed).collect())), expected);
    }

    #[test]
    fn batches_come_in_the_order_of_time_and_ties_in_the_order_given() {
        check(&["1:A=1 4:A=2", "2:B=5 4:B=6 5:B=7"], &["1 A=1", "2 B=5", "4 A=2", "4 B=6", "5 B=7"]);
        check(&["7:A=1", ""], &["7 A=1"]);
        check(&[], &[]);
    }

    #[test]
    fn a_finer_price_read_ahead_does_not_change_what_comes_before_it() {
        check(&["1:A=1.5 3:A=2.5", "2:A=1.2345 4:A=9"], &["1 A=1.5", "2 A=1.2345", "3 A=2.5", "4 A=9"]);
    }

    #[test]
    fn an_error_of_one_feed_is_told_and_all_go_on() {
        check(&["1:A=1 ! 3:A=3", "2:B=2"], &["1 A=1", "script: bad", "2 B=2", "3 A=3"]);
    }

    proptest! {
        #[test]
        fn any_feeds_come_out_sorted_by_time_and_each_in_its_own_order(
            mut feeds in prop::collection::vec(prop::collection::vec(0..20_u8, 0..20), 0..5),
        ) {
            for times in &mut feeds {
                times.sort_unstable();
            }
            let named = |feed: usize, n: usize, time: u8| (time, format!("{}={n}", char::from(b'A' + u8::try_from(feed).unwrap())));
            let mut expected: Vec<_> = feeds
                .iter()
                .enumerate()
                .flat_map(|(feed, times)| times.iter().enumerate().map(move |(n, &time)| named(feed, n, time)))
                .collect();
            expected.sort_by_key(|(time, _)| *time);
            let scripts: Vec<String> = feeds
                .iter()
                .enumerate()
                .map(|(feed, times)| {
                    let word = |(n, &time): (usize, &u8)| format!("{time}:{} ", named(feed, n, time).1);
                    times.iter().enumerate().map(word).collect()
                })
                .collect();
            let boxed = |script: &String| Box::new(Script::new(String::leak(script.clone()))) as Box<dyn Feed>;
            let played = play(&mut Merged::new(scripts.iter().map(boxed).collect()));
            let expected: Vec<String> = expected.into_iter().map(|(time, trade)| format!("{time} {trade}")).collect();
            prop_assert_eq!(played, expected);
        }
    }
}
