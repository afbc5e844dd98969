//! What is asked of a replay, and how its state is reported, over HTTP and on a WebSocket. Pure; any thread.
//!
//! Invariant: a [`ReplayAction`] was checked: it has the fields of its action and no others.

use super::message::Id;
use super::schema::ACTIONS;
use crate::hint::hint;
use crate::market::{FeedStatus, Speed, Timestamp};
use crate::tape::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// A request for a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplayAction {
    /// Reports the state; changes nothing.
    Look,
    /// Goes on.
    Play,
    /// Stands still.
    Pause,
    /// Plays at another pace.
    Speed(Speed),
    /// Goes to a moment of the recording.
    Seek(Timestamp),
    /// Pauses, then advances by this much.
    Step(Step),
}

/// The state of a replay, over HTTP and on a WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct ReplayState {
    /// The request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// `simulator`, `replay` or `publisher`.
    pub kind: String,
    /// `playing`, `paused`, `ended` or `seeking`; `stale` of a publisher.
    pub state: String,
    /// How fast it is played.
    pub speed: Speed,
    /// Its position in the recording's time; RFC 3339, as the other moments are.
    pub now: String,
    /// The first moment; `None` while it is unknown.
    pub start: Option<String>,
    /// The last moment; `None` where there is none, or it is unknown.
    pub end: Option<String>,
    /// Whether it begins again at its end.
    #[serde(rename = "loop")]
    pub looped: bool,
    /// Whether the client that asked may control it.
    pub controllable: bool,
    /// `None` for the public market.
    pub room: Option<String>,
    /// The seek under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeking: Option<Box<Seeking>>,
}

/// A seek under way: the replay goes on as it was until the seek is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Seeking {
    /// `None`: to the beginning.
    pub to: Option<String>,
    /// How far it has come; `None` while it looks for where to start.
    pub reached: Option<String>,
}

/// The fields of a request, unchecked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayFields {
    #[serde(default)]
    pub action: Option<String>,
    #[serde(default)]
    pub speed: Option<Speed>,
    #[serde(default)]
    pub to: Option<String>,
    #[serde(default)]
    pub by: Option<String>,
}

const LONGEST_STEP: Duration = Duration::from_mins(10);

impl ReplayAction {
    /// Reads the body of an HTTP request: `{"action":"seek","to":"2024-08-08T23:54:20Z"}`.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        let fields: ReplayFields =
            serde_json::from_slice(body).map_err(|error| format!("malformed request: {error}"))?;
        if fields.action.is_none() {
            let names = ACTIONS.map(|action| action.name).join(", ");
            return Err(format!("\"action\" is missing: one of {names}"));
        }
        Self::check(fields)
    }

    /// The fields of the request for it.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut field = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        match *self {
            Self::Look => {}
            Self::Play => field("action", "play".into()),
            Self::Pause => field("action", "pause".into()),
            Self::Speed(speed) => {
                field("action", "speed".into());
                field("speed", serde_json::json!(speed));
            }
            Self::Seek(to) => {
                field("action", "seek".into());
                field("to", to.to_string().into());
            }
            Self::Step(step) => {
                field("action", "step".into());
                field(
                    "by",
                    match step {
                        Step::Event => "event".into(),
                        Step::Interval(by) => format!("{}ms", by.as_millis()).into(),
                    },
                );
            }
        }
        fields
    }

    pub(super) fn check(fields: ReplayFields) -> Result<Self, String> {
        let ReplayFields { action, speed, to, by } = fields;
        let action = action.as_deref().unwrap_or_default();
        let given = [("speed", speed.is_some()), ("to", to.is_some()), ("by", by.is_some())];
        let known = match ACTIONS.iter().find(|known| known.name == action) {
            Some(known) => Some(known.fields),
            None => action.is_empty().then_some(&[][..]),
        };
        if let Some(known) = known
            && let Some((field, _)) = given.iter().find(|(field, there)| *there && !known.contains(field))
        {
            let of =
                if action.is_empty() { "a request without action".to_owned() } else { format!("{action:?}") };
            return Err(format!("{of} has no field {field:?}"));
        }
        match action {
            "" => Ok(Self::Look),
            "play" => Ok(Self::Play),
            "pause" => Ok(Self::Pause),
            "speed" => {
                let missing = || format!("\"speed\" needs a \"speed\": {}", Speed::EXPECTED);
                speed.map(Self::Speed).ok_or_else(missing)
            }
            "seek" => parse_moment(to).map(Self::Seek),
            "step" => parse_step(by.as_deref()).map(Self::Step),
            other => {
                let hint = hint(other, "there", ACTIONS.iter().map(|action| action.name));
                Err(format!("unknown action {:?}: {hint}", shortened(other)))
            }
        }
    }
}

