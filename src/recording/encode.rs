//! How the values of a recording are written: events in parts, as batches and checkpoints hold them. Any
//! thread: pure.
//! Invariant: [`super::decode`] reads back what is written here, except texts cut at [`MAX_TEXT`].

use super::{FORMAT, MAX_TEXT, RecordingHeader, VERSION};
use crate::market::{Instrument, Price, Quote, Side, Status, Timestamp, Trade};
use rmp::encode::{self as mp, ByteBuf};

pub(super) fn put_header(to: &mut ByteBuf, header: &RecordingHeader) {
    put_map(to, 5);
    put_text(to, "format");
    put_text(to, FORMAT);
    put_text(to, "version");
    put_uint(to, VERSION);
    put_text(to, "epoch");
    put_uint(to, header.epoch);
    put_text(to, "created");
    put_int(to, header.created.nanos());
    put_text(to, "source");
    put_text(to, cut(&header.source));
}

pub(super) fn put_definition(to: &mut ByteBuf, definition: &Instrument) {
    put_map(to, 10);
    put_text(to, "id");
    put_uint(to, definition.id.0.into());
    for (key, text) in [
        ("symbol", definition.symbol.as_str()),
        ("name", &definition.name),
        ("sector", &definition.sector),
        ("currency", &definition.currency),
    ] {
        put_text(to, key);
        put_text(to, cut(text));
    }
    put_text(to, "price_scale");
    put_uint(to, definition.price_scale.into());
    put_text(to, "size_scale");
    put_uint(to, definition.size_scale.into());
    put_text(to, "tick_size");
    put_wide(to, definition.tick_size);
    put_text(to, "anchor");
    put_price(to, definition.anchor, 0);
    put_text(to, "previous_close");
    put_price(to, definition.previous_close, 0);
}

pub(super) fn put_quote_values(to: &mut ByteBuf, quote: &Quote, anchor: i128) {
    put_price(to, quote.bid, anchor);
    put_wide(to, quote.bid_size.units());
    put_price(to, quote.ask, anchor);
    put_wide(to, quote.ask_size.units());
}

/// How many values a trade takes.
pub(super) fn trade_values(trade: &Trade, with_times: bool) -> usize {
    match (trade.counts.is_everything(), trade.conditions.is_empty(), with_times) {
        (true, true, false) => 3,
        (true, true, true) => 5,
        (true, false, _) => 6,
        (false, _, _) => 7,
    }
}

pub(super) fn put_trade_values(
    to: &mut ByteBuf,
    trade: &Trade,
    anchor: i128,
    time: Timestamp,
    values: usize,
) {
    put_price(to, trade.price, anchor);
    put_wide(to, trade.size.units());
    match trade.side {
        Side::None => put_nil(to),
        Side::Buy => put_text(to, "b"),
        Side::Sell => put_text(to, "s"),
    }
    if values > 3 {
        put_times(to, trade.ts_recv, trade.ts_event, time);
    }
    if values > 5 {
        put_text(to, trade.conditions.as_str());
    }
    if values > 6 {
        put_uint(to, trade.counts.bits().into());
    }
}

/// The time of arrival, relative to `time`; and the venue's time, relative to the arrival.
pub(super) fn put_times(to: &mut ByteBuf, arrival: Timestamp, event: Timestamp, time: Timestamp) {
    put_int(to, difference(arrival, time));
    put_int(to, difference(event, arrival));
}

pub(super) fn put_status(to: &mut ByteBuf, status: &Status, time: Timestamp) {
    put_text(to, status.state.name());
    put_int(to, difference(status.ts_event, time));
}

/// Wraps if two times are further apart than 2^63 ns; the reader wraps back.
pub(super) fn difference(time: Timestamp, from: Timestamp) -> i64 {
    time.nanos().wrapping_sub(from.nanos())
}

pub(super) fn put_price(to: &mut ByteBuf, price: Price, anchor: i128) {
    match price.some() {
        None => put_nil(to),
        Some(price) => put_wide(to, price.units() - anchor),
    }
}

/// At most [`MAX_TEXT`] bytes of `text`, cut between characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

// A `ByteBuf` accepts every write: its error type has no values.

pub(super) fn put_nil(to: &mut ByteBuf) {
    let Ok(()) = mp::write_nil(to);
}

pub(super) fn put_bool(to: &mut ByteBuf, value: bool) {
    let Ok(()) = mp::write_bool(to, value);
}

pub(super) fn put_uint(to: &mut ByteBuf, value: u64) {
    mp::write_uint(to, value).expect("memory takes every write");
}

pub(super) fn put_int(to: &mut ByteBuf, value: i64) {
    mp::write_sint(to, value).expect("memory takes every write");
}

/// An integer of up to 128 bits, as 16 bytes if it needs more than 64 bits.
pub(super) fn put_wide(to: &mut ByteBuf, value: i128) {
    match i64::try_from(value) {
        Ok(value) => put_int(to, value),
        Err(_) => put_bytes(to, &value.to_be_bytes()),
    }
}

pub(super) fn put_bytes(to: &mut ByteBuf, bytes: &[u8]) {
    mp::write_bin(to, bytes).expect("memory takes every write");
}

pub(super) fn put_float(to: &mut ByteBuf, value: f64) {
    mp::write_f64(to, value).expect("memory takes every write");
}

pub(super) fn put_text(to: &mut ByteBuf, text: &str) {
    mp::write_str(to, text).expect("memory takes every write");
}

pub(super) fn put_array(to: &mut ByteBuf, len: usize) {
    mp::write_array_len(to, u32::try_from(len).expect("bounded by MAX_EVENTS"))
        .expect("memory takes every write");
}

fn put_map(to: &mut ByteBuf, len: u32) {
    mp::write_map_len(to, len).expect("memory takes every write");
}
