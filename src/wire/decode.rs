//! Updates read from their MessagePack form, on the client's thread. Pure.
//!
//! Invariant: no bytes make it panic, or take more memory than they have elements for.

use super::reader::{DecodeError, Reader, moment};
use super::schema::{BarFields, Fields, SIDES, TOPICS, tag, trade_flag};
use crate::hub::{Kind, ServerStats, TopicKey, bar_field};
use crate::market::{
    Conditions, Counts, FeedStatus, Instrument, InstrumentId, Json, Message, Price, State, Status, Symbol,
    Timestamp, Trade, TradingState, Word,
};
use crate::tape::Position;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Reads the updates of one session, one after the other, from their MessagePack form.
///
/// It keeps what is not sent again: position and time, the definitions, and the next number of each ring.
/// After an error these may differ from the server's: begin a new session then.
#[derive(Debug)]
pub struct UpdateDecoder {
    position: u64,
    /// µs since 1970.
    micros: i64,
    definitions: FxHashMap<InstrumentId, Arc<Instrument>>,
    /// Number of the next entry of each ring that was received; 0 for the others.
    numbers: FxHashMap<TopicKey, u64>,
}

/// One update: the session's position after it, and the entries in order. All prices are absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Unchanged where `whole` is false.
    pub position: Position,
    /// The tape's clock, in complete µs.
    pub time: Timestamp,
    /// Whether it ends a flush; if not, the rest follows in more updates.
    pub whole: bool,
    /// To be applied in this order.
    pub entries: Vec<Entry>,
}

/// One entry of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The tape was reset: all that was known is void.
    Reset,
    /// Reference data of an instrument; it replaces the one before, with the same symbol and no coarser
    /// scales.
    Definition(Arc<Instrument>),
    /// The fields that changed of a quote, of the latest bar of a width, or of the day.
    Image(Arc<Instrument>, Kind, Fields),
    /// Trades. The wire has no `ts_recv`; it is set to `ts_event`.
    Trades(Arc<Instrument>, Numbered<Trade>),
    /// Closed bars of a width; one with a known start replaces that bar.
    ClosedBars(Arc<Instrument>, Kind, Numbered<BarFields>),
    /// State of one instrument; `None`: of the market.
    Status(Option<Arc<Instrument>>, Status),
    /// State of the market's feed.
    Feed(FeedStatus),
    /// Figures of the server: the topic `stats`.
    Stats(Arc<ServerStats>),
    /// Messages of a channel, all numbered.
    Messages(Symbol, Numbered<Arc<Message>>),
    /// States in a channel.
    States(Symbol, States),
    /// The topic joins the session's sets, as its instrument has moved into one: all of it follows.
    Joined(Arc<Instrument>, Kind),
    /// The topic leaves the session's sets, as its instrument has moved out of them: nothing more of it
    /// follows.
    Left(Arc<Instrument>, Kind),
}

/// States in a channel that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct States {
    /// Whether these are all there are: what was known besides has ended.
    pub whole: bool,
    /// By key; `None`: it has ended.
    pub states: Vec<(Word, Option<Json>)>,
}

/// Consecutive entries of a ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered<T> {
    /// Number of the first one; of the next to come where there is none.
    pub number: u64,
    /// Whether the server stated it; if not, it was counted from the ones before.
    pub stated: bool,
    /// In the order of their numbers.
    pub entries: Vec<T>,
}

/// Named in errors.
const KIND: &str = "a kind of topic";

impl UpdateDecoder {
    /// For a new session; `position` and `time` are those of `welcome`.
    #[must_use]
    pub fn new(position: Position, time: Timestamp) -> Self {
        let (definitions, numbers) = (FxHashMap::default(), FxHashMap::default());
        Self { position: position.get(), micros: time.micros(), definitions, numbers }
    }

    /// Goes on in another session of the same epoch, from its `welcome`: definitions still hold.
    pub fn reconnect(&mut self, position: Position, time: Timestamp) {
        self.position = position.get();
        self.micros = time.micros();
    }

