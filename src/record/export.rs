use super::Recorder;
use crate::feed::formats::recording::RecordingHeader;
use crate::market::{
    Event, Instrument, InstrumentId, Instruments, Price, Quote, Size, Status, Timestamp, Trade,
};
use crate::tape::{Batch, Position};
use std::io::{self, Write};

/// Takes a feed's batches and writes them in some form.
pub trait Export {
    /// `instruments` are those that the events are of.
    ///
    /// # Errors
    /// Those of what is written to.
    fn batch(&mut self, time: Timestamp, events: Vec<Event>, instruments: &Instruments) -> io::Result<()>;

    /// Writes what is still to be written.
    ///
    /// # Errors
    /// Those of what is written to.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A `.tape`, with checkpoints; positions are counted from 1.
pub struct TapeExport<W: Write> {
    recorder: Recorder<W>,
    position: Position,
}

/// One JSON object an event, as `POST /v1/publish` takes them.
pub struct JsonExport<W> {
    to: W,
    line: Vec<u8>,
}

/// CSV: all events in the columns of their fields, or quotes alone, or trades alone, in fewer columns.
pub struct CsvExport<W> {
    to: W,
    rows: Rows,
    line: Vec<u8>,
}

/// What the rows of a CSV file are.
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
            to.write_all(b"{\"type\":\"trade\"")?;
            json_text(to, "symbol", x.symbol.as_str())?;
            json_number(to, "price", trade.price.units(), x.price_scale)?;
            json_number(to, "size", trade.size.units(), x.size_scale)?;
            if trade.side != crate::market::Side::None {
                json_text(to, "side", trade.side.name())?;
            }
            if !trade.conditions.is_empty() {
                json_text(to, "conditions", trade.conditions.as_str())?;
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
        Event::Feed(_) | Event::Snapshot(..) | Event::Stats(_) | Event::Reset => return Ok(()),
    }
    to.write_all(b"}\n")
}

fn json_text(to: &mut Vec<u8>, name: &str, text: &str) -> io::Result<()> {
    write!(to, ",\"{name}\":")?;
    serde_json::to_writer(to, text).map_err(Into::into)
}

/// As text, so that nobody's floats come between.
fn json_number(to: &mut Vec<u8>, name: &str, units: i64, scale: u8) -> io::Result<()> {
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
                 name,sector,currency,tick_size,price_scale,size_scale,previous_close"
            }
            Rows::Quotes => "time,ts_recv,symbol,bid,bid_size,ask,ask_size",
            Rows::Trades => "time,ts_recv,symbol,price,size,side,conditions",
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

/// Whether there is a line for this event.
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
                to.write_all(b",,,,,,,,,,,,")?;
            }
        }
        (Event::Trade(id, trade), Rows::All | Rows::Trades) => {
            let Some(x) = instruments.get(*id) else { return Ok(false) };
            if rows == Rows::All {
                to.write_all(b"trade,")?;
            }
            csv_trade(to, trade, x, rows)?;
            if rows == Rows::All {
                to.write_all(b",,,,,,,,")?;
            }
        }
        (Event::Status(id, Status { state, ts_event }), Rows::All) => {
            write!(to, "status,{ts_event},,")?;
            csv_text(to, id.map_or("", symbol))?;
            write!(to, ",,,,,,,,,{state},,,,,,,")?;
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
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn csv_times(to: &mut Vec<u8>, event: Timestamp, recv: Timestamp) -> io::Result<()> {
    write!(to, "{event},")?;
    if recv != event {
        write!(to, "{recv}")?;
    }
    to.write_all(b",")
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
    // A blank at an end would be trimmed by some.
    if text.contains(['"', ',', '\r', '\n']) || text.trim() != text {
        return write!(to, "\"{}\"", text.replace('"', "\"\""));
    }
    to.write_all(text.as_bytes())
}

/// `units × 10^-scale`, with all its decimals.
fn put_decimal(to: &mut Vec<u8>, units: i64, scale: u8) {
    let scale = usize::from(scale);
    if units < 0 {
        to.push(b'-');
    }
    let mut digits = [b'0'; 40];
    let (mut rest, mut at) = (units.unsigned_abs(), digits.len());
    while rest > 0 || digits.len() - at <= scale {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    let (whole, decimals) = digits[at..].split_at(digits.len() - at - scale);
    to.extend_from_slice(whole);
    if scale > 0 {
        to.push(b'.');
        to.extend_from_slice(decimals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_exactly() {
        let check = |units, scale, expected: &str| {
            let mut text = Vec::new();
            put_decimal(&mut text, units, scale);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        };
        check(0, 0, "0");
        check(0, 2, "0.00");
        check(5, 2, "0.05");
        check(-18942, 2, "-189.42");
        check(18942, 0, "18942");
        check(i64::MAX, 18, "9.223372036854775807");
    }
}
