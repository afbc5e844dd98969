use super::clock::Clock;
use super::lines::{LineError, Lines};
use super::unpack::Input;
use crate::feed::text::intern;
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, Instruments, NumberError, QuoteValues, Side, SymbolError, Timestamp,
    parse_decimal,
};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The longest line that is read: a depth snapshot of 5,000 levels has some 300 KB.
const MAX_LINE: u64 = 1 << 20;

/// A captured WebSocket session of Binance, spot or USD-M futures: per line the time of arrival in ns, a blank, and the
/// message as it came. `bookTicker` becomes quotes, `trade` trades; other streams are counted and skipped.
///
/// The machine's clock and the exchange's are both kept as recorded, even where they disagree by seconds.
pub struct ExchangeCapture {
    file: String,
    lines: Lines<Input>,
    clock: Clock,
    skipped: u64,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("expected a time of arrival in ns, a blank, and a JSON message")]
    NotACapture,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
    #[error("T is {0}, which is no time in ms")]
    Time(i64),
}

#[derive(Deserialize)]
struct Message<'a> {
    /// Absent in the answer of the REST interface that a session's depth starts from.
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The best bid and ask. Spot states no time.
#[derive(Deserialize)]
struct BookTicker<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "b", borrow)]
    bid: Cow<'a, str>,
    #[serde(rename = "B", borrow)]
    bid_size: Cow<'a, str>,
    #[serde(rename = "a", borrow)]
    ask: Cow<'a, str>,
    #[serde(rename = "A", borrow)]
    ask_size: Cow<'a, str>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
}

#[derive(Deserialize)]
struct TradeMessage<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "p", borrow)]
    price: Cow<'a, str>,
    #[serde(rename = "q", borrow)]
    size: Cow<'a, str>,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    buyer_is_maker: bool,
    /// Futures only. `NA` marks an entry that was no trade: price and size are 0.
    #[serde(rename = "X", borrow)]
    execution: Option<Cow<'a, str>>,
}

impl ExchangeCapture {
    pub(super) fn new(file: String, input: Input) -> Self {
        Self { file, lines: Lines::new(input, MAX_LINE), clock: Clock::default(), skipped: 0 }
    }

    /// Messages so far that hold neither a quote nor a trade.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Feed for ExchangeCapture {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            let read = match self.lines.next() {
                Ok(None) => return Ok(None),
                Ok(Some(line)) => read_line(line, instruments, out),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(Some(arrival)) => return Ok(Some(self.clock.at(arrival))),
                Ok(None) => self.skipped += 1,
                Err(error) => {
                    let place = format!("{} line {}", self.file, self.lines.number());
                    return Err(FeedError { place, reason: error.to_string() });
                }
            }
        }
    }
}

/// Whether a line could be of such a capture: a number, a blank, and the start of an object.
pub(super) fn is_capture(line: &str) -> bool {
    split(line).is_some_and(|(_, message)| message.starts_with('{'))
}

fn split(line: &str) -> Option<(Timestamp, &str)> {
    let (arrival, message) = line.split_once(' ')?;
    Some((Timestamp::from_nanos(arrival.parse().ok()?), message))
}