    /// Position after the last update.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position)
    }

    /// The tape's clock after the last update.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.micros)
    }

    /// Reads the next update.
    ///
    /// # Errors
    /// [`DecodeError`] names the first element that is wrong.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Update, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let whole = !reader.nil()?;
        let positions = if whole { reader.uint("positions")? } else { 0 };
        let micros = reader.int()?;
        self.position = self
            .position
            .checked_add(positions)
            .filter(|&position| position < 1 << 53)
            .ok_or(DecodeError::OutOfRange { element: 0, what: "a position" })?;
        self.micros = moment(self.micros, micros, 1)?;
        let mut entries = Vec::new();
        while reader.left > 0 {
            entries.push(self.entry(&mut reader)?);
        }
        if !reader.rest.is_empty() {
            return Err(DecodeError::Trailing { bytes: reader.rest.len() });
        }
        Ok(Update { position: self.position(), time: self.time(), whole, entries })
    }

    fn entry(&mut self, reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
        let element = reader.element;
        let id = if reader.nil()? { None } else { Some(reader.small::<u32>("an instrument number")?) };
        let tag = reader.int()?;
        let unknown = DecodeError::UnknownTag { element: element + 1, tag };
        let Ok(tag) = u8::try_from(tag) else { return Err(unknown) };
        let Some(id) = id else {
            return match tag {
                tag::STATUS => Ok(Entry::Status(None, self.status(reader)?)),
                tag::FEED => Ok(Entry::Feed(reader.feed()?)),
                tag::RESET => {
                    self.definitions.clear();
                    self.numbers.clear();
                    Ok(Entry::Reset)
                }
                tag::STATS => Ok(Entry::Stats(Arc::new(reader.stats()?))),
                tag::MESSAGES => self.messages(reader),
                tag::STATES => states(reader),
                _ => Err(unknown),
            };
        };
        if tag == tag::DEFINITION {
            return self.define(InstrumentId(id), reader);
        }
        let instrument = self
            .definitions
            .get(&InstrumentId(id))
            .cloned()
            .ok_or(DecodeError::UnknownInstrument { element, instrument: id })?;
        // Quotes first: they are nearly all that is read.
        if tag < tag::TRADES && tag != tag::QUOTE && tag != tag::QUOTE_WITH_TIME {
            return self.image(instrument, Kind::Quote, tag.into(), reader);
        }
        match tag {
            tag::STATUS => return Ok(Entry::Status(Some(instrument), self.status(reader)?)),
            tag::JOINED => return Ok(Entry::Joined(instrument, reader.choice(&Kind::ALL, KIND)?)),
            tag::LEFT => return Ok(Entry::Left(instrument, reader.choice(&Kind::ALL, KIND)?)),
            _ => {}
        }
        for topic in &TOPICS {
            if let Some(ring) = topic.ring.filter(|ring| tag == ring.tag || tag == ring.numbered) {
                let stated = (tag == ring.numbered).then(|| reader.uint("a number")).transpose()?;
                return self.ring(instrument, topic.kind, reader.count(ring.least)?, stated, reader);
            }
            if let Some(image) = topic.image.filter(|image| tag == image.tag) {
                let mask = reader.small::<u16>("a mask of fields")?;
                if mask & !image.all != 0 {
                    return Err(reader.out_of_range("a mask of fields"));
                }
                return self.image(instrument, topic.kind, mask, reader);
            }
        }
        Err(unknown)
    }

    fn messages(&self, reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
        let channel = channel(reader)?;
        let number = reader.uint("a number")?;
        let count = reader.count(4)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let ts_event = reader.moment(self.micros)?;
            let (from, event) = (optional(reader, word)?, optional(reader, word)?);
            let data = content(reader, Message::MAX_DATA)?;
            let channel = channel.clone();
            let message = Message { channel, from, event, data, is_spread: false, except: None, ts_event };
            entries.push(Arc::new(message));
        }
        Ok(Entry::Messages(channel, Numbered { number, stated: true, entries }))
    }

    fn image(
        &self,
        instrument: Arc<Instrument>,
        kind: Kind,
        mask: u16,
        reader: &mut Reader<'_>,
    ) -> Result<Entry, DecodeError> {
        let fields = Fields::read(kind, mask, &instrument, self.micros, reader)?;
        Ok(Entry::Image(instrument, kind, fields))
    }

    fn ring(
        &mut self,
        instrument: Arc<Instrument>,
        kind: Kind,
        count: usize,
        stated: Option<u64>,
        reader: &mut Reader<'_>,
    ) -> Result<Entry, DecodeError> {
        if kind == Kind::Trades {
            let mut trades = Vec::with_capacity(count);
            for _ in 0..count {
                trades.push(self.trade(&instrument, trades.last(), reader)?);
            }
            let trades = self.number(&instrument, kind, stated, trades, reader.element)?;
            return Ok(Entry::Trades(instrument, trades));
        }
        let mut bars = Vec::with_capacity(count);
        for _ in 0..count {
            bars.push(BarFields::read(bar_field::BAR, &instrument, self.micros, reader)?);
        }
        let bars = self.number(&instrument, kind, stated, bars, reader.element)?;
        Ok(Entry::ClosedBars(instrument, kind, bars))
    }

    /// The first of a run is relative to the anchor and the update's time, the others to the one before.
    fn trade(
        &self,
        instrument: &Instrument,
        before: Option<&Trade>,
        reader: &mut Reader<'_>,
    ) -> Result<Trade, DecodeError> {
        let price = before.and_then(|before| before.price.some());
        let price = reader.price(price.map_or(instrument.anchor_units(), Price::units))?;
        let ts_event = match before {
            None => reader.moment(self.micros)?,
            Some(before) => reader.moment(before.ts_event.micros())?,
        };
        let flags = reader.small::<u8>("the flags of a trade")?;
        let Some(&side) = SIDES.get(usize::from(flags & trade_flag::SIDE)) else {
            return Err(reader.out_of_range("the flags of a trade"));
        };
        let amount = reader.size()?;
        let conditions = if flags & trade_flag::CONDITIONS == 0 {
            Conditions::default()
        } else {
            Conditions::new(reader.text()?).ok_or(reader.out_of_range("conditions"))?
        };
        let counts = if flags & trade_flag::COUNTS == 0 {
            Counts::EVERYTHING
        } else {
            let bits = reader.small::<u8>("what a trade counts for")?;
            Counts::from_bits(bits).ok_or(reader.out_of_range("what a trade counts for"))?
        };
        let booked = if counts.is_break() { reader.small::<u16>("how long ago a trade was")? } else { 0 };
        Ok(Trade { price, size: amount, side, conditions, counts, booked, ts_event, ts_recv: ts_event })
    }

    fn status(&self, reader: &mut Reader<'_>) -> Result<Status, DecodeError> {
        let state = reader.choice(TradingState::ALL, "a trading state")?;
        Ok(Status { state, ts_event: reader.moment(self.micros)? })
    }

    /// Numbers entries, and keeps the next number of their ring.
    fn number<T>(
        &mut self,
        instrument: &Instrument,
        kind: Kind,
        stated: Option<u64>,
        entries: Vec<T>,
        element: usize,
    ) -> Result<Numbered<T>, DecodeError> {
        let next = self.numbers.entry(TopicKey::of(instrument.id, kind)).or_default();
        let number = stated.unwrap_or(*next);
        *next = number
            .checked_add(entries.len() as u64)
            .filter(|&next| next < 1 << 53)
            .ok_or(DecodeError::OutOfRange { element, what: "a number" })?;
        Ok(Numbered { number, stated: stated.is_some(), entries })
    }

    fn define(&mut self, id: InstrumentId, reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
        let element = reader.element;
        let definition = reader.definition(id)?;
        if let Some(known) = self.definitions.get(&id) {
            let finer =
                definition.price_scale >= known.price_scale && definition.size_scale >= known.size_scale;
            if !finer || definition.symbol != known.symbol {
                let reason = "the symbol changed or a scale shrank".to_owned();
                return Err(DecodeError::Definition { element, reason });
            }
        }
        let definition = Arc::new(definition);
        self.definitions.insert(id, Arc::clone(&definition));
        Ok(Entry::Definition(definition))
    }
}

