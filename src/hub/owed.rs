//! What is pending for a subscriber, as calls on an encoder. Pure; on the shard thread.
//!
//! Invariant: what [`tell`] delivers depends only on the replica, the topics, `due` and `upto`. Two sessions
//! for which these are equal get the same bytes.

use super::channel::ChannelEntries;
use super::image::Image;
use super::replica::{Book, Replica};
use super::ring::{Ring, Run};
use super::stats::ServerStats;
use super::topic::{Kind, Subject, TopicKey};
use crate::market::{Bar, FeedStatus, Instrument, InstrumentId, Status, Symbol, Timestamp, Trade};
use crate::tape::Position;
use std::ops::Range;

/// Takes what is pending for a session, in the order of delivery. The wire's encoders implement it.
pub trait Owed {
    /// The tape was reset: all that the client knows is void.
    fn reset(&mut self);
    /// Reference data of an instrument, before the first of its topics.
    fn definition(&mut self, instrument: &Instrument);
    /// `mask`: the fields that are delivered, as bits of [`super::quote_field`] or [`super::bar_field`];
    /// never 0.
    fn image(&mut self, instrument: &Instrument, kind: Kind, mask: u16, image: Image<'_>);
    /// `numbered`: the number of the first one is stated (even where none follows).
    fn ring(&mut self, instrument: &Instrument, kind: Kind, numbered: bool, entries: Entries<'_>);
    /// A trading state; `None`: the market's.
    fn status(&mut self, instrument: Option<&Instrument>, status: &Status);
    fn feed(&mut self, feed: &FeedStatus);
    fn stats(&mut self, stats: &ServerStats);
    /// Messages of a channel, or states in it.
    fn channel(&mut self, channel: &Symbol, entries: &ChannelEntries<'_>);
    /// The topic joins the session's sets here; all of it follows.
    fn joined(&mut self, instrument: &Instrument, kind: Kind);
    /// The topic belongs to none of the session's topics any more: what the client knows of it goes stale.
    fn left(&mut self, instrument: &Instrument, kind: Kind);
    /// No more fits: what is still pending goes into the next update.
    fn is_full(&self) -> bool;

    /// Copies what it took of this topic for another session, if the same is pending from `since`. Returns
    /// whether it did; if not, the topic is delivered, and perhaps [remembered](Self::remember).
    fn repeat(&mut self, topic: TopicKey, since: Position) -> bool {
        let _ = (topic, since);
        false
    }

    /// What it took since the last [`Self::repeat`] is what is pending of this topic from any of these
    /// positions, as long as the tape stays at its position.
    fn remember(&mut self, topic: TopicKey, since: Range<Position>) {
        let _ = (topic, since);
    }
}

/// A run of a ring's entries.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    Trades(&'a Run<'a, Trade>),
    Bars(&'a Run<'a, Bar>),
}

/// From where one topic is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Changes after it are pending.
    pub position: Position,
    /// The client does not know the topic's numbering (any more), so it must be stated.
    pub numbered: bool,
}

/// What is pending of one topic of a session's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It does not belong to the session's sets, and the client knows.
    Nothing,
    /// What changed since.
    Changes(Since),
    /// It joined the session's sets since the last delivery: that it did, and all of it.
    Joined {
        /// Up to where the client knows it already, as it belonged to them before.
        had: Option<Position>,
    },
    /// It left the session's sets since: the entries of its ring up to that position, and that it left.
    /// `false`: the client never received that it had joined, so that goes first. `None`: whether it ever
    /// belonged to them is not known any more.
    Left(Option<(Since, Position, bool)>),
}

impl Entries<'_> {
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Trades(run) => run.len() as u64,
            Self::Bars(run) => run.len() as u64,
        }
    }

    /// Number of the first one, or of the next one to come where there is none.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Trades(run) => run.number,
            Self::Bars(run) => run.number,
        }
    }

    /// Whether the client, which had the topic before, misses entries in front of these.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        match self {
            Self::Trades(run) => run.gap,
            Self::Bars(run) => run.gap,
        }
    }
}