/// Appends the message of a line to `out`; its time of arrival, or `None` where the message is of no interest.
fn read_line(
    line: &str,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<Option<Timestamp>, MessageError> {
    let (arrival, message) = split(line).ok_or(MessageError::NotACapture)?;
    let message: Message = serde_json::from_str(message)?;
    let (Some(stream), Some(data)) = (message.stream, message.data) else { return Ok(None) };
    match stream.split_once('@').map(|(_, name)| name) {
        Some("bookTicker") => read_quote(&serde_json::from_str(data.get())?, arrival, instruments, out)?,
        Some("trade") => {
            let trade: TradeMessage = serde_json::from_str(data.get())?;
            if trade.execution.as_deref() == Some("NA") {
                return Ok(None);
            }
            read_trade(&trade, arrival, instruments, out)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(arrival))
}

fn read_quote(
    ticker: &BookTicker,
    arrival: Timestamp,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<(), MessageError> {
    // An empty side is written as price 0.
    let price = |text: &str| parse_decimal(text).map(|price| Some(price).filter(|price| !price.is_zero()));
    let values = QuoteValues {
        bid: price(&ticker.bid)?,
        bid_size: parse_decimal(&ticker.bid_size)?,
        ask: price(&ticker.ask)?,
        ask_size: parse_decimal(&ticker.ask_size)?,
    };
    let venue = ticker.time_ms.map_or(Ok(arrival), time)?;
    let id = intern(&ticker.symbol, instruments, out)?;
    let quote = instruments.quote(id, &values, (venue, arrival), out)?;
    out.push(Event::Quote(id, quote));
    Ok(())
}

fn read_trade(
    trade: &TradeMessage,
    arrival: Timestamp,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<(), MessageError> {
    let numbers: (Decimal, Decimal) = (parse_decimal(&trade.price)?, parse_decimal(&trade.size)?);
    let side = if trade.buyer_is_maker { Side::Sell } else { Side::Buy };
    let venue = time(trade.time_ms)?;
    let id = intern(&trade.symbol, instruments, out)?;
    let trade = instruments.trade(id, numbers, (side, Conditions::default()), (venue, arrival), out)?;
    out.push(Event::Trade(id, trade));
    Ok(())
}

fn time(ms: i64) -> Result<Timestamp, MessageError> {
    ms.checked_mul(1_000_000).map(Timestamp::from_nanos).ok_or(MessageError::Time(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;

    fn capture(text: &str) -> ExchangeCapture {
        ExchangeCapture::new("x.gz".to_owned(), Box::new(std::io::Cursor::new(text.to_owned())))
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str], skipped: u64) {
        let mut feed = capture(text);
        assert_eq!(show(&mut feed), expected);
        assert_eq!(feed.skipped(), skipped);
    }

    const SPOT_QUOTE: &str = r#"1723161254087891268 {"stream":"btcusdt@bookTicker","data":{"u":5,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#;
    const SPOT_TRADE: &str = r#"1723161254087896568 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":37,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#;
    const FUTURES_QUOTE: &str = r#"1723161255088169167 {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":51,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}}"#;
    const FUTURES_TRADE: &str = r#"1723161255088176367 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256321,"s":"BTCUSDT","t":52,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}"#;

    #[test]
    fn quotes_and_trades_keep_both_clocks_as_recorded() {
        check(
            &[SPOT_QUOTE, SPOT_TRADE, FUTURES_QUOTE, FUTURES_TRADE].join("\n"),
            &[
                "2024-08-08T23:54:14.087891268Z quote BTCUSDT 61837.63 x 3.78826 / 61837.64 x 1.54698",
                "2024-08-08T23:54:14.087896568Z trade BTCUSDT 61837.63 x 0.02 sell, \
                 event 2024-08-08T23:54:15.342Z",
                "2024-08-08T23:54:15.088169167Z quote BTCUSDT 61800.2 x 2.507 / 61800.3 x 2.51, \
                 event 2024-08-08T23:54:16.313Z",
                "2024-08-08T23:54:15.088176367Z trade BTCUSDT 61800.3 x 0.006 buy, \
                 event 2024-08-08T23:54:16.321Z",
            ],
            0,
        );
    }

    #[test]
    fn other_messages_are_counted_and_skipped() {
        let others = [
            r#"1 {"lastUpdateId":5,"bids":[["1","2"]],"asks":[]}"#,
            r#"2 {"stream":"btcusdt@depth@100ms","data":{"b":[],"a":[]}}"#,
            r#"3 {"result":null,"id":1}"#,
            r#"4 {"stream":"btcusdt@trade","data":{"s":"A","p":"0","q":"0","T":1,"m":true,"X":"NA"}}"#,
        ];
        check(&others.join("\n"), &[], 4);
    }

    #[test]
    fn an_empty_side_is_written_as_price_zero() {
        let line =
            r#"1000000000 {"stream":"a@bookTicker","data":{"s":"A","b":"0.00","B":"0.00","a":"2","A":"1"}}"#;
        check(line, &["1970-01-01T00:00:01Z quote A - x 0 / 2 x 1"], 0);
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let bad = |line: &str, reason: &str| {
            let expected = format!("x.gz line 1: {reason}");
            check(&format!("{line}\n{SPOT_TRADE}\n"), &[&expected, &show(&mut capture(SPOT_TRADE))[0]], 0);
        };
        bad("noon {}", "expected a time of arrival in ns, a blank, and a JSON message");
        bad("1", "expected a time of arrival in ns, a blank, and a JSON message");
        bad("1 {\"stream\":", "EOF while parsing a value at line 1 column 10");
        let trade =
            |fields: &str| format!(r#"1 {{"stream":"a@trade","data":{{"s":"A","T":1,"m":true,{fields}}}}}"#);
        bad(&trade(r#""p":"x","q":"1""#), "\"x\" is no decimal number");
        bad(&trade(r#""p":"1","q":"-1""#), "-1 is a negative size");
        bad(&trade(r#""p":"1""#), "missing field `q` at line 1 column 32");
    }
}
