//! Snapshots of instruments, as checkpoints hold them. Like events they are told in differences; times of ring entries from those
//! of the entry before.

use super::cursor::Cursor;
use super::reader::{after, price, quote, size, status, trade};
use super::writer::{
    difference, put_array, put_bool, put_int, put_nil, put_price, put_quote_values, put_status, put_times,
    put_trade_values, put_uint, put_wide, trade_values,
};
use super::{RecordingError, kind};
use crate::market::{Bar, BarsSnapshot, InstrumentId, Price, Snapshot, Tail, Timestamp, Trade};
use rmp::encode::ByteBuf;

type Result<T> = std::result::Result<T, RecordingError>;

pub(super) fn put_snapshot(
    to: &mut ByteBuf,
    id: InstrumentId,
    snapshot: &Snapshot,
    anchor: i64,
    time: Timestamp,
) {
    put_array(to, 9);
    put_uint(to, kind::SNAPSHOT.into());
    put_uint(to, id.0.into());
    match &snapshot.quote {
        None => put_nil(to),
        Some(quote) => {
            put_array(to, 6);
            put_quote_values(to, quote, anchor);
            put_times(to, quote.ts_recv, quote.ts_event, time);
        }
    }
    match &snapshot.status {
        None => put_nil(to),
        Some(status) => {
            put_array(to, 2);
            put_status(to, status, time);
        }
    }
    put_price(to, snapshot.previous_close, 0);
    put_latest(to, snapshot.day.as_ref(), anchor, time);
    put_array(to, 2);
    put_uint(to, snapshot.trades.first);
    put_array(to, snapshot.trades.entries.len());
    let mut before = time;
    for trade in &snapshot.trades.entries {
        // With times always: what the entry before arrived at is rarely when this one did.
        put_array(to, trade_values(trade, true));
        put_trade_values(to, trade, anchor, before, true);
        before = trade.ts_recv;
    }
    for bars in [&snapshot.bars_1s, &snapshot.bars_1m] {
        put_array(to, 4);
        put_latest(to, bars.latest.as_ref(), anchor, time);
        put_bool(to, bars.is_open);
        put_uint(to, bars.closed.first);
        put_array(to, bars.closed.entries.len());
        let mut before = time;
        for bar in &bars.closed.entries {
            put_bar(to, bar, anchor, before);
            before = bar.start;
        }
    }
}

pub(super) fn read_snapshot(cursor: &mut Cursor, anchor: i64, time: Timestamp) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    if !cursor.take_nil()? {
        expect(cursor, "quote of a snapshot", 6)?;
        snapshot.quote = Some(quote(cursor, anchor, time, true)?);
    }
    if !cursor.take_nil()? {
        expect(cursor, "status of a snapshot", 2)?;
        snapshot.status = Some(status(cursor, time)?);
    }
    snapshot.previous_close = price(cursor, "previous close", 0)?;
    snapshot.day = read_latest(cursor, anchor, time)?;
    expect(cursor, "trades of a snapshot", 2)?;
    snapshot.trades = read_trades(cursor, anchor, time)?;
    snapshot.bars_1s = read_bars(cursor, anchor, time)?;
    snapshot.bars_1m = read_bars(cursor, anchor, time)?;
    Ok(snapshot)
}

fn read_trades(cursor: &mut Cursor, anchor: i64, mut before: Timestamp) -> Result<Tail<Trade>> {
    let first = cursor.uint("number of the first trade")?;
    let mut entries = Vec::new();
    for _ in 0..cursor.array_len("trades")? {
        let values = cursor.array_len("trade")?;
        if !matches!(values, 5 | 6) {
            return Err(RecordingError::Unexpected { what: "trade", expected: "5 or 6 values" });
        }
        let trade = trade(cursor, anchor, before, values)?;
        before = trade.ts_recv;
        entries.push(trade);
    }
    Ok(Tail { first, entries })
}

fn read_bars(cursor: &mut Cursor, anchor: i64, time: Timestamp) -> Result<BarsSnapshot> {
    expect(cursor, "bars of a snapshot", 4)?;
    let latest = read_latest(cursor, anchor, time)?;
    let is_open = cursor.boolean("whether the bar is open")?;
    let first = cursor.uint("number of the first bar")?;
    let (mut entries, mut before) = (Vec::new(), time);
    for _ in 0..cursor.array_len("closed bars")? {
        let bar = read_bar(cursor, anchor, before)?;
        before = bar.start;
        entries.push(bar);
    }
    Ok(BarsSnapshot { latest, is_open, closed: Tail { first, entries } })
}

fn put_latest(to: &mut ByteBuf, bar: Option<&Bar>, anchor: i64, time: Timestamp) {
    match bar {
        None => put_nil(to),
        Some(bar) => put_bar(to, bar, anchor, time),
    }
}

fn read_latest(cursor: &mut Cursor, anchor: i64, time: Timestamp) -> Result<Option<Bar>> {
    if cursor.take_nil()? { Ok(None) } else { read_bar(cursor, anchor, time).map(Some) }
}

/// The other prices are told from the open, and the turnover from what it were had all been traded there.
fn put_bar(to: &mut ByteBuf, bar: &Bar, anchor: i64, before: Timestamp) {
    put_array(to, 8);
    put_int(to, difference(bar.start, before));
    put_price(to, bar.open, anchor);
    let open = bar.open.units();
    for other in [bar.high, bar.low, bar.close] {
        put_price(to, other, open);
    }
    put_int(to, bar.volume.units());
    put_uint(to, bar.trades);
    put_wide(to, bar.turnover().wrapping_sub(at_open(bar.open, bar.volume.units())));
}

fn read_bar(cursor: &mut Cursor, anchor: i64, before: Timestamp) -> Result<Bar> {
    expect(cursor, "bar", 8)?;
    let start = after(before, cursor.int("start of a bar")?);
    let open = price(cursor, "open", anchor)?;
    let units = open.units();
    let high = price(cursor, "high", units)?;
    let low = price(cursor, "low", units)?;
    let close = price(cursor, "close", units)?;
    let volume = size(cursor, "volume")?;
    let trades = cursor.uint("number of trades")?;
    let turnover = cursor.wide("turnover")?.wrapping_add(at_open(open, volume.units()));
    Ok(Bar::from_parts(start, [open, high, low, close], volume, trades, turnover))
}

fn at_open(open: Price, volume: i64) -> i128 {
    i128::from(open.units()) * i128::from(volume)
}

fn expect(cursor: &mut Cursor, what: &'static str, len: usize) -> Result<()> {
    if cursor.array_len(what)? == len {
        return Ok(());
    }
    Err(RecordingError::Unexpected { what, expected: "another number of values" })
}
