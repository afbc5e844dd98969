//! Connections over WebSocket while no shard has them, and the upgrade of those that polled. On tokio's
//! threads.
//!
//! Invariant: frames go out complete and in order; what the socket has not taken is in `out`, and nothing
//! more is fetched before that is gone.

use super::connection::{Connection, End, Taken};
use super::polls::{Client, Over};
use super::slot::Slot;
use super::{EngineError, Origin, Settings};
use crate::server::App;
use crate::server::doors::websocket::accept_key;
use crate::server::doors::{self, Admitted, Takeover, size_for_sessions};
use crate::server::problem::Problem;
use crate::server::shard::{Home, Homecoming, Replacement};
use crate::wire::engineio::{self, Data, handshake};
use crate::wire::{CloseCode, Encoding, FrameError, FrameReader, Framing, Incoming, Opcode, write_frame};
use axum::extract::Request;
use axum::http::Version;
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long an upgrade may take.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
/// How long a last word may take to leave.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Bytes that are fetched at a time: as old as the last write when they are sent.
const FETCH_BYTES: usize = 16 * 1024;
/// Bytes that may wait for a client that goes on to send.
const MAX_OUT_BYTES: usize = 64 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 4 * 1024;

/// A WebSocket.
struct Socket {
    stream: TcpStream,
    reader: FrameReader,
    /// What was read and is not taken yet.
    messages: VecDeque<Incoming>,
    /// How the client broke the protocol after that.
    broke: Option<FrameError>,
    /// What the socket is still to be sent.
    out: Vec<u8>,
}

/// A namespace whose session is being admitted.
type Joining = Pin<Box<dyn Future<Output = (String, Result<Admitted, Data>)> + Send>>;

/// Begins a connection.
pub(super) async fn open(
    app: Arc<App>,
    request: Request,
    origin: Arc<Origin>,
) -> Result<Infallible, Problem> {
    let accept = accept(&request)?;
    let permit = app.admit().inspect_err(|problem| app.refused.count(problem.status()))?;
    let takeover = Takeover::of(&request)?;
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let mut socket = Socket::begin(stream, &early, &accept).await?;
            let settings = Settings::of(&app);
            socket.say(&handshake(&origin.sid, &[], settings.timing, settings.max_payload));
            let connection = Connection::new(origin, settings, Some(permit));
            serve(app, Arc::new(connection), socket).await
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// Begins the upgrade of a client that polls.
pub(super) async fn upgrade(app: Arc<App>, request: Request, sid: String) -> Result<Infallible, Problem> {
    let accept = accept(&request)?;
    let client = if app.polls.has_upgraded(&sid) { None } else { Some(app.polls.get(&sid)?) };
    let takeover = Takeover::of(&request)?;
    let client = client.filter(|client| !client.is_upgrading.swap(true, Ordering::SeqCst));
    let Some(client) = client else { return Ok(turn_away(takeover, accept).await) };
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let tried = async {
                let mut socket = Socket::begin(stream, &early, &accept).await?;
                Ok::<_, io::Error>(probe(&mut socket, &client).await?.then_some(socket))
            };
            let tried = tokio::time::timeout(UPGRADE_TIME, tried).await;
            let Ok(Ok(Some(socket))) = tried else {
                client.is_upgrading.store(false, Ordering::SeqCst);
                return Ok(());
            };
            move_over(app, &sid, client, socket).await
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// Ends a second WebSocket of a client. As the protocol has it, it is answered first.
async fn turn_away(takeover: Takeover, accept: String) -> Infallible {
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let socket = Socket::begin(stream, &early, &accept).await?;
            socket.close((CloseCode::POLICY, "this client has another WebSocket".to_owned())).await
        });
        session
    };
    takeover.take_over(Box::new(go_on)).await
}

fn accept(request: &Request) -> Result<String, Problem> {
    if request.version() != Version::HTTP_11 {
        return Err(EngineError::Request.because("a WebSocket begins with a request of HTTP/1.1"));
    }
    accept_key(request.headers())
}

