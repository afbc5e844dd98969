//! The messages to each server, and the reading of its answers. Only as much of each protocol as the workload
//! needs.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tickcast::market::Timestamp;
use tickcast::tape::Position;
use tickcast::wire::{Entry, UpdateDecoder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Frames of a WebSocket without its handshake; an empty one instead.
    Bare,
    /// What the publisher sends on its WebSocket is broadcast as it is.
    WebSocket,
    /// Engine.IO 4 and Socket.IO 5 on a WebSocket.
    SocketIo,
    /// Published by HTTP, subscribed by Server-Sent Events.
    Events,
    /// NATS's own protocol.
    Nats,
    /// Published by HTTP, subscribed by WebSocket.
    Nchan,
    /// Trades published by HTTP, subscribed in the MessagePack form.
    Tickcast,
    /// The same trades by its door of Socket.IO.
    TickcastSocketIo,
    /// The same trades as its Server-Sent Events.
    TickcastEvents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Subscriber,
    Publisher,
}

/// A message of a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The connection is ready.
    Ready,
    /// A published message, by the moment at which it was due (µs since 1970).
    Message(u64),
    /// To be answered with these bytes.
    Asked(Vec<u8>),
}

/// Parses what one connection receives.
pub struct Reader {
    dialect: Dialect,
    role: Role,
    stage: Stage,
    /// The beginning of an incomplete message.
    rest: Vec<u8>,
    /// Bytes of the frames that held messages.
    pub message_bytes: u64,
}

enum Stage {
    /// The head of an HTTP answer is still to come.
    Head,
    Open,
    /// A Tickcast session, welcomed.
    Session(Box<UpdateDecoder>),
    /// HTTP answers, which are not read.
    Unread,
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Dialect {
    /// Whether it is published to by requests of HTTP.
    fn is_published_by_http(self) -> bool {
        matches!(
            self,
            Self::Nchan | Self::Events | Self::Tickcast | Self::TickcastSocketIo | Self::TickcastEvents
        )
    }

    /// The first message of a connection.
    pub fn greeting(self, role: Role) -> Vec<u8> {
        let get = |path: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
                .into_bytes()
        };
        let upgrade = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes()
        };
        match (self, role) {
            (Self::Bare, _) => Vec::new(),
            (_, Role::Publisher) if self.is_published_by_http() => Vec::new(),
            (Self::WebSocket | Self::Nchan, Role::Subscriber) => upgrade("/subscribe"),
            (Self::WebSocket | Self::Nchan, Role::Publisher) => upgrade("/publish"),
            (Self::SocketIo | Self::TickcastSocketIo, _) => upgrade("/socket.io/?EIO=4&transport=websocket"),
            (Self::Events, _) => get("/subscribe"),
            (Self::TickcastEvents, _) => get("/v1/sse?topics=trades:X"),
            (Self::Nats, Role::Subscriber) => b"CONNECT {\"verbose\":false}\r\nSUB X 1\r\nPING\r\n".to_vec(),
            (Self::Nats, Role::Publisher) => b"CONNECT {\"verbose\":false}\r\nPING\r\n".to_vec(),
            (Self::Tickcast, _) => upgrade("/v1/ws?topics=trades:X"),
        }
    }

    /// Publishes a message of `length` bytes that begins with the moment (µs since 1970) at which it is
    /// `due`.
    pub fn publication(self, due: u64, length: usize) -> Vec<u8> {
        let message = || format!("{due:016}{:x<1$}", "", length - 16);
        let post = |path: &str, kind: &str, body: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        match self {
            Self::Bare => frame(TEXT, false, message().as_bytes()),
            Self::WebSocket => frame(TEXT, true, message().as_bytes()),
            Self::SocketIo => {
                frame(TEXT, true, format!("42[\"publish\",\"X\",\"{}\"]", message()).as_bytes())
            }
            Self::Nats => format!("PUB X {length}\r\n{}\r\n", message()).into_bytes(),
            Self::Nchan | Self::Events => post("/publish", "text/plain", &message()),
            Self::Tickcast | Self::TickcastSocketIo | Self::TickcastEvents => {
                // A price that moves by ticks.
                let cents = due / 1000 % 64;
                let trade = format!(
                    "{{\"type\":\"trade\",\"symbol\":\"X\",\"price\":\"189.{cents:02}\",\"size\":100,\
                     \"side\":\"buy\",\"ts_event\":{due}}}"
                );
                post("/v1/publish", "application/x-ndjson", &trade)
            }
        }
    }

    /// Bytes of a frame with a message of `length` bytes, as [`Self::Bare`] sends it.
    pub fn bare_frame_bytes(length: usize) -> usize {
        frame(TEXT, false, &vec![0; length]).len()
    }
}

