use super::api::query_of;
use super::problem::Problem;
use super::{App, origin};
use crate::feed::publish::{LineError, Parsed, parse_msgpack, parse_ndjson};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest body of one request.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// The longest time its body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bad lines told one by one; the rest are counted.
const ERRORS_TOLD: usize = 1000;

/// `POST /v1/publish`: events of the user's own, as newline-JSON or MessagePack. Good ones go on the tape together; each bad one
/// is told with its number and reason.
pub(super) async fn publish(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Problem> {
    // Publications are of the public market.
    query_of::<0>(request.uri().query(), [])?;
    let headers = request.headers();
    if !origin::is_allowed(headers, &app.allowed_origins, app.is_local) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not publish here"));
    }
    let parse = parser(headers)?;
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come within 30 s"))?;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let detail = format!("a request may carry {} MiB: send several", MAX_BODY_BYTES >> 20);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        } else {
            Problem::bad_request(format!("the body cannot be read: {error}"))
        }
    })?;
    let body = body.to_bytes();
    // Parsing may take milliseconds, and the tape may make us wait: neither belongs on the threads that serve.
    let outcome = tokio::task::spawn_blocking(move || put_on_tape(&app, parse(&body)));
    let outcome = outcome.await.map_err(|_| gone())?.ok_or_else(gone)?;
    let Outcome { accepted, errors, position } = outcome.await.map_err(|_| gone())?;
    let told = errors.iter().take(ERRORS_TOLD);
    let rejected: Vec<Value> =
        told.map(|error| json!({ "line": error.line, "reason": error.reason.to_string() })).collect();
    let mut answer = json!({ "accepted": accepted, "rejected": rejected, "position": position });
    if errors.len() > ERRORS_TOLD {
        answer["rejected_total"] = errors.len().into();
    }
    Ok(Json(answer))
}

struct Outcome {
    accepted: usize,
    errors: Vec<LineError>,
    position: u64,
}

fn put_on_tape(app: &App, parsed: Parsed) -> Option<oneshot::Receiver<Outcome>> {
    let Parsed { events, mut errors } = parsed;
    let (count, applied) = oneshot::channel();
    let (done, outcome) = oneshot::channel();
    let mut applied = applied;
    let publisher = app.publisher()?;
    let sent = publisher.publish(
        Box::new(move |arrival, instruments, out| {
            let mut accepted = 0;
            for (line, event) in events {
                match event.apply(arrival, instruments, out) {
                    Ok(()) => accepted += 1,
                    Err(reason) => errors.push(LineError { line, reason }),
                }
            }
            errors.sort_by_key(|error| error.line);
            // Nobody waits any more where the client has left; the events stand all the same.
            let _ = count.send((accepted, errors));
        }),
        move |position| {
            if let Ok((accepted, errors)) = applied.try_recv() {
                let _ = done.send(Outcome { accepted, errors, position: position.get() });
            }
        },
    );
    sent.then_some(outcome)
}

fn parser(headers: &HeaderMap) -> Result<fn(&Bytes) -> Parsed, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
            Ok(|body| parse_msgpack(body))
        }
        // What `curl --data-binary` says when it is not told otherwise is in the list.
        ""
        | "application/x-ndjson"
        | "application/jsonl"
        | "application/json"
        | "text/plain"
        | "application/x-www-form-urlencoded" => Ok(|body| parse_ndjson(body)),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("{other:?} is not understood: send application/x-ndjson or application/msgpack"),
        )),
    }
}

fn gone() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
}
