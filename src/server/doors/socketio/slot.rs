//! The polls' end of a pair of sockets, of which a shard has the other. On tokio's threads.

use super::lock;
use crate::server::doors::Admitted;
use crate::server::room::{Room, Seat};
use crate::wire::{Opcode, write_frame};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::UnixStream;

/// Bytes of an answer to a poll, from which on the rest waits for the next one.
const POLL_BYTES: usize = 64 * 1024;
/// Bytes that a shard may have in a slot: as old as the last poll when they are fetched.
const SLOT_BYTES: usize = 32 * 1024;

/// The polls' end of a pair of sockets, of which a shard has the other.
pub(super) struct Slot {
    pub end: UnixStream,
    /// What was read from it and is not answered yet: frames of RFC 6455, the last one perhaps in part.
    pub unread: Mutex<Vec<u8>>,
    pub room: Arc<Room>,
    pub seat: Seat,
}

impl Slot {
    /// Gives a shard one end of a pair of sockets.
    pub async fn open(admitted: Admitted) -> io::Result<Self> {
        let (end, shards) = std::os::unix::net::UnixStream::pair()?;
        end.set_nonblocking(true)?;
        shards.set_nonblocking(true)?;
        socket2::SockRef::from(&shards).set_send_buffer_size(SLOT_BYTES)?;
        // A shard only sends and receives, which is the same for both kinds.
        let shards = std::net::TcpStream::from(std::os::fd::OwnedFd::from(shards));
        let Admitted { opening, guest, room } = admitted;
        let seat = room.open_in(guest, opening, shards).await?;
        Ok(Self { end: UnixStream::from_std(end)?, unread: Mutex::default(), room, seat })
    }

    /// The packets that are there.
    ///
    /// # Errors
    /// That the shard has closed its end.
    pub fn fetch(&self) -> io::Result<Vec<String>> {
        let mut unread = lock(&self.unread);
        let mut is_closed = false;
        // A single frame may be longer.
        while unread.len() < POLL_BYTES || server_frame(&unread).is_none() {
            let mut buffer = [0; 8 * 1024];
            match self.end.try_read(&mut buffer) {
                Ok(0) => is_closed = true,
                Ok(len) => {
                    unread.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            break;
        }
        let (mut packets, mut at) = (Vec::new(), 0);
        while let Some((opcode, payload, len)) = server_frame(&unread[at..]) {
            match opcode {
                Opcode::Text => packets.push(String::from_utf8_lossy(payload).into_owned()),
                Opcode::Close => packets.push("1".to_owned()),
                _ => {}
            }
            at += len;
        }
        unread.drain(..at);
        if is_closed && packets.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(packets) }
    }

    /// Passes a packet on to the shard, in a frame as a client sends it.
    pub async fn pass_on(&self, packet: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(Opcode::Text, packet.as_bytes(), &mut frame);
        // The mask follows the length. It is of zeros, which change nothing.
        let header = frame.len() - packet.len();
        frame[1] |= 0x80;
        frame.splice(header..header, [0; 4]);
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
        8 => Opcode::Close,
        _ => Opcode::Binary,
    };
    Some((opcode, payload, header + len))
}
