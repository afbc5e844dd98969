use super::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp};

/// A feed that ends at the first record it cannot read, for users to whom a recording with a hole is worse
/// than none.
pub struct Strict {
    feed: Box<dyn Feed>,
    broken: bool,
}

impl Strict {
    #[must_use]
    pub fn new(feed: Box<dyn Feed>) -> Self {
        Self { feed, broken: false }
    }
}

impl Feed for Strict {
    fn kind(&self) -> FeedKind {
        self.feed.kind()
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if self.broken {
            return Ok(None);
        }
        self.feed.next(instruments, out).map_err(|FeedError { place, reason }| {
            self.broken = true;
            FeedError { place, reason: format!("{reason} (strict: the feed ends here)") }
        })
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(Self { feed: self.feed.fork()?, broken: self.broken }))
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

    #[test]
    fn it_ends_at_the_first_record_that_cannot_be_read() {
        let expected = ["1 A=1", "script: bad (strict: the feed ends here)"];
        assert_eq!(play(&mut Strict::new(Box::new(Script::new("1:A=1 ! 3:A=3 ! 4:A=4")))), expected);
        assert_eq!(play(&mut Strict::new(Box::new(Script::new("1:A=1 2:A=2")))), ["1 A=1", "2 A=2"]);
    }
}