impl Reader {
    pub fn new(dialect: Dialect, role: Role) -> Self {
        let stage = match (dialect, role) {
            (Dialect::Bare | Dialect::Nats, _) => Stage::Open,
            (_, Role::Publisher) if dialect.is_published_by_http() => Stage::Unread,
            _ => Stage::Head,
        };
        Self { dialect, role, stage, rest: Vec::new(), message_bytes: 0 }
    }

    /// Whether there is nothing that this connection has to wait for.
    pub fn is_ready_at_once(&self) -> bool {
        matches!(self.stage, Stage::Unread)
    }

    pub fn read(&mut self, bytes: &[u8], mut hear: impl FnMut(Heard)) -> Result<()> {
        if self.rest.is_empty() {
            let taken = self.take_all(bytes, &mut hear)?;
            self.rest.extend_from_slice(&bytes[taken..]);
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(bytes);
            let taken = self.take_all(&joined, &mut hear)?;
            joined.drain(..taken);
            self.rest = joined;
        }
        Ok(())
    }

    /// Takes all complete messages; returns their bytes.
    fn take_all(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<usize> {
        let mut taken = 0;
        while let Some(length) = self.take(&bytes[taken..], hear)? {
            taken += length;
        }
        Ok(taken)
    }

    /// Takes one answer, frame or line; `None` if it is incomplete.
    fn take(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<Option<usize>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.stage {
            Stage::Unread => {
                ensure!(!bytes.starts_with(b"HTTP/1.1 4"), "refused: {}", first_line(bytes));
                Ok(Some(bytes.len()))
            }
            Stage::Head => {
                let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
                let accepted: &[u8] = match self.dialect {
                    Dialect::Events | Dialect::TickcastEvents => b"HTTP/1.1 200",
                    _ => b"HTTP/1.1 101",
                };
                ensure!(bytes.starts_with(accepted), "refused: {}", first_line(bytes));
                self.stage = Stage::Open;
                if matches!(self.dialect, Dialect::WebSocket | Dialect::Nchan | Dialect::Events) {
                    hear(Heard::Ready);
                }
                Ok(Some(end + 4))
            }
            Stage::Open | Stage::Session(_) if self.dialect == Dialect::Nats => self.take_line(bytes, hear),
            Stage::Open | Stage::Session(_)
                if matches!(self.dialect, Dialect::Events | Dialect::TickcastEvents) =>
            {
                self.take_event_line(bytes, hear)
            }
            Stage::Open | Stage::Session(_) => self.take_frame(bytes, hear),
        }
    }

    /// Takes a line of an event, or one around the chunks in which HTTP may bring them.
    fn take_event_line(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<Option<usize>> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        self.message_bytes += end as u64 + 1;
        if let Some(data) = bytes[..end].strip_prefix(b"data:") {
            match self.dialect {
                Dialect::TickcastEvents => hear_trades(data, hear)?,
                _ => hear(Heard::Message(due(data)?)),
            }
        }
        Ok(Some(end + 1))
    }

    fn take_line(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<Option<usize>> {
        let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[..end])?;
        let next = end + 2;
        match line.split(' ').next().unwrap_or_default() {
            "MSG" => {
                let length: usize = line.rsplit(' ').next().unwrap_or_default().parse()?;
                let Some(message) = bytes.get(next..next + length + 2) else { return Ok(None) };
                self.message_bytes += (next + length + 2) as u64;
                hear(Heard::Message(due(message)?));
                return Ok(Some(next + length + 2));
            }
            "PING" => hear(Heard::Asked(b"PONG\r\n".to_vec())),
            "PONG" => hear(Heard::Ready),
            "-ERR" => bail!("{line}"),
            _ => {}
        }
        Ok(Some(next))
    }

    fn take_frame(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard)) -> Result<Option<usize>> {
        let Some((header, length)) = header(bytes)? else { return Ok(None) };
        let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
        match bytes[0] & 15 {
            TEXT | BINARY => {
                let mut told = false;
                self.message(payload, &mut |heard| {
                    told |= matches!(heard, Heard::Message(_));
                    hear(heard);
                })?;
                if told {
                    self.message_bytes += (header + length) as u64;
                }
            }
            PING => hear(Heard::Asked(frame(PONG, true, payload))),
            PONG => {}
            CLOSE => bail!(
                "closed by the server: {}",
                String::from_utf8_lossy(payload.get(2..).unwrap_or_default())
            ),
            other => bail!("a frame of unknown kind {other}"),
        }
        Ok(Some(header + length))
    }

