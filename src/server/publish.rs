use super::App;
use super::api::query_of;
use super::body::Packing;
use super::gate::Pass;
use super::limits::HTTP;
use super::problem::Problem;
use super::replay::asked_room;
use super::rights::Action;
use super::room::Room;
use crate::feed::publish::{Parsed, PublishError, Published, REASONS, Rejected, parse_msgpack, parse_ndjson};
use crate::tape::{Publication, Receipt};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Who may publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishRule {
    /// Nobody.
    Off,
    /// Anyone who reaches the server directly, and nobody through a proxy.
    #[default]
    Direct,
    /// Everybody.
    All,
}

impl FromStr for PublishRule {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "off" => Ok(Self::Off),
            "direct" => Ok(Self::Direct),
            "all" => Ok(Self::All),
            _ => Err("expected off, direct or all".to_owned()),
        }
    }
}

/// Events that were published and not accepted, by [`REASONS`].
#[derive(Debug, Default)]
pub(super) struct RejectedEvents([AtomicU64; REASONS.len()]);

impl RejectedEvents {
    fn count(&self, rejected: &Rejected) {
        for (count, more) in self.0.iter().zip(rejected.counts()) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|at| (REASONS[at], self.0[at].load(Ordering::Relaxed)))
    }
}

/// `POST /v1/publish`: the user's own events, as newline-JSON or MessagePack. Valid ones go on the tape
/// together; the answer lists each invalid one with its number and reason.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let [room, key] = query_of(request.uri().query(), ["room", "key"])?;
    let (market, rights) = asked_room(&app, room.as_deref(), key.as_deref(), pass.rights)?;
    rights.may(Action::Publish)?;
    let parse = parser(request.headers())?;
    let packing = Packing::of(request.headers())?;
    let body = app.memory.body(request.into_body(), HTTP.publish_bytes).await?;
    let turn = app.memory.turn(packing.most(body.bytes.len(), HTTP.publish_bytes)).await;
    // Parsing may take milliseconds, and the tape may block: neither belongs on the threads that serve.
    let gone = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, market.gone().message);
    let (to, runtime) = (Arc::clone(&market), tokio::runtime::Handle::current());
    let outcome = tokio::task::spawn_blocking(move || {
        let body = body.unpack(packing, HTTP.publish_bytes)?;
        let parsed = parse(&body);
        drop(body);
        let _entered = runtime.enter();
        Ok::<_, Problem>(put_on_tape(&app, &to, parsed, turn))
    });
    let outcome = outcome.await.map_err(|_| gone())??.ok_or_else(gone)?;
    let Receipt { position, accepted, mut rejected } = outcome.await.map_err(|_| gone())?;
    let told = rejected.first().iter();
    let told: Vec<Value> =
        told.map(|error| json!({ "line": error.line, "reason": error.reason.to_string() })).collect();
    let total = rejected.total();
    let all_told = told.len() as u64 == total;
    let mut answer = json!({ "accepted": accepted, "rejected": told, "position": position.get() });
    if !all_told {
        answer["rejected_total"] = total.into();
    }
    Ok(Json(answer))
}

/// `turn` ends when the events are on the tape, whether their publisher waits for that or not.
fn put_on_tape(
    app: &App,
    to: &Arc<Room>,
    parsed: Parsed,
    turn: OwnedSemaphorePermit,
) -> Option<oneshot::Receiver<Receipt>> {
    let Parsed { mut events, mut rejected } = parsed;
    events.retain(|(line, event)| match refusal(to, event) {
        None => true,
        Some(reason) => {
            rejected.push(*line, reason);
            false
        }
    });
    if app.all_prints {
        for (_, event) in &mut events {
            event.count_for_everything();
        }
    }
    let (done, outcome) = oneshot::channel();
    let counts = Arc::clone(&app.events_rejected);
    let reply = move |mut receipt: Receipt| {
        drop(turn);
        receipt.rejected.add(rejected);
        counts.count(&receipt.rejected);
        // If the client has left nobody waits for it; the events are on the tape nevertheless.
        let _ = done.send(receipt);
    };
    to.tape()?.publish(Publication { events }, reply).then_some(outcome)
}

/// Why an event is not for that market.
fn refusal(to: &Arc<Room>, event: &Published) -> Option<PublishError> {
    match event {
        Published::Post(post) => to.time(post).err().map(|refusal| PublishError::Refused(refusal.message)),
        _ if to.name.is_some() => {
            let reason = "the market of a room is what it plays: only a message or a state goes there";
            Some(PublishError::Refused(reason.to_owned()))
        }
        _ => None,
    }
}

fn parser(headers: &HeaderMap) -> Result<fn(&[u8]) -> Parsed, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(parse_msgpack),
        // The default of `curl --data-binary` is in the list.
        ""
        | "application/x-ndjson"
        | "application/jsonl"
        | "application/json"
        | "text/plain"
        | "application/x-www-form-urlencoded" => Ok(parse_ndjson),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("{other:?} is not understood: send application/x-ndjson or application/msgpack"),
        )),
    }
}
