//! Packets as maps of `MessagePack`, as `socket.io-msgpack-parser` and `python-socketio` have them. Pure; any
//! thread.
//!
//! Invariant: what bytes announce is there before memory is taken for it, and nothing nests deeper than a
//! request may.

use super::super::frame::{Opcode, write_frame};
use super::super::loose::Loose;
use super::super::message::read_msgpack;
use super::{Kind, Packet, PacketError};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json};

/// A packet's map. Other fields mean nothing: clients add `options`.
#[derive(Deserialize)]
struct Fields<D> {
    r#type: u8,
    nsp: String,
    /// A number; JavaScript may also say that it is undefined.
    id: Option<Loose>,
    data: Option<D>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Packet, PacketError> {
    let (kind, namespace, id, data) = match whole::<Loose>(bytes) {
        Ok(Fields { r#type, nsp, id, data }) => (r#type, nsp, id, data.and_then(Loose::into_value)),
        // Binary data is no value of a request. It is passed over, to answer what it came with.
        Err(error) => match whole::<IgnoredAny>(bytes) {
            Ok(Fields { r#type: 2, nsp, id, data: Some(_) }) => {
                let ack = number(id)?;
                return Ok(Packet::Event { namespace: nsp, ack, args: Vec::new(), attachments: 1 });
            }
            _ => return Err(PacketError::Msgpack(error)),
        },
    };
    match (kind, data) {
        (0, data) => Packet::Connect { namespace, auth: data.unwrap_or_default() }.check(),
        (1, _) => Packet::Disconnect { namespace }.check(),
        (2, Some(Value::Array(args))) => {
            Packet::Event { namespace, ack: number(id)?, args, attachments: 0 }.check()
        }
        (3, Some(Value::Array(_))) => Ok(Packet::Ack),
        (2 | 3, _) => Err(PacketError::NoEvent),
        (other, _) => Err(PacketError::UnknownMessage(other.to_string())),
    }
}

/// Reads a map, and nothing after it.
fn whole<D: DeserializeOwned>(bytes: &[u8]) -> Result<Fields<D>, String> {
    let mut rest = bytes;
    let fields = read_msgpack(&mut rest).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(fields) } else { Err(format!("{} bytes after its end", rest.len())) }
}

fn number(id: Option<Loose>) -> Result<Option<u64>, PacketError> {
    match id.and_then(Loose::into_value) {
        None | Some(Value::Null) => Ok(None),
        Some(id) => match id.as_u64() {
            Some(id) => Ok(Some(id)),
            None => Err(PacketError::Msgpack(format!("id: expected an integer from 0, not {id}"))),
        },
    }
}

/// Null `data` are left out.
pub(super) fn packet(kind: Kind, namespace: &str, ack: Option<u64>, data: &Value) -> Vec<u8> {
    let mut fields = Map::from_iter([("type".to_owned(), json!(kind as u8))]);
    if !data.is_null() {
        fields.insert("data".to_owned(), data.clone());
    }
    if let Some(ack) = ack {
        fields.insert("id".to_owned(), ack.into());
    }
    fields.insert("nsp".to_owned(), namespace.into());
    rmp_serde::to_vec(&fields).expect("a Vec takes every byte")
}

pub(super) fn write_event(namespace: &str, name: &str, payload: &[u8], out: &mut Vec<u8>) {
    let payload: Value = serde_json::from_slice(payload).expect("the encoder writes JSON");
    write_frame(Opcode::Binary, &packet(Kind::Event, namespace, None, &json!([name, payload])), out);
}
