//! A WebSocket in the hands of its door. On tokio's threads.
//!
//! Invariant: frames go out complete and in order; what the socket has not taken is in `out`.

use super::connection::End;
use crate::wire::engineio::Data;
use crate::wire::{CloseCode, Encoding, FrameError, FrameReader, Framing, Incoming, Opcode, write_frame};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long a last word may take to leave.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Bytes of one read.
const READ_BYTES: usize = 4 * 1024;

/// A WebSocket.
pub(super) struct Socket {
    pub stream: TcpStream,
    reader: FrameReader,
    /// What was read and is not taken yet.
    pub messages: VecDeque<Incoming>,
    /// How the client broke the protocol after that.
    broke: Option<FrameError>,
    /// What the socket is still to be sent.
    pub out: Vec<u8>,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            reader: FrameReader::default(),
            messages: VecDeque::new(),
            broke: None,
            out: Vec::new(),
        }
    }

    /// Answers the handshake of RFC 6455. `early`: the bytes that came after it.
    pub async fn begin(stream: TcpStream, early: &[u8], accept: &str) -> io::Result<Self> {
        let mut socket = Self::new(stream);
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        socket.stream.write_all(head.as_bytes()).await?;
        socket.feed(early);
        Ok(socket)
    }

    /// The socket, and the bytes that were read of it and not taken.
    pub fn into_parts(self) -> io::Result<(std::net::TcpStream, Vec<u8>)> {
        let mut early = Vec::new();
        self.messages.iter().for_each(|message| message.write_frame(&mut early));
        self.reader.write_unread(&mut early);
        Ok((self.stream.into_std()?, early))
    }

    /// Reads what is there; `None` if that is nothing, 0 at the end.
    pub fn read(&mut self) -> io::Result<Option<usize>> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.try_read(&mut bytes) {
            Ok(len) => {
                self.feed(&bytes[..len]);
                Ok(Some(len))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let messages = &mut self.messages;
        if let Err(error) = self.reader.read(bytes, 0, |message| messages.push_back(message)) {
            self.broke.get_or_insert(error);
        }
    }

    /// The next packet that was read; how the connection has to end if there is none any more.
    pub fn next(&mut self) -> Option<Result<Data, End>> {
        while let Some(message) = self.messages.pop_front() {
            return Some(match message {
                // The reader has checked that it is UTF-8.
                Incoming::Message(Encoding::Json, text) => {
                    Ok(Data::Text(String::from_utf8_lossy(&text).into_owned()))
                }
                Incoming::Message(Encoding::MessagePack, bytes) => Ok(Data::Binary(bytes)),
                Incoming::Close(code) => Err((code.unwrap_or(CloseCode::NORMAL), String::new())),
                Incoming::Ping(payload) => {
                    write_frame(Opcode::Pong, &payload, &mut self.out);
                    continue;
                }
                Incoming::Pong(_) => continue,
            });
        }
        let broke = self.broke.take()?;
        Some(Err((broke.code(), broke.to_string())))
    }

    pub fn say(&mut self, packet: &Data) {
        packet.write_frame(&mut self.out);
    }

    /// Writes what the socket takes now.
    pub fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.out) {
            Ok(written) => drop(self.out.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes all.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Ends the connection, after what is still to be sent.
    pub async fn close(mut self, (code, reason): End) -> io::Result<()> {
        let reason: String = reason.chars().filter(char::is_ascii).collect();
        Framing::WebSocket.append_close(code, &reason, &mut self.out);
        let said = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        tokio::time::timeout(CLOSE_TIME, said).await?
    }
}
