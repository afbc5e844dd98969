//! How the values of a recording are read back. Any thread: pure.
//! Invariant: what is returned is in its type's range; anything else is an error, never a panic.

use super::cursor::Cursor;
use super::{FORMAT, RecordingError, RecordingHeader, VERSION};
use crate::market::{
    Conditions, Counts, FeedStatus, Instrument, InstrumentId, MAX_SCALE, Price, Quote, Side, Size, Status,
    Symbol, Timestamp, Trade,
};

type Result<T> = std::result::Result<T, RecordingError>;

pub(super) fn header(cursor: &mut Cursor) -> Result<RecordingHeader> {
    let mut header = RecordingHeader::default();
    let (mut format, mut version) = ("", None);
    for _ in 0..cursor.map_len("header")? {
        match cursor.text("key of the header")? {
            "format" => format = cursor.text("format")?,
            "version" => version = Some(cursor.uint("version")?),
            "epoch" => header.epoch = cursor.uint("epoch")?,
            "created" => header.created = Timestamp::from_nanos(cursor.int("created")?),
            "source" => cursor.text("source")?.clone_into(&mut header.source),
            _ => {
                return Err(RecordingError::Unexpected {
                    what: "key of the header",
                    expected: "a known one",
                });
            }
        }
        // The first two entries decide whether the rest can be understood.
        match version {
            _ if format != FORMAT => {
                return Err(RecordingError::Unexpected { what: "format", expected: FORMAT });
            }
            Some(version) if version != VERSION => return Err(RecordingError::Version(version)),
            _ => {}
        }
    }
    version.map(|_| header).ok_or(RecordingError::Unexpected { what: "header", expected: "a version" })
}

#[inline]
pub(super) fn quote(cursor: &mut Cursor, anchor: i128, time: Timestamp, with_times: bool) -> Result<Quote> {
    let bid = price(cursor, "bid", anchor)?;
    let bid_size = size(cursor, "bid size")?;
    let ask = price(cursor, "ask", anchor)?;
    let ask_size = size(cursor, "ask size")?;
    let (ts_recv, ts_event) = if with_times { times(cursor, time)? } else { (time, time) };
    Ok(Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv })
}

/// A trade of this many values: 3; 5 with its times; 6 with conditions as well; 7 with what it counts for,
/// too.
pub(super) fn trade(cursor: &mut Cursor, anchor: i128, time: Timestamp, values: usize) -> Result<Trade> {
    let price = price(cursor, "price", anchor)?;
    let size = size(cursor, "size")?;
    let side = side(cursor)?;
    let (ts_recv, ts_event) = if values >= 5 { times(cursor, time)? } else { (time, time) };
    let conditions = if values >= 6 { conditions(cursor)? } else { Conditions::default() };
    let counts = if values == 7 { counts(cursor)? } else { Counts::EVERYTHING };
    Ok(Trade { price, size, side, conditions, counts, booked: 0, ts_event, ts_recv })
}

pub(super) fn status(cursor: &mut Cursor, time: Timestamp) -> Result<Status> {
    let state = name(cursor, "trading state")?;
    Ok(Status { state, ts_event: after(time, cursor.int("time")?) })
}

pub(super) fn feed(cursor: &mut Cursor) -> Result<FeedStatus> {
    let kind = name(cursor, "feed kind")?;
    let state = name(cursor, "feed state")?;
    let speed = if cursor.is_float()? {
        let factor = cursor.float()?.to_string();
        // Through its text, because parsing checks the range of speeds.
        factor.parse().map_err(|_| RecordingError::Value { what: "speed", value: factor })?
    } else {
        name(cursor, "speed")?
    };
    Ok(FeedStatus { kind, state, speed })
}

