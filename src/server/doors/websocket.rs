//! `GET /v1/ws`: the handshake of RFC 6455, then the socket goes to a shard.

use super::{Asked, Door, Takeover};
use crate::server::App;
use crate::server::gate::Pass;
use crate::server::problem::Problem;
use crate::wire::{Encoding, Form, PROTOCOL_JSON, PROTOCOL_MSGPACK};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};
use std::convert::Infallible;
use std::sync::Arc;

/// Appended to the client's key before it is hashed (RFC 6455, section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Answers the handshake, and passes the socket to a shard.
pub(in crate::server) async fn upgrade(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Infallible, Problem> {
    shake_hands(&app, pass, request).await.inspect_err(|problem| app.refused.count(problem.status()))
}

async fn shake_hands(app: &Arc<App>, pass: Pass, request: Request) -> Result<Infallible, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::wrong_method(request.method(), request.uri()).header(header::ALLOW, "GET"));
    }
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(Problem::bad_request("a WebSocket begins with a request of HTTP/1.1"));
    }
    let accept = accept_key(headers)?;
    pass.check_origin()?;
    let offered = offered_form(headers)?;
    let asked = Asked::parse(request.uri().query().unwrap_or_default(), &WebSocket { offered }, pass.rights)?;
    let admitted = app.enter(asked).await?;

    let takeover = Takeover::of(&request)?;
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n"
    );
    if let Some(form) = offered {
        let name = match form.encoding() {
            Encoding::MessagePack => PROTOCOL_MSGPACK,
            Encoding::Json => PROTOCOL_JSON,
        };
        head.push_str("sec-websocket-protocol: ");
        head.push_str(name);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    Ok(takeover.take(head, admitted).await)
}

/// The form of a WebSocket, by its subprotocol or by the query.
struct WebSocket {
    offered: Option<Form>,
}

impl Door for WebSocket {
    fn formats(&self) -> &'static [(&'static str, Form)] {
        &[("json", Form::JSON), ("msgpack", Form::MSGPACK)]
    }

    fn form_of_changes(&self, _: bool) -> Option<Form> {
        None
    }

    fn form(&self) -> Form {
        self.offered.unwrap_or(Form::MSGPACK)
    }

    fn may_choose(&self, form: Form) -> bool {
        self.offered.is_none_or(|offered| offered == form)
    }
}

pub(super) fn accept_key(headers: &HeaderMap) -> Result<String, Problem> {
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
    Ok(BASE64_STANDARD.encode(hash.finalize()))
}

/// The first known one of the offered subprotocols; `None` if none was offered.
fn offered_form(headers: &HeaderMap) -> Result<Option<Form>, Problem> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let values: Vec<String> =
        values.iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
    let offered: Vec<&str> = values.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    let known = offered.iter().find_map(|&name| match name {
        PROTOCOL_MSGPACK => Some(Form::MSGPACK),
        PROTOCOL_JSON => Some(Form::JSON),
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
