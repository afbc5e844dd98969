//! `/socket.io/`: Socket.IO 5 over Engine.IO 4, by WebSocket or by polls, and the upgrade from one to the
//! other.
//!
//! A connection is read here until its client has named a namespace. Then it is a session of a shard, as any
//! WebSocket is. A client that polls gets a pair of sockets ([`Slot`]): a shard has one end, and polls read
//! the other. So the core knows nothing of polls: what is not fetched fills the socket, and is conflated. An
//! upgrade replaces the shard's end by the WebSocket.
//!
//! ```text
//!    GET transport=polling          GET transport=websocket
//!             v                                v
//!            NEW ------- upgrade ----------> GREETED
//!             |  40: a namespace               |  40: a namespace
//!             v                                v
//!           POLLED ----- upgrade ---------> a shard's session
//!             |  `1`, a second poll, or silence
//!             v
//!            OVER
//! ```
//!
//! Invariant: a packet that a shard has sent is answered to a poll, or is still in the slot, or goes over the
//! WebSocket.

mod polls;
mod slot; // a pair of sockets for a client that polls
mod websocket;

pub(in crate::server) use polls::Polls;

use super::{Admitted, Asked, Door};
use crate::server::App;
use crate::server::gate::Pass;
use crate::server::problem::Problem;
use crate::wire::socketio::{ENGINE_VERSION, SEPARATOR, refused};
use crate::wire::{Form, MAX_MESSAGE_BYTES};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use polls::{open, poll, take, text};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use websocket::upgrade;

const SID_BYTES: usize = 15;

/// What the query of `/socket.io/` says of the transport, and the rest of it.
#[derive(Debug, Default)]
struct Query {
    engine: String,
    transport: String,
    sid: Option<String>,
    rest: String,
}

/// The choices of a client of Socket.IO.
struct SocketIo;

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

/// Every request to `/socket.io/`.
pub(in crate::server) async fn engine(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Response, Response> {
    serve(app, pass, request).await.map_err(IntoResponse::into_response)
}

async fn serve(app: Arc<App>, pass: Pass, request: Request) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if query.engine != ENGINE_VERSION {
        let detail = format!("EIO={:?}: version {ENGINE_VERSION} of Engine.IO is spoken here", query.engine);
        return Err(EngineError::Version.because(detail));
    }
    if pass.check_origin().is_err() {
        return Err(EngineError::Forbidden.because("pages of this origin are not let in"));
    }
    match (&*query.transport, request.method(), query.sid.clone()) {
        ("websocket", &Method::GET, sid) => {
            let never = upgrade(app, pass, request, query, sid).await?;
            match never {}
        }
        ("polling", &Method::GET, None) => open(&app),
        ("polling", &Method::GET, Some(sid)) => {
            let client = app.polls.get(&sid)?;
            let packets = poll(&app.polls, &sid, &client).await?;
            Ok(text(packets.join(&SEPARATOR.to_string())))
        }
        ("polling", &Method::POST, Some(sid)) => {
            let client = app.polls.get(&sid)?;
            let body = app.memory.body(request.into_body(), MAX_MESSAGE_BYTES).await?;
            let body = String::from_utf8(body.bytes)
                .map_err(|error| EngineError::Request.because(format!("a payload is UTF-8: {error}")))?;
            let _posting = client.posting.lock().await;
            for packet in body.split(SEPARATOR) {
                take(&app, pass, &query, &sid, &client, packet).await?;
            }
            Ok(([(header::CONTENT_TYPE, "text/html")], "ok").into_response())
        }
        ("polling" | "websocket", method, _) => {
            Err(EngineError::Method.because(format!("{method} does not begin a connection")))
        }
        (other, ..) => Err(EngineError::Transport
            .because(format!("transport={other:?}: polling and websocket are spoken here"))),
    }
}

/// Admits the session that a client asks for by its query, its namespace and what it says of itself.
async fn enter(
    app: &App,
    pass: Pass,
    query: &Query,
    namespace: &str,
    auth: &Value,
) -> Result<Admitted, Problem> {
    let asked = asked(pass, query, namespace, auth)?;
    app.enter(asked).await.inspect_err(|problem| app.refused.count(problem.status()))
}

fn asked(pass: Pass, query: &Query, namespace: &str, auth: &Value) -> Result<Asked, Problem> {
    let mut fields = form_urlencoded::Serializer::new(query.rest.clone());
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
    Asked::parse(&fields.finish(), &SocketIo, pass.rights)
}

/// The packet that tells a client why it is not in a namespace.
fn refusal(namespace: &str, problem: &Problem) -> String {
    refused(namespace, problem.detail(), &json!({ "status": problem.status().as_u16() }))
}

fn new_sid() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; SID_BYTES]>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        const { &[("json", Form::SOCKET_IO.of_images())] }
    }

    fn form(&self) -> Form {
        Form::SOCKET_IO.of_images()
    }

    fn form_of_changes(&self, changes: bool) -> Option<Form> {
        Some(if changes { Form::SOCKET_IO } else { Form::SOCKET_IO.of_images() })
    }

    fn may_choose(&self, _: Form) -> bool {
        true
    }
}
