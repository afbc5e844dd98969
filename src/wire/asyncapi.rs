//! The messages of sessions in JSON form as a document of `AsyncAPI` 3.0. Pure; any thread.
//!
//! Invariant: names, fields and types are those of [`super::schema`] and of the types that go over the wire;
//! examples are golden vectors.

use super::message::{Answer, Fields, Request};
use super::schema::{
    ACTIONS, ANSWERS, FAULTS, Field, ImageSchema, OPS, OpSchema, SIDES, TOPICS, TopicSchema,
};
use crate::hub::{Kind, ServerStats};
use crate::market::{FeedKind, FeedState, Side, Speed, TradingState};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Golden vectors with an example of each message. Tests of all clients read them, too.
const REQUESTS: &str = include_str!("../../tests/vectors/requests.json");
const ANSWERED: &str = include_str!("../../tests/vectors/answers.json");
/// Vectors with examples of updates, and the names of these.
const UPDATES: [(&str, &[&str]); 6] = [
    (include_str!("../../tests/vectors/definitions.json"), &["in full"]),
    (include_str!("../../tests/vectors/trades.json"), &["continuing", "numbered anew after a gap"]),
    (include_str!("../../tests/vectors/bars.json"), &["closed seconds that continue", "a whole day"]),
    (
        include_str!("../../tests/vectors/states.json"),
        &["market and instrument open", "replay paused at speed 10"],
    ),
    (include_str!("../../tests/vectors/channels.json"), &["messages of a channel"]),
    (include_str!("../../tests/vectors/resets.json"), &["a minute back, more to follow"]),
];

const ABOUT: &str = "The messages of sessions, in JSON form. A session over WebSocket may have the same as \
                     MessagePack, where an update is an array: docs/protocol.md specifies both. What else there is \
                     to ask for is in openapi.json.";

/// What a session gets that only receives.
const STREAMED: [&str; 4] = ["answer.welcome", "answer.subscribed", "answer.update", "answer.goodbye"];

/// Where definitions are in the document.
const SCHEMAS: &str = "/components/schemas";

/// All types that messages are made of.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is only described")]
struct All {
    answer: Answer,
    fields: Fields,
    stats: ServerStats,
}

impl JsonSchema for Speed {
    fn schema_name() -> Cow<'static, str> {
        "Speed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (least, most) = (Self::RANGE.start(), Self::RANGE.end());
        json_schema!({
            "description": "A factor, or as fast as possible.",
            "anyOf": [{ "type": "number", "minimum": least, "maximum": most }, { "const": "max" }],
        })
    }
}

/// The document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.meta_schema = None;
        settings.definitions_path = SCHEMAS.into();
    });
    let mut root = settings.into_generator().into_root_schema_for::<All>().to_value();
    for_people(&mut root);
    let mut schemas = root.pointer(SCHEMAS).and_then(Value::as_object).cloned().unwrap_or_default();
    let answer = schemas.shift_remove("Answer").unwrap_or_default();
    let fields = schemas.shift_remove("Fields").unwrap_or_default();

    let requests = OPS.iter().map(|op| (format!("request.{}", op.name), request(op, &fields["properties"])));
    let requests: Map<String, Value> = requests.collect();
    let answers = ANSWERS.iter().map(|&name| (name, answered(name, &answer["oneOf"])));
    let answers: Map<String, Value> = answers
        .chain([("update", update())])
        .map(|(name, message)| (format!("answer.{name}"), message))
        .collect();
    let asked: Vec<&str> = requests.keys().map(String::as_str).collect();
    let told: Vec<&str> = answers.keys().map(String::as_str).collect();
    let both = [asked.as_slice(), told.as_slice()].concat();
    // A stream whose reader must not give up is told of errors, too.
    let events = [STREAMED.as_slice(), &["answer.error"]].concat();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tickcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": {
            "webSocket": { "host": "127.0.0.1:8080", "protocol": "ws" },
            "http": { "host": "127.0.0.1:8080", "protocol": "http" },
        },
        "channels": {
            "webSocket": channel("/v1/ws", "webSocket", "A session over WebSocket.", &both),
            "events": channel("/v1/sse", "http", "A session that only receives: a message is an event's data.", &events),
            "lines": channel("/v1/lines", "http", "A session that only receives: a message is a line.", &STREAMED),
        },
        "operations": {
            "requests": operation("receive", "webSocket", "What a client may ask for.", &asked),
            "answers": operation("send", "webSocket", "What a client gets.", &told),
            "events": operation("send", "events", "What a reader of events gets.", &events),
            "lines": operation("send", "lines", "What a reader of lines gets.", &STREAMED),
        },
        "components": {
            "messages": requests.into_iter().chain(answers).collect::<Map<_, _>>(),
            "schemas": schemas,
        },
    })
}

