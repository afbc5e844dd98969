use super::api::query_of;
use super::problem::Problem;
use super::room::Refusal;
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
    query_of::<0>(query.as_deref(), [])?;
    let playing = app.public.control(ReplayAction::Look).await?;
    Ok(Json(app.public.state(&playing, app.may_control())))
}

/// `POST /v1/replay`: plays, pauses, seeks, steps, or changes the speed.
pub(super) async fn control(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ReplayState>, Problem> {
    query_of::<0>(query.as_deref(), [])?;
    if !origin::is_allowed(&headers, &app.allowed_origins, app.is_local) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not control the replay"));
    }
    if !app.may_control() {
        return Err(not_allowed().into());
    }
    let action = ReplayAction::from_json(&body).map_err(Problem::bad_request)?;
    let playing = app.public.control(action).await?;
    Ok(Json(app.public.state(&playing, true)))
}

/// What those are told who may not control the public market.
pub(super) fn not_allowed() -> Refusal {
    let message = "the replay may not be controlled here: the operator allows it with --control all";
    Refusal { code: ErrorCode::Forbidden, message: message.to_owned() }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, message }: Refusal) -> Self {
        let status = match code {
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotSupported => StatusCode::CONFLICT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, message)
    }
}
