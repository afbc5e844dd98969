//! The `fault` request: what a client asks to be impaired, so that it can be tested. Pure; any thread.
//!
//! Invariant: a [`Fault`] that was checked is in range, and its [`Fault::request`] reads back as the same
//! fault.

use super::close::CloseCode;
use super::schema::FAULTS;
use crate::hint::hint;
use serde_json::{Value, json};
use std::time::Duration;

/// How a client asks the server to impair the connection, to test what the client does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The fault ends.
    None,
    /// Nothing is sent.
    Mute,
    /// Everything is sent later by this time.
    Delay(Duration),
    /// At most this many bytes a second get through.
    Slow(u32),
    /// The connection ends: with a Close frame of that code, or without one.
    Drop(Option<CloseCode>),
    /// One message is sent that cannot be read.
    Garble(Garbled),
}

/// Which part of a garbled frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbled {
    /// The message, in a valid frame.
    Message,
    /// The frame itself.
    Frame,
}

/// The longest `for_ms`.
const MAX_FOR_MS: u64 = 600_000;
const MAX_DELAY_MS: u64 = 30_000;

/// The fields of a `fault` request.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultFields {
    pub fault: Option<String>,
    pub for_ms: Option<u64>,
    pub by_ms: Option<u64>,
    pub bytes_per_second: Option<u32>,
    pub code: Option<u16>,
    pub what: Option<String>,
}

impl Fault {
    /// Its name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        let index = match self {
            Self::None => 0,
            Self::Mute => 1,
            Self::Delay(_) => 2,
            Self::Slow(_) => 3,
            Self::Drop(_) => 4,
            Self::Garble(_) => 5,
        };
        FAULTS[index].name
    }

    /// The request for it, without an id.
    #[must_use]
    pub fn request(self, lasts: Option<Duration>) -> Value {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut request = json!({ "op": "fault", "fault": self.name() });
        match self {
            Self::None | Self::Mute | Self::Drop(None) | Self::Garble(Garbled::Message) => {}
            Self::Delay(by) => request["by_ms"] = millis(by).into(),
            Self::Slow(bytes_per_second) => request["bytes_per_second"] = bytes_per_second.into(),
            Self::Drop(Some(code)) => request["code"] = code.0.into(),
            Self::Garble(Garbled::Frame) => request["what"] = "frame".into(),
        }
        if let Some(lasts) = lasts {
            request["for_ms"] = millis(lasts).into();
        }
        request
    }
}