fn states(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let channel = channel(reader)?;
    let whole = reader.choice(&[false, true], "whether these are all states")?;
    let count = reader.count(2)?;
    let mut states = Vec::new();
    for _ in 0..count {
        states.push((word(reader)?, optional(reader, |reader| content(reader, State::MAX_DATA))?));
    }
    Ok(Entry::States(channel, States { whole, states }))
}

fn channel(reader: &mut Reader<'_>) -> Result<Symbol, DecodeError> {
    Symbol::new(reader.text()?).map_err(|_| reader.out_of_range("a channel"))
}

fn word(reader: &mut Reader<'_>) -> Result<Word, DecodeError> {
    Word::new(reader.text()?).ok_or(reader.out_of_range("a word"))
}

fn content(reader: &mut Reader<'_>, most: usize) -> Result<Json, DecodeError> {
    let text = reader.text()?;
    let value = serde_json::from_str(text).ok().filter(|_| text.len() <= most);
    let json = value.and_then(|value| Json::new(&value, most).ok());
    json.ok_or(reader.out_of_range("JSON"))
}

fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if reader.nil()? { Ok(None) } else { read(reader).map(Some) }
}

impl<T> Numbered<T> {
    /// The entries with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.number..).zip(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Price;
    use crate::wire::QuoteFields;
    use proptest::prelude::*;
    use serde_json::json;

