//! What the first bytes of a file, and its name where they do not tell, say of its form.

use super::columns::ColumnMapping;
use super::{events, exchange, itch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Recording,
    Dbn,
    Exchange,
    Events,
    Itch,
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
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recording => ".tape",
            Self::Dbn => "Databento DBN",
            Self::Exchange => "exchange capture",
            Self::Itch => "NASDAQ ITCH",
            Self::Events => "events as published",
            Self::Csv(None) => "CSV",
            Self::Csv(Some(Headless::HistData)) => "CSV of HISTDATA",
            Self::Csv(Some(Headless::TrueFx)) => "CSV of TrueFX",
            Self::Csv(Some(Headless::Lean)) => "CSV of LEAN",
        }
    }
}

impl Headless {
    pub(super) fn columns(self) -> ColumnMapping {
        let columns = match self {
            Self::HistData | Self::Lean => "time=1,bid=2,ask=3",
            Self::TrueFx => "symbol=1,time=2,bid=3,ask=4",
        };
        ColumnMapping::parse(columns).expect("it is a mapping")
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
    } else if line.contains(',') && !line.starts_with(['{', '[', '<']) {
        Some(Form::Csv(headless(line, name)))
    } else {
        None
    }
}

/// The first line, or as much of it as there is.
pub(super) fn first_line(head: &[u8]) -> Option<&str> {
    let line = head.split(|&b| b == b'\n').next()?;
    match std::str::from_utf8(line) {
        Ok(line) => Some(line.trim_end()),
        // The head may end within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&line[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

fn headless(line: &str, name: &str) -> Option<Headless> {
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
        _ => None,
    }
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