impl From<Since> for Due {
    #[inline]
    fn from(since: Since) -> Self {
        Self::Changes(since)
    }
}

/// The end of a flush: a session's position after it, and the tape's clock there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upto {
    pub position: Position,
    pub time: Timestamp,
}

/// Delivers to `sink` what is pending of these topics, until `sink` is full: of images every field that
/// changed after `since`, with its present value; of rings every entry after `since` and not after `upto`;
/// and which topics joined or left the session's sets. Each topic comes with its number in the view, those of
/// an instrument mostly in a row.
///
/// Returns the number of the first topic that was not delivered, if there is one.
pub fn tell<D: Into<Due>>(
    replica: &Replica,
    topics: impl Iterator<Item = (usize, TopicKey)>,
    due: impl Fn(TopicKey) -> D,
    upto: Position,
    sink: &mut impl Owed,
) -> Option<usize> {
    let mut defined = None;
    for (number, topic) in topics {
        if sink.is_full() {
            return Some(number);
        }
        let since = match due(topic).into() {
            Due::Changes(since) => since,
            moved => {
                if let Some(book) = topic.instrument().and_then(|instrument| replica.book(instrument)) {
                    tell_move(book, topic.kind, moved, upto, &mut defined, sink);
                }
                continue;
            }
        };
        let instrument = match topic.subject {
            Subject::Instrument(instrument) => instrument,
            Subject::Market => {
                tell_market(replica, topic.kind, since.position, sink);
                continue;
            }
            Subject::Channel(channel) => {
                if let Some(channel) = replica.channel(channel)
                    && let Some(entries) = channel.owed(topic.kind, since.position, upto)
                {
                    sink.channel(&channel.name, &entries);
                }
                continue;
            }
        };
        // Images are delivered with their present values, so what is encoded for an earlier end serves no
        // other session.
        let shares = !since.numbered && upto == replica.position();
        if shares && sink.repeat(topic, since.position) {
            continue;
        }
        let Some(book) = replica.book(instrument) else { continue };
        tell_topic(book, topic.kind, since, Some(since.position), upto, &mut defined, sink);
        if shares && book.defined_at <= since.position {
            sink.remember(topic, alike(book, topic.kind, since.position));
        }
    }
    None
}

fn tell_market(replica: &Replica, kind: Kind, since: Position, sink: &mut impl Owed) {
    if kind == Kind::Stats {
        if let Some((stats, at)) = replica.stats()
            && *at > since
        {
            sink.stats(stats);
        }
        return;
    }
    let market = replica.market();
    if let Some((status, at)) = &market.status
        && *at > since
    {
        sink.status(None, status);
    }
    if let Some((feed, at)) = &market.feed
        && *at > since
    {
        sink.feed(feed);
    }
}

/// Delivers a topic that joined or left the session's sets.
#[cold]
fn tell_move(
    book: &Book,
    kind: Kind,
    due: Due,
    upto: Position,
    defined: &mut Option<InstrumentId>,
    sink: &mut impl Owed,
) {
    let definition = &*book.definition;
    match due {
        Due::Nothing | Due::Changes(_) => {}
        Due::Joined { had } => {
            // The definition names the present sector, and has changed since the last delivery.
            tell_definition(book, Position::START, defined, sink);
            sink.joined(definition, kind);
            let since = Since { position: Position::START, numbered: true };
            tell_topic(book, kind, since, had, upto, defined, sink);
        }
        Due::Left(ring) => {
            tell_definition(book, Position::START, defined, sink);
            if let Some((since, upto, was_there)) = ring {
                if !was_there {
                    sink.joined(definition, kind);
                }
                // No other flush says more of it.
                let had = was_there.then_some(since.position..Position::MAX);
                // A number without entries would be taken for what the client has had.
                let says = |entries: usize| was_there || entries > 0;
                if kind.has_ring() && says(ring_owed(book, kind, since.position, upto)) {
                    tell_ring(book, kind, since, had, upto, sink);
                }
            }
            sink.left(definition, kind);
        }
    }
}