/// Descriptions come from the documentation of the code; JSON has another word for nothing.
fn for_people(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(for_people),
        Value::Object(words) => {
            if let Some(Value::String(about)) = words.get_mut("description") {
                *about = about.replace("`None`", "null");
            }
            words.values_mut().for_each(for_people);
        }
        _ => {}
    }
}

fn channel(address: &str, server: &str, about: &str, messages: &[&str]) -> Value {
    let messages = messages.iter().map(|&name| (name.to_owned(), reference("components", name)));
    json!({
        "address": address,
        "description": about,
        "servers": [{ "$ref": format!("#/servers/{server}") }],
        "messages": messages.collect::<Map<_, _>>(),
    })
}

fn operation(action: &str, channel: &str, about: &str, messages: &[&str]) -> Value {
    let place = format!("channels/{channel}");
    json!({
        "action": action,
        "channel": { "$ref": format!("#/{place}") },
        "summary": about,
        "messages": messages.iter().map(|&name| reference(&place, name)).collect::<Vec<_>>(),
    })
}

fn reference(place: &str, message: &str) -> Value {
    json!({ "$ref": format!("#/{place}/messages/{message}") })
}

fn message(name: &str, about: &str, payload: &Value, examples: Vec<Value>) -> Value {
    let examples =
        examples.into_iter().map(|frame| json!({ "name": frame["name"], "payload": frame["json"] }));
    json!({
        "name": name,
        "summary": about,
        "payload": payload,
        "examples": examples.collect::<Vec<_>>(),
    })
}

/// The frames of a file of vectors for which something holds.
fn frames(vectors: &str, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(vectors).unwrap_or_default();
    let frames = vectors["frames"].as_array().cloned().unwrap_or_default();
    frames.into_iter().filter(is_wanted).collect()
}

/// The request with that op; `fields` describes those of all requests.
fn request(op: &OpSchema, fields: &Value) -> Value {
    let mut properties = Map::from_iter([("op".to_owned(), json!({ "const": op.name }))]);
    for &name in &[&["id"], op.fields].concat() {
        let mut field = fields[name].clone();
        match name {
            "action" => field = words(&ACTIONS),
            "fault" => field = words(&FAULTS),
            _ => {}
        }
        properties.insert(name.to_owned(), field);
    }
    let needed = op.fields.iter().copied().filter(|field| is_needed(op, field));
    let required: Vec<&str> = ["op"].into_iter().chain(needed).collect();
    let payload = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    message(op.name, op.about, &payload, frames(REQUESTS, |frame| frame["json"]["op"] == op.name))
}

/// Whether no request of an op does without a field.
fn is_needed(op: &OpSchema, field: &str) -> bool {
    let some = [
        json!({ "session": 1, "topics": ["status"], "fault": "none", "topic": "messages:desk", "data": 1 }),
        json!({ "session": 1, "topics": ["status"], "fault": "none", "topic": "states:desk", "key": "Ann" }),
    ];
    let is_read =
        |request: Map<String, Value>| Request::from_json(&Value::Object(request).to_string()).is_ok();
    some.iter().filter_map(Value::as_object).all(|some| {
        let mut request = Map::from_iter([("op".to_owned(), op.name.into())]);
        request.extend(some.clone().into_iter().filter(|(name, _)| op.fields.contains(&name.as_str())));
        request.shift_remove(field);
        !is_read(request)
    })
}

