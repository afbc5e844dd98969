//! Packets as texts: a digit, the namespace, and JSON. Pure; any thread.

use super::super::frame::{Opcode, write_header};
use super::{Kind, MAX_ATTACHMENTS, Packet, PacketError};
use serde_json::Value;

pub(super) fn read(text: &str) -> Result<Packet, PacketError> {
    let mut letters = text.chars();
    let kind = letters.next();
    let mut rest = letters.as_str();
    let mut attachments = 0;
    if matches!(kind, Some('5' | '6')) {
        let (count, behind) = rest.split_once('-').ok_or(PacketError::Attachments)?;
        let count = count.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count));
        attachments = count.ok_or(PacketError::Attachments)?;
        rest = behind;
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        // A query was part of it once; it means nothing.
        namespace = namespace.split('?').next().unwrap_or_default();
    }
    let namespace = namespace.to_owned();
    let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (ack, body) = rest.split_at(digits);
    match kind {
        Some('0') => Packet::Connect { namespace, auth: json(rest)? }.check(),
        Some('1') => Packet::Disconnect { namespace }.check(),
        Some('2' | '5') => {
            let ack = (!ack.is_empty()).then(|| ack.parse()).transpose();
            let ack = ack.map_err(|error| PacketError::Json(format!("{error}")))?;
            let Value::Array(args) = json(body)? else { return Err(PacketError::NoEvent) };
            Packet::Event { namespace, ack, args, attachments }.check()
        }
        Some('3' | '6') => match json(body)? {
            Value::Array(_) => Ok(Packet::Ack),
            _ => Err(PacketError::NoEvent),
        },
        // Only servers refuse a namespace.
        _ => Err(PacketError::UnknownMessage(text.chars().take(1).collect())),
    }
}

fn json(text: &str) -> Result<Value, PacketError> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| PacketError::Json(error.to_string()))
}

/// With the digit of Engine.IO. Null `data` are left out.
pub(super) fn packet(
    kind: Kind,
    namespace: &str,
    ack: Option<u64>,
    data: &Value,
    attachments: usize,
) -> String {
    let [namespace, comma] = prefix(namespace);
    let ack = ack.map_or_else(String::new, |ack| ack.to_string());
    let data = if data.is_null() { String::new() } else { data.to_string() };
    let kind = match attachments {
        0 => format!("{}", kind as u8),
        // Those with attachments are types of their own.
        count => format!("{}{count}-", kind as u8 + 3),
    };
    format!("4{kind}{namespace}{comma}{ack}{data}")
}

pub(super) fn write_event(namespace: &str, name: &str, payload: &[u8], out: &mut Vec<u8>) {
    let [namespace, comma] = prefix(namespace);
    let around = ["42", namespace, comma, "[\"", name, "\","];
    let len = around.iter().map(|part| part.len()).sum::<usize>() + payload.len() + 1;
    write_header(Opcode::Text, len, out);
    for part in around {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(payload);
    out.push(b']');
}

/// The part of a packet that names its namespace: nothing for the first one.
fn prefix(namespace: &str) -> [&str; 2] {
    if matches!(namespace, "" | "/") { ["", ""] } else { [namespace, ","] }
}
