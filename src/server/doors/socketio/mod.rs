//! `/socket.io/`: Socket.IO 5 over Engine.IO 4, by WebSocket or by polls, and the upgrade from one to the
//! other.
//!
//! A connection over WebSocket is read here until its client has named a namespace. Then it is a session of a
//! shard, as any WebSocket is, until its client names another namespace: from then on it is here again, and
//! each of its sessions has an end of a pair of sockets ([`slot::Slot`]), as those of clients that poll have
//! from the beginning. So the core knows nothing of polls, nor of several namespaces: what is not fetched
//! fills the pair, and is conflated.
//!
//! ```text
//!    GET transport=polling                     GET transport=websocket
//!             v                 upgrade                   v
//!          POLLED  ---------------------------------->  HERE
//!        (polls.rs)                                (websocket.rs)
//!             |                                         |   ^
//!             | upgrade with one namespace   one namespace  |  it names another one, or leaves its own
//!             |                                         v   |
//!             +------------------------------------> a shard's session
//! ```
//!
//! Invariant: a packet that a shard has sent goes to the client by one transport, in its order.

mod connection; // what both transports have in common
mod echo; // for the public test suites
mod heartbeat;
mod namespaces; // those that a client is in
mod polls;
mod slot; // a session behind a pair of sockets
mod socket; // the bytes of a WebSocket
mod websocket;

pub(in crate::server) use polls::Polls;
pub(in crate::server) use websocket::Away;

use super::{Asked, Door};
use crate::server::App;
use crate::server::gate::Pass;
use crate::server::problem::Problem;
use crate::wire::engineio::{self, Timing};
use crate::wire::socketio::Parser;
use crate::wire::{Form, MAX_MESSAGE_BYTES};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the protocol says to a client that names a namespace which cannot be.
const INVALID_NAMESPACE: &str = "Invalid namespace";
const CONNECT_TIME: Duration = Duration::from_secs(45);
/// Bytes that the suites want to be told.
const SUITES_PAYLOAD: usize = 1_000_000;
/// The path of the suite of Engine.IO.
const ENGINE_PATH: &str = "/engine.io";

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
struct Settings {
    timing: Timing,
    /// How long a client may be in no namespace.
    connect_time: Duration,
    /// Bytes that a client is told that it may post.
    max_payload: usize,
    /// Whether what comes is sent back.
    echoes: bool,
}

impl Settings {
    fn of(app: &App) -> Self {
        let usual = Self {
            timing: Timing::USUAL,
            connect_time: CONNECT_TIME,
            max_payload: MAX_MESSAGE_BYTES,
            echoes: false,
        };
        match app.protocol_echo {
            Some(timing) => Self { timing, max_payload: SUITES_PAYLOAD, echoes: true, ..usual },
            None => usual,
        }
    }
}

/// Where a connection comes from: what its first request says.
#[derive(Clone, Debug)]
struct Origin {
    sid: Sid,
    pass: Pass,
    parser: Parser,
    /// Whether it is of the suite of Engine.IO.
    is_engine: bool,
    /// The fields of its query that are for sessions.
    query: String,
}

/// The name of a connection: 20 characters of 6 random bits.
#[derive(Clone, Copy, Debug)]
struct Sid([u8; 20]);

/// What the query of `/socket.io/` says of the transport, and the rest of it.
#[derive(Debug, Default)]
struct Query {
    engine: String,
    transport: String,
    sid: Option<String>,
    rest: String,
}

/// The choices of a client of Socket.IO.
struct SocketIo(Parser);

/// Errors of Engine.IO, which answers them in its own form.
#[derive(Clone, Copy)]
enum EngineError {
    Transport = 0,
    Sid = 1,
    Method = 2,
    Request = 3,
    Forbidden = 4,
    Version = 5,
}

