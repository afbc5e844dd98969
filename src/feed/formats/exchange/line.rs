//! The lines of a capture.

use super::{alpaca, tardis};
use crate::feed::text::{nanos_from_seconds, split_local};
use crate::market::Timestamp;

pub(super) enum Line<'a> {
    Received(Timestamp, &'a str),
    /// By the client.
    Sent(Timestamp, &'a str),
    /// A connection was opened, to an address.
    Opened(Timestamp, &'a str),
    /// A REST interface has answered, at an address.
    Answer(Timestamp, &'a str),
    /// Of Tardis, in its own form.
    Normalized(Timestamp, &'a str),
    /// Without a time of arrival; has the newest time in it, if it states one.
    Stated(Option<Timestamp>, &'a str),
}

impl Line<'_> {
    /// When it was received or sent; `None` if it does not state it.
    pub(super) fn time(&self) -> Option<Timestamp> {
        match *self {
            Self::Received(time, _) | Self::Answer(time, _) | Self::Normalized(time, _) => Some(time),
            Self::Sent(time, _) | Self::Opened(time, _) => {
                Some(time).filter(|&time| time != Timestamp::default())
            }
            Self::Stated(time, _) => time,
        }
    }
}

/// Five forms are known: the time of arrival in ns, a blank, and the message; the same with the time as RFC
/// 3339 (Tardis); cryptofeed's, the time in seconds, a colon and the message, among lines of the client's
/// actions; Tardis' normalized messages, which hold their time of arrival; and Alpaca's messages alone, as
/// each states its kind and time.
pub(super) fn split(line: &str) -> Option<Line<'_>> {
    if tardis::is_normalized(line) {
        return tardis::arrival(line).map(|time| Line::Normalized(time, line));
    }
    if alpaca::is_message(line) {
        return Some(Line::Stated(alpaca::time(line), line));
    }
    let (first, rest) = line.split_once(' ')?;
    if first.starts_with("ws") {
        return match rest.split_once(' ')? {
            ("<->", time) => Some(Line::Opened(seconds(time).unwrap_or_default(), first)),
            ("<-", sent) => {
                let (time, message) = sent.split_once(": ")?;
                Some(Line::Sent(seconds(time).unwrap_or_default(), message))
            }
            _ => None,
        };
    }
    if first.starts_with("http") {
        let (time, _) = rest.strip_prefix("-> ")?.split_once(": ")?;
        return Some(Line::Answer(seconds(time)?, first));
    }
    let arrival = match first.strip_suffix(':') {
        Some(time) => seconds(time)?,
        None => match first.parse() {
            Ok(nanos) => Timestamp::from_nanos(nanos),
            Err(_) => stated(first)?,
        },
    };
    Some(Line::Received(arrival, rest))
}

/// Whether a line could be of such a capture.
pub(in crate::feed::formats) fn is_capture(line: &str) -> bool {
    // A first line may be longer than the head that is examined.
    if tardis::is_normalized(line) || alpaca::is_message(line) {
        return true;
    }
    match split(line) {
        Some(Line::Received(_, message)) => message.starts_with(['{', '[']),
        Some(_) => true,
        None => false,
    }
}

/// Whether a line is one of Tardis' raw messages, among which an empty line means that the connection was
/// lost.
pub(super) fn is_tardis(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(first, _)| stated(first).is_some())
}

fn stated(text: &str) -> Option<Timestamp> {
    match split_local(text)? {
        (nanos, "Z") => Some(Timestamp::from_nanos(nanos)),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<Timestamp> {
    nanos_from_seconds(text.trim()).map(Timestamp::from_nanos)
}
