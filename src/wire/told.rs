use crate::hub::{Kind, TopicKey};
use crate::tape::Position;
use std::ops::Range;

/// The bytes that were told of each topic at the tape's present end, to be copied for the next reader who is owed the same.
///
/// Why: sessions with different topics have most of them in common, and to copy the entry of a topic takes a tenth of the time that
/// its numbers take to encode (`benches/fanout`, "different topics"). What is told without it is the same to the byte.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The end of the tape for which the entries hold.
    upto: Position,
    bytes: Vec<u8>,
    /// Per style, then per instrument.
    entries: [Vec<Slot>; STYLES],
    /// Where the update stood when the topic that is being told was begun.
    begun: Written,
}

/// A kind of topic each, and one for quotes with times.
const STYLES: usize = Kind::ALL.len() + 1;

/// More is not kept: who is far behind, or a market that is very loud, is told anew.
const MAX_BYTES: usize = 4 << 20;

/// How much of an update is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub bytes: usize,
    pub elements: u32,
    pub delivered: u64,
    pub gaps: u64,
}

/// What was told of one topic.
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
    /// The positions from which a reader is owed this: not before the first, and before the second.
    from: Position,
    before: Position,
    start: u32,
    end: u32,
    elements: u32,
    delivered: u32,
    gaps: u32,
}

impl Told {
    /// What a reader from `since` to `upto` is owed of the topic, if it was told. If not, it is about to be, behind `written`.
    pub fn get(
        &mut self,
        topic: TopicKey,
        times: bool,
        since: Position,
        upto: Position,
        written: Written,
    ) -> Option<ToldEntry<'_>> {
        self.begun = written;
        let slot = self.entries[style(topic, times)].get(topic.instrument?.index())?;
        (slot.upto == upto && slot.from <= since && since < slot.before).then(|| ToldEntry {
            bytes: &self.bytes[slot.start as usize..slot.end as usize],
            elements: slot.elements,
            delivered: slot.delivered,
            gaps: slot.gaps,
        })
    }

    /// The topic was told to its end, `written`, as any reader from `since` is owed it.
    pub fn put(
        &mut self,
        topic: TopicKey,
        times: bool,
        since: Range<Position>,
        upto: Position,
        written: Written,
        update: &[u8],
    ) {
        let Some(instrument) = topic.instrument else { return };
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
        // Of two that hold at once the one for readers further on is kept: nearly all are as far as can be.
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