/// The first half of an upgrade: the client tries the WebSocket, and the poll that waits is sent home.
/// Returns whether the client goes on with the upgrade.
async fn probe(socket: &mut Socket, client: &Client) -> io::Result<bool> {
    loop {
        socket.flush().await?;
        while let Some(packet) = socket.next() {
            let Ok(Data::Text(text)) = packet else { return Ok(false) };
            match engineio::Packet::read(&text) {
                Ok(engineio::Packet::Ping { is_probe: true }) => {
                    socket.say(&Data::Text("3probe".to_owned()));
                    client.connection.nudge.notify_waiters();
                }
                Ok(engineio::Packet::Upgrade) => return Ok(true),
                _ => return Ok(false),
            }
        }
        socket.flush().await?;
        socket.stream.readable().await?;
        if socket.read()? == Some(0) {
            return Ok(false);
        }
    }
}

/// The second half: what polls have not fetched goes over the WebSocket, before all that follows.
async fn move_over(app: Arc<App>, sid: &str, client: Arc<Client>, mut socket: Socket) -> io::Result<()> {
    if app.polls.leave(sid, Over::Upgraded).is_none() {
        return Ok(());
    }
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
    let connection = &client.connection;
    let Some((outgoing, namespace, slot)) = connection.take_only() else {
        return serve(app, Arc::clone(connection), socket).await;
    };
    // No poll and no post has it any more.
    let Some(Slot { end, unread, seat: Some((room, seat)) }) = Arc::into_inner(slot) else { return Ok(()) };
    let mut rest = std::mem::take(&mut socket.out);
    for packet in &outgoing {
        packet.write_frame(&mut rest);
    }
    rest.append(&mut unread.into_inner().unwrap_or_else(PoisonError::into_inner));
    let home = home(&app, connection, namespace);
    let (stream, early) = socket.into_parts()?;
    size_for_sessions(&stream)?;
    room.replace(seat, Replacement { stream, early, rest, end: end.into_std()?, home });
    Ok(())
}

/// How a shard gives a connection back, whose session is of that namespace.
fn home(app: &Arc<App>, connection: &Connection, namespace: String) -> Home {
    let (app, origin) = (Arc::downgrade(app), Arc::clone(&connection.origin));
    let runtime = tokio::runtime::Handle::current();
    Home(Box::new(move |homecoming| {
        // A server that is gone has no connections.
        let Some(app) = app.upgrade() else { return };
        runtime.spawn(async move {
            if let Err(error) = come_home(app, origin, namespace, homecoming).await {
                tracing::debug!("a connection with several namespaces broke: {error}");
            }
        });
    }))
}

async fn come_home(
    app: Arc<App>,
    origin: Arc<Origin>,
    namespace: String,
    homecoming: Homecoming,
) -> io::Result<()> {
    let Homecoming { stream, early, rest, pings, end } = homecoming;
    let connection = Connection::new(origin, Settings::of(&app), None);
    connection.adopt(namespace, Slot::new(end, None)?, pings);
    let mut socket = Socket::new(TcpStream::from_std(stream)?);
    socket.out = rest;
    socket.feed(&early);
    serve(app, Arc::new(connection), socket).await
}

/// Serves a connection until it ends, or a shard has it.
async fn serve(app: Arc<App>, connection: Arc<Connection>, mut socket: Socket) -> io::Result<()> {
    let mut joining: Option<Joining> = None;
    loop {
        while joining.is_none()
            && connection.takes()
            && let Some(data) = socket.next()
        {
            let taken = match data {
                Ok(data) => connection.take(data).map_err(|reason| (CloseCode::POLICY, reason)),
                Err(end) => Err(end),
            };
            let done = match taken {
                Ok(Taken::Close) => Err((CloseCode::NORMAL, String::new())),
                Ok(Taken::Joins { namespace, auth }) => {
                    joining = Some(admit(Arc::clone(&app), Arc::clone(&connection), namespace, auth));
                    Ok(())
                }
                Ok(taken) => connection.settle(&app, taken).await,
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                return socket.close(end).await;
            }
        }
        // Before anything is looked at, so that no change is missed.
        let nudged = connection.nudge.notified();
        if let Some(end) = connection.end() {
            return socket.close(end).await;
        }
        if socket.out.is_empty() {
            let fetched = connection.fetch(FETCH_BYTES);
            fetched.packets.iter().for_each(|packet| socket.say(packet));
            if let Some(end) = fetched.end {
                return socket.close(end).await;
            }
        }
        let is_sent = socket.out.is_empty();
        // Who does not read what is answered is not read either.
        let takes = joining.is_none() && connection.takes() && socket.out.len() < MAX_OUT_BYTES;
        tokio::select! {
            ready = socket.stream.readable(), if takes => {
                ready?;
                if socket.read()? == Some(0) {
                    return Ok(());
                }
            }
            ready = socket.stream.writable(), if !is_sent => {
                ready?;
                socket.write()?;
            }
            () = connection.readable(), if is_sent => {}
            () = nudged => {}
            (namespace, admitted) = joined(&mut joining) => {
                joining = None;
                let done = match admitted {
                    Ok(admitted) if connection.is_empty() && socket.messages.is_empty() => {
                        return hand_over(&app, &connection, namespace, admitted, socket).await;
                    }
                    Ok(admitted) => connection.join(namespace, admitted).await,
                    Err(refusal) => connection.refuse(&app, refusal),
                };
                if let Err(end) = done {
                    return socket.close(end).await;
                }
            }
            () = tokio::time::sleep_until(connection.next_due().into()) => {}
        }
    }
}

