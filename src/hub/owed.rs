use super::replica::{Book, Market, Replica};
use super::ring::Run;
use super::topic::{Kind, TopicKey};
use crate::market::{
    Bar, FeedStatus, Instrument, InstrumentId, Price, Quote, ServerStats, Status, Timestamp, Trade,
};
use crate::tape::Position;
use std::ops::Range;

/// Takes down what a reader is owed, in the order it must be told. The wire's encoders are such.
pub trait Owed {
    /// The tape began anew: all that the reader knows is void.
    fn reset(&mut self);
    fn definition(&mut self, instrument: &Instrument);
    /// `mask` as of [`super::QuoteImage::changed_since`], never 0.
    fn quote(&mut self, instrument: &Instrument, mask: u8, quote: &Quote);
    /// `numbered`: the reader must be told the number of the first one (even where none follows).
    fn trades(&mut self, instrument: &Instrument, numbered: bool, run: &Run<'_, Trade>);
    /// `mask` as of [`super::bar_field`], never 0; `bar` is there where it names more than the previous close.
    fn bar(
        &mut self,
        instrument: &Instrument,
        kind: Kind,
        mask: u16,
        bar: Option<&Bar>,
        previous_close: Price,
    );
    fn closed_bars(&mut self, instrument: &Instrument, kind: Kind, numbered: bool, run: &Run<'_, Bar>);
    fn status(&mut self, instrument: Option<&Instrument>, status: &Status);
    fn feed(&mut self, feed: &FeedStatus);
    fn stats(&mut self, stats: &ServerStats);
    /// No more fits: what is still owed will be told in the next update.
    fn is_full(&self) -> bool;

    /// Tells again what it was told of this topic for another reader, if that is what one from `since` is owed. Returns whether it did;
    /// else it is told, and perhaps may [`Self::remember`] that.
    fn repeat(&mut self, topic: TopicKey, since: Position) -> bool {
        let _ = (topic, since);
        false
    }

    /// What it was told since the last [`Self::repeat`] is what a reader from any of these positions is owed of this topic, as long as
    /// the tape stands where it does.
    fn remember(&mut self, topic: TopicKey, since: Range<Position>) {
        let _ = (topic, since);
    }
}

/// From where a reader is owed one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    pub position: Position,
    /// The reader does not know the topic's numbering (any more) and must be told it.
    pub numbered: bool,
}

/// The end of a flush: where the reader will stand after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upto {
    pub position: Position,
    pub time: Timestamp,
}

/// Tells `sink` what a reader is owed of these topics (sorted, each with its number in the view), until `sink` is full: of images every field that changed after
/// `since`, as it stands now; of rings every entry after `since` and not after `upto`.
///
/// Returns the number of the first topic that was not told, if there is one.
pub fn tell(
    replica: &Replica,
    topics: impl Iterator<Item = (usize, TopicKey)>,
    since: impl Fn(TopicKey) -> Since,
    upto: Position,
    sink: &mut impl Owed,
) -> Option<usize> {
    let mut defined = None;
    for (number, topic) in topics {
        if sink.is_full() {
            return Some(number);
        }
        let since = since(topic);
        let Some(instrument) = topic.instrument else {
            tell_market(replica.market(), topic.kind, since.position, sink);
            continue;
        };
        // Images are told as they are now, so what is told for an earlier end is nothing for other readers.
        let shares = !since.numbered && upto == replica.position();
        if shares && sink.repeat(topic, since.position) {
            continue;
        }
        let Some(book) = replica.book(instrument) else { continue };
        tell_topic(book, topic.kind, since, upto, &mut defined, sink);
        if shares && book.defined_at <= since.position {
            sink.remember(topic, alike(book, topic.kind, since.position));
        }
    }
    None
}

fn tell_market(market: &Market, kind: Kind, since: Position, sink: &mut impl Owed) {
    if kind == Kind::Stats {
        if let Some((stats, at)) = &market.stats
            && *at > since
        {
            sink.stats(stats);
        }
        return;
    }
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

fn tell_topic(
    book: &Book,
    kind: Kind,
    Since { position: since, numbered }: Since,
    upto: Position,
    defined: &mut Option<InstrumentId>,
    sink: &mut impl Owed,
) {
    let definition = &*book.definition;
    // Definitions are owed state too; one precedes the first of its instrument's topics.
    if book.defined_at > since && *defined != Some(definition.id) {
        *defined = Some(definition.id);
        sink.definition(definition);
    }
    match kind {
        Kind::Quote => {
            if let Some(quote) = book.quote.get() {
                match book.quote.changed_since(since) {
                    0 => {}
                    mask => sink.quote(definition, mask, quote),
                }
            }
        }
        Kind::Trades => {
            let run = book.trades.owed(since, upto);
            let numbered = run.broken || (numbered && run.number + run.len() as u64 > 0);
            if numbered || !run.is_empty() {
                sink.trades(definition, numbered, &run);
            }
        }
        Kind::Bars1s | Kind::Bars1m => {
            let bars = book.bars(kind).expect("a kind of bars");
            let run = bars.closed.owed(since, upto);
            let numbered = run.broken || (numbered && run.number + run.len() as u64 > 0);
            if numbered || !run.is_empty() {
                sink.closed_bars(definition, kind, numbered, &run);
            }
            match bars.latest.changed_since(since) {
                0 => {}
                mask => sink.bar(definition, kind, mask, bars.latest.get(), Price::NONE),
            }
        }
        Kind::Day => match book.day.changed_since(since) {
            0 => {}
            mask => sink.bar(definition, kind, mask, book.day.get(), book.day.previous_close()),
        },
        Kind::Status => {
            if let Some((status, at)) = &book.status
                && *at > since
            {
                sink.status(Some(definition), status);
            }
        }
        // No instrument has any.
        Kind::Stats => {}
    }
}

/// The positions from which a reader at the tape's end is owed the same of a topic as from `since`: what is owed differs only on the two
/// sides of a position at which something changed.
fn alike(book: &Book, kind: Kind, since: Position) -> Range<Position> {
    let mut alike = Alike { since, range: Position::START..Position::MAX };
    alike.differs_at([book.defined_at]);
    match kind {
        Kind::Quote => alike.differs_at(book.quote.stamps()),
        Kind::Trades => alike.differs_at(book.trades.around(since)),
        Kind::Bars1s | Kind::Bars1m => {
            let bars = book.bars(kind).expect("a kind of bars");
            alike.differs_at(bars.closed.around(since));
            alike.differs_at(bars.latest.stamps());
        }
        Kind::Day => alike.differs_at(book.day.stamps()),
        Kind::Status => alike.differs_at(book.status.map(|(_, at)| at)),
        Kind::Stats => {}
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
