use super::fields::{BarFields, QuoteFields};
use super::json;
use super::reader::{DecodeError, Reader, moment};
use super::tag;
use crate::hub::{Kind, TopicKey, bar_field};
use crate::market::{
    Conditions, FeedStatus, Instrument, InstrumentId, Price, ServerStats, Side, Status, Timestamp, Trade,
    TradingState,
};
use crate::tape::Position;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// Reads the updates of one session, one after the other, from their MessagePack form.
///
/// Keeps what is not said again: position and time, the definitions, and how far each ring is counted. After an error
/// these may have fallen behind the server's; begin a new session then.
#[derive(Debug)]
pub struct UpdateDecoder {
    position: u64,
    /// µs since 1970.
    micros: i64,
    definitions: FxHashMap<InstrumentId, Arc<Instrument>>,
    /// The number of the next entry of each ring that was heard of; 0 for the others.
    numbers: FxHashMap<TopicKey, u64>,
}

/// One update: where the session stands after it, and what it tells, in order. All prices are absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub position: Position,
    pub time: Timestamp,
    /// Whether it ends a flush; else the rest of what is owed follows, and the position stays.
    pub whole: bool,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The tape began anew: all that was known is void.
    Reset,
    Definition(Arc<Instrument>),
    /// The fields that changed.
    Quote(Arc<Instrument>, QuoteFields),
    /// The wire has no `ts_recv`; it is `ts_event` once more.
    Trades(Arc<Instrument>, Numbered<Trade>),
    /// The fields that changed of the latest bar of a width, or of the day.
    Bar(Arc<Instrument>, Kind, BarFields),
    ClosedBars(Arc<Instrument>, Kind, Numbered<BarFields>),
    /// Of one instrument or of the whole market.
    Status(Option<Arc<Instrument>>, Status),
    Feed(FeedStatus),
    Stats(Arc<ServerStats>),
}

/// Consecutive entries of a ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered<T> {
    /// Of the first one; of the next to come where there is none.
    pub number: u64,
    /// The server said so; else it was counted from the ones before.
    pub stated: bool,
    pub entries: Vec<T>,
}

impl UpdateDecoder {
    /// Starts where `welcome` says.
    #[must_use]
    pub fn new(position: Position, time: Timestamp) -> Self {
        let (definitions, numbers) = (FxHashMap::default(), FxHashMap::default());
        Self { position: position.get(), micros: time.micros(), definitions, numbers }
    }

    /// Goes on in another session of the same epoch, where its `welcome` says: definitions still hold.
    pub fn reconnect(&mut self, position: Position, time: Timestamp) {
        self.position = position.get();
        self.micros = time.micros();
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position)
    }

    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.micros)
    }

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
        match tag {
            1..=15 | 17..=31 => {
                let quote = self.quote(&instrument, tag, reader)?;
                Ok(Entry::Quote(instrument, quote))
            }
            tag::TRADES | tag::TRADES_NUMBERED => {
                let stated = (tag == tag::TRADES_NUMBERED).then(|| reader.uint("a number")).transpose()?;
                let count = reader.count(4)?;
                let mut trades = Vec::with_capacity(count);
                for _ in 0..count {
                    trades.push(self.trade(&instrument, trades.last(), reader)?);
                }
                let trades = self.number(&instrument, Kind::Trades, stated, trades, reader.element)?;
                Ok(Entry::Trades(instrument, trades))
            }
            tag::BAR_1S | tag::BAR_1M | tag::DAY => {
                let kind = match tag {
                    tag::BAR_1S => Kind::Bars1s,
                    tag::BAR_1M => Kind::Bars1m,
                    _ => Kind::Day,
                };
                let all = bar_field::BAR | if kind == Kind::Day { bar_field::PREVIOUS_CLOSE } else { 0 };
                let mask = reader.small::<u16>("a mask of bar fields")?;
                if mask & !all != 0 {
                    return Err(reader.out_of_range("a mask of bar fields"));
                }
                let bar = reader.bar(&instrument, mask)?;
                Ok(Entry::Bar(instrument, kind, bar))
            }
            tag::CLOSED_1S | tag::CLOSED_1M | tag::CLOSED_1S_NUMBERED | tag::CLOSED_1M_NUMBERED => {
                let kind = match tag {
                    tag::CLOSED_1S | tag::CLOSED_1S_NUMBERED => Kind::Bars1s,
                    _ => Kind::Bars1m,
                };
                let numbered = tag >= tag::CLOSED_1S_NUMBERED;
                let stated = numbered.then(|| reader.uint("a number")).transpose()?;
                let count = reader.count(8)?;
                let mut bars = Vec::with_capacity(count);
                for _ in 0..count {
                    bars.push(reader.bar(&instrument, bar_field::BAR)?);
                }
                let bars = self.number(&instrument, kind, stated, bars, reader.element)?;
                Ok(Entry::ClosedBars(instrument, kind, bars))
            }
            tag::STATUS => Ok(Entry::Status(Some(instrument), self.status(reader)?)),
            _ => Err(unknown),
        }
    }

    fn quote(
        &self,
        instrument: &Instrument,
        tag: u8,
        reader: &mut Reader<'_>,
    ) -> Result<QuoteFields, DecodeError> {
        let told = |field: u8| tag & field != 0;
        Ok(QuoteFields {
            bid: told(1).then(|| reader.price(instrument.anchor_units())).transpose()?,
            bid_size: told(2).then(|| reader.size()).transpose()?,
            ask: told(4).then(|| reader.price(instrument.anchor_units())).transpose()?,
            ask_size: told(8).then(|| reader.size()).transpose()?,
            ts_event: told(tag::QUOTE_WITH_TIME).then(|| self.moment(reader)).transpose()?,
        })
    }

    /// The first of a run stands by itself, the others beside the one before.
    fn trade(
        &self,
        instrument: &Instrument,
        before: Option<&Trade>,
        reader: &mut Reader<'_>,
    ) -> Result<Trade, DecodeError> {
        let price = before.and_then(|before| before.price.some());
        let price = reader.price(price.map_or(instrument.anchor_units(), Price::units))?;
        let ts_event = match before {
            None => self.moment(reader)?,
            Some(before) => {
                let value = reader.int()?;
                Timestamp::from_micros(moment(before.ts_event.micros(), value, reader.element - 1)?)
            }
        };
        let flags = reader.small::<u8>("the flags of a trade")?;
        let side = match flags & 3 {
            0 => Side::None,
            1 => Side::Buy,
            2 => Side::Sell,
            _ => return Err(reader.out_of_range("the flags of a trade")),
        };
        let amount = reader.size()?;
        let conditions = if flags & 4 == 0 {
            Conditions::default()
        } else {
            Conditions::new(reader.text()?).ok_or(reader.out_of_range("conditions"))?
        };
        Ok(Trade { price, size: amount, side, conditions, ts_event, ts_recv: ts_event })
    }

    fn status(&self, reader: &mut Reader<'_>) -> Result<Status, DecodeError> {
        let states = [TradingState::PreOpen, TradingState::Open, TradingState::Halted, TradingState::Closed];
        Ok(Status { state: reader.choice(&states, "a trading state")?, ts_event: self.moment(reader)? })
    }

    fn moment(&self, reader: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
        let value = reader.int()?;
        moment(self.micros, value, reader.element - 1).map(Timestamp::from_micros)
    }

    /// Counts a ring on.
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

