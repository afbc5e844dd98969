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
            let topics = &view.key.topics;
            report.partial |= topics.len() > left;
            for topic in topics.iter().take(left) {
                *report.subscribed.entry(topic.clone()).or_default() += view.members().len() as u64;
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
        let view = self.views.get(session.view()).expect("a session has a view");
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
                view.changed(oldest, next),
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