    /// Decodes after a definition of instrument 0 with anchor 100.
    fn decode(bytes: &[u8]) -> Result<Update, DecodeError> {
        let mut decoder = UpdateDecoder::new(Position::new(5), Timestamp::from_micros(1000));
        let symbol = rmp_serde::to_vec(&json!({ "symbol": "X", "anchor": 100, "later": [1, { "a": null }] }));
        let define = [&[0x95, 0, 0, 0, 63][..], &symbol.unwrap()].concat();
        decoder.decode(&define).unwrap();
        decoder.decode(bytes)
    }

    #[track_caller]
    fn check_error(bytes: &[u8], expected: &str) {
        assert_eq!(decode(bytes).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        check_error(&[], "not an update: its first byte begins no array");
        check_error(&[0x81, 0, 0], "not an update: its first byte begins no array");
        check_error(&[0x92, 0], "update ends within element 1");
        check_error(&[0x92, 0, 0, 7], "update has 1 bytes behind its last element");
        check_error(&[0x92, 0, 0xa1, b'x'], "element 1 is no integer");
        check_error(&[0x92, 0xff, 0], "element 0 is out of range for positions");
        check_error(&[0x94, 0, 0, 0, 16], "element 3: unknown tag 16");
        check_error(&[0x94, 0, 0, 0xc0, 1], "element 3: unknown tag 1");
        check_error(&[0x94, 0, 0, 0, 61], "element 3: unknown tag 61");
        check_error(&[0x95, 0, 0, 1, 1, 0], "element 2: instrument 1 was never defined");
        check_error(&[0x95, 0, 0, 0, 2, 0xff], "element 4 is out of range for a size");
        check_error(&[0x94, 0, 0, 0, 1], "update ends within element 4");
        check_error(&[0x96, 0, 0, 0xc0, 60, 9, 0], "element 4 is out of range for a trading state");
        check_error(&[0x95, 0, 0, 0, 63, 0x80], "element 4: bad definition: it has no symbol");
        check_error(&[0x94, 0, 0, 0, 62], "element 3: unknown tag 62");
        check_error(&[0x94, 0, 0, 0xc0, 62], "update ends within element 4");
        let time_is_text = [&[0x95, 0, 0, 0xc0, 62, 0x81, 0xa4][..], b"time", &[0xa1, b'x']].concat();
        assert!(decode(&time_is_text).unwrap_err().to_string().starts_with("element 4: bad stats: "));
    }

    #[test]
    fn counts_and_lengths_are_checked_before_memory_is_given() {
        let many = [0x95, 0, 0, 0, 32, 0xce, 0xff, 0xff, 0xff, 0xff];
        check_error(&many, "element 4: 4294967295 entries are announced and 0 elements are left");
        check_error(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0, 0], "update ends within element 2");
        let name = [0x95, 0, 0, 0, 63, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff];
        check_error(&name, "update ends within element 4");
        let shards =
            [&[0x95, 0, 0, 0xc0, 62, 0x81, 0xa6][..], b"shards", &[0xdd, 0xff, 0xff, 0xff, 0xff]].concat();
        check_error(&shards, "update ends within element 4");
    }

    #[test]
    fn a_quote_is_told_in_absolute_units() {
        let update = decode(&[0x96, 1, 2, 0, 5, 41, 0xc0]).unwrap();
        assert_eq!((update.position, update.time), (Position::new(6), Timestamp::from_micros(1002)));
        let [Entry::Image(instrument, Kind::Quote, Fields::Quote(quote))] = &update.entries[..] else {
            panic!("{update:?}")
        };
        assert_eq!(instrument.symbol.as_str(), "X");
        let expected =
            QuoteFields { bid: Some(Price::new(141)), ask: Some(Price::NONE), ..QuoteFields::default() };
        assert_eq!(*quote, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_hoard(tail in proptest::collection::vec(any::<u8>(), 0..120), len in 0..15_u8) {
            let _ = decode(&tail);
            // Nearly all of these fail at once; the next get further.
            if let Ok(update) = decode(&[&[0x90 + len, 0, 0][..], &tail].concat()) {
                prop_assert!(update.entries.len() <= tail.len());
            }
        }
    }
}