impl Update {
    /// The same update as the JSON form tells it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let updates: Vec<Value> = self.entries.iter().filter_map(Entry::to_json).collect();
        let mut update = json!({
            "type": "update",
            "position": self.position.get(),
            "time": json::moment(self.time),
            "updates": updates,
        });
        if !self.whole {
            update["more"] = true.into();
        }
        update
    }
}

impl Entry {
    /// `None` where there is nothing to tell people: a number without entries.
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Reset => json!({ "reset": true }),
            Self::Definition(definition) => json!({ "instrument": json::instrument(definition) }),
            Self::Quote(instrument, quote) => {
                json::entry(Kind::Quote, Some(instrument), json::quote_fields(instrument, quote))
            }
            Self::Trades(instrument, trades) => {
                let list = trades.list(|number, trade| json::trade(instrument, number, trade))?;
                json::entry(Kind::Trades, Some(instrument), json::one("trades", list))
            }
            Self::Bar(instrument, kind, bar) => json::bar_entry(instrument, *kind, bar),
            Self::ClosedBars(instrument, kind, bars) => {
                let list = bars.list(|number, bar| json::closed_bar(instrument, number, bar))?;
                json::entry(*kind, Some(instrument), json::one("closed", list))
            }
            Self::Status(instrument, status) => {
                json::entry(Kind::Status, instrument.as_deref(), json::status_fields(status))
            }
            Self::Feed(feed) => json::entry(Kind::Status, None, json::one("feed", json::feed(feed))),
            Self::Stats(stats) => json::entry(Kind::Stats, None, json::one("stats", json::stats(stats))),
        })
    }
}

impl<T> Numbered<T> {
    /// The entries with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.number..).zip(&self.entries)
    }

    fn list(&self, show: impl Fn(u64, &T) -> Value) -> Option<Vec<Value>> {
        (!self.entries.is_empty()).then(|| self.iter().map(|(number, entry)| show(number, entry)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Price;
    use proptest::prelude::*;

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
        let [Entry::Quote(instrument, quote)] = &update.entries[..] else { panic!("{update:?}") };
        assert_eq!(instrument.symbol.as_str(), "X");
        let expected =
            QuoteFields { bid: Some(Price::new(141)), ask: Some(Price::NONE), ..QuoteFields::default() };
        assert_eq!(*quote, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_hoard(tail in proptest::collection::vec(any::<u8>(), 0..120), len in 0..15_u8) {
            let _ = decode(&tail);
            // Nearly all of those fail at once; these get further.
            if let Ok(update) = decode(&[&[0x90 + len, 0, 0][..], &tail].concat()) {
                prop_assert!(update.entries.len() <= tail.len());
            }
        }
    }
}
