//! What `watch` shows a person: a table that is drawn again in place, and above it the lines that come once
//! each.

use crate::client::Change;
use crate::hub::{Kind, Topic};
use crate::market::Timestamp;
use crate::tape::Position;
use console::{measure_text_width, truncate_str};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Most pending lines above the table: a slower terminal gets the others later.
const LINES: usize = 64;

/// A heading, and which field of which topic is below it.
struct Column {
    heading: &'static str,
    kind: Kind,
    field: &'static str,
}

pub(super) struct Table {
    columns: Vec<Column>,
    rows: BTreeMap<String, BTreeMap<(Kind, &'static str), String>>,
    /// The server's statistics.
    stats: Vec<String>,
    /// Of the newest update, to the second.
    time: String,
    state: String,
    /// To be drawn once, above the table.
    lines: Vec<String>,
    /// Lines of the table as it was last drawn, which the next drawing replaces.
    drawn: usize,
    is_changed: bool,
}

const QUOTE: [(&str, &str); 4] =
    [("BID SIZE", "bid_size"), ("BID", "bid"), ("ASK", "ask"), ("ASK SIZE", "ask_size")];
const TRADES: [(&str, &str); 2] = [("LAST", "price"), ("SIZE", "size")];
const DAY: [(&str, &str); 6] = [
    ("CHANGE", CHANGE),
    ("OPEN", "open"),
    ("HIGH", "high"),
    ("LOW", "low"),
    ("CLOSE", "close"),
    ("VOLUME", "volume"),
];
const SECOND: [(&str, &str); 5] =
    [("1s OPEN", "open"), ("HIGH", "high"), ("LOW", "low"), ("CLOSE", "close"), ("VOLUME", "volume")];
const MINUTE: [(&str, &str); 5] =
    [("1m OPEN", "open"), ("HIGH", "high"), ("LOW", "low"), ("CLOSE", "close"), ("VOLUME", "volume")];
const STATUS: [(&str, &str); 1] = [("STATE", "state")];
const WATCHERS: [(&str, &str); 1] = [("WATCHERS", "watchers")];
/// No field of the wire: in percent of the previous close.
const CHANGE: &str = "change";

impl Table {
    pub fn new(topics: &[String]) -> Self {
        let kinds: BTreeSet<Kind> =
            topics.iter().filter_map(|topic| Some(Topic::parse(topic).ok()?.kind)).collect();
        let columns = kinds.into_iter().flat_map(|kind| {
            columns(kind).iter().map(move |&(heading, field)| Column { heading, kind, field })
        });
        Self {
            columns: columns.collect(),
            rows: BTreeMap::new(),
            stats: Vec::new(),
            time: String::new(),
            state: "connecting".to_owned(),
            lines: Vec::new(),
            drawn: 0,
            is_changed: true,
        }
    }

    /// Whether something is to be drawn.
    pub fn is_changed(&self) -> bool {
        self.is_changed || !self.lines.is_empty()
    }

    /// Whether it should be drawn before more is taken.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= LINES
    }

    pub fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The state of the connection, below the table.
    pub fn state(&mut self, state: &str) {
        state.clone_into(&mut self.state);
        self.is_changed = true;
    }

