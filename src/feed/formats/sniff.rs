//! Detects the form of a file by its first bytes, or else by its name.

use super::columns::ColumnMapping;
use super::times::Zone;
use super::{databento, events, exchange, itch};

/// The first bytes of a Parquet file.
pub(super) const PARQUET: [u8; 4] = *b"PAR1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Recording,
    Dbn,
    Parquet,
    Exchange,
    Events,
    Itch,
    /// Databento's records as CSV.
    Databento,
    /// Captured packets, as pcap or pcapng; of NASDAQ's ITCH, or of something else.
    Packets,
    /// With a header line, unless it is one of these.
    Csv(Option<Headless>),
}

/// Forms of CSV that have no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Headless {
    /// `20200101 170000065,1.12,1.13,0`: time, bid, ask, and a volume that is always 0.
    HistData,
    /// `EUR/USD,20090501 00:00:00.295,1.32,1.33`: symbol, time, bid, ask.
    TrueFx,
    /// `277,1.38694,1.38705` in a file named `20140502_eurusd_tick_quote.csv`: ms since midnight, bid, ask.
    Lean,
    /// Binance's archive: `4359030001,94591.79,0.0001,9.459179,1735776000036121,True,True` is id, price,
    /// size, value, time, whether the buyer was the maker; futures have no last column, and a header since
    /// 2022.
    BinanceTrades,
    /// The same of aggregated trades: id, price, size, first and last id, time, whether the buyer was the
    /// maker.
    BinanceAggregates,
    /// `20240102 000500 1230000;1.10427;1.10420;1.10444;100`: time, last, bid, ask, volume; or
    /// `20240102 000500;1.10427;1`, of the prices that the file's name states.
    NinjaTrader(NinjaTrader),
}

/// The kind of price in a file that `NinjaTrader` has exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NinjaTrader {
    Last,
    Bid,
    Ask,
    /// All three in a row.
    All,
}

/// Programs whose header does not state everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// `MetaTrader` 5, in the time of the broker's server.
    MetaTrader,
    /// Dukascopy, which states the zone in the header.
    Dukascopy,
}

impl Terminal {
    pub(super) fn of(header: &str) -> Option<Self> {
        let header = header.trim_start_matches('\u{feff}');
        if header.starts_with("<DATE>\t<TIME>\t<BID>") || header.starts_with("<DATE>,<TIME>,<BID>") {
            return Some(Self::MetaTrader);
        }
        let first = header.split([',', ';', '\t']).next()?.trim_matches('"');
        let is_dukascopy = ["Gmt time", "Local time", "Time (UTC)", "Time (EET)"].contains(&first);
        is_dukascopy.then_some(Self::Dukascopy)
    }

    pub(super) fn zone(self, header: &str) -> Zone {
        match self {
            Self::Dukascopy if header.contains("(EET)") => "EET".parse().unwrap_or(Zone::UTC),
            _ => Zone::UTC,
        }
    }

    /// `EURUSD` of `EURUSD_202401020000_202401030000` and `EURUSD_Ticks_02.01.2024-02.01.2024`.
    pub(super) fn symbol(stem: &str) -> &str {
        stem.split('_').next().unwrap_or(stem)
    }
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recording => ".tape",
            Self::Dbn => "Databento DBN",
            Self::Parquet => "Parquet",
            Self::Exchange => "exchange capture",
            Self::Itch => "NASDAQ ITCH",
            Self::Databento => "CSV of Databento",
            Self::Packets => "packet capture",
            Self::Events => "events as published",
            Self::Csv(None) => "CSV",
            Self::Csv(Some(Headless::HistData)) => "CSV of HISTDATA",
            Self::Csv(Some(Headless::TrueFx)) => "CSV of TrueFX",
            Self::Csv(Some(Headless::Lean)) => "CSV of LEAN",
            Self::Csv(Some(Headless::NinjaTrader(_))) => "CSV of NinjaTrader",
            Self::Csv(Some(Headless::BinanceTrades | Headless::BinanceAggregates)) => {
                "CSV of Binance's archive"
            }
        }
    }
}

impl Headless {
    pub(super) fn columns(self) -> ColumnMapping {
        let columns = match self {
            Self::HistData | Self::Lean => "time=1,bid=2,ask=3",
            Self::TrueFx => "symbol=1,time=2,bid=3,ask=4",
            Self::NinjaTrader(NinjaTrader::All) => "time=1,price=2,bid=3,ask=4,size=5",
            Self::NinjaTrader(NinjaTrader::Last) => "time=1,price=2,size=3",
            Self::NinjaTrader(NinjaTrader::Bid) => "time=1,bid=2,bid_size=3",
            Self::NinjaTrader(NinjaTrader::Ask) => "time=1,ask=2,ask_size=3",
            Self::BinanceTrades => "trade_id=1,price=2,size=3,time=5,buyer_is_maker=6",
            Self::BinanceAggregates => "trade_id=1,price=2,size=3,time=6,buyer_is_maker=7",
        };
        ColumnMapping::parse(columns).expect("it is a mapping")
    }
}

