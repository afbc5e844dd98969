//! A door's end of a pair of sockets, of which a shard has the other. On tokio's threads.
//!
//! Invariant: what a shard has sent is in the pair or in `unread`, until it is fetched.

use super::lock;
use crate::server::doors::Admitted;
use crate::server::permits::Permit;
use crate::server::room::{Room, Seat};
use crate::server::shard::slot_pair;
use crate::wire::engineio::Data;
use crate::wire::{CloseCode, Opcode, write_client_frame};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::UnixStream;

pub(super) struct Slot {
    pub end: UnixStream,
    /// What was read from it and is not fetched yet: frames of RFC 6455, the last one perhaps in part.
    pub unread: Mutex<Vec<u8>>,
    /// Where its session is, if it may get another socket.
    pub seat: Option<(Arc<Room>, Seat)>,
    _pair: Permit,
}

/// What was fetched of a slot.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub packets: Vec<Data>,
    /// How the session has ended, and why.
    pub end: Option<(CloseCode, String)>,
}

impl Slot {
    /// `pair`: a pair has descriptors beside those that sessions have permits for.
    pub fn new(
        end: std::os::unix::net::UnixStream,
        seat: Option<(Arc<Room>, Seat)>,
        pair: Permit,
    ) -> io::Result<Self> {
        Ok(Self { end: UnixStream::from_std(end)?, unread: Mutex::default(), seat, _pair: pair })
    }

    /// Opens a session whose shard has the other end.
    pub async fn open(admitted: Admitted, pair: Permit) -> io::Result<Self> {
        let (end, shards) = slot_pair()?;
        let Admitted { opening, guest, room } = admitted;
        let seat = room.open_in(guest, opening, shards).await?;
        Self::new(end, Some((room, seat)), pair)
    }

    /// The packets that are there, up to about so many bytes.
    pub fn fetch(&self, bytes: usize) -> Fetched {
        let mut unread = lock(&self.unread);
        let mut is_over = false;
        // A single frame may be longer.
        while unread.len() < bytes || server_frame(&unread).is_none() {
            let mut buffer = [0; 8 * 1024];
            match self.end.try_read(&mut buffer) {
                Ok(len) if len > 0 => {
                    unread.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => is_over = true,
            }
            break;
        }
        let (mut fetched, mut at) = (Fetched::default(), 0);
        while let Some((opcode, payload, len)) = server_frame(&unread[at..]) {
            match opcode {
                Opcode::Text => {
                    fetched.packets.push(Data::Text(String::from_utf8_lossy(payload).into_owned()));
                }
                Opcode::Binary => fetched.packets.push(Data::Binary(payload.to_vec())),
                Opcode::Close => fetched.end = Some(close(payload)),
                _ => {}
            }
            at += len;
        }
        unread.drain(..at);
        if is_over && fetched.end.is_none() && fetched.packets.is_empty() {
            fetched.end = Some((CloseCode::SERVER_ERROR, "the session has ended".to_owned()));
        }
        fetched
    }

    /// Passes a packet on to the shard.
    pub async fn pass_on(&self, packet: &Data) -> io::Result<()> {
        let mut frame = Vec::new();
        match packet {
            Data::Text(text) => write_client_frame(Opcode::Text, text.as_bytes(), &mut frame),
            Data::Binary(bytes) => write_client_frame(Opcode::Binary, bytes, &mut frame),
        }
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.end.writable().await?;
            match self.end.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The first frame of a server in these bytes, if it is complete: its opcode, payload and whole length.
fn server_frame(bytes: &[u8]) -> Option<(Opcode, &[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, len): (usize, usize) = match second {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(header..header.checked_add(len)?)?;
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        _ => Opcode::Pong,
    };
    Some((opcode, payload, header + len))
}

/// The code and the reason of a Close frame.
fn close(payload: &[u8]) -> (CloseCode, String) {
    match payload {
        [high, low, reason @ ..] => {
            (CloseCode(u16::from_be_bytes([*high, *low])), String::from_utf8_lossy(reason).into_owned())
        }
        _ => (CloseCode::NORMAL, String::new()),
    }
}
