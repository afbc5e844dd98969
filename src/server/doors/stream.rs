//! `GET /v1/sse` and `GET /v1/lines`: a session that only receives, in an answer that does not end. Its
//! socket is a shard's, as a WebSocket's is, and its frames are shared by all of its form.

use super::{Asked, Door, Takeover, parse_since};
use crate::server::App;
use crate::server::gate::{Pass, cors_fields};
use crate::server::problem::Problem;
use crate::wire::{Form, Framing, Resume};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;

/// After how many ms a client that could not be admitted comes back.
const RETRY: u32 = 5_000;

/// One kind of stream.
struct Stream {
    form: Form,
    media_type: &'static str,
}

/// Server-Sent Events.
const EVENTS: Stream = Stream { form: Form::EVENTS, media_type: "text/event-stream" };
/// JSON, one message per line.
const LINES: Stream = Stream { form: Form::LINES, media_type: "application/x-ndjson" };

/// A browser's `EventSource` never comes back after an answer other than 200. So a client that may be
/// admitted later gets an event with the delay.
pub(in crate::server) async fn events(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Infallible, Response> {
    begin(&app, &EVENTS, pass, request).await.map_err(|problem| {
        if !problem.status().is_server_error() {
            return problem.into_response();
        }
        let reason = problem.reason();
        let event = json!({ "type": "error", "code": "unavailable", "message": problem.detail() });
        let mut response = (
            [(header::CONTENT_TYPE, EVENTS.media_type), (header::CACHE_CONTROL, "no-store")],
            format!("retry: {RETRY}\ndata: {event}\n\n"),
        )
            .into_response();
        response.extensions_mut().insert(reason);
        response
    })
}

pub(in crate::server) async fn lines(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Infallible, Problem> {
    begin(&app, &LINES, pass, request).await
}

async fn begin(app: &Arc<App>, stream: &Stream, pass: Pass, request: Request) -> Result<Infallible, Problem> {
    let admitted = match asked(stream, pass, &request) {
        Ok(asked) => app.enter(asked).await,
        Err(problem) => Err(problem),
    };
    let admitted = admitted.inspect_err(|problem| app.refused.count(problem.status()))?;
    let takeover = Takeover::of(&request)?;
    // `no-transform` keeps proxies from collecting it for compression, the last field keeps nginx from
    // buffering it.
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncache-control: no-store, no-transform\r\nconnection: close\r\n\
         vary: Origin\r\n{}x-accel-buffering: no\r\n\r\n",
        stream.media_type,
        cors_fields(request.headers(), pass),
    );
    Ok(takeover.take(head, admitted).await)
}

fn asked(stream: &Stream, pass: Pass, request: &Request) -> Result<Asked, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::wrong_method(request.method(), request.uri()).header(header::ALLOW, "GET"));
    }
    pass.check_origin()?;
    let query = request.uri().query().unwrap_or_default();
    let mut asked = Asked::parse(query, stream, pass.rights)?;
    if asked.opening.topics.is_empty() && asked.opening.new.is_empty() {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "a stream is of topics: name them with topics=, as quote:*,trades:AAPL",
        ));
    }
    if let Some(resume) = last_event(request.headers()) {
        asked.opening.since = Some(resume);
    }
    Ok(asked)
}

/// Where an `EventSource` resumes. An id that is not ours is from another server that had this address
/// before.
fn last_event(headers: &HeaderMap) -> Option<Resume> {
    let (epoch, position) = parse_since(headers.get("last-event-id")?.to_str().ok()?)?;
    Some(Resume { epoch, position })
}

impl Door for Stream {
    fn formats(&self) -> &'static [(&'static str, Form)] {
        match self.form.framing() {
            Framing::Events => {
                const { &[("json", Form::EVENTS.of_images()), ("msgpack", Form::EVENTS_MSGPACK)] }
            }
            _ => const { &[("json", Form::LINES.of_images())] },
        }
    }

    fn form(&self) -> Form {
        self.form.of_images()
    }

    fn form_of_changes(&self, changes: bool) -> Option<Form> {
        Some(if changes { self.form } else { self.form.of_images() })
    }

    fn may_choose(&self, _: Form) -> bool {
        true
    }
}
