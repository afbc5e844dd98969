use super::connection::{Connection, Socket, State};
use super::{Fanout, second};
use crate::hub::{Kind, Owed, Run, Topic, TopicKey, tell};
use crate::market::{Bar, FeedStatus, Instrument, Price, Quote, ServerStats, SlowSession, Status, Trade};
use crate::tape::Position;
use rustc_hash::FxHashMap;

/// What a core tells of its sessions to whoever looks at the server, now and then. It is put together between two turns, so the work is
/// bounded, whatever sessions there are.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub views: usize,
    /// Sessions that watch each of the topics asked about.
    pub watchers: Vec<u64>,
    /// Sessions by what they have subscribed to.
    pub subscribed: FxHashMap<Topic, u64>,
    /// There is more in `subscribed` than was counted.
    pub partial: bool,
    /// Sessions that are behind, the furthest first. `session` is the connection's key here.
    pub slow: Vec<SlowSession>,
}

/// Topics of views that are counted.
const MAX_COUNTED: usize = 50_000;
/// Slow sessions that are told of.
pub const MAX_SLOW: usize = 16;
/// Topics of slow sessions that are looked through to see what newer values have made superfluous.
const MAX_LOOKED_THROUGH: usize = 20_000;

impl<S: Socket> Fanout<S> {
    /// Whether anyone watches the topic `stats`.
    #[must_use]
    pub fn watches_stats(&self) -> bool {
        self.views.is_watched(TopicKey::SERVER_STATS)
    }

    /// Looks at every connection; `topics` are those whose watchers are counted.
    pub fn report(&mut self, topics: &[TopicKey]) -> Report {
        self.views.settle();
        let mut report = Report {
            watchers: topics.iter().map(|&topic| self.views.watchers(topic) as u64).collect(),
            ..Report::default()
        };
        let mut left = MAX_COUNTED;
        for view in self.views.iter() {
            report.views += 1;
            let (topics, sessions) = (&view.key.topics, self.views.sessions(view) as u64);
            report.partial |= topics.len() > left;
            for topic in topics.iter().take(left) {
                *report.subscribed.entry(topic.clone()).or_default() += sessions;
            }
            left = left.saturating_sub(topics.len());
        }
        report.slow = self.slow();
        report
    }

    fn slow(&self) -> Vec<SlowSession> {
        let blocked = self.connections.iter().filter(|(_, connection)| connection.state == State::Blocked);
        let mut slow: Vec<(usize, &Connection<S>)> = blocked.collect();
        slow.sort_by_key(|(_, connection)| connection.session.position());
        let mut left = MAX_LOOKED_THROUGH;
        slow.into_iter()
            .take(MAX_SLOW)
            .map(|(key, connection)| self.slow_session(key, connection, &mut left))
            .collect()
    }

    fn slow_session(&self, key: usize, connection: &Connection<S>, left: &mut usize) -> SlowSession {
        let (session, upto) = (&connection.session, self.upto());
        let view = session.view(&self.views);
        let waiting = u64::from(session.untold(view));
        // The tape may have gone on without anything for it.
        let at = if waiting > 0 || !session.is_steady() { session.upto() } else { upto };
        let topics = view.topics().len();
        let merged = left.checked_sub(topics).map(|rest| {
            *left = rest;
            let mut owed = Entries(0);
            let oldest = if session.shares() { session.position() } else { Position::START };
            let next = session.flush(&self.replica).next;
            tell(
                &self.replica,
                session.cohort(&self.views).changed(view.topics(), oldest, next),
                |topic| session.since(topic),
                upto.position,
                &mut owed,
            );
            waiting.saturating_sub(owed.0)
        });
        SlowSession {
            session: key as u64,
            shard: 0,
            topics: topics as u64,
            lag: upto.position.get() - at.position.get(),
            lag_ms: u64::try_from(upto.time.nanos_since(at.time) / 1_000_000).unwrap_or(0),
            stalled_s: u64::from(second(self.now).saturating_sub(connection.sent)),
            waiting,
            merged,
            backlog_bytes: connection.backlog.len() as u64,
        }
    }
}

/// Counts the values and ring entries that a session is owed.
struct Entries(u64);

impl Owed for Entries {
    fn reset(&mut self) {}

    fn definition(&mut self, _: &Instrument) {}

    fn quote(&mut self, _: &Instrument, _: u8, _: &Quote) {
        self.0 += 1;
    }

    fn trades(&mut self, _: &Instrument, _: bool, run: &Run<'_, Trade>) {
        self.0 += run.len() as u64;
    }

    fn bar(&mut self, _: &Instrument, _: Kind, _: u16, _: Option<&Bar>, _: Price) {
        self.0 += 1;
    }

    fn closed_bars(&mut self, _: &Instrument, _: Kind, _: bool, run: &Run<'_, Bar>) {
        self.0 += run.len() as u64;
    }

    fn status(&mut self, _: Option<&Instrument>, _: &Status) {
        self.0 += 1;
    }

