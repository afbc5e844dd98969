use super::Recorder;
use crate::market::{
    Event, Instrument, InstrumentId, Instruments, Price, Quote, Size, Status, Timestamp, Trade, put_decimal,
};
use crate::recording::RecordingHeader;
use crate::tape::{Batch, Position};
use std::io::{self, Write};

/// Writes a feed's batches in one format.
pub trait Export {
    /// `instruments` are those of the events.
    ///
    /// # Errors
    /// Those of the output.
    fn batch(&mut self, time: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()>;

    /// Writes what is still pending.
    ///
    /// # Errors
    /// Those of the output.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A `.tape`, with checkpoints; positions are counted from 1.
pub struct TapeExport<W: Write> {
    recorder: Recorder<W>,
    position: Position,
}

/// One JSON object per event, as `POST /v1/publish` accepts them.
pub struct JsonExport<W> {
    to: W,
    line: Vec<u8>,
}

/// CSV: all events in the columns of their fields, or only quotes or only trades in fewer columns.
pub struct CsvExport<W> {
    to: W,
    rows: Rows,
    line: Vec<u8>,
}

/// The rows of a CSV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    Quotes,
    Trades,
}

impl<W: Write> TapeExport<W> {
    /// # Errors
    /// Those of the writer.
    pub fn new(to: W, header: &RecordingHeader) -> io::Result<Self> {
        Ok(Self { recorder: Recorder::new(to, header)?, position: Position::START })
    }
}

impl<W: Write> Export for TapeExport<W> {
    fn batch(&mut self, time: Timestamp, events: Vec<Event>, _: &Instruments) -> io::Result<()> {
        self.position = self.position.next();
        self.recorder.append(&Batch { position: self.position, time, events })
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.recorder.finish()?.flush()
    }
}

impl<W: Write> JsonExport<W> {
    pub fn new(to: W) -> Self {
        Self { to, line: Vec::new() }
    }
}

impl<W: Write> Export for JsonExport<W> {
    fn batch(&mut self, _: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()> {
        for event in &events {
            self.line.clear();
            json_line(&mut self.line, event, instruments)?;
            self.to.write_all(&self.line)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.to.flush()
    }
}

fn json_line(to: &mut Vec<u8>, event: &Event, instruments: &Instruments) -> io::Result<()> {
    match event {
        Event::Quote(id, Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv }) => {
            let Some(x) = instruments.get(*id) else { return Ok(()) };
            to.write_all(b"{\"type\":\"quote\"")?;
            json_text(to, "symbol", x.symbol.as_str())?;
            for ([name, size_name], (price, size)) in
                [["bid", "bid_size"], ["ask", "ask_size"]].into_iter().zip([(bid, bid_size), (ask, ask_size)])
            {
                if !price.is_none() {
                    json_number(to, name, price.units(), x.price_scale)?;
                    json_number(to, size_name, size.units(), x.size_scale)?;
                }
            }
            json_times(to, *ts_event, *ts_recv)?;
        }
        Event::Trade(id, trade) => {
            let Some(x) = instruments.get(*id) else { return Ok(()) };
            write!(to, "{{\"type\":\"{}\"", trade_type(trade))?;
            json_text(to, "symbol", x.symbol.as_str())?;
            json_number(to, "price", trade.price.units(), x.price_scale)?;
            json_number(to, "size", trade.size.units(), x.size_scale)?;
            if trade.side != crate::market::Side::None {
                json_text(to, "side", trade.side.name())?;
            }
            if !trade.conditions.is_empty() {
                json_text(to, "conditions", trade.conditions.as_str())?;
            }
            if !trade.counts.is_everything() {
                json_text(to, "counts", &trade.counts.to_string())?;
            }
            json_times(to, trade.ts_event, trade.ts_recv)?;
        }
        Event::Status(id, status) => {
            to.write_all(b"{\"type\":\"status\"")?;
            if let Some(x) = id.and_then(|id| instruments.get(id)) {
                json_text(to, "symbol", x.symbol.as_str())?;
            }
            json_text(to, "state", status.state.name())?;
            write!(to, ",\"ts_event\":\"{}\"", status.ts_event)?;
        }
        Event::Instrument(x) => {
            to.write_all(b"{\"type\":\"instrument\"")?;
            json_text(to, "symbol", x.symbol.as_str())?;
            for (name, text) in [("name", &x.name), ("sector", &x.sector), ("currency", &x.currency)] {
                if !text.is_empty() {
                    json_text(to, name, text)?;
                }
            }
            json_number(to, "tick_size", x.tick_size, x.price_scale)?;
            write!(to, ",\"price_scale\":{},\"size_scale\":{}", x.price_scale, x.size_scale)?;
            if !x.previous_close.is_none() {
                json_number(to, "previous_close", x.previous_close.units(), x.price_scale)?;
            }
        }
        Event::Feed(_) | Event::Snapshot(..) | Event::Posted(_) | Event::Reset => {
            return Ok(());
        }
    }
    to.write_all(b"}\n")
}

fn json_text(to: &mut Vec<u8>, name: &str, text: &str) -> io::Result<()> {
    write!(to, ",\"{name}\":")?;
    serde_json::to_writer(to, text).map_err(Into::into)
}

/// As text, so that no reader rounds it to a float.
fn json_number(to: &mut Vec<u8>, name: &str, units: i128, scale: u8) -> io::Result<()> {
    write!(to, ",\"{name}\":\"")?;
    put_decimal(to, units, scale);
    to.write_all(b"\"")
}

fn json_times(to: &mut Vec<u8>, event: Timestamp, recv: Timestamp) -> io::Result<()> {
    write!(to, ",\"ts_event\":\"{event}\"")?;
    if recv != event {
        write!(to, ",\"ts_recv\":\"{recv}\"")?;
    }
    Ok(())
}

impl<W: Write> CsvExport<W> {
    /// Writes the header line.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut to: W, rows: Rows) -> io::Result<Self> {
        let header = match rows {
            Rows::All => {
                "type,time,ts_recv,symbol,bid,bid_size,ask,ask_size,price,size,side,conditions,state,\
                 name,sector,currency,tick_size,price_scale,size_scale,previous_close,counts"
            }
            Rows::Quotes => "time,ts_recv,symbol,bid,bid_size,ask,ask_size",
            Rows::Trades => "time,ts_recv,symbol,price,size,side,conditions,counts",
        };
        writeln!(to, "{header}")?;
        Ok(Self { to, rows, line: Vec::new() })
    }
}

impl<W: Write> Export for CsvExport<W> {
    fn batch(&mut self, _: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()> {
        for event in &events {
            self.line.clear();
            if csv_line(&mut self.line, event, instruments, self.rows)? {
                self.line.push(b'\n');
                self.to.write_all(&self.line)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes the line of an event; returns whether it has one.
fn csv_line(to: &mut Vec<u8>, event: &Event, instruments: &Instruments, rows: Rows) -> io::Result<bool> {
    let symbol = |id: InstrumentId| instruments.get(id).map_or("", |x| x.symbol.as_str());
    match (event, rows) {
        (Event::Quote(id, quote), Rows::All | Rows::Quotes) => {
            let Some(x) = instruments.get(*id) else { return Ok(false) };
            if rows == Rows::All {
                to.write_all(b"quote,")?;
            }
            csv_times(to, quote.ts_event, quote.ts_recv)?;
            csv_text(to, symbol(*id))?;
            csv_side(to, quote.bid, quote.bid_size, x);
            csv_side(to, quote.ask, quote.ask_size, x);
            if rows == Rows::All {
                to.write_all(b",,,,,,,,,,,,,")?;
            }
        }
        (Event::Trade(id, trade), Rows::All | Rows::Trades) => {
            let Some(x) = instruments.get(*id) else { return Ok(false) };
            if rows == Rows::All {
                write!(to, "{},", trade_type(trade))?;
            }
            csv_trade(to, trade, x, rows)?;
            if rows == Rows::All {
                to.write_all(b",,,,,,,,")?;
            }
            to.push(b',');
            if !trade.counts.is_everything() {
                write!(to, "{}", trade.counts)?;
            }
        }
        (Event::Status(id, Status { state, ts_event }), Rows::All) => {
            to.write_all(b"status,")?;
            csv_time(to, *ts_event)?;
            to.write_all(b",,")?;
            csv_text(to, id.map_or("", symbol))?;
            write!(to, ",,,,,,,,,{state},,,,,,,,")?;
        }
        (Event::Instrument(x), Rows::All) => {
            to.write_all(b"instrument,,,")?;
            csv_text(to, x.symbol.as_str())?;
            to.write_all(b",,,,,,,,,")?;
            for text in [&x.name, &x.sector, &x.currency] {
                to.push(b',');
                csv_text(to, text)?;
            }
            to.push(b',');
            put_decimal(to, x.tick_size, x.price_scale);
            write!(to, ",{},{},", x.price_scale, x.size_scale)?;
            if !x.previous_close.is_none() {
                put_decimal(to, x.previous_close.units(), x.price_scale);
            }
            to.push(b',');
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The type of a row of trades: one that takes a trade back is no trade.
fn trade_type(trade: &Trade) -> &'static str {
    if trade.counts.is_break() { "cancel" } else { "trade" }
}

fn csv_times(to: &mut Vec<u8>, event: Timestamp, recv: Timestamp) -> io::Result<()> {
    csv_time(to, event)?;
    to.push(b',');
    if recv != event {
        csv_time(to, recv)?;
    }
    to.write_all(b",")
}

/// Always with nine digits of a second: readers infer the format of a column from its first times.
fn csv_time(to: &mut Vec<u8>, time: Timestamp) -> io::Result<()> {
    let text = time.to_string();
    let (seconds, decimals) =
        text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    write!(to, "{seconds}.{decimals:0<9}Z")
}

fn csv_side(to: &mut Vec<u8>, price: Price, size: Size, x: &Instrument) {
    to.push(b',');
    if price.is_none() {
        to.push(b',');
        return;
    }
    put_decimal(to, price.units(), x.price_scale);
    to.push(b',');
    put_decimal(to, size.units(), x.size_scale);
}

fn csv_trade(to: &mut Vec<u8>, trade: &Trade, x: &Instrument, rows: Rows) -> io::Result<()> {
    csv_times(to, trade.ts_event, trade.ts_recv)?;
    csv_text(to, x.symbol.as_str())?;
    if rows == Rows::All {
        to.write_all(b",,,,")?;
    }
    to.push(b',');
    put_decimal(to, trade.price.units(), x.price_scale);
    to.push(b',');
    put_decimal(to, trade.size.units(), x.size_scale);
    to.push(b',');
    if trade.side != crate::market::Side::None {
        to.write_all(trade.side.name().as_bytes())?;
    }
    to.push(b',');
    csv_text(to, trade.conditions.as_str())
}

fn csv_text(to: &mut Vec<u8>, text: &str) -> io::Result<()> {
    // Some readers trim spaces at the ends.
    if text.contains(['"', ',', '\r', '\n']) || text.trim() != text {
        return write!(to, "\"{}\"", text.replace('"', "\"\""));
    }
    to.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        let check = |text: &str, expected: &str| {
            let mut written = Vec::new();
            csv_time(&mut written, text.parse().unwrap()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        };
        check("2024-01-02T00:00:00Z", "2024-01-02T00:00:00.000000000Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000000Z");
        check("2024-01-02T00:00:00.123456789Z", "2024-01-02T00:00:00.123456789Z");
    }
}
