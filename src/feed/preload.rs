use super::translate::Translator;
use super::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use std::sync::Arc;

/// A feed read into memory, so that neither a disk nor decoding limits its speed.
#[derive(Debug)]
pub struct Preloaded {
    kind: FeedKind,
    events: Vec<Event>,
    /// Each batch's moment, and the end of its events.
    batches: Vec<(Timestamp, usize)>,
    left_out: LeftOut,
}

/// One playback of a [`Preloaded`] feed, from its beginning. Any number of them share the events.
#[derive(Clone, Debug)]
pub struct Playback {
    held: Arc<Preloaded>,
    /// Batches played.
    played: usize,
    translator: Translator,
}

impl Preloaded {
    /// Reads a feed to its end. Records that cannot be read are passed to `on_fault` and left out.
    pub fn read(feed: &mut dyn Feed, mut on_fault: impl FnMut(FeedError)) -> Self {
        let (mut instruments, mut events, mut batches) = (Instruments::default(), Vec::new(), Vec::new());
        loop {
            match feed.next(&mut instruments, &mut events) {
                Ok(Some(time)) => batches.push((time, events.len())),
                Ok(None) => break,
                Err(error) => on_fault(error),
            }
        }
        events.shrink_to_fit();
        batches.shrink_to_fit();
        Self { kind: feed.kind(), events, batches, left_out: feed.left_out_by_kind() }
    }

    /// Events held.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Their memory in bytes, without what the definitions of instruments refer to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.events) + size_of_val(&*self.batches)
    }

    #[must_use]
    pub fn play(self: &Arc<Self>) -> Playback {
        Playback { held: Arc::clone(self), played: 0, translator: Translator::default() }
    }
}

impl Feed for Playback {
    fn kind(&self) -> FeedKind {
        self.held.kind
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(self.clone()))
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let Preloaded { events, batches, .. } = &*self.held;
        let Some(&(time, end)) = batches.get(self.played) else { return Ok(None) };
        let start = self.played.checked_sub(1).map_or(0, |before| batches[before].1);
        self.played += 1;
        let mut refused = None;
        for event in &events[start..end] {
            if let Err(error) = self.translator.translate(event.clone(), instruments, out) {
                refused = refused.or(Some(error));
            }
        }
        match refused {
            Some(error) => Err(FeedError {
                place: format!("preloaded batch {}", self.played),
                reason: error.to_string(),
            }),
            None => Ok(Some(time)),
        }
    }

    fn left_out(&self) -> u64 {
        self.held.left_out.total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.held.left_out.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Looped;
    use crate::feed::script::{Script, play, play_at_most};
    use std::convert::Infallible;

    fn preload(script: &'static str) -> (Arc<Preloaded>, Vec<String>) {
        let mut faults = Vec::new();
        let held = Preloaded::read(&mut Script::new(script), |fault| faults.push(fault.to_string()));
        (Arc::new(held), faults)
    }

    #[test]
    fn it_plays_what_the_feed_would_have() {
        let script = "1:A=1 1:B=2 4:A=1.2345 9:B=3";
        let (held, faults) = preload(script);
        assert!(faults.is_empty());
        for _ in 0..2 {
            assert_eq!(play(&mut held.play()), play(&mut Script::new(script)));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_left_out() {
        let (held, faults) = preload("1:A=1 ! 3:A=3");
        assert_eq!(faults, ["script: bad"]);
        assert_eq!(play(&mut held.play()), ["1 A=1", "3 A=3"]);
    }

    #[test]
    fn it_can_be_looped() {
        let (held, _) = preload("10:A=1 12:A=2");
        let open = || Ok::<_, Infallible>(Box::new(held.play()) as Box<dyn Feed>);
        assert_eq!(play_at_most(3, &mut Looped::new(open).unwrap()), ["10 A=1", "12 A=2", "14 A=1"]);
    }

    #[test]
    fn what_it_holds_is_counted() {
        let (held, _) = preload("10:A=1 12:A=2");
        assert_eq!(held.events(), 4, "A is defined by its name, and with the scales of its price");
        assert!(held.bytes() >= 4 * size_of::<Event>());
    }
}