    /// Clears the table: its values are void.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.stats.clear();
        self.is_changed = true;
    }

    pub fn take(&mut self, change: &Change, time: Timestamp, position: Position) {
        self.is_changed = true;
        if let Change::Stats(told) = change {
            self.stats = stats(told);
            return;
        }
        let Some(Value::Object(fields)) = change.to_json(time, position) else { return };
        if matches!(change, Change::Reset) {
            self.clear();
            return self.say(format!("the replay goes on at {time}"));
        }
        let moment = text(&fields, "time");
        self.time = moment.get(..19).unwrap_or_default().replace('T', " ");
        let topic = fields.get("topic").and_then(Value::as_str).unwrap_or_default();
        let (kind, symbol) = topic.split_once(':').unwrap_or((topic, ""));
        let text = |field| text(&fields, field);
        match change {
            Change::Trade { .. } => {
                let side = match text("side").as_str() {
                    "none" => String::new(),
                    side => format!("  {side}"),
                };
                let at = text("ts_event");
                let line = format!("{}  {symbol:<8} {} × {}{side}", clock(&at), text("price"), text("size"));
                self.lines.push(line);
            }
            Change::ClosedBar { .. } => {
                let [start, open, high, low, close, volume] =
                    ["start", "open", "high", "low", "close", "volume"].map(text);
                let line = format!(
                    "{}  {symbol:<8} {kind} closed: {open} {high} {low} {close}, volume {volume}",
                    clock(&start)
                );
                self.lines.push(line);
            }
            Change::Gap { missed, .. } => {
                let what = if kind == "trades" { "trades" } else { "closed bars" };
                self.lines.push(format!("{topic}: {missed} {what} missed"));
            }
            Change::Feed(_) => {
                let feed = fields.get("feed").and_then(Value::as_object);
                if let Some(feed) = feed {
                    self.lines.push(format!(
                        "the feed: {}, {}",
                        text_of(feed, "kind"),
                        text_of(feed, "state")
                    ));
                }
            }
            Change::Status { instrument: None, .. } => {
                self.lines.push(format!("the market: {}", text("state")));
            }
            _ => {}
        }
        if symbol.is_empty() || matches!(change, Change::ClosedBar { .. } | Change::Gap { .. }) {
            return;
        }
        let row = self.rows.entry(symbol.to_owned()).or_default();
        for column in self.columns.iter().filter(|column| column.kind.name() == kind) {
            let value = if column.field == CHANGE { percent(&fields) } else { text(column.field) };
            row.insert((column.kind, column.field), value);
        }
    }

    /// The next drawing, which replaces the last one, on a terminal of so many columns and lines.
    pub fn draw(&mut self, width: usize, height: usize) -> Vec<u8> {
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to its first line, and everything below is erased.
            write!(out, "\x1b[{}A\r\x1b[J", self.drawn).expect("a String takes every text");
        }
        for line in self.lines.drain(..) {
            out.push_str(&plain(&line));
            out.push('\n');
        }
        let table = self.table(height.saturating_sub(1).max(3));
        for (index, line) in table.iter().enumerate() {
            let line = truncate_str(line, width.max(20), "…");
            let is_heading = index == 0 && table.len() > 1;
            let (bold, plain) = if is_heading { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            writeln!(out, "{bold}{line}{plain}").expect("a String takes every text");
        }
        self.drawn = table.len();
        self.is_changed = false;
        out.into_bytes()
    }

    /// At most so many lines: the heading, the symbols, and the status.
    fn table(&self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let room = most.saturating_sub(2 + self.stats.len()).max(1);
        if !self.rows.is_empty() && !self.columns.is_empty() {
            lines = self.aligned(room);
        }
        lines.extend(self.stats.iter().cloned());
        let mut foot = match self.rows.len() {
            0 => String::new(),
            1 => "1 symbol".to_owned(),
            count => format!("{} symbols", super::grouped(count as u64)),
        };
        let hidden = self.rows.len().saturating_sub(room);
        if hidden > 0 && !self.columns.is_empty() {
            write!(foot, ", {} not shown", super::grouped(hidden as u64)).expect("a String takes every text");
        }
        let parts = [&foot, &self.state, &self.time];
        lines.push(
            parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" · "),
        );
        lines
    }

    fn aligned(&self, room: usize) -> Vec<String> {
        let heading = std::iter::once("SYMBOL").chain(self.columns.iter().map(|column| column.heading));
        let mut cells: Vec<Vec<String>> = vec![heading.map(str::to_owned).collect()];
        for (symbol, row) in self.rows.iter().take(room) {
            let of = |column: &Column| row.get(&(column.kind, column.field)).cloned().unwrap_or_default();
            cells.push(std::iter::once(symbol.clone()).chain(self.columns.iter().map(of)).collect());
        }
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|index| cells.iter().map(|row| measure_text_width(&row[index])).max().unwrap_or_default())
            .collect();
        let line = |row: &Vec<String>| {
            let aligned = row.iter().zip(&widths).enumerate().map(|(index, (cell, &width))| match index {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            aligned.collect::<Vec<_>>().join("  ")
        };
        cells.iter().map(line).collect()
    }
}

fn columns(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Quote => &QUOTE,
        Kind::Trades => &TRADES,
        Kind::Day => &DAY,
        Kind::Bars1s => &SECOND,
        Kind::Bars1m => &MINUTE,
        Kind::Status => &STATUS,
        Kind::Watchers => &WATCHERS,
        Kind::Stats | Kind::Messages | Kind::States => &[],
    }
}

/// A field as it is shown; a price that is none is a dash.
fn text(fields: &Map<String, Value>, field: &str) -> String {
    match fields.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) => "-".to_owned(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn text_of(fields: &Map<String, Value>, field: &str) -> String {
    text(fields, field)
}

/// The time of day, to the millisecond, of a moment such as `2026-11-22T18:55:44.120000Z`.
fn clock(moment: &str) -> &str {
    let time = moment.split_once('T').map_or(moment, |(_, time)| time);
    time.get(..12).unwrap_or(time.trim_end_matches('Z'))
}

fn percent(fields: &Map<String, Value>) -> String {
    let number = |field| text(fields, field).parse::<f64>().ok();
    match (number("close"), number("previous_close").filter(|&before| before != 0.0)) {
        (Some(close), Some(before)) => format!("{:+.2} %", (close / before - 1.0) * 100.0),
        _ => String::new(),
    }
}

fn stats(told: &crate::hub::ServerStats) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "to one decimal")]
    let ms =
        |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.1} ms", us as f64 / 1000.0));
    vec![
        format!(
            "sessions   {} open, {} slow; {} opened, {} closed",
            told.sessions.open, told.sessions.blocked, told.sessions.opened, told.sessions.closed
        ),
        format!(
            "tape       {:.0} events/s, {} instruments, position {}",
            told.tape.events_per_s, told.tape.instruments, told.tape.position
        ),
        format!(
            "latency    p50 {}, p99 {}, p99.9 {}",
            ms(told.latency.p50_us),
            ms(told.latency.p99_us),
            ms(told.latency.p999_us)
        ),
        format!(
            "process    {}, up {} s",
            told.memory_bytes.map_or_else(|| "-".to_owned(), super::bytes),
            told.uptime_ms / 1000
        ),
    ]
}

