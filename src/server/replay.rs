use super::api::query_of;
use super::problem::Problem;
use super::room::{Refusal, Room};
use super::{App, origin};
use crate::wire::{ErrorCode, ReplayAction, ReplayState};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use std::str::FromStr;
use std::sync::Arc;

/// Who may control what the public market plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlRule {
    /// Nobody.
    Off,
    /// Everybody, where only this machine reaches the server.
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

/// `GET /v1/replay`: what is played, and where it stands.
pub(super) async fn state(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ReplayState>, Problem> {
    let [room, key] = query_of(query.as_deref(), ["room", "key"])?;
    let (room, controllable) = asked_room(&app, room.as_deref(), key.as_deref())?;
    let playing = room.control(ReplayAction::Look).await?;
    Ok(Json(room.state(&playing, controllable)))
}

/// `POST /v1/replay`: plays, pauses, seeks, steps, or changes the speed.
pub(super) async fn control(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ReplayState>, Problem> {
    let [room, key] = query_of(query.as_deref(), ["room", "key"])?;
    if !origin::is_allowed(&headers, &app.allowed_origins, app.is_local) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not control the replay"));
    }
    let (of_room, controllable) = asked_room(&app, room.as_deref(), key.as_deref())?;
    if !controllable {
        let message = match room {
            None => "the replay may not be controlled here: the operator allows it with --control all",
            Some(_) => "this room is controlled by whoever opened it, or by its key: room=NAME&key=KEY",
        };
        return Err(Problem::new(StatusCode::FORBIDDEN, message));
    }
    let action = ReplayAction::from_json(&body).map_err(Problem::bad_request)?;
    let playing = of_room.control(action).await?;
    Ok(Json(of_room.state(&playing, true)))
}

/// The market that a request is about, and whether it may control it.
pub(super) fn asked_room(
    app: &App,
    name: Option<&str>,
    key: Option<&str>,
) -> Result<(Arc<Room>, bool), Problem> {
    let Some(name) = name else { return Ok((Arc::clone(&app.public), app.may_control())) };
    let private = app.rooms.get(name).ok_or_else(|| no_room(name))?;
    private.asked();
    Ok((Arc::clone(&private.room), private.lets_control(key)))
}

/// What those are told who ask of a room that is not there.
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
