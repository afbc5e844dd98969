use super::{Feed, FeedError, LeftOut};
use crate::market::{Counts, Event, FeedKind, InstrumentId, Instruments, Symbol, Timestamp};
use std::collections::BTreeSet;

/// A feed restricted to some symbols.
pub struct Only {
    feed: Box<dyn Feed>,
    symbols: BTreeSet<Symbol>,
    /// Indexed by instrument number.
    is_wanted: Vec<bool>,
    missing: BTreeSet<Symbol>,
}

/// A feed whose trades all count for everything until they are broken.
pub struct AllPrints {
    feed: Box<dyn Feed>,
}

/// A feed restricted to the batches between two moments, both included.
pub struct Between {
    feed: Box<dyn Feed>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Only {
    #[must_use]
    pub fn new(feed: Box<dyn Feed>, symbols: impl IntoIterator<Item = Symbol>) -> Self {
        let symbols: BTreeSet<Symbol> = symbols.into_iter().collect();
        Self { feed, missing: symbols.clone(), symbols, is_wanted: Vec::new() }
    }

    fn is_wanted(&mut self, event: &Event) -> bool {
        let of = |id: InstrumentId, wanted: &[bool]| wanted.get(id.index()).is_some_and(|&wanted| wanted);
        match event {
            Event::Instrument(definition) => {
                let index = definition.id.index();
                self.is_wanted.resize(self.is_wanted.len().max(index + 1), false);
                self.is_wanted[index] = self.symbols.contains(&definition.symbol);
                self.missing.remove(&definition.symbol);
                self.is_wanted[index]
            }
            event => event.instrument().is_none_or(|id| of(id, &self.is_wanted)),
        }
    }
}

impl Feed for Only {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    /// Ends with an error that names the symbols that never appeared.
    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            let start = out.len();
            let next = self.feed.next(instruments, out);
            let events = out.split_off(start);
            out.extend(events.into_iter().filter(|event| self.is_wanted(event)));
            match next {
                Ok(Some(_)) if out.len() == start => {}
                Ok(None) if !self.missing.is_empty() => {
                    let missing: Vec<String> =
                        std::mem::take(&mut self.missing).iter().map(ToString::to_string).collect();
                    let reason = format!("nothing was there of {}", missing.join(", "));
                    return Err(FeedError { place: "the symbols asked for".to_owned(), reason });
                }
                next => return next,
            }
        }
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Self {
            feed: self.feed.fork()?,
            symbols: self.symbols.clone(),
            is_wanted: self.is_wanted.clone(),
            missing: self.missing.clone(),
        }))
    }

    fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.feed.left_out_by_kind()
    }
}

impl AllPrints {
    #[must_use]
    pub fn new(feed: Box<dyn Feed>) -> Self {
        Self { feed }
    }
}

impl Feed for AllPrints {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let start = out.len();
        let next = self.feed.next(instruments, out);
        for event in &mut out[start..] {
            if let Event::Trade(_, trade) = event {
                trade.counts = trade.counts.and(Counts::EVERYTHING);
            }
        }
        next
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Self { feed: self.feed.fork()? }))
    }

    fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.feed.left_out_by_kind()
    }
}

impl Between {
    #[must_use]
    pub fn new(feed: Box<dyn Feed>, start: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        Self { feed, start, end }
    }
}

impl Feed for Between {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            let start = out.len();
            let Some(at) = self.feed.next(instruments, out)? else { return Ok(None) };
            if self.end.is_some_and(|end| at > end) {
                out.truncate(start);
                return Ok(None);
            }
            if self.start.is_none_or(|start| at >= start) {
                self.start = None;
                return Ok(Some(at));
            }
            // Skipped batches may define instruments of later ones.
            let skipped = out.split_off(start);
            out.extend(skipped.into_iter().filter(|event| matches!(event, Event::Instrument(_))));
        }
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Self { feed: self.feed.fork()?, ..*self }))
    }

    fn left_out(&self) -> u64 {
        self.feed.left_out()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.feed.left_out_by_kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::script::{Script, play};

    const SCRIPT: &str = "1:A=1 2:B=2.5 2:C=3 ! 4:A=1.25 5:B=7";

    fn script() -> Box<dyn Feed> {
        Box::new(Script::new(SCRIPT))
    }

    #[track_caller]
    fn check_only(symbols: &str, expected: &[&str]) {
        let symbols = symbols.split(',').map(|symbol| Symbol::new(symbol).unwrap());
        assert_eq!(play(&mut Only::new(script(), symbols)), expected);
    }

    #[track_caller]
    fn check_between(start: Option<i64>, end: Option<i64>, expected: &[&str]) {
        let [start, end] = [start, end].map(|at| at.map(Timestamp::from_nanos));
        assert_eq!(play(&mut Between::new(script(), start, end)), expected);
    }

    #[test]
    fn only_what_was_asked_for_is_let_through() {
        check_only("A", &["1 A=1", "script: bad", "4 A=1.25"]);
        check_only("B,C", &["2 B=2.5", "2 C=3", "script: bad", "5 B=7"]);
    }

    #[test]
    fn symbols_that_were_never_there_are_told_at_the_end() {
        check_only("C,D", &["2 C=3", "script: bad", "the symbols asked for: nothing was there of D"]);
    }

    #[test]
    fn what_lies_between_two_moments_is_let_through_with_the_definitions_it_needs() {
        check_between(None, Some(2), &["1 A=1", "2 B=2.5", "2 C=3", "script: bad"]);
        check_between(Some(4), None, &["script: bad", "4 A=1.25", "5 B=7"]);
        check_between(Some(2), Some(4), &["2 B=2.5", "2 C=3", "script: bad", "4 A=1.25"]);
        check_between(Some(6), None, &["script: bad"]);
    }
}
