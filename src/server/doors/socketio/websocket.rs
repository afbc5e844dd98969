//! Connections over WebSocket until their session, and the upgrade of those that polled. On tokio's threads.

use super::polls::{Client, HAND_OVER_TIME, Stage};
use super::{EngineError, Query, enter, lock, new_sid, refusal};
use crate::server::App;
use crate::server::doors::websocket::accept_key;
use crate::server::doors::{self, Takeover, size_for_sessions};
use crate::server::gate::Pass;
use crate::server::permits::Permit;
use crate::server::problem::Problem;
use crate::server::shard::Replacement;
use crate::wire::socketio::{Packet, connected, handshake};
use crate::wire::{CloseCode, FrameReader, Framing, Incoming, MAX_MESSAGE_BYTES, Opcode, write_frame};
use axum::extract::Request;
use axum::http::Version;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client may take to name a namespace.
const CONNECT_TIME: Duration = Duration::from_secs(45);
/// How long an upgrade may take.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
const GREETING_TIME: Duration = CONNECT_TIME.saturating_add(HAND_OVER_TIME);

/// A connection over WebSocket before its session.
struct Greeting {
    stream: TcpStream,
    reader: FrameReader,
    /// Bytes behind the frames that were read.
    buffer: Vec<u8>,
}

/// Begins a connection over WebSocket, or the upgrade of a client that polls.
pub(super) async fn upgrade(
    app: Arc<App>,
    pass: Pass,
    request: Request,
    query: Query,
    sid: Option<String>,
) -> Result<Infallible, Problem> {
    if request.version() != Version::HTTP_11 {
        return Err(EngineError::Request.because("a WebSocket begins with a request of HTTP/1.1"));
    }
    let accept = accept_key(request.headers())?;
    let client = sid.as_deref().map(|sid| app.polls.get(sid)).transpose()?;
    let permit = match &client {
        Some(client) if client.is_upgrading.swap(true, Ordering::SeqCst) => {
            return Err(EngineError::Request.because("an upgrade is under way"));
        }
        Some(_) => None,
        None => Some(app.admit().inspect_err(|problem| app.refused.count(problem.status()))?),
    };
    let takeover = Takeover::of(&request)?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    let go_on = move |mut stream: TcpStream, buffer: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            stream.write_all(head.as_bytes()).await?;
            let mut greeting = Greeting { stream, reader: FrameReader::default(), buffer };
            if let Some((sid, client)) = sid.zip(client) {
                let probed = tokio::time::timeout(UPGRADE_TIME, probe(&mut greeting, &client)).await;
                let is_probed = matches!(probed, Ok(Ok(true)));
                if !is_probed {
                    client.is_upgrading.store(false, Ordering::SeqCst);
                    return Ok(());
                }
                return move_over(&app, pass, &query, &sid, &client, greeting).await;
            }
            let sid = new_sid();
            greeting.say(&handshake(&sid, &[], MAX_MESSAGE_BYTES)).await?;
            let greeted = greet(&app, pass, &query, &sid, permit, greeting);
            tokio::time::timeout(GREETING_TIME, greeted).await?
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// The first half of an upgrade: the client tries the WebSocket, and the poll that waits is sent home.
/// Returns whether the client goes on with the upgrade.
async fn probe(greeting: &mut Greeting, client: &Client) -> io::Result<bool> {
    loop {
        match greeting.packet().await? {
            Some(Packet::Ping { is_probe: true }) => {
                greeting.say("3probe").await?;
                client.nudge.notify_waiters();
            }
            Some(Packet::Upgrade) => return Ok(true),
            _ => return Ok(false),
        }
    }
}

/// The second half: what polls have not fetched goes over the WebSocket, before all that follows.
async fn move_over(
    app: &App,
    pass: Pass,
    query: &Query,
    sid: &str,
    client: &Client,
    mut greeting: Greeting,
) -> io::Result<()> {
    let polled = async {
        loop {
            let idle = client.idle.notified();
            if !client.is_polled.load(Ordering::SeqCst) {
                break;
            }
            idle.await;
        }
    };
    let _ = tokio::time::timeout(UPGRADE_TIME, polled).await;
    let _posting = client.posting.lock().await;
    let stage = std::mem::replace(&mut *lock(&client.stage), Stage::Over);
    app.polls.end(sid);
    let outgoing = std::mem::take(&mut *lock(&client.outgoing));
    match stage {
        Stage::Over => Ok(()),
        Stage::New(permit) => {
            for packet in &outgoing {
                greeting.say(packet).await?;
            }
            tokio::time::timeout(GREETING_TIME, greet(app, pass, query, sid, permit, greeting)).await?
        }
        Stage::Polled(slot) => {
            // No poll and no post has it any more.
            let Some(slot) = Arc::into_inner(slot) else { return Ok(()) };
            let mut rest = Vec::new();
            for packet in &outgoing {
                write_frame(Opcode::Text, packet.as_bytes(), &mut rest);
            }
            rest.append(&mut slot.unread.into_inner().unwrap_or_else(PoisonError::into_inner));
            let stream = greeting.stream.into_std()?;
            size_for_sessions(&stream)?;
            let early = greeting.buffer;
            let replacement = Replacement { stream, early, rest, end: slot.end.into_std()? };
            slot.room.replace(slot.seat, replacement);
            Ok(())
        }
    }
}

/// Reads a connection until its client has named a namespace, and passes it to a shard.
async fn greet(
    app: &App,
    pass: Pass,
    query: &Query,
    sid: &str,
    mut permit: Option<Permit>,
    mut greeting: Greeting,
) -> io::Result<()> {
    let until = tokio::time::Instant::now() + CONNECT_TIME;
    loop {
        let packet = match tokio::time::timeout_at(until, greeting.packet()).await {
            Ok(packet) => packet?,
            Err(_) => return greeting.close(CloseCode::POLICY, "no namespace was connected").await,
        };
        match packet {
            Some(Packet::Connect { namespace, auth }) => {
                // Its permit becomes the session's.
                drop(permit.take());
                match enter(app, pass, query, &namespace, &auth).await {
                    Ok(admitted) => {
                        let mut head = Vec::new();
                        write_frame(Opcode::Text, connected(&namespace, sid).as_bytes(), &mut head);
                        return admitted.hand_over(&head, greeting.stream, greeting.buffer).await;
                    }
                    Err(problem) => {
                        greeting.say(&refusal(&namespace, &problem)).await?;
                        match app.admit() {
                            Ok(again) => permit = Some(again),
                            Err(_) => return greeting.close(CloseCode::OVERLOADED, "busy").await,
                        }
                    }
                }
            }
            Some(Packet::Event { .. }) => {
                let reason = "an event before its namespace was connected";
                return greeting.close(CloseCode::POLICY, reason).await;
            }
            Some(Packet::Close) => return greeting.close(CloseCode::NORMAL, "").await,
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// The length of the first frame of a client in these bytes, if it is complete.
fn client_frame(bytes: &[u8]) -> Option<usize> {
    let header = match bytes.get(1)? & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        // Longer than any message may be: the reader refuses it by its header.
        127 => 10,
        len => 2 + usize::from(len),
    };
    let len = header + 4;
    (bytes.len() >= len).then_some(len)
}

impl Greeting {
    /// The next packet; `None` if the client has gone or broke the protocol, which it was told then.
    async fn packet(&mut self) -> io::Result<Option<Packet>> {
        loop {
            while let Some(len) = client_frame(&self.buffer) {
                let mut messages = Vec::new();
                let frame: Vec<u8> = self.buffer.drain(..len).collect();
                let read = self.reader.read(&frame, 0, |message| messages.push(message));
                if let Err(error) = read {
                    self.close(error.code(), &error.to_string()).await?;
                    return Ok(None);
                }
                match messages.pop() {
                    Some(Incoming::Message(_, text)) => match Packet::read(&String::from_utf8_lossy(&text)) {
                        Ok(packet) => return Ok(Some(packet)),
                        Err(error) => {
                            let reason: String = error.to_string().chars().filter(char::is_ascii).collect();
                            self.close(CloseCode::POLICY, &reason).await?;
                            return Ok(None);
                        }
                    },
                    Some(Incoming::Ping(payload)) => {
                        let mut pong = Vec::new();
                        write_frame(Opcode::Pong, &payload, &mut pong);
                        self.stream.write_all(&pong).await?;
                    }
                    Some(Incoming::Close(code)) => {
                        self.close(code.unwrap_or(CloseCode::NORMAL), "").await?;
                        return Ok(None);
                    }
                    Some(Incoming::Pong(_)) | None => {}
                }
            }
            let mut bytes = [0; 4 * 1024];
            match self.stream.read(&mut bytes).await? {
                0 => return Ok(None),
                len => self.buffer.extend_from_slice(&bytes[..len]),
            }
        }
    }

    async fn say(&mut self, packet: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(Opcode::Text, packet.as_bytes(), &mut frame);
        self.stream.write_all(&frame).await
    }

    async fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        Framing::SocketIo.append_close(code, reason, &mut frame);
        self.stream.write_all(&frame).await?;
        self.stream.shutdown().await
    }
}
