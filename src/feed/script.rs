//! A feed in one line, for tests: `1:A=1.5 ! 2:B=3` is a trade of A at 1 ns, a bad record, a trade of B.

use super::{Feed, FeedError};
use crate::market::{Conditions, Event, FeedKind, Instruments, Side, Timestamp, parse_decimal};

pub struct Script<'a> {
    words: std::str::SplitWhitespace<'a>,
}

impl<'a> Script<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { words: text.split_whitespace() }
    }
}

impl Feed for Script<'_> {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let Some(word) = self.words.next() else { return Ok(None) };
        if word == "!" {
            return Err(FeedError { place: "script".to_owned(), reason: "bad".to_owned() });
        }
        let (time, trade) = word.split_once(':').unwrap();
        let (symbol, price) = trade.split_once('=').unwrap();
        let time = Timestamp::from_nanos(time.parse().unwrap());
        let id = super::text::intern(symbol, instruments, out).unwrap();
        let numbers = (parse_decimal(price).unwrap(), 1.into());
        let kind = (Side::None, Conditions::default());
        let trade = instruments.trade(id, numbers, kind, (time, time), out).unwrap();
        out.push(Event::Trade(id, trade));
        Ok(Some(time))
    }
}

/// The output of a feed, as a reader of the tape sees it: prices at the scales of the definitions before
/// them.
pub fn play(feed: &mut dyn Feed) -> Vec<String> {
    play_at_most(1000, feed)
}

pub fn play_at_most(batches: usize, feed: &mut dyn Feed) -> Vec<String> {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let mut seen = Vec::new();
    let mut played = Vec::new();
    for _ in 0..batches {
        let time = match feed.next(&mut instruments, &mut out) {
            Ok(None) => break,
            Ok(Some(time)) => Ok(time),
            Err(error) => Err(error.to_string()),
        };
        for event in out.drain(..) {
            match event {
                Event::Instrument(definition) => {
                    seen.resize(seen.len().max(definition.id.index() + 1), None);
                    seen[definition.id.index()] = Some(definition.clone());
                }
                Event::Trade(id, trade) => {
                    let definition = seen[id.index()].as_ref().expect("defined before it is used");
                    let price = trade.price.to_decimal(definition.price_scale).unwrap().normalize();
                    let time = time.as_ref().unwrap();
                    assert_eq!(*time, trade.ts_event, "the events' own times are shifted alike");
                    played.push(format!("{} {}={price}", time.nanos(), definition.symbol));
                }
                other => panic!("{other:?}"),
            }
        }
        played.extend(time.err());
    }
    played
}