/// One of these words, with what each means.
fn words(words: &[OpSchema]) -> Value {
    let mut schema = one_of(words.iter().map(|word| word.name));
    let about = words.iter().map(|word| format!("`{}`: {}", word.name, word.about));
    schema["description"] = about.collect::<Vec<_>>().join(" ").into();
    schema
}

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Value {
    json!({ "type": "string", "enum": words.into_iter().collect::<Vec<_>>() })
}

/// The message of a server of that type; `schemas` are those of all.
fn answered(name: &str, schemas: &Value) -> Value {
    let is_of = |schema: &&Value| schema["properties"]["type"]["const"] == name;
    let schema = schemas.as_array().into_iter().flatten().find(is_of);
    let mut payload = schema.cloned().unwrap_or_default();
    let about = payload["description"].as_str().unwrap_or_default().to_owned();
    if let Some(properties) = payload["properties"].as_object_mut() {
        properties.insert("session".to_owned(), session());
    }
    message(name, &about, &payload, frames(ANSWERED, |frame| frame["json"]["type"] == name))
}

fn session() -> Value {
    json!({ "type": "integer", "description": "Of a session that is not the first of its connection." })
}

fn update() -> Value {
    let payload = json!({
        "type": "object",
        "properties": {
            "type": { "const": "update" },
            "session": session(),
            "position": { "type": "integer", "description": "The session has everything up to here." },
            "time": moment("The tape's clock."),
            "updates": { "type": "array", "items": { "anyOf": entries() } },
            "more": { "const": true, "description": "The flush goes on in another update." },
        },
        "required": ["type", "position", "time", "updates"],
    });
    let examples = UPDATES.iter().flat_map(|(vectors, names)| {
        frames(vectors, |frame| names.iter().any(|&name| frame["name"] == name))
    });
    let about = "What has changed: the newest values of images, and all entries of rings.";
    message("update", about, &payload, examples.collect())
}

/// What an update may hold.
fn entries() -> Vec<Value> {
    let yes = || json!({ "const": true });
    let mut entries = vec![
        whole(vec![named("reset", yes())], "What is known from before does not hold."),
        whole(
            vec![named("instrument", instrument())],
            "Reference data, before the first entry of its instrument.",
        ),
    ];
    for topic in &TOPICS {
        let of = topic_of(topic.kind);
        entries.extend(entries_of(topic, &of));
        entries.push(of_topic(&of, vec![named("joined", yes())], "The topic joined the session's sets."));
        entries.push(of_topic(&of, vec![named("left", yes())], "The topic left the session's sets."));
    }
    let feed = vec![
        named("kind", one_of(FeedKind::ALL.iter().map(|kind| kind.name()))),
        named("state", one_of(FeedState::ALL.iter().map(|state| state.name()))),
        named("speed", definition("Speed")),
    ];
    let feed = vec![named("feed", whole(feed, ""))];
    entries.push(of_topic(&json!({ "const": "status" }), feed, "What feeds the server."));
    let stats = vec![named("stats", definition("ServerStats"))];
    entries.push(of_topic(
        &json!({ "const": "stats" }),
        stats,
        "The server's own figures, replaced entirely.",
    ));
    let messages = vec![
        named("topic", topic_of(Kind::Messages)),
        named("messages", array(&channel_message())),
        named(
            "next",
            json!({ "type": "integer", "description": "Without messages: the number of the next." }),
        ),
    ];
    entries.push(object(messages, &["topic", "messages"], "Each message of a channel, in order."));
    let states = vec![
        named("topic", topic_of(Kind::States)),
        named("whole", json!({ "const": true, "description": "Those that are not here have ended." })),
        named("states", json!({ "type": "object", "description": "By key; null where one has ended." })),
    ];
    entries.push(object(states, &["topic", "states"], "The states in a channel that changed."));
    entries
}

