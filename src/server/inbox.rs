use super::fanout::Fanout;
use super::latency::Latency;
use super::link::Link;
use crate::tape::Batch;
use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Batches that may be pending for a shard. It folds all of them at once, so more would only hide that it
/// cannot keep up.
pub(super) const WAITING_BATCHES: usize = 256;
/// The least time between two folds within a turn. A fold costs by topics, so there is none after each of a
/// thousand cohorts of one session.
const FOLD_EVERY: Duration = Duration::from_millis(1);

/// A batch, and when it was put on the tape.
pub(super) type Pending = (Instant, Arc<Batch>);

/// The batches on their path through a shard: pending here, then folded in, then in flight until all sessions
/// that they are pending for are served.
#[derive(Debug)]
pub(super) struct Inbox {
    batches: mpsc::Receiver<Pending>,
    /// When it last folded, and how long that took.
    folded: Instant,
    took: Duration,
    under_way: VecDeque<UnderWay>,
    latency: Latency,
}

/// A batch that was folded in.
#[derive(Debug)]
struct UnderWay {
    put: Instant,
    /// Frames that had been sent before.
    sent: u64,
    /// When this many cohorts have left the queue it is sent to everyone; known once all of them are queued.
    until: Option<u64>,
}

impl Inbox {
    pub fn new(batches: mpsc::Receiver<Pending>) -> Self {
        let under_way = VecDeque::with_capacity(2 * WAITING_BATCHES);
        Self { batches, folded: Instant::now(), took: Duration::ZERO, under_way, latency: Latency::default() }
    }

    /// Folds in everything pending. Returns whether more may be pending: it is bounded, because a feed
    /// without a pace never stops.
    pub fn fold<L: Link>(&mut self, fanout: &mut Fanout<L>) -> bool {
        let (begun, sent) = (Instant::now(), fanout.counters().sent);
        let mut left = WAITING_BATCHES;
        for (put, batch) in self.batches.try_iter().take(WAITING_BATCHES) {
            fanout.apply(&batch);
            self.under_way.push_back(UnderWay { put, sent, until: None });
            left -= 1;
        }
        self.folded = Instant::now();
        self.took = self.folded.saturating_duration_since(begun);
        left == 0
    }

    /// Call it after a cohort was served: it records which batches are through, and folds in what has come if
    /// it is time.
    pub fn served<L: Link>(&mut self, fanout: &mut Fanout<L>, start: Instant) {
        let now = Instant::now();
        self.note_sent(fanout, now);
        // If folding takes long, as with a feed without a pace, it must not be most of a turn.
        if now.saturating_duration_since(self.folded) >= FOLD_EVERY.max(self.took) {
            fanout.tick(now.saturating_duration_since(start));
            self.fold(fanout);
        }
    }

    /// Records how long the batches took that are through by now, if anything was sent since they came.
    pub fn note_sent<L: Link>(&mut self, fanout: &Fanout<L>, now: Instant) {
        let (left_line, sent) = (fanout.left_line(), fanout.counters().sent);
        let until = left_line + fanout.in_line() as u64;
        for batch in self.under_way.iter_mut().rev() {
            if batch.until.is_some() {
                break;
            }
            batch.until = Some(until);
        }
        while let Some(batch) = self.under_way.pop_front_if(|batch| batch.until <= Some(left_line)) {
            if sent > batch.sent {
                self.latency.record(now.saturating_duration_since(batch.put));
            }
        }
    }

    /// From the tape to the last session, one value for each batch after which anything was sent.
    pub fn latency(&self) -> Latency {
        self.latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Event, Status, Timestamp, TradingState};
    use crate::server::fanout::Opening;
    use crate::server::rights::Rights;
    use crate::tape::{Epoch, Position};
    use crate::wire::Form;
    use std::io;

    struct Sink;

    impl Link for Sink {
        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn finish(&mut self) {}
    }

    fn opening(topic: &str) -> Opening {
        let topics = vec![topic.to_owned()];
        Opening { topics, ..Opening::new(Form::MSGPACK, Rights::ALL) }
    }

    fn batch(position: u64) -> Pending {
        let time = Timestamp::from_micros(i64::try_from(position).unwrap());
        let status = Status { state: TradingState::Open, ts_event: time };
        let batch =
            Batch { position: Position::new(position), time, events: vec![Event::Status(None, status)] };
        (Instant::now(), Arc::new(batch))
    }

    /// A fan-out of two cohorts, each of one session that has received batch 1, and its inbox.
    fn two_cohorts(topic: &str) -> (Fanout<Sink>, Inbox, mpsc::Sender<Pending>) {
        let mut fanout = Fanout::with_limits(Epoch::new(1), 1 << 16, 1);
        fanout.apply(&batch(1).1);
        for _ in 0..2 {
            fanout.open(&opening(topic), |_| Sink);
        }
        fanout.flush();
        let (batches, batches_in) = mpsc::channel();
        (fanout, Inbox::new(batches_in), batches)
    }

    #[test]
    fn a_batch_is_under_way_until_all_cohorts_have_been_served() {
        let (mut fanout, mut inbox, batches) = two_cohorts("status");
        batches.send(batch(2)).unwrap();
        assert!(!inbox.fold(&mut fanout));
        let mut counted = Vec::new();
        fanout.flush_with(|fanout| {
            if counted.is_empty() {
                // This one comes after the first was served, which gets it with the next flush.
                batches.send(batch(3)).unwrap();
                inbox.note_sent(fanout, Instant::now());
                inbox.fold(fanout);
            } else {
                inbox.note_sent(fanout, Instant::now());
            }
            counted.push(inbox.latency().count());
        });
        assert_eq!(counted, [0, 1]);
        fanout.flush_with(|fanout| inbox.note_sent(fanout, Instant::now()));
        assert_eq!((inbox.latency().count(), inbox.under_way.len()), (2, 0));
    }

    #[test]
    fn what_nobody_is_told_is_not_counted() {
        let (mut fanout, mut inbox, batches) = two_cohorts("quote:A");
        batches.send(batch(2)).unwrap();
        inbox.fold(&mut fanout);
        fanout.flush_with(|fanout| inbox.note_sent(fanout, Instant::now()));
        inbox.note_sent(&fanout, Instant::now());
        assert_eq!((inbox.latency().count(), inbox.under_way.len()), (0, 0));
    }

    #[test]
    fn folding_has_a_bound() {
        let (mut fanout, mut inbox, batches) = two_cohorts("status");
        let last = 2 + WAITING_BATCHES as u64;
        (2..=last).for_each(|position| batches.send(batch(position)).unwrap());
        assert!(inbox.fold(&mut fanout));
        assert!(!inbox.fold(&mut fanout));
        assert_eq!(fanout.replica().position(), Position::new(last));
    }
}
