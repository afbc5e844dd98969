//! The entrances for sessions. All share the query ([`Asked`]), the permit ([`App::enter`]), and the
//! hand-over to a shard. A door adds a handshake and a [`Form`], and takes the connection out of HTTP
//! ([`Takeover`]).

pub(super) mod socketio;
pub(super) mod stream;
pub(super) mod websocket;

pub(super) use socketio::Away;

use super::App;
use super::fanout::Opening;
use super::limits::{HTTP, SESSION};
use super::problem::Problem;
use super::rights::Rights;
use super::room::{Guest, Room};
use super::rooms::{Entry, RoomRequest};
use crate::hint::hint;
use crate::market::{Speed, Word};
use crate::wire::{Encoding, Form, MAX_HZ, MIN_HZ, Resume};
use axum::extract::Request;
use axum::http::StatusCode;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// The choices of a door's clients.
pub(super) trait Door {
    /// The values of `format`.
    fn formats(&self) -> &'static [(&'static str, Form)];

    /// The form if the query names none.
    fn form(&self) -> Form;

    /// The form if the query states whether only changes are wanted; `None` if that cannot be chosen.
    fn form_of_changes(&self, changes: bool) -> Option<Form>;

    /// Whether the query may name that form.
    fn may_choose(&self, form: Form) -> bool;
}

/// What a client's first request asks for: a session, and perhaps the room that it is in.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub opening: Opening,
    pub room: Option<RoomRequest>,
}

/// A session that is admitted, before a shard has it.
pub(super) struct Admitted {
    opening: Opening,
    guest: Guest,
    room: Arc<Room>,
}

/// Takes the connection of a request out of HTTP.
#[derive(Clone)]
pub(super) struct Takeover(Arc<Mutex<Option<oneshot::Sender<Taken>>>>);

/// What a connection is from here on.
pub(super) enum Taken {
    /// A session's, after the answer to its request.
    Session { head: String, admitted: Admitted },
    /// Its door's, with the bytes that came after the request.
    Door(Box<dyn FnOnce(TcpStream, Vec<u8>) -> Session + Send>),
}

/// A connection in the hands of its door.
pub(super) type Session = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Unsent bytes the kernel may hold for a connection before its socket counts as full. Few, because what is
/// queued there is stale by the time it leaves.
const NOT_SENT_BYTES: u32 = 16 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;

impl Takeover {
    pub fn new() -> (Self, oneshot::Receiver<Taken>) {
        let (take, taken) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(take)))), taken)
    }

    /// That of the connection that a request came over.
    ///
    /// # Errors
    /// If that connection cannot be taken.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let found = request.extensions().get().cloned();
        found.ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this connection speaks nothing but HTTP")
        })
    }

    /// Takes the connection: `head` answers the request, and what follows is the session's. The calling
    /// future is dropped by the task that served the connection until now.
    pub async fn take(self, head: String, admitted: Admitted) -> Infallible {
        self.give(Taken::Session { head, admitted }).await
    }

    /// Takes the connection: `door` answers the request, and goes on with it.
    pub async fn take_over(self, door: Box<dyn FnOnce(TcpStream, Vec<u8>) -> Session + Send>) -> Infallible {
        self.give(Taken::Door(door)).await
    }

    async fn give(self, taken: Taken) -> Infallible {
        let take = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(take) = take {
            let _ = take.send(taken);
        }
        std::future::pending().await
    }
}

impl Taken {
    /// Goes on with the connection, and the bytes that came after the request.
    ///
    /// # Errors
    /// The operating system's: the peer has gone.
    pub async fn hand_over(self, stream: TcpStream, early: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Session { head, admitted } => {
                admitted.hand_over(head.as_bytes(), stream, early, None).await
            }
            Self::Door(door) => door(stream, early).await,
        }
    }
}

impl Admitted {
    /// Sends `head`, and passes the connection to a shard. `away`: what the door keeps of it, if it may take
    /// it back.
    async fn hand_over(
        self,
        head: &[u8],
        mut stream: TcpStream,
        early: Vec<u8>,
        away: Option<Away>,
    ) -> io::Result<()> {
        tokio::time::timeout(HTTP.read_time, stream.write_all(head)).await??;
        let stream = stream.into_std()?;
        size_for_sessions(&stream)?;
        let Self { opening, guest, room } = self;
        room.open(guest, opening, stream, early, away);
        Ok(())
    }
}

/// Sets how much a socket holds for its peer.
fn size_for_sessions(stream: &std::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)
}

impl App {
    /// Admits a session to the public market or to a room, which is opened if it does not exist.
    ///
    /// # Errors
    /// The answer to a client that cannot be admitted.
    pub async fn enter(&self, asked: Asked) -> Result<Admitted, Problem> {
        let Asked { mut opening, room } = asked;
        let permit = self.admit()?;
        let Some(room) = room else {
            let room = Arc::clone(&self.public);
            return Ok(Admitted { opening, guest: room.presence().enter(permit), room });
        };
        let Entry { room, guest, rights } =
            self.rooms.enter(room, opening.rights, permit, &self.public).await?;
        opening.rights = rights;
        Ok(Admitted { opening, guest, room })
    }
}