impl Form {
    /// Its form if columns are given: any CSV.
    pub(super) fn with_columns(self, columns: bool) -> Self {
        if columns && self == Self::Databento { Self::Csv(None) } else { self }
    }
}

pub(super) fn form(head: &[u8], name: &str) -> Option<Form> {
    by_content(head, name).or_else(|| by_name(name))
}

fn by_content(head: &[u8], name: &str) -> Option<Form> {
    match head {
        // A map of up to 15 entries whose first key is `format`.
        [0x80..=0x8f, 0xa6, rest @ ..] if rest.starts_with(b"format") => return Some(Form::Recording),
        [b'D', b'B', b'N', ..] => return Some(Form::Dbn),
        _ if head.starts_with(&PARQUET) => return Some(Form::Parquet),
        _ if itch::is_packets(head) => return Some(Form::Packets),
        _ if itch::is_itch(head) => return Some(Form::Itch),
        _ => {}
    }
    let line = first_line(head)?;
    if line.contains(|c: char| c.is_control() && c != '\t') {
        None
    } else if exchange::is_capture(line) {
        Some(Form::Exchange)
    } else if events::is_events(line) {
        Some(Form::Events)
    } else if databento::is_header(line) {
        Some(Form::Databento)
    } else if line.contains([',', ';', '\t', '|']) && !line.starts_with(['{', '[', '<']) {
        Some(Form::Csv(headless(line, name)))
    } else {
        None
    }
}

/// The first line, or as much of it as there is.
pub(super) fn first_line(head: &[u8]) -> Option<&str> {
    let line = head.split(|&b| b == b'\n').next()?;
    match std::str::from_utf8(line) {
        // A delimiter at its end has an empty cell after it.
        Ok(line) => Some(line.trim_end_matches(['\r', ' '])),
        // The head may end within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&line[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// The first lines, as far as they are text.
pub(super) fn lines(head: &[u8]) -> &str {
    match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn headless(line: &str, name: &str) -> Option<Headless> {
    if let Some(ninja_trader) = ninja_trader(line, name) {
        return Some(Headless::NinjaTrader(ninja_trader));
    }
    let cells: Vec<&str> = line.split(',').collect();
    match cells[..] {
        [time, _, _, _] if has_shape(time, "00000000 000000000") => Some(Headless::HistData),
        [pair, time, _, _]
            if has_shape(pair, "AAA/AAA")
                && time.get(..17).is_some_and(|time| has_shape(time, "00000000 00:00:00")) =>
        {
            Some(Headless::TrueFx)
        }
        [_, _, _] if name.contains("_tick_quote") && cells.iter().all(|cell| is_number(cell)) => {
            Some(Headless::Lean)
        }
        [id, price, size, value, time, maker, ..]
            if cells.len() <= 7
                && is_bool(maker)
                && [id, price, size, value].iter().all(|cell| is_number(cell))
                && is_recent(time) =>
        {
            Some(Headless::BinanceTrades)
        }
        [id, price, size, first, last, time, maker, ..]
            if cells.len() <= 8
                && is_bool(maker)
                && [id, price, size, first, last].iter().all(|cell| is_number(cell))
                && is_recent(time) =>
        {
            Some(Headless::BinanceAggregates)
        }
        _ => None,
    }
}

fn ninja_trader(line: &str, name: &str) -> Option<NinjaTrader> {
    let cells: Vec<&str> = line.split(';').collect();
    let name = name.to_lowercase();
    let is_numbers = cells[1..].iter().all(|cell| is_number(&cell.replace(',', ".")));
    let has_time =
        ["00000000 000000 0000000", "00000000 000000"].iter().any(|shape| has_shape(cells[0], shape));
    match cells.len() {
        _ if !is_numbers || !has_time => None,
        5 => Some(NinjaTrader::All),
        3 if name.contains(".bid") => Some(NinjaTrader::Bid),
        3 if name.contains(".ask") => Some(NinjaTrader::Ask),
        3 => Some(NinjaTrader::Last),
        _ => None,
    }
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "false" | "True" | "False")
}

/// Whether a text is ms or us of this century.
fn is_recent(text: &str) -> bool {
    matches!(text.len(), 13 | 16) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text has digits and capital letters where `shape` has `0` and `A`, and otherwise its characters.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(b, shape)| match shape {
            b'0' => b.is_ascii_digit(),
            b'A' => b.is_ascii_uppercase(),
            other => b == other,
        })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// `EURUSD` of `DAT_ASCII_EURUSD_T_202001.csv`.
pub(super) fn histdata_symbol(name: &str) -> Option<String> {
    Some(name.strip_prefix("DAT_ASCII_")?.split('_').next()?.to_owned())
}

/// `EURUSD` of `20140502_eurusd_tick_quote.csv`.
pub(super) fn lean_symbol(name: &str) -> Option<String> {
    let (_, rest) = name.split_once('_')?;
    Some(rest.split_once("_tick_quote")?.0.to_uppercase())
}

fn by_name(name: &str) -> Option<Form> {
    let name = name.to_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    match name.rsplit_once('.')?.1 {
        "tape" => Some(Form::Recording),
        "dbn" => Some(Form::Dbn),
        "csv" => Some(Form::Csv(None)),
        _ => None,
    }
}
