use crate::market::Timestamp;

/// Keeps a feed's moments from running backwards where its record does.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<Timestamp>);

impl Clock {
    /// `time`, or the latest moment so far where that is later.
    pub(super) fn at(&mut self, time: Timestamp) -> Timestamp {
        let latest = self.0.map_or(time, |latest| latest.max(time));
        self.0 = Some(latest);
        latest
    }
}