fn admit(app: Arc<App>, connection: Arc<Connection>, namespace: String, auth: Value) -> Joining {
    Box::pin(async move {
        let admitted = connection.admit(&app, &namespace, &auth).await;
        (namespace, admitted)
    })
}

async fn joined(joining: &mut Option<Joining>) -> (String, Result<Admitted, Data>) {
    match joining {
        Some(joining) => joining.await,
        None => std::future::pending().await,
    }
}

/// Passes a connection with one namespace to a shard.
async fn hand_over(
    app: &Arc<App>,
    connection: &Connection,
    namespace: String,
    admitted: Admitted,
    mut socket: Socket,
) -> io::Result<()> {
    // A refusal may wait, or a heartbeat.
    connection.fetch(0).packets.iter().for_each(|packet| socket.say(packet));
    socket.say(&connection.connected(&namespace));
    let head = std::mem::take(&mut socket.out);
    let home = home(app, connection, namespace);
    let (stream, early) = socket.into_parts()?;
    admitted.hand_over(&head, TcpStream::from_std(stream)?, early, Some(home)).await
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            reader: FrameReader::default(),
            messages: VecDeque::new(),
            broke: None,
            out: Vec::new(),
        }
    }

    /// Answers the handshake of RFC 6455. `early`: the bytes that came after it.
    async fn begin(stream: TcpStream, early: &[u8], accept: &str) -> io::Result<Self> {
        let mut socket = Self::new(stream);
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        socket.stream.write_all(head.as_bytes()).await?;
        socket.feed(early);
        Ok(socket)
    }

    /// The socket, and the bytes that were read of it and not taken.
    fn into_parts(self) -> io::Result<(std::net::TcpStream, Vec<u8>)> {
        let mut early = Vec::new();
        self.messages.iter().for_each(|message| message.write_frame(&mut early));
        self.reader.write_unread(&mut early);
        Ok((self.stream.into_std()?, early))
    }

    /// Reads what is there; `None` if that is nothing, 0 at the end.
    fn read(&mut self) -> io::Result<Option<usize>> {
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

    fn feed(&mut self, bytes: &[u8]) {
        let messages = &mut self.messages;
        if let Err(error) = self.reader.read(bytes, 0, |message| messages.push_back(message)) {
            self.broke.get_or_insert(error);
        }
    }

    /// The next packet that was read; how the connection has to end if there is none any more.
    fn next(&mut self) -> Option<Result<Data, End>> {
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

    fn say(&mut self, packet: &Data) {
        packet.write_frame(&mut self.out);
    }

    /// Writes what the socket takes now.
    fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.out) {
            Ok(written) => drop(self.out.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes all.
    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Ends the connection, after what is still to be sent.
    async fn close(mut self, (code, reason): End) -> io::Result<()> {
        let reason: String = reason.chars().filter(char::is_ascii).collect();
        Framing::WebSocket.append_close(code, &reason, &mut self.out);
        let said = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        tokio::time::timeout(CLOSE_TIME, said).await?
    }
}