impl ReplayState {
    /// The state of a market's feed, without its time, and not controllable.
    #[must_use]
    pub fn of(status: &FeedStatus, state: &str) -> Self {
        Self {
            id: None,
            kind: status.kind.name().to_owned(),
            state: state.to_owned(),
            speed: status.speed,
            now: String::new(),
            start: None,
            end: None,
            looped: false,
            controllable: false,
            room: None,
            seeking: None,
        }
    }
}

fn parse_moment(to: Option<String>) -> Result<Timestamp, String> {
    let to = to.ok_or("\"seek\" needs a \"to\": an RFC 3339 time such as 2024-08-08T23:54:20Z")?;
    shortened(&to).parse().map_err(|error: crate::market::TimestampError| format!("to: {error}"))
}

fn parse_step(by: Option<&str>) -> Result<Step, String> {
    let by = by.unwrap_or("event");
    if by == "event" {
        return Ok(Step::Event);
    }
    let digits = by.find(|c: char| !c.is_ascii_digit()).unwrap_or(by.len());
    let (number, unit) = by.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let interval = millis
        .map(Duration::from_millis)
        .filter(|by| (1..=LONGEST_STEP.as_millis()).contains(&by.as_millis()));
    interval.map(Step::Interval).ok_or_else(|| {
        format!("by {:?} is not \"event\", or from \"1ms\" to \"10m\", such as \"1s\"", shortened(by))
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let got = match ReplayAction::from_json(json.as_bytes()) {
            Ok(action) => format!("{action:?}"),
            Err(message) => message,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn actions_are_read_with_what_they_need() {
        check(r#"{"action":"play"}"#, "Play");
        check(r#"{"action":"speed","speed":2}"#, "Speed(Times(2.0))");
        check(r#"{"action":"speed","speed":"max"}"#, "Speed(Max)");
        check(r#"{"action":"seek","to":"1970-01-01T00:00:01.5Z"}"#, "Seek(Timestamp(1500000000))");
        check(r#"{"action":"step"}"#, "Step(Event)");
        check(r#"{"action":"step","by":"250ms"}"#, "Step(Interval(250ms))");
        check(r#"{"action":"step","by":"1m"}"#, "Step(Interval(60s))");
    }

    #[test]
    fn what_is_wrong_is_told() {
        check("{}", "\"action\" is missing: one of play, pause, speed, seek, step");
        check(r#"{"action":"paus"}"#, "unknown action \"paus\": did you mean \"pause\"?");
        check(r#"{"action":"play","speed":2}"#, "\"play\" has no field \"speed\"");
        check(
            r#"{"action":"speed","speed":0}"#,
            "malformed request: invalid value: integer `0`, expected a number from 0.001 to 1000000, or \"max\" at line 1 column 27",
        );
        check(
            r#"{"action":"speed","speed":"fast"}"#,
            "malformed request: invalid value: string \"fast\", expected a number from 0.001 to 1000000, or \"max\" at line 1 column 32",
        );
        check(
            r#"{"action":"seek"}"#,
            "\"seek\" needs a \"to\": an RFC 3339 time such as 2024-08-08T23:54:20Z",
        );
        check(
            r#"{"action":"seek","to":"noon"}"#,
            "to: \"noon\" is no RFC 3339 time such as 2024-08-08T23:54:13.937085768Z",
        );
        let by = |by: &str| format!("by {by:?} is not \"event\", or from \"1ms\" to \"10m\", such as \"1s\"");
        for step in ["", "1", "s", "0s", "11m", "99999999999999999999s", "-1s", "1h"] {
            check(&format!(r#"{{"action":"step","by":"{step}"}}"#), &by(step));
        }
        check(
            r#"{"action":"play","room":"x"}"#,
            "malformed request: unknown field `room`, expected one of `action`, `speed`, `to`, `by` at line 1 column 23",
        );
    }
}