pub(super) fn definition(cursor: &mut Cursor) -> Result<Instrument> {
    let (mut id, mut symbol) = (None, None);
    let placeholder = Symbol::new("-").expect("a symbol");
    let mut definition = Instrument::unknown(placeholder);
    for _ in 0..cursor.map_len("definition")? {
        match cursor.text("key of a definition")? {
            "id" => id = Some(InstrumentId(cursor.number("id")?)),
            "symbol" => {
                let value = cursor.text("symbol")?;
                let wrong = |_| RecordingError::Value { what: "symbol", value: value.to_owned() };
                symbol = Some(Symbol::new(value).map_err(wrong)?);
            }
            "name" => cursor.text("name")?.clone_into(&mut definition.name),
            "sector" => cursor.text("sector")?.clone_into(&mut definition.sector),
            "currency" => cursor.text("currency")?.clone_into(&mut definition.currency),
            "price_scale" => definition.price_scale = scale(cursor, "price_scale")?,
            "size_scale" => definition.size_scale = scale(cursor, "size_scale")?,
            "tick_size" => definition.tick_size = price(cursor, "tick_size", 0)?.units(),
            "anchor" => definition.anchor = price(cursor, "anchor", 0)?,
            "previous_close" => definition.previous_close = price(cursor, "previous_close", 0)?,
            _ => {
                return Err(RecordingError::Unexpected {
                    what: "key of a definition",
                    expected: "a known one",
                });
            }
        }
    }
    if definition.tick_size < 1 {
        return Err(RecordingError::Unexpected { what: "tick_size", expected: "1 or more" });
    }
    match (id, symbol) {
        (Some(id), Some(symbol)) => Ok(Instrument { id, symbol, ..definition }),
        _ => Err(RecordingError::Unexpected { what: "definition", expected: "an id and a symbol" }),
    }
}

/// The time of arrival, relative to the batch's; and the venue's time, relative to the arrival.
pub(super) fn times(cursor: &mut Cursor, time: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let arrival = after(time, cursor.int("arrival")?);
    Ok((arrival, after(arrival, cursor.int("event time")?)))
}

pub(super) fn after(time: Timestamp, nanos: i64) -> Timestamp {
    Timestamp::from_nanos(time.nanos().wrapping_add(nanos))
}

pub(super) fn price(cursor: &mut Cursor, what: &'static str, anchor: i128) -> Result<Price> {
    if cursor.take_nil()? {
        return Ok(Price::NONE);
    }
    let value = if cursor.is_wide()? {
        cursor.wide(what)?
    } else {
        let value = cursor.int(what)?;
        // Nearly all prices take this path, and any 64 bits are a valid price.
        if let Some(units) = i64::try_from(anchor).ok().and_then(|anchor| anchor.checked_add(value)) {
            return Ok(Price::new(units));
        }
        value.into()
    };
    let price = value.checked_add(anchor).and_then(Price::from_units);
    price.ok_or(RecordingError::Unexpected { what, expected: "less than 10^28 units" })
}

pub(super) fn size(cursor: &mut Cursor, what: &'static str) -> Result<Size> {
    let size = if cursor.is_wide()? {
        Size::from_units(cursor.wide(what)?)
    } else {
        let units = cursor.int(what)?;
        (units >= 0).then_some(Size::new(units))
    };
    size.ok_or(RecordingError::Unexpected { what, expected: "0 or more" })
}

fn side(cursor: &mut Cursor) -> Result<Side> {
    if cursor.take_nil()? {
        return Ok(Side::None);
    }
    match cursor.text("side")? {
        "b" => Ok(Side::Buy),
        "s" => Ok(Side::Sell),
        _ => Err(RecordingError::Unexpected { what: "side", expected: "b, s or nil" }),
    }
}

fn counts(cursor: &mut Cursor) -> Result<Counts> {
    let bits = cursor.number("what a trade counts for")?;
    let wrong = || RecordingError::Value { what: "what a trade counts for", value: bits.to_string() };
    u8::try_from(bits).ok().and_then(Counts::from_bits).ok_or_else(wrong)
}

fn conditions(cursor: &mut Cursor) -> Result<Conditions> {
    let value = cursor.text("conditions")?;
    let wrong = || RecordingError::Value { what: "conditions", value: value.to_owned() };
    Conditions::new(value).ok_or_else(wrong)
}

fn scale(cursor: &mut Cursor, what: &'static str) -> Result<u8> {
    let value = cursor.uint(what)?;
    u8::try_from(value)
        .ok()
        .filter(|&scale| scale <= MAX_SCALE)
        .ok_or(RecordingError::TooLarge { what, max: MAX_SCALE.into() })
}

fn name<T: std::str::FromStr>(cursor: &mut Cursor, what: &'static str) -> Result<T> {
    let value = cursor.text(what)?;
    value.parse().map_err(|_| RecordingError::Value { what, value: value.to_owned() })
}
