//! Snapshots of instruments, as checkpoints hold them. Any thread: pure.
//! Invariant: like events they are differences; the times of ring entries are relative to the entry before.

use super::cursor::Cursor;
use super::decode::{after, price, quote, size, status, trade};
use super::encode::{
    difference, put_array, put_bool, put_bytes, put_int, put_nil, put_price, put_quote_values, put_status,
    put_times, put_trade_values, put_uint, put_wide, trade_values,
};
use super::{RecordingError, kind};
use crate::market::{
    Bar, BarsSnapshot, InstrumentId, Newest, Price, Size, Snapshot, Tail, Timestamp, Trade, Turnover,
};
use rmp::encode::ByteBuf;

/// [`Trade::booked`] of nearly all trades: counted in its second, its minute and its day.
const EVERYWHERE: u16 = 7;

type Result<T> = std::result::Result<T, RecordingError>;

pub(super) fn put_snapshot(
    to: &mut ByteBuf,
    id: InstrumentId,
    snapshot: &Snapshot,
    anchor: i128,
    time: Timestamp,
) {
    put_array(to, 10);
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
    let trades = snapshot.trades.all();
    put_array(to, trades.len());
    let mut before = time;
    for trade in trades.iter() {
        // Always with times: this trade rarely arrived when the entry before did.
        let is_usual = trade.booked == EVERYWHERE;
        let values = if is_usual { trade_values(trade, true) } else { 7 };
        put_array(to, if is_usual { values } else { 8 });
        put_trade_values(to, trade, anchor, before, values);
        if !is_usual {
            put_uint(to, trade.booked.into());
        }
        before = trade.ts_recv;
    }
    for bars in [&snapshot.bars_1s, &snapshot.bars_1m] {
        put_array(to, 4);
        put_latest(to, bars.latest.as_ref(), anchor, time);
        put_bool(to, bars.is_open);
        put_uint(to, bars.closed.first);
        let closed = bars.closed.all();
        put_array(to, closed.len());
        let mut before = time;
        for bar in closed.iter() {
            put_bar(to, bar, anchor, before);
            before = bar.start;
        }
    }
    match &snapshot.newest {
        None => put_nil(to),
        Some(newest) => {
            let counts_alike = *newest == Newest::new(newest.time, newest.late);
            put_array(to, if counts_alike { 2 } else { 4 });
            put_int(to, difference(newest.time, time));
            put_int(to, newest.late);
            for last in [newest.bars_last, newest.day_last].into_iter().filter(|_| !counts_alike) {
                match last {
                    None => put_nil(to),
                    Some(last) => put_int(to, difference(last, time)),
                }
            }
        }
    }
}

/// Old recordings do not state the newest trade: there it is the newest of those that are kept.
pub(super) fn read_snapshot(
    cursor: &mut Cursor,
    anchor: i128,
    time: Timestamp,
    with_newest: bool,
) -> Result<Snapshot> {
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
    if !with_newest {
        let newest = snapshot.trades.entries.iter().map(|trade| trade.ts_event).max();
        snapshot.newest = newest.map(|time| Newest::new(time, 0));
    } else if !cursor.take_nil()? {
        snapshot.newest = Some(read_newest(cursor, time)?);
    }
    Ok(snapshot)
}

/// With only the first two values, the newest trade sets the close of everything.
fn read_newest(cursor: &mut Cursor, time: Timestamp) -> Result<Newest> {
    let what = "newest trade of a snapshot";
    let values = cursor.array_len(what)?;
    let newest = after(time, cursor.int("time of the newest trade")?);
    let newest = Newest::new(newest, cursor.int("lateness of the newest trade")?);
    let mut last = || {
        if cursor.take_nil()? {
            return Ok(None);
        }
        cursor.int("time of the newest last trade").map(|nanos| Some(after(time, nanos)))
    };
    match values {
        2 => Ok(newest),
        4 => Ok(Newest { bars_last: last()?, day_last: last()?, ..newest }),
        _ => Err(RecordingError::Unexpected { what, expected: "2 or 4 values" }),
    }
}

