//! The bytes last encoded for each topic, for the next session with the same pending. Pure; on the shard
//! thread, one per encoder.
//!
//! Invariant: the entries hold for one end of the tape; a copied entry is what encoding it anew would give.

use crate::hub::{Kind, TopicKey};
use crate::tape::Position;
use std::ops::Range;

/// The bytes last encoded for each topic at the tape's present end, to be copied for the next session with
/// the same pending.
///
/// Why: sessions with different topics have most of them in common, and copying the entry of a topic takes a
/// tenth of the time of encoding its numbers (`benches/fanout`, "different topics").
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The end of the tape for which the entries hold.
    upto: Position,
    bytes: Vec<u8>,
    /// By style, then by instrument.
    entries: [Vec<Slot>; STYLES],
    /// The length of the update when the present topic was begun.
    begun: Written,
}

/// One for each kind of topic, and one for quotes with times.
const STYLES: usize = Kind::ALL.len() + 1;

/// More is not kept: for a long lag or a very busy market topics are encoded anew.
const MAX_BYTES: usize = 4 << 20;

/// How much of an update is written so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub bytes: usize,
    pub elements: u32,
    pub delivered: u64,
    pub gaps: u64,
}

/// What was encoded for one topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToldEntry<'a> {
    pub bytes: &'a [u8],
    pub elements: u32,
    pub delivered: u32,
    pub gaps: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    upto: Position,
    /// The positions from which this is pending: `from` included, `before` excluded.
    from: Position,
    before: Position,
    start: u32,
    end: u32,
    elements: u32,
    delivered: u32,
    gaps: u32,
}

impl Told {
    /// What is pending of the topic from `since` to `upto`, if it was encoded. If not, it is about to be,
    /// after `written`.
    pub fn get(
        &mut self,
        topic: TopicKey,
        times: bool,
        since: Position,
        upto: Position,
        written: Written,
    ) -> Option<ToldEntry<'_>> {
        self.begun = written;
        let slot = self.entries[style(topic, times)].get(topic.instrument()?.index())?;
        (slot.upto == upto && slot.from <= since && since < slot.before).then(|| ToldEntry {
            bytes: &self.bytes[slot.start as usize..slot.end as usize],
            elements: slot.elements,
            delivered: slot.delivered,
            gaps: slot.gaps,
        })
    }

    /// The topic was encoded up to `written`; the same is pending from any of `since`.
    pub fn put(
        &mut self,
        topic: TopicKey,
        times: bool,
        since: Range<Position>,
        upto: Position,
        written: Written,
        update: &[u8],
    ) {
        let Some(instrument) = topic.instrument() else { return };
        let entry = &update[self.begun.bytes..written.bytes];
        if upto != self.upto {
            self.upto = upto;
            self.bytes.clear();
        }
        let slots = &mut self.entries[style(topic, times)];
        if instrument.index() >= slots.len() {
            slots.resize(instrument.index() + 1, Slot::default());
        }
        let slot = &mut slots[instrument.index()];
        // Of two that hold at once the one for later positions is kept: nearly all sessions are at the end.
        let holds_for_more = slot.upto == upto && slot.from >= since.start;
        if holds_for_more || self.bytes.len() + entry.len() > MAX_BYTES {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(entry);
        let offset = |at: usize| u32::try_from(at).expect("at most MAX_BYTES");
        *slot = Slot {
            upto,
            from: since.start,
            before: since.end,
            start: offset(start),
            end: offset(self.bytes.len()),
            elements: written.elements - self.begun.elements,
            delivered: u32::try_from(written.delivered - self.begun.delivered).expect("fewer than bytes"),
            gaps: u32::try_from(written.gaps - self.begun.gaps).expect("one a topic"),
        };
    }
}

fn style(topic: TopicKey, times: bool) -> usize {
    if times && topic.kind == Kind::Quote { Kind::ALL.len() } else { topic.kind.index() }
}
