use super::message::Id;
use crate::hub::nearest;
use crate::market::{FeedStatus, Speed, Timestamp};
use crate::tape::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// What is asked of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplayAction {
    /// Only how things are.
    Look,
    Play,
    Pause,
    Speed(Speed),
    Seek(Timestamp),
    Step(Step),
}

/// How a replay stands, as it is told over HTTP and on a WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// `simulator`, `replay` or `publisher`.
    pub kind: String,
    /// `playing`, `paused` or `ended`; `stale` of a publisher.
    pub state: String,
    pub speed: ReplaySpeed,
    /// RFC 3339, as the other moments are: where it stands, in the time of the recording.
    pub now: String,
    /// The first moment; `None` while it is not known.
    pub start: Option<String>,
    /// The last moment; `None` where there is none, and while it is not known.
    pub end: Option<String>,
    #[serde(rename = "loop")]
    pub looped: bool,
    /// Whether whoever asks may control it.
    pub controllable: bool,
    /// `None` for the public market.
    pub room: Option<String>,
}

/// A factor, or `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReplaySpeed {
    Times(f64),
    Word(String),
}

/// The fields of a request, as they come.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayFields {
    #[serde(default)]
    pub action: Option<String>,
    #[serde(default)]
    pub speed: Option<ReplaySpeed>,
    #[serde(default)]
    pub to: Option<String>,
    #[serde(default)]
    pub by: Option<String>,
}

const ACTIONS: [&str; 5] = ["play", "pause", "speed", "seek", "step"];
const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=1000.0;
const LONGEST_STEP: Duration = Duration::from_mins(10);

impl ReplayAction {
    /// Reads the body of an HTTP request: `{"action":"seek","to":"2024-08-08T23:54:20Z"}`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        let fields: ReplayFields =
            serde_json::from_slice(body).map_err(|error| format!("malformed request: {error}"))?;
        if fields.action.is_none() {
            return Err(format!("\"action\" is missing: one of {}", ACTIONS.join(", ")));
        }
        Self::check(fields)
    }

    /// The fields that ask for it.
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
                field(
                    "speed",
                    match speed {
                        Speed::Times(factor) => factor.into(),
                        Speed::Max => "max".into(),
                    },
                );
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
        let strange =
            [("speed", speed.is_some(), "speed"), ("to", to.is_some(), "seek"), ("by", by.is_some(), "step")];
        if (ACTIONS.contains(&action) || action.is_empty())
            && let Some((field, ..)) = strange.iter().find(|(_, there, of)| *there && *of != action)
        {
            let of =
                if action.is_empty() { "a request without action".to_owned() } else { format!("{action:?}") };
            return Err(format!("{of} has no field {field:?}"));
        }
        match action {
            "" => Ok(Self::Look),
            "play" => Ok(Self::Play),
            "pause" => Ok(Self::Pause),
            "speed" => parse_speed(speed).map(Self::Speed),
            "seek" => parse_moment(to).map(Self::Seek),
            "step" => parse_step(by.as_deref()).map(Self::Step),
            other => {
                let hint = nearest(other, ACTIONS.into_iter()).map_or_else(
                    || format!("there are {}", ACTIONS.join(", ")),
                    |near| format!("did you mean {near:?}?"),
                );
                Err(format!("unknown action {:?}: {hint}", shortened(other)))
            }
        }
    }
}

impl ReplayState {
    /// Of what is fed to a market; without the time, and uncontrollable.
    #[must_use]
    pub fn of(status: &FeedStatus, state: &str) -> Self {
        Self {
            id: None,
            kind: status.kind.name().to_owned(),
            state: state.to_owned(),
            speed: match status.speed {
                Speed::Times(factor) => ReplaySpeed::Times(factor),
                Speed::Max => ReplaySpeed::Word("max".to_owned()),
            },
            now: String::new(),
            start: None,
            end: None,
            looped: false,
            controllable: false,
            room: None,
        }
    }
}

fn parse_speed(speed: Option<ReplaySpeed>) -> Result<Speed, String> {
    match speed {
        Some(ReplaySpeed::Times(factor)) if SPEEDS.contains(&factor) => Ok(Speed::Times(factor)),
        Some(ReplaySpeed::Word(word)) if word == "max" => Ok(Speed::Max),
        Some(ReplaySpeed::Times(factor)) => {
            Err(format!("speed {factor} is not from 0.1 to 1000, or \"max\""))
        }
        Some(ReplaySpeed::Word(word)) => {
            Err(format!("speed {:?} is not a number from 0.1 to 1000, or \"max\"", shortened(&word)))
        }
        None => Err("\"speed\" needs a \"speed\": a number from 0.1 to 1000, or \"max\"".to_owned()),
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
        check(r#"{"action":"speed","speed":0}"#, "speed 0 is not from 0.1 to 1000, or \"max\"");
        check(
            r#"{"action":"speed","speed":"fast"}"#,
            "speed \"fast\" is not a number from 0.1 to 1000, or \"max\"",
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