/// Without control characters: reasons and names are outside text.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Counts, Instrument, Price, Side, Size, Symbol, Trade};
    use crate::wire::{BarFields, QuoteFields};
    use std::sync::Arc;

    fn table(topics: &[&str], changes: &[Change]) -> Table {
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let mut table = Table::new(&topics);
        table.state("live");
        for change in changes {
            table.take(change, Timestamp::from_micros(1_000_000), Position::new(9));
        }
        table
    }

    fn quote(symbol: &str, bid: i64, ask: Price) -> Change {
        let instrument = Arc::new(Instrument::unknown(Symbol::new(symbol).unwrap()));
        let quote = QuoteFields {
            bid: Some(Price::new(bid)),
            bid_size: Some(Size::new(300)),
            ask: Some(ask),
            ..QuoteFields::default()
        };
        Change::Quote { instrument, quote, changed: quote }
    }

    fn trade(symbol: &str) -> Change {
        let instrument = Arc::new(Instrument::unknown(Symbol::new(symbol).unwrap()));
        let trade = Trade {
            price: Price::new(18_942),
            size: Size::new(100),
            side: Side::Buy,
            conditions: Conditions::default(),
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: Timestamp::from_micros(1_250_000),
            ts_recv: Timestamp::default(),
        };
        Change::Trade { instrument, number: 0, trade }
    }

    #[track_caller]
    fn check(table: &mut Table, (width, height): (usize, usize), expected: &str) {
        assert_eq!(String::from_utf8(table.draw(width, height)).unwrap(), expected);
        assert!(!table.is_changed());
    }

    #[test]
    fn a_symbol_has_a_row_and_a_trade_a_line_above_it() {
        let changes =
            vec![quote("AAPL", 18_941, Price::new(18_943)), trade("AAPL"), quote("B", 5, Price::NONE)];
        let mut table = table(&["quote:*", "trades:*"], &changes);
        let drawn = "\
00:00:01.250  AAPL     189.42 × 100  buy
\x1b[1mSYMBOL  BID SIZE     BID     ASK  ASK SIZE    LAST  SIZE\x1b[0m
AAPL         300  189.41  189.43            189.42   100
B            300    0.05       -                        \n";
        let foot = "2 symbols · live · 1970-01-01 00:00:01\n";
        check(&mut table, (80, 24), &format!("{drawn}{foot}"));
        // The next replaces it; lines are drawn once.
        let table_only = drawn.split_once('\n').unwrap().1;
        check(&mut table, (80, 24), &format!("\x1b[4A\r\x1b[J{table_only}{foot}"));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let changes: Vec<Change> = (0..9).map(|n| quote(&format!("S{n}"), 5, Price::NONE)).collect();
        let drawn = String::from_utf8(table(&["quote:*"], &changes).draw(30, 6)).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 5, "{drawn}");
        assert_eq!(lines[4], "9 symbols, 6 not shown · live…");
        assert!(lines[0].contains("BID SIZE"));
    }

    #[test]
    fn a_day_is_shown_with_its_change_and_a_gap_as_a_line() {
        let instrument = Arc::new(Instrument::unknown(Symbol::new("X").unwrap()));
        let bar = BarFields {
            close: Some(Price::new(110)),
            previous_close: Some(Price::new(100)),
            volume: Some(Size::new(7)),
            ..BarFields::default()
        };
        let day = Change::Bar { instrument: Arc::clone(&instrument), kind: Kind::Day, bar };
        let gap = Change::Gap { instrument, kind: Kind::Trades, missed: 7 };
        let drawn = String::from_utf8(table(&["day:X"], &[day, gap]).draw(80, 24)).unwrap();
        assert!(drawn.starts_with("trades:X: 7 trades missed\n"), "{drawn}");
        assert!(drawn.contains("+10.00 %") && drawn.contains("1.10"), "{drawn}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_passed_on() {
        let mut table = table(&["quote:*"], &[]);
        table.say("bad\x1b[2J\rthing".to_owned());
        check(&mut table, (80, 24), "bad[2Jthing\nlive\n");
    }
}
