//! What a core reports of its sessions, now and then. On the shard thread, between two turns.
//!
//! Invariant: the work is bounded by [`MAX_COUNTED`], [`MAX_SLOW`] and [`MAX_LOOKED_THROUGH`], and one look
//! at each connection.

use super::connection::Connection;
use super::{Fanout, second};
use crate::hub::{
    ChannelEntries, Entries, Image, Kind, Owed, ServerStats, Session, SlowSession, Topic, TopicKey, tell,
};
use crate::market::{FeedStatus, Instrument, Status, Symbol};
use crate::server::link::Link;
use crate::tape::Position;
use rustc_hash::FxHashMap;

/// What a core reports of its sessions. It is put together between two turns, so the work is bounded,
/// whatever sessions there are.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub views: usize,
    /// Sessions that watch each of the topics asked for.
    pub watchers: Vec<u64>,
    /// Sessions by subscription.
    pub subscribed: FxHashMap<Topic, u64>,
    /// Not all of `subscribed` was counted.
    pub partial: bool,
    /// Sessions that lag, the largest lag first. `session` is the connection's key here.
    pub slow: Vec<SlowSession>,
}

/// The most topics of views that are counted.
const MAX_COUNTED: usize = 50_000;
/// The most slow sessions that are reported.
pub const MAX_SLOW: usize = 16;
/// The most topics of slow sessions that are searched for changes that newer values replace.
const MAX_LOOKED_THROUGH: usize = 20_000;

impl<L: Link> Fanout<L> {
    /// Whether any session watches the topic `stats`.
    #[must_use]
    pub fn watches_stats(&self) -> bool {
        self.views.is_watched(TopicKey::SERVER_STATS)
    }

    /// Looks at every connection; counts the watchers of `topics`.
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
        let blocked = self.connections.iter().filter(|(_, connection)| self.is_slow(connection));
        let mut slow: Vec<(usize, &Connection<L>)> = blocked.collect();
        slow.sort_by_key(|(_, connection)| furthest_behind(connection).position());
        let mut left = MAX_LOOKED_THROUGH;
        slow.into_iter()
            .take(MAX_SLOW)
            .map(|(key, connection)| self.slow_session(key, connection, &mut left))
            .collect()
    }

    fn slow_session(&self, key: usize, connection: &Connection<L>, left: &mut usize) -> SlowSession {
        let (session, upto) = (furthest_behind(connection), self.upto());
        let view = session.view(&self.views);
        let waiting = u64::from(session.untold(view));
        // The tape may have gone on without a change for it.
        let at = if waiting > 0 || !session.is_steady() { session.upto() } else { upto };
        let topics = view.topics().len();
        let merged = left.checked_sub(topics).map(|rest| {
            *left = rest;
            let mut owed = Count(0);
            let oldest = if session.shares() { session.position() } else { Position::START };
            let next = session.flush(&self.replica).next;
            tell(
                &self.replica,
                session.cohort(&self.views).changed(view.topics(), oldest, next),
                |topic| view.due(topic, session.since(topic), session.position(), upto.position),
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

/// The session of a connection with the largest lag, which is the one reported.
fn furthest_behind<L: Link>(connection: &Connection<L>) -> &Session {
    let sessions = connection.sessions().map(|(_, session)| session);
    sessions.min_by_key(|session| session.position()).expect("the first one")
}

/// Counts the values and ring entries that are pending.
struct Count(u64);

impl Owed for Count {
    fn reset(&mut self) {}

    fn definition(&mut self, _: &Instrument) {}

    fn image(&mut self, _: &Instrument, _: Kind, _: u16, _: Image<'_>) {
        self.0 += 1;
    }

    fn ring(&mut self, _: &Instrument, _: Kind, _: bool, entries: Entries<'_>) {
        self.0 += entries.count();
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

    fn channel(&mut self, _: &Symbol, entries: &ChannelEntries<'_>) {
        self.0 += entries.count();
    }

    fn joined(&mut self, _: &Instrument, _: Kind) {}

    fn left(&mut self, _: &Instrument, _: Kind) {}

    fn is_full(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Scope;
    use crate::market::{Event, InstrumentId, Price, Quote, Size, Symbol, Timestamp};
    use crate::server::fanout::Opening;
    use crate::server::rights::Rights;
    use crate::tape::{Batch, Epoch};
    use crate::wire::Form;
    use std::io;
    use std::sync::Arc;

    /// A link that takes everything, or nothing.
    struct Wire {
        is_full: bool,
    }

    impl Link for Wire {
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
            let opening = Opening { topics, ..Opening::new(Form::JSON, Rights::ALL) };
            fanout.open(&opening, |_| Wire { is_full: false });
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
            fanout.link(key).unwrap().is_full = true;
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
        // The first session has the position of its last update, of S0; nothing was sent to the other one
        // since it connected.
        assert_eq!(told, [(0, 3, 12, 12, Some(10)), (2, 1, 12, 2, Some(1))]);
        assert_eq!(slow[0].lag_ms, 12);
        fanout.link(0).unwrap().is_full = false;
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