    fn message(&mut self, payload: &[u8], hear: &mut impl FnMut(Heard)) -> Result<()> {
        match self.dialect {
            Dialect::SocketIo | Dialect::TickcastSocketIo => self.packet(payload, hear),
            Dialect::Tickcast => self.update_or_answer(payload, hear),
            Dialect::Bare if payload.is_empty() => {
                hear(Heard::Ready);
                Ok(())
            }
            _ => {
                hear(Heard::Message(due(payload)?));
                Ok(())
            }
        }
    }

    fn packet(&mut self, packet: &[u8], hear: &mut impl FnMut(Heard)) -> Result<()> {
        match packet {
            [b'0', ..] if self.dialect == Dialect::TickcastSocketIo => {
                hear(Heard::Asked(frame(TEXT, true, b"40{\"topics\":\"trades:X\"}")));
            }
            [b'0', ..] => hear(Heard::Asked(frame(TEXT, true, b"40"))),
            [b'2'] => hear(Heard::Asked(frame(TEXT, true, b"3"))),
            [b'4', b'0' | b'2', rest @ ..] if self.dialect == Dialect::TickcastSocketIo => {
                hear_trades(rest, hear)?;
            }
            [b'4', b'0', ..] if self.role == Role::Publisher => hear(Heard::Ready),
            [b'4', b'0', ..] => hear(Heard::Asked(frame(TEXT, true, b"420[\"subscribe\",\"X\"]"))),
            [b'4', b'2', ..] => hear(Heard::Message(due(packet)?)),
            [b'4', b'3', ..] => hear(Heard::Ready),
            _ => bail!("an unknown packet: {}", String::from_utf8_lossy(packet)),
        }
        Ok(())
    }

    fn update_or_answer(&mut self, payload: &[u8], hear: &mut impl FnMut(Heard)) -> Result<()> {
        let is_update = matches!(payload.first(), Some(0x90..=0x9f | 0xdc | 0xdd));
        if let (true, Stage::Session(decoder)) = (is_update, &mut self.stage) {
            for entry in decoder.decode(payload)?.entries {
                let Entry::Trades(_, trades) = entry else { continue };
                for trade in trades.entries {
                    hear(Heard::Message(u64::try_from(trade.ts_event.micros())?));
                }
            }
            return Ok(());
        }
        let answer: Value = rmp_serde::from_slice(payload)?;
        match answer["type"].as_str() {
            Some("welcome") => {
                let position = Position::new(answer["position"].as_u64().context("no position")?);
                let time = Timestamp::from_micros(answer["time"].as_i64().context("no time")?);
                self.stage = Stage::Session(Box::new(UpdateDecoder::new(position, time)));
            }
            Some("subscribed") => hear(Heard::Ready),
            _ => bail!("an unexpected answer: {answer}"),
        }
        Ok(())
    }
}

/// What a message of Tickcast's in JSON says.
fn hear_trades(message: &[u8], hear: &mut impl FnMut(Heard)) -> Result<()> {
    const MOMENT: &str = "\"ts_event\":\"";
    let message = std::str::from_utf8(message)?;
    if message.contains("\"type\":\"subscribed\"") {
        hear(Heard::Ready);
    }
    for trade in message.split(MOMENT).skip(1) {
        let moment: Timestamp = trade.split('"').next().unwrap_or_default().parse()?;
        hear(Heard::Message(u64::try_from(moment.micros())?));
    }
    Ok(())
}

/// Length of a frame's header and of its payload; `None` if the header is incomplete.
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let &[first, second, ref more @ ..] = bytes else { return Ok(None) };
    ensure!(first & 0x80 != 0, "a message in fragments");
    Ok(match (second, more) {
        (0..126, _) => Some((2, usize::from(second))),
        (126, &[high, low, ..]) => Some((4, usize::from(u16::from_be_bytes([high, low])))),
        (126, _) => None,
        _ => bail!("a frame that is masked or longer than 64 KiB"),
    })
}

/// A frame of less than 64 KiB. A client's is masked, with zeros, which change nothing.
fn frame(opcode: u8, from_client: bool, payload: &[u8]) -> Vec<u8> {
    let masked = if from_client { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(masked | length),
        _ => {
            frame.push(masked | 126);
            frame.extend(u16::try_from(payload.len()).expect("messages are under 64 KiB").to_be_bytes());
        }
    }
    if from_client {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// The first sixteen digits in a row.
fn due(message: &[u8]) -> Result<u64> {
    let digits = message.windows(16).find(|window| window.iter().all(u8::is_ascii_digit));
    let digits = digits.context("a message without the moment it was due")?;
    Ok(digits.iter().fold(0, |due, digit| due * 10 + u64::from(digit - b'0')))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned()
}