    fn feed(&mut self, _: &FeedStatus) {
        self.0 += 1;
    }

    fn stats(&mut self, _: &ServerStats) {
        self.0 += 1;
    }

    fn is_full(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Form, Scope};
    use crate::market::{Event, InstrumentId, Size, Symbol, Timestamp};
    use crate::server::fanout::Opening;
    use crate::tape::{Batch, Epoch};
    use std::io;
    use std::sync::Arc;

    /// Takes everything, or nothing.
    struct Wire {
        is_full: bool,
    }

    impl Socket for Wire {
        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(if self.is_full { 0 } else { bytes.len() })
        }

        fn finish(&mut self) {}
    }

    fn apply(fanout: &mut Fanout<Wire>, events: Vec<Event>) {
        let position = fanout.replica().position().next();
        let time = Timestamp::from_micros(i64::try_from(position.get()).unwrap() * 1000);
        fanout.apply(&Batch { position, time, events });
        fanout.flush();
    }

    fn quote(instrument: u32, bid: i64) -> Event {
        let at = Timestamp::from_micros(0);
        let (bid, ask) = (Price::new(bid), Price::new(1_000_000));
        let size = Size::new(1);
        let quote = Quote { bid, bid_size: size, ask, ask_size: size, ts_event: at, ts_recv: at };
        Event::Quote(InstrumentId(instrument), quote)
    }

    /// A core that knows `S0` to `S2`, and a connection for each list of topics.
    fn fanout(topics: &[&[&str]]) -> Fanout<Wire> {
        let mut fanout = Fanout::new(Epoch::new(1));
        let define = |number: u32| {
            let symbol = Symbol::new(&format!("S{number}")).unwrap();
            let id = InstrumentId(number);
            Event::Instrument(Arc::new(Instrument { id, ..Instrument::unknown(symbol) }))
        };
        apply(&mut fanout, (0..3).flat_map(|number| [define(number), quote(number, 1)]).collect());
        for topics in topics {
            let topics = topics.iter().map(ToString::to_string).collect();
            let opening = Opening { form: Form::Json, topics, max_hz: None, times: false, since: None };
            fanout.open(&opening, b"", |_| Wire { is_full: false });
        }
        fanout
    }

    const S0: TopicKey = TopicKey::of(InstrumentId(0), Kind::Quote);
    const S1: TopicKey = TopicKey::of(InstrumentId(1), Kind::Quote);

    #[test]
    fn topics_are_counted_by_name_and_by_set() {
        let mut fanout = fanout(&[&["quote:*"], &["quote:*"], &["quote:S0", "status"], &[]]);
        let report = fanout.report(&[S0, S1, TopicKey::MARKET_STATUS]);
        assert_eq!(report.watchers, [3, 2, 1]);
        assert_eq!(report.views, 3);
        let all = Topic { kind: Kind::Quote, scope: Scope::All };
        assert_eq!((report.subscribed[&all], report.subscribed[&Topic::STATUS]), (2, 1));
        assert_eq!(report.subscribed.len(), 3);
        assert!(!report.partial && report.slow.is_empty());
        assert!(!fanout.watches_stats());
        fanout.closed(0);
        fanout.closed(1);
        assert_eq!(fanout.report(&[S0, S1]).watchers, [1, 0]);
    }

    #[test]
    fn a_slow_session_is_told_of_with_what_newer_values_save_it() {
        let mut fanout = fanout(&[&["quote:*"], &["quote:*"], &["quote:S1"]]);
        for key in [0, 2] {
            fanout.socket(key).unwrap().is_full = true;
        }
        for bid in 2..12 {
            apply(&mut fanout, vec![quote(0, bid)]);
        }
        apply(&mut fanout, vec![quote(1, 2)]);
        apply(&mut fanout, vec![quote(1, 3)]);
        let slow = fanout.report(&[]).slow;
        let told: Vec<_> = slow
            .iter()
            .map(|slow| (slow.session, slow.topics, slow.lag, slow.waiting, slow.merged))
            .collect();
        // The first stands where it was when it was told S0 last; the other was told nothing since it came.
        assert_eq!(told, [(0, 3, 12, 12, Some(10)), (2, 1, 12, 2, Some(1))]);
        assert_eq!(slow[0].lag_ms, 12);
        fanout.socket(0).unwrap().is_full = false;
        fanout.writable(0);
        assert_eq!(fanout.report(&[]).slow.len(), 1);
    }

    #[test]
    fn there_is_an_end_to_the_looking_however_much_is_subscribed() {
        let names: Vec<String> = (0..1000).map(|number| format!("quote:X{number}")).collect();
        let lists: Vec<Vec<&str>> =
            (1..=60).map(|length| names[..1000 - length].iter().map(String::as_str).collect()).collect();
        let mut fanout = fanout(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let report = fanout.report(&[]);
        assert!(report.partial);
        assert_eq!(report.subscribed.values().sum::<u64>(), MAX_COUNTED as u64);
        assert_eq!(report.views, 60);
    }
}
