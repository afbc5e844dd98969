use super::App;
use super::api::query_of;
use super::body::Packing;
use super::gate::Pass;
use super::limits::HTTP;
use super::problem::Problem;
use super::rights::{Action, Rights};
use super::room::{Refusal, Room};
use crate::wire::{ErrorCode, ReplayAction, ReplayState};
use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use std::str::FromStr;
use std::sync::Arc;

/// Who may control the public market's feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlRule {
    /// Nobody.
    Off,
    /// Everybody on this machine, if only this machine reaches the server. What a proxy forwards may come
    /// from elsewhere.
    #[default]
    Local,
    /// Everybody.
    All,
}

impl FromStr for ControlRule {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "off" => Ok(Self::Off),
            "local" => Ok(Self::Local),
            "all" => Ok(Self::All),
            _ => Err("expected off, local or all".to_owned()),
        }
    }
}

/// `GET /v1/replay`: what is played, and its moment.
pub(super) async fn state(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    pass: Pass,
) -> Result<Json<ReplayState>, Problem> {
    let [room, key] = query_of(query.as_deref(), ["room", "key"])?;
    let (room, rights) = asked_room(&app, room.as_deref(), key.as_deref(), pass.rights)?;
    let playing = room.control(ReplayAction::Look).await?;
    Ok(Json(room.state(&playing, rights.control.is_none())))
}

/// `POST /v1/replay`: plays, pauses, seeks, steps, or changes the speed.
pub(super) async fn control(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    pass: Pass,
    request: Request,
) -> Result<Json<ReplayState>, Problem> {
    let [room, key] = query_of(query.as_deref(), ["room", "key"])?;
    let (of_room, rights) = asked_room(&app, room.as_deref(), key.as_deref(), pass.rights)?;
    rights.may(Action::Control)?;
    if Packing::of(request.headers())? != Packing::None {
        let detail = "an action is too short to be packed: send it without Content-Encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = app.memory.body(request.into_body(), HTTP.replay_bytes).await?;
    let action = ReplayAction::from_json(&body.bytes).map_err(Problem::bad_request)?;
    let playing = of_room.control(action).await?;
    Ok(Json(of_room.state(&playing, true)))
}

/// The market that a request is about, and the sender's rights in it.
pub(super) fn asked_room(
    app: &App,
    name: Option<&str>,
    key: Option<&str>,
    rights: Rights,
) -> Result<(Arc<Room>, Rights), Problem> {
    let Some(name) = name else { return Ok((Arc::clone(&app.public), rights)) };
    let room = app.rooms.get(name).ok_or_else(|| no_room(name))?;
    room.asked();
    let rights = room.rights(rights, key, false);
    Ok((room, rights))
}

/// The error for a room that does not exist.
fn no_room(name: &str) -> Problem {
    let name: String = name.chars().take(100).collect();
    Problem::not_found(format!(
        "there is no room {name:?}: it is opened with /v1/ws?room=NAME, and closed when the last one leaves"
    ))
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, message }: Refusal) -> Self {
        let status = match code {
            ErrorCode::NotAllowed => StatusCode::FORBIDDEN,
            ErrorCode::NotSupported => StatusCode::CONFLICT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, message)
    }
}
