//! HTTP's answers about the market and the server.

mod cursor; // page tokens
mod documents;
mod history;
mod lists;
mod represent;
mod select;

pub(super) use documents::{asyncapi, openapi};
pub(super) use history::{bars, bars_of, trades, trades_of};
pub(super) use lists::{instruments, quotes};
pub(super) use select::query_of;

use super::App;
use super::problem::Problem;
use super::replay::asked_room;
use super::rights::Rights;
use super::room::Room;
use super::stats;
use crate::feed::sim::SimConfig;
use crate::hint::nearest;
use crate::market::Timestamp;
use crate::tape::Timeline;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use std::sync::{Arc, atomic::Ordering};

/// `GET /healthz`: whether the process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether events can be received here.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let not_ready =
        |detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "1"));
    if app.leaving.load(Ordering::Relaxed) {
        return not_ready("the server is shutting down");
    }
    let (market, status) = (&app.public, app.public.progress.timeline().status);
    if market.progress.has_ended() || market.shards().iter().any(|shard| shard.end().is_over()) {
        return not_ready(super::room::FAILED);
    }
    let position = app.replica().position().get();
    if position == 0 {
        return not_ready("the tape has not begun");
    }
    if !market.has_begun() {
        return not_ready("what is played is being brought to where it is to begin");
    }
    let mut answer = json!({
        "ready": true,
        "position": position,
        "connections": app.connections.sockets.taken(),
        "feed": status.state.name(),
    });
    // The market goes on without its recording, so a monitor must learn of a failure here.
    if let Some(recording) = stats::recording(&app) {
        answer["recording"] = json!(recording);
    }
    Ok(Json(answer))
}

/// `GET /version`
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": crate::wire::PROTOCOL,
    }))
}

/// `GET /v1/feed`: the feed of the tape, and its clock.
pub(super) async fn feed(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let [room] = query_of(query.as_deref(), ["room"])?;
    let room = market(&app, room.as_deref())?;
    let Timeline { status, feed, wall, reanchored, .. } = room.progress.timeline();
    let simulator =
        room.source().and_then(|source| source.simulation()).map(|SimConfig { symbols, rate, seed, start }| {
            json!({ "symbols": symbols, "rate": rate, "seed": seed, "start": start.to_string() })
        });
    let scenario = room.scenario().await?.map(|(name, phase)| json!({ "name": name, "phase": phase }));
    Ok(Json(json!({
        "kind": status.kind.name(),
        "state": status.state.name(),
        "speed": status.speed,
        "simulator": simulator,
        "scenario": scenario,
        "clock": { "feed_us": feed.micros(), "wall_us": wall.micros() },
        "now_us": Timestamp::now().micros(),
        "reanchored": reanchored,
        "behind_ms": u64::try_from(room.progress.behind().as_millis()).unwrap_or(u64::MAX),
        "records": { "unreadable": room.progress.faults(), "left_out": room.progress.left_out() },
        "room": room.name,
    })))
}

/// The market that a request is of: the public one, or a room's.
fn market(app: &App, room: Option<&str>) -> Result<Arc<Room>, Problem> {
    asked_room(app, room, None, Rights::NONE).map(|(room, _)| room)
}

/// The answer if a list cannot be put together, as the market began anew meanwhile.
fn reset_meanwhile() -> Problem {
    let detail = "the market was reset meanwhile, as by a seek: ask again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "1")
}

/// Any other path.
pub(super) fn not_found(uri: &axum::http::Uri) -> Problem {
    const PATHS: [&str; 20] = [
        "/",
        "/ops",
        "/docs",
        "/client.js",
        "/v1/ws",
        "/v1/publish",
        "/v1/instruments",
        "/v1/quotes",
        "/v1/trades",
        "/v1/trades/SYMBOL",
        "/v1/bars",
        "/v1/bars/SYMBOL",
        "/v1/poll",
        "/v1/feed",
        "/v1/replay",
        "/v1/openapi.json",
        "/v1/asyncapi.json",
        "/metrics",
        "/readyz",
        "/version",
    ];
    let path: String = uri.path().chars().take(200).collect();
    let hint = nearest(&path, PATHS.into_iter())
        .map_or_else(|| format!("there are {}", PATHS.join(", ")), |near| format!("did you mean {near}?"));
    Problem::not_found(format!("nothing at {path}: {hint}"))
}

/// A known path with the wrong method.
pub(super) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::wrong_method(&method, &uri)
}