fn read_trades(cursor: &mut Cursor, anchor: i128, mut before: Timestamp) -> Result<Tail<Trade>> {
    let first = cursor.uint("number of the first trade")?;
    let mut entries = Vec::new();
    for _ in 0..cursor.array_len("trades")? {
        let values = cursor.array_len("trade")?;
        if !matches!(values, 5..=8) {
            return Err(RecordingError::Unexpected { what: "trade", expected: "5 to 8 values" });
        }
        let mut trade = trade(cursor, anchor, before, values.min(7))?;
        trade.booked = if values == 8 { read_booked(cursor)? } else { EVERYWHERE };
        before = trade.ts_recv;
        entries.push(trade);
    }
    Ok(Tail::of(first, entries))
}

fn read_booked(cursor: &mut Cursor) -> Result<u16> {
    let booked = cursor.number("where a trade counted")?;
    let wrong = |_| RecordingError::Value { what: "where a trade counted", value: booked.to_string() };
    u16::try_from(booked).map_err(wrong)
}

fn read_bars(cursor: &mut Cursor, anchor: i128, time: Timestamp) -> Result<BarsSnapshot> {
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
    Ok(BarsSnapshot { latest, is_open, closed: Tail::of(first, entries) })
}

fn put_latest(to: &mut ByteBuf, bar: Option<&Bar>, anchor: i128, time: Timestamp) {
    match bar {
        None => put_nil(to),
        Some(bar) => put_bar(to, bar, anchor, time),
    }
}

fn read_latest(cursor: &mut Cursor, anchor: i128, time: Timestamp) -> Result<Option<Bar>> {
    if cursor.take_nil()? { Ok(None) } else { read_bar(cursor, anchor, time).map(Some) }
}

/// The other prices are relative to the open, and the turnover to what it would be had all traded there.
fn put_bar(to: &mut ByteBuf, bar: &Bar, anchor: i128, before: Timestamp) {
    put_array(to, 8);
    put_int(to, difference(bar.start, before));
    put_price(to, bar.open, anchor);
    let open = bar.open.some().map_or(0, Price::units);
    for other in [bar.high, bar.low, bar.close] {
        put_price(to, other, open);
    }
    put_wide(to, bar.volume.units());
    put_uint(to, bar.trades);
    put_turnover(to, bar.turnover().minus(at_open(bar.open, bar.volume)));
}

fn read_bar(cursor: &mut Cursor, anchor: i128, before: Timestamp) -> Result<Bar> {
    expect(cursor, "bar", 8)?;
    let start = after(before, cursor.int("start of a bar")?);
    let open = price(cursor, "open", anchor)?;
    let units = open.some().map_or(0, Price::units);
    let high = price(cursor, "high", units)?;
    let low = price(cursor, "low", units)?;
    let close = price(cursor, "close", units)?;
    let volume = size(cursor, "volume")?;
    let trades = cursor.uint("number of trades")?;
    let turnover = cursor.turnover("turnover")?.plus(at_open(open, volume));
    Ok(Bar::from_parts(start, [open, high, low, close], volume, trades, turnover))
}

fn at_open(open: Price, volume: Size) -> Turnover {
    open.some().map_or(Turnover::ZERO, |open| Turnover::of(open, volume))
}

/// As 32 bytes if it needs more than 128 bits.
fn put_turnover(to: &mut ByteBuf, turnover: Turnover) {
    match turnover.short() {
        Some(turnover) => put_wide(to, turnover),
        None => put_bytes(to, &turnover.to_bytes()),
    }
}

fn expect(cursor: &mut Cursor, what: &'static str, len: usize) -> Result<()> {
    if cursor.array_len(what)? == len {
        return Ok(());
    }
    Err(RecordingError::Unexpected { what, expected: "another number of values" })
}