impl FaultFields {
    /// Each field by name, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 6] {
        [
            ("fault", self.fault.is_some()),
            ("for_ms", self.for_ms.is_some()),
            ("by_ms", self.by_ms.is_some()),
            ("bytes_per_second", self.bytes_per_second.is_some()),
            ("code", self.code.is_some()),
            ("what", self.what.is_some()),
        ]
    }

    /// The fault, and how long it lasts if it ends by itself; `Err` says what is wrong.
    pub fn check(&self) -> Result<(Fault, Option<Duration>), String> {
        let Some(name) = self.fault.as_deref() else {
            let names = FAULTS.map(|fault| fault.name).join(", ");
            return Err(format!("\"fault\" needs \"fault\": one of {names}"));
        };
        let Some(known) = FAULTS.iter().find(|known| known.name == name) else {
            let hint = hint(name, "faults", FAULTS.iter().map(|fault| fault.name));
            let name: String = name.chars().take(40).collect();
            return Err(format!("unknown fault {name:?}: {hint}"));
        };
        let is_strange =
            |(field, given): &(&str, bool)| *given && *field != "fault" && !known.fields.contains(field);
        if let Some((field, _)) = self.given().iter().find(|field| is_strange(field)) {
            return Err(format!("fault {name:?} has no field {field:?}"));
        }
        let within = |field: &str, value: u64, max: u64| match value {
            0 => Err(format!("{field} must be above 0")),
            value if value > max => Err(format!("{field} {value} is more than {max}")),
            value => Ok(value),
        };
        let needed = |field: &str| format!("fault {name:?} needs {field:?}");
        let lasts = self.for_ms.map(|ms| within("for_ms", ms, MAX_FOR_MS).map(Duration::from_millis));
        let fault = match name {
            "mute" => Fault::Mute,
            "delay" => {
                let ms = within("by_ms", self.by_ms.ok_or_else(|| needed("by_ms"))?, MAX_DELAY_MS)?;
                Fault::Delay(Duration::from_millis(ms))
            }
            "slow" => match self.bytes_per_second.ok_or_else(|| needed("bytes_per_second"))? {
                0 => return Err("bytes_per_second must be above 0: \"mute\" sends nothing".to_owned()),
                bytes => Fault::Slow(bytes),
            },
            "drop" => Fault::Drop(match self.code.map(CloseCode) {
                Some(code) if !code.may_be_sent() => {
                    return Err(format!("code {code} is none that a Close frame may have"));
                }
                code => code,
            }),
            "garble" => Fault::Garble(match self.what.as_deref() {
                None | Some("message") => Garbled::Message,
                Some("frame") => Garbled::Frame,
                Some(_) => return Err("what is \"message\" or \"frame\"".to_owned()),
            }),
            _ => Fault::None,
        };
        Ok((fault, lasts.transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::SessionNumber;
    use super::super::message::{Op, Request};

    #[track_caller]
    fn check(fields: &str, expected: &str) {
        let request = Request::from_json(&format!("{{\"op\":\"fault\",{fields}}}"));
        let got = match request {
            Ok(Request { op: Op::Fault { fault, lasts }, .. }) => {
                let again = Request::from_json(&fault.request(lasts).to_string()).unwrap();
                assert_eq!(
                    again,
                    Request { id: None, session: SessionNumber::FIRST, op: Op::Fault { fault, lasts } }
                );
                format!("{fault:?} {lasts:?}")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.message,
        };
        assert_eq!(got, expected, "{fields}");
    }

    #[test]
    fn faults_are_read_with_what_belongs_to_each() {
        check(r#""fault":"none""#, "None None");
        check(r#""fault":"mute","for_ms":1500"#, "Mute Some(1.5s)");
        check(r#""fault":"delay","by_ms":200"#, "Delay(200ms) None");
        check(r#""fault":"slow","bytes_per_second":1000,"for_ms":1"#, "Slow(1000) Some(1ms)");
        check(r#""fault":"drop""#, "Drop(None) None");
        check(r#""fault":"drop","code":1012"#, "Drop(Some(CloseCode(1012))) None");
        check(r#""fault":"garble","what":"frame""#, "Garble(Frame) None");
        check(r#""fault":"garble""#, "Garble(Message) None");
    }

    #[test]
    fn what_is_wrong_about_a_fault_is_named() {
        check(r#""id":1"#, "\"fault\" needs \"fault\": one of none, mute, delay, slow, drop, garble");
        check(r#""fault":"mut""#, "unknown fault \"mut\": did you mean \"mute\"?");
        check(r#""fault":"mute","by_ms":5"#, "fault \"mute\" has no field \"by_ms\"");
        check(r#""fault":"mute","topics":["x"]"#, "\"fault\" has no field \"topics\"");
        check(r#""fault":"delay""#, "fault \"delay\" needs \"by_ms\"");
        check(r#""fault":"delay","by_ms":40000"#, "by_ms 40000 is more than 30000");
        check(r#""fault":"mute","for_ms":0"#, "for_ms must be above 0");
        check(
            r#""fault":"slow","bytes_per_second":0"#,
            "bytes_per_second must be above 0: \"mute\" sends nothing",
        );
        check(r#""fault":"drop","code":1006"#, "code 1006 is none that a Close frame may have");
        check(r#""fault":"garble","what":"both""#, "what is \"message\" or \"frame\"");
    }
}
