use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};

/// A reader with the record's own moments, kept from running backwards: the clock stops until they catch up.
pub(super) struct Timeline<R> {
    reader: R,
    latest: Option<Timestamp>,
}

impl<R: Feed> Timeline<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, latest: None }
    }
}

impl<R: Feed> Feed for Timeline<R> {
    fn kind(&self) -> FeedKind {
        self.reader.kind()
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let Some(time) = self.reader.next(instruments, out)? else { return Ok(None) };
        self.latest = self.latest.max(Some(time));
        Ok(self.latest)
    }

    fn left_out(&self) -> u64 {
        self.reader.left_out()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.reader.left_out_by_kind()
    }
}
