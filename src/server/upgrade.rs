use super::fanout::Opening;
use super::problem::Problem;
use super::rooms::RoomRequest;
use super::{App, origin};
use crate::hub::{Form, nearest};
use crate::wire::{MAX_HZ, MIN_HZ, PROTOCOL_JSON, PROTOCOL_MSGPACK, Resume};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use socket2::SockRef;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Appended to the client's key before it is hashed (RFC 6455, section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Unsent bytes the kernel may hold for a connection before its socket counts as full: what waits there is stale by the time
/// it leaves, so little is better.
const NOT_SENT_BYTES: u32 = 16 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// `GET /v1/ws`: the handshake of RFC 6455, then the socket goes to a shard.
pub(super) async fn upgrade(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    shake_hands(&app, request).inspect_err(|problem| app.refused.count(problem.status()))
}

fn shake_hands(app: &Arc<App>, mut request: Request) -> Result<Response, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::wrong_method(request.method(), request.uri()).header(header::ALLOW, "GET"));
    }
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(Problem::bad_request("a WebSocket begins with a request of HTTP/1.1"));
    }
    let accept = accept_key(headers)?;
    if !origin::is_allowed(headers, &app.allowed_origins, app.is_local) {
        let detail = "pages of this origin are not let in: the operator names others with --allow-origin";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let offered = offered_form(headers)?;
    let (opening, room) = opening(request.uri().query().unwrap_or_default(), offered)?;
    let (shard, seat) = app.admit()?;
    let room = room.map(|room| app.rooms.enter(&room, &app.public)).transpose()?;

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(form) = offered {
        let name = match form {
            Form::MessagePack => PROTOCOL_MSGPACK,
            Form::Json => PROTOCOL_JSON,
        };
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let handed_over = match upgraded.await {
            Ok(upgraded) => hand_over(upgraded),
            Err(error) => Err(std::io::Error::other(error)),
        };
        match handed_over {
            Ok((stream, early)) => match room {
                None => app.shards[shard].open(stream, seat, opening, early, false),
                Some((room, controls)) => room.shard.open(stream, seat, opening, early, controls),
            },
            Err(error) => {
                if let Some((room, _)) = room {
                    room.broke();
                }
                tracing::debug!("a connection broke during its upgrade: {error}");
            }
        }
    });
    Ok(response)
}

/// Takes the plain socket out of the HTTP server, with the bytes it has read too far.
fn hand_over(upgraded: Upgraded) -> std::io::Result<(std::net::TcpStream, Vec<u8>)> {
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| std::io::Error::other("the connection is not a plain TCP socket"))?;
    let stream = parts.io.into_inner().into_std()?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    Ok((stream, parts.read_buf.to_vec()))
}

fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let has_token = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let required = |detail: &str| {
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "upgrade")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
    };
    if !has_token(header::CONNECTION, "upgrade") || !has_token(header::UPGRADE, "websocket") {
        return Err(required(
            "this address speaks WebSocket: try `websocat 'ws://HOST/v1/ws?format=json&topics=quote:*'`",
        ));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(required("only version 13 of WebSocket is spoken here"));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16))
        .ok_or_else(|| Problem::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(KEY_SUFFIX);
    Ok(HeaderValue::from_str(&BASE64_STANDARD.encode(hash.finalize())).expect("base64 is ASCII"))
}

/// The first subprotocol offered that is known here; `None` where none was offered.
fn offered_form(headers: &HeaderMap) -> Result<Option<Form>, Problem> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let values: Vec<String> =
        values.iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
    let offered: Vec<&str> = values.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    let known = offered.iter().find_map(|&name| match name {
        PROTOCOL_MSGPACK => Some(Form::MessagePack),
        PROTOCOL_JSON => Some(Form::Json),
        _ => None,
    });
    if known.is_none() && !offered.is_empty() {
        let offered: String = offered.join(", ").chars().take(200).collect();
        return Err(Problem::bad_request(format!(
            "unknown subprotocol {offered:?}: {PROTOCOL_MSGPACK} and {PROTOCOL_JSON} are spoken here"
        )));
    }
    Ok(known)
}

/// What the query asks to be subscribed to.
fn opening(query: &str, offered: Option<Form>) -> Result<(Opening, Option<RoomRequest>), Problem> {
    const KNOWN: [&str; 12] = [
        "topics", "max_hz", "times", "epoch", "position", "format", "room", "key", "control", "seed",
        "start", "speed",
    ];
    let mut room = RoomRequest::default();
    let mut opening = Opening {
        form: offered.unwrap_or(Form::MessagePack),
        topics: Vec::new(),
        max_hz: None,
        times: false,
        since: None,
    };
    let (mut epoch, mut position) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |expected: &str| {
            let value: String = value.chars().take(100).collect();
            Problem::bad_request(format!("query parameter {name}={value:?}: expected {expected}"))
        };
        let number = || value.parse::<u64>().map_err(|_| wrong("an integer from 0"));
        match &*name {
            "topics" => {
                opening.topics.extend(value.split(',').filter(|t| !t.is_empty()).map(str::to_owned));
            }
            "max_hz" => {
                let hz = value.parse().ok().filter(|hz| (MIN_HZ..=MAX_HZ).contains(hz));
                opening.max_hz = Some(hz.ok_or_else(|| wrong("a number from 0.1 to 1000"))?);
            }
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
            "speed" => room.speed = Some(value.parse().map_err(|_| wrong("a number, or max"))?),
            "epoch" => epoch = Some(number()?),
            "position" => position = Some(number()?),
            "format" => {
                let form = match &*value {
                    "json" => Form::Json,
                    "msgpack" => Form::MessagePack,
                    _ => return Err(wrong("json or msgpack")),
                };
                if offered.is_some_and(|offered| offered != form) {
                    return Err(wrong("the form of the subprotocol, or none"));
                }
                opening.form = form;
            }
            other => {
                let other: String = other.chars().take(100).collect();
                let hint = nearest(&other, KNOWN.into_iter()).map_or_else(
                    || format!("there are {}", KNOWN.join(", ")),
                    |k| format!("did you mean {k:?}?"),
                );
                return Err(Problem::bad_request(format!("unknown query parameter {other:?}: {hint}")));
            }
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
    Ok((opening, is_of_room.then_some(room)))
}