/// Every request to `/socket.io/`, and to `/socket.io/msgpack/`.
pub(in crate::server) async fn engine(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Response, Response> {
    serve(app, pass, request).await.map_err(IntoResponse::into_response)
}

async fn serve(app: Arc<App>, pass: Pass, request: Request) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if query.engine != engineio::VERSION {
        let detail =
            format!("EIO={:?}: version {} of Engine.IO is spoken here", query.engine, engineio::VERSION);
        return Err(EngineError::Version.because(detail));
    }
    if pass.check_origin().is_err() {
        return Err(EngineError::Forbidden.because("pages of this origin are not let in"));
    }
    match (&*query.transport, request.method(), &query.sid) {
        ("websocket", &Method::GET, None) => {
            let origin = Origin::new(&request, pass, query);
            match websocket::open(app, request, origin).await? {}
        }
        ("websocket", &Method::GET, Some(sid)) => {
            let sid = sid.clone();
            match websocket::upgrade(app, request, sid).await? {}
        }
        ("polling", &Method::GET, None) => polls::open(&app, Origin::new(&request, pass, query)),
        ("polling", &Method::GET, Some(sid)) => polls::poll(&app.polls, sid).await,
        ("polling", &Method::POST, Some(sid)) => {
            let client = app.polls.get(sid)?;
            let body = app.memory.body(request.into_body(), MAX_MESSAGE_BYTES).await?;
            polls::post(&app, sid, &client, body.bytes).await
        }
        ("polling" | "websocket", method, _) => {
            Err(EngineError::Method.because(format!("{method} does not begin a connection")))
        }
        (other, ..) => Err(EngineError::Transport
            .because(format!("transport={other:?}: polling and websocket are spoken here"))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sid {
    fn random() -> Self {
        let (bits, mut text) = (rand::random::<[u8; 15]>(), [0; 20]);
        BASE64_URL_SAFE_NO_PAD.encode_slice(bits, &mut text).expect("four characters for three bytes");
        Self(text)
    }
}

impl Deref for Sid {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).expect("Base64 is ASCII")
    }
}

impl Origin {
    fn new(request: &Request, pass: Pass, query: Query) -> Arc<Self> {
        let path = request.uri().path().trim_end_matches('/');
        Arc::new(Self {
            sid: Sid::random(),
            pass,
            parser: if path.ends_with("/msgpack") { Parser::Msgpack } else { Parser::Json },
            is_engine: path == ENGINE_PATH,
            query: query.rest,
        })
    }

    /// The session that a client asks for by its query, its namespace and what it says of itself.
    fn asks(&self, namespace: &str, auth: &Value) -> Result<Asked, Problem> {
        let mut fields = form_urlencoded::Serializer::new(self.query.clone());
        if let Some(room) = namespace.strip_prefix('/').filter(|room| !room.is_empty()) {
            fields.append_pair("room", room);
        }
        let auth = match auth {
            Value::Object(auth) => auth.clone(),
            Value::Null => serde_json::Map::new(),
            other => return Err(Problem::bad_request(format!("auth: expected a map, not {other}"))),
        };
        for (name, value) in &auth {
            match value {
                Value::Null => {}
                Value::String(value) => drop(fields.append_pair(name, value)),
                Value::Array(topics) if name == "topics" => {
                    for topic in topics {
                        let topic = topic.as_str().ok_or_else(|| {
                            Problem::bad_request(format!("auth: topics: {topic} is not a text"))
                        })?;
                        fields.append_pair(name, topic);
                    }
                }
                Value::Object(since) if name == "since" => {
                    let part = |part: &str| since.get(part).map(Value::to_string).unwrap_or_default();
                    fields.append_pair(name, &format!("{}-{}", part("epoch"), part("position")));
                }
                value => drop(fields.append_pair(name, &value.to_string())),
            }
        }
        Asked::parse(&fields.finish(), &SocketIo(self.parser), self.pass.rights)
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "EIO" => parsed.engine = value.into_owned(),
                "transport" => parsed.transport = value.into_owned(),
                "sid" => parsed.sid = Some(value.into_owned()),
                // Against caches, and of older versions.
                "t" | "b64" | "j" => {}
                _ => drop(rest.append_pair(&name, &value)),
            }
        }
        parsed.rest = rest.finish();
        parsed
    }
}

impl EngineError {
    fn because(self, detail: impl Into<String>) -> Problem {
        let status = match self {
            Self::Forbidden => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        let message = match self {
            Self::Transport => "Transport unknown",
            Self::Sid => "Session ID unknown",
            Self::Method => "Bad handshake method",
            Self::Request => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::Version => "Unsupported protocol version",
        };
        Problem::new(status, detail).with("code", self as u8).with("message", message)
    }

    fn unknown(sid: &str) -> Problem {
        let sid: String = sid.chars().take(40).collect();
        Self::Sid.because(format!("sid={sid:?}: there is no such connection, or it is over"))
    }
}

impl Door for SocketIo {
    fn formats(&self) -> &'static [(&'static str, Form)] {
        match self.0 {
            Parser::Json => const { &[("json", Form::SOCKET_IO.of_images())] },
            Parser::Msgpack => const { &[("msgpack", Form::SOCKET_IO_MSGPACK.of_images())] },
        }
    }

    fn form(&self) -> Form {
        self.formats()[0].1
    }

    fn form_of_changes(&self, changes: bool) -> Option<Form> {
        let form = match self.0 {
            Parser::Json => Form::SOCKET_IO,
            Parser::Msgpack => Form::SOCKET_IO_MSGPACK,
        };
        Some(if changes { form } else { form.of_images() })
    }

    fn may_choose(&self, _: Form) -> bool {
        true
    }
}