/// The values of a topic, whose name is as `of` says.
fn entries_of(topic: &TopicSchema, of: &Value) -> Vec<Value> {
    match (topic.image, topic.ring) {
        (Some(image), None) => {
            let fields = [vec![named("topic", of.clone())], fields_of(&image)].concat();
            vec![object(fields, &["topic"], "The fields that changed.")]
        }
        (Some(image), Some(ring)) => {
            let latest = object(fields_of(&image), &[], "");
            let closed = [vec![named("number", json!({ "type": "integer" }))], fields_of(&image)].concat();
            vec![
                of_topic(of, vec![named(image.name, latest)], "The fields of the latest that changed."),
                of_topic(of, vec![named(ring.list, array(&whole(closed, "")))], "Those that were closed."),
            ]
        }
        (None, Some(ring)) => {
            vec![of_topic(of, vec![named(ring.list, array(&trade()))], "Each one, in order.")]
        }
        (None, None) => {
            let state = vec![
                named("state", one_of(TradingState::ALL.iter().map(|state| state.name()))),
                named("ts_event", moment("Since when.")),
            ];
            vec![of_topic(of, state, "Whether there is trading.")]
        }
    }
}

/// What the name of a topic of that kind looks like. The market itself has a state, too.
fn topic_of(kind: Kind) -> Value {
    let pattern = match kind {
        Kind::Status => "^status(:|$)".to_owned(),
        kind => format!("^{}:", kind.name().replace('.', r"\.")),
    };
    json!({ "type": "string", "pattern": pattern })
}

fn definition(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/{name}") })
}

fn fields_of(image: &ImageSchema) -> Vec<(String, Value)> {
    // A quote's time is not in its mask.
    let fields = image.fields.iter().filter(|field| field.bit & image.all != 0 || field.unit == "moment");
    fields.map(|field| named(field.name, field_schema(field))).collect()
}

/// A field as JSON form has it.
fn field_schema(field: &Field) -> Value {
    match field.unit {
        "price" => price(),
        "count" => json!({ "type": "integer" }),
        "second" | "moment" => moment(""),
        _ => decimal(),
    }
}

fn decimal() -> Value {
    json!({ "type": "string", "description": "An exact decimal." })
}

fn price() -> Value {
    json!({ "type": ["string", "null"], "description": "An exact decimal; null where there is none." })
}

fn moment(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

fn instrument() -> Value {
    let text = || json!({ "type": "string" });
    let scale = || json!({ "type": "integer", "minimum": 0 });
    let fields = vec![
        named("symbol", text()),
        named("name", text()),
        named("sector", text()),
        named("currency", text()),
        named("price_scale", scale()),
        named("size_scale", scale()),
        named("tick_size", decimal()),
        named("previous_close", price()),
    ];
    whole(fields, "")
}

fn trade() -> Value {
    let fields = vec![
        named("number", json!({ "type": "integer" })),
        named("price", price()),
        named("size", decimal()),
        named("side", one_of(SIDES.map(Side::name))),
        named("ts_event", moment("")),
        named("conditions", json!({ "type": "string" })),
        named("counts", array(&json!({ "type": "string" }))),
        named(
            "breaks",
            json!({ "type": "integer", "description": "The number of the trade that it takes back." }),
        ),
    ];
    object(fields, &["number", "price", "size", "side", "ts_event"], "")
}

fn channel_message() -> Value {
    let fields = vec![
        named("number", json!({ "type": "integer" })),
        named("from", json!({ "type": "string" })),
        named("event", json!({ "type": "string" })),
        named("data", json!({ "description": "Any JSON value." })),
        named("ts_event", moment("")),
    ];
    object(fields, &["number", "data", "ts_event"], "")
}

fn named(name: &str, schema: Value) -> (String, Value) {
    (name.to_owned(), schema)
}

fn array(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// An entry of a topic that has all of these fields.
fn of_topic(topic: &Value, fields: Vec<(String, Value)>, about: &str) -> Value {
    whole([vec![named("topic", topic.clone())], fields].concat(), about)
}

/// An object that has all of these fields.
fn whole(fields: Vec<(String, Value)>, about: &str) -> Value {
    let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
    object(fields, &names.iter().map(String::as_str).collect::<Vec<_>>(), about)
}

fn object(fields: Vec<(String, Value)>, required: &[&str], about: &str) -> Value {
    let properties: Map<String, Value> = fields.into_iter().collect();
    json!({
        "description": about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