fn tell_topic(
    book: &Book,
    kind: Kind,
    since: Since,
    had: Option<Position>,
    upto: Position,
    defined: &mut Option<InstrumentId>,
    sink: &mut impl Owed,
) {
    let definition = &*book.definition;
    tell_definition(book, since.position, defined, sink);
    if kind.has_ring() {
        tell_ring(book, kind, since, had.map(|had| had..upto), upto, sink);
    }
    if let Some((mask, image)) = book.changed(kind, since.position) {
        sink.image(definition, kind, mask, image);
    }
    if kind == Kind::Status
        && let Some((status, at)) = &book.status
        && *at > since.position
    {
        sink.status(Some(definition), status);
    }
}

/// Definitions are pending state too; one precedes the first of its instrument's topics.
#[inline]
fn tell_definition(book: &Book, since: Position, defined: &mut Option<InstrumentId>, sink: &mut impl Owed) {
    let definition = &*book.definition;
    if book.defined_at > since && *defined != Some(definition.id) {
        *defined = Some(definition.id);
        sink.definition(definition);
    }
}

/// `had`: if the client received the ring, up to where; and up to where it is told what it misses.
#[inline]
fn tell_ring(
    book: &Book,
    kind: Kind,
    since: Since,
    had: Option<Range<Position>>,
    upto: Position,
    sink: &mut impl Owed,
) {
    match book.bars(kind) {
        None => {
            if let Some((numbered, run)) = due_of(&book.trades, since, had, upto) {
                sink.ring(&book.definition, kind, numbered, Entries::Trades(&run));
            }
        }
        Some(bars) => {
            if let Some((numbered, run)) = due_of(&bars.closed, since, had, upto) {
                sink.ring(&book.definition, kind, numbered, Entries::Bars(&run));
            }
        }
    }
}

/// The entries that are due, and whether their number must be stated; `None` where nothing is due.
#[inline]
fn due_of<T: Clone>(
    ring: &Ring<T>,
    since: Since,
    had: Option<Range<Position>>,
    upto: Position,
) -> Option<(bool, Run<'_, T>)> {
    let mut run = ring.owed(since.position, upto);
    run.gap = had.is_some_and(|had| ring.misses(had));
    let numbered = run.broken || (since.numbered && run.number + run.len() as u64 > 0);
    (numbered || !run.is_empty()).then_some((numbered, run))
}

fn ring_owed(book: &Book, kind: Kind, since: Position, upto: Position) -> usize {
    match book.bars(kind) {
        None => book.trades.owed(since, upto).len(),
        Some(bars) => bars.closed.owed(since, upto).len(),
    }
}

/// The positions from which the same is pending of a topic as from `since`, up to the tape's end. It differs
/// only on the two sides of a position at which something changed.
fn alike(book: &Book, kind: Kind, since: Position) -> Range<Position> {
    let mut alike = Alike { since, range: Position::START..Position::MAX };
    alike.differs_at([book.defined_at]);
    if kind.has_ring() {
        match book.bars(kind) {
            None => alike.differs_at(book.trades.around(since)),
            Some(bars) => alike.differs_at(bars.closed.around(since)),
        }
    }
    alike.differs_at(book.stamps(kind).iter().copied());
    if kind == Kind::Status {
        alike.differs_at(book.status.map(|(_, at)| at));
    }
    alike.range
}

struct Alike {
    since: Position,
    range: Range<Position>,
}

impl Alike {
    fn differs_at(&mut self, changes: impl IntoIterator<Item = Position>) {
        for at in changes {
            if at <= self.since {
                self.range.start = self.range.start.max(at);
            } else {
                self.range.end = self.range.end.min(at);
            }
        }
    }
}