impl Asked {
    /// Reads a query, the same at each door.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse<D: Door>(query: &str, door: &D, rights: Rights) -> Result<Self, Problem> {
        const KNOWN: [&str; 16] = [
            "topics", "new", "max_hz", "times", "since", "epoch", "position", "format", "delta", "room",
            "key", "control", "seed", "start", "speed", "name",
        ];
        let mut room = RoomRequest::default();
        let mut opening = Opening::new(door.form(), rights);
        let (mut epoch, mut position, mut is_of_changes) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |expected: &str| {
                let value: String = value.chars().take(100).collect();
                Problem::bad_request(format!("query parameter {name}={value:?}: expected {expected}"))
            };
            let number = || value.parse::<u64>().map_err(|_| wrong("an integer from 0"));
            match &*name {
                "topics" | "new" => {
                    let topics = value.split(',').filter(|topic| !topic.is_empty());
                    if opening.topics.len() + opening.new.len() + topics.clone().count() > SESSION.topics {
                        let detail =
                            format!("topics: at most {}, as many as a session may have", SESSION.topics);
                        return Err(Problem::bad_request(detail));
                    }
                    let named = if name == "new" { &mut opening.new } else { &mut opening.topics };
                    named.extend(topics.map(str::to_owned));
                }
                "max_hz" => {
                    let hz = value.parse().ok().filter(|hz| (MIN_HZ..=MAX_HZ).contains(hz));
                    opening.max_hz = Some(hz.ok_or_else(|| wrong("a number from 0.1 to 1000"))?);
                }
                "name" => opening.name = Some(Word::new(&value).ok_or_else(|| wrong(Word::EXPECTED))?),
                "times" => opening.times = value.parse().map_err(|_| wrong("true or false"))?,
                "room" => {
                    RoomRequest::check_name(&value).map_err(|expected| wrong(&expected))?;
                    room.name = value.into_owned();
                }
                "key" if (1..=64).contains(&value.len()) => room.key = Some(value.into_owned()),
                "key" => return Err(wrong("1 to 64 bytes")),
                "control" => match &*value {
                    "all" => room.open_to_all = true,
                    "opener" => room.open_to_all = false,
                    _ => return Err(wrong("all or opener")),
                },
                "seed" => room.seed = Some(number()?),
                "start" => room.start = Some(value.parse().map_err(|_| wrong("an RFC 3339 time"))?),
                "speed" => room.speed = Some(value.parse().map_err(|_| wrong(Speed::EXPECTED))?),
                "since" => {
                    let since = parse_since(&value);
                    let (e, p) = since.ok_or_else(|| wrong("an epoch and a position, as 17-4711"))?;
                    (epoch, position) = (Some(e), Some(p));
                }
                "delta" => {
                    let changes = match &*value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(wrong("true or false")),
                    };
                    is_of_changes = Some(changes);
                }
                "epoch" => epoch = Some(number()?),
                "position" => position = Some(number()?),
                "format" => {
                    let formats = door.formats();
                    let Some(&(_, form)) = formats.iter().find(|&&(name, _)| name == value) else {
                        let names: Vec<&str> = formats.iter().map(|&(name, _)| name).collect();
                        return Err(wrong(&names.join(" or ")));
                    };
                    if !door.may_choose(form) {
                        return Err(wrong("the form of the subprotocol, or none"));
                    }
                    opening.form = form;
                }
                other => {
                    let other: String = other.chars().take(100).collect();
                    let hint = hint(&other, "there", KNOWN.into_iter());
                    return Err(Problem::bad_request(format!("unknown query parameter {other:?}: {hint}")));
                }
            }
        }
        if let Some(changes) = is_of_changes {
            let of_changes = || Problem::bad_request("query parameter delta: here only changes are sent");
            let form = door.form_of_changes(changes).ok_or_else(of_changes)?;
            match opening.form.encoding() {
                Encoding::Json => opening.form = form,
                Encoding::MessagePack if changes => {}
                Encoding::MessagePack => return Err(of_changes()),
            }
        }
        opening.since = match (epoch, position) {
            (Some(epoch), Some(position)) => Some(Resume { epoch, position }),
            (None, None) => None,
            _ => return Err(Problem::bad_request("epoch and position go together")),
        };
        let is_of_room = room != RoomRequest::default();
        if is_of_room && room.name.is_empty() {
            return Err(Problem::bad_request(
                "key, control, seed, start and speed are of a room: name it with room=NAME",
            ));
        }
        Ok(Self { opening, room: is_of_room.then_some(room) })
    }
}

/// A position on a tape as streams write it: its epoch, and the position in it.
pub(super) fn parse_since(text: &str) -> Option<(u64, u64)> {
    let (epoch, position) = text.split_once('-')?;
    Some((epoch.parse().ok()?, position.parse().ok()?))
}
