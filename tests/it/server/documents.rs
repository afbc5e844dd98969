//! What the server says of itself for programs: its routes, and the messages of sessions. Both documents are
//! held against the server.

use crate::server::schemas::{Schemas, properties};
use crate::server::support::{RawClient, Response, TestServer, handshake, request, soon};
use crate::update_json::update_json;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tickcast::market::Timestamp;
use tickcast::tape::Position;
use tickcast::wire::{Answer, Request, UpdateDecoder, schema};

/// A server with a market in which every field of every row is to be seen.
async fn busy() -> TestServer {
    let server = TestServer::start().await;
    let lines = [
        json!({"type": "instrument", "symbol": "AAPL", "name": "Apple", "sector": "technology",
            "currency": "USD", "previous_close": "188.90"}),
        json!({"type": "quote", "symbol": "AAPL", "bid": "189.41", "bid_size": 300, "ask": null}),
        json!({"type": "quote", "symbol": "MSFT", "bid": "410.1", "bid_size": 3, "ask": "410.2", "ask_size": 1}),
        json!({"type": "trade", "symbol": "AAPL", "price": "189.42", "size": 100, "side": "buy", "id": "1",
            "conditions": "I", "counts": ["volume"]}),
        json!({"type": "trade", "symbol": "MSFT", "price": "410.1", "size": 1}),
        json!({"type": "trade", "symbol": "AAPL", "price": "189.43", "size": 100}),
        json!({"type": "cancel", "symbol": "AAPL", "id": "1"}),
    ];
    let lines = lines.map(|line| line.to_string()).join("\n");
    let position = server.publish(&lines).await["position"].as_u64().unwrap();
    let folded = async {
        while server.get("/v1/instruments").await.json()["position"].as_u64().unwrap() < position {
            tokio::task::yield_now().await;
        }
    };
    soon("the replica", folded).await;
    server
}

/// The operations of a document: path, method, operation.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
        .collect()
}

fn parameters<'a>(schemas: &Schemas<'a>, operation: &'a Value) -> Vec<&'a Value> {
    operation["parameters"].as_array().into_iter().flatten().map(|each| schemas.resolve(each).0).collect()
}

/// The address of an operation with the examples of its parameters.
fn address(path: &str, parameters: &[&Value]) -> String {
    let (mut path, mut query) = (path.to_owned(), form_urlencoded::Serializer::new(String::new()));
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let example = match &parameter["example"] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if parameter["in"] == "path" {
            path = path.replace(&format!("{{{name}}}"), &example);
        } else {
            query.append_pair(name, &example);
        }
    }
    match query.finish() {
        query if query.is_empty() => path,
        query => format!("{path}?{query}"),
    }
}

/// Those whose answer is a session's, or does not end.
const SESSIONS: [&str; 5] = ["/v1/ws", "/v1/sse", "/v1/lines", "/socket.io/", "/socket.io/msgpack/"];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_every_description_is_of_a_route() {
    let server = TestServer::start().await;
    let document = server.get("/v1/openapi.json").await.json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in operations(&document) {
        described.entry(path).or_default().insert(method);
    }
    let code =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/mod.rs")).unwrap();
    let routes = code.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut routes: BTreeSet<String> = routes.map(|route| route.replace("{*", "{")).collect();
    for same in ["/socket.io", "/socket.io/msgpack"] {
        assert!(routes.remove(same) && routes.contains(&format!("{same}/")), "{same}");
    }
    assert!(routes.remove("/engine.io/"), "it is only there for test suites");
    // The pages are files.
    routes.extend(["/", "/ops", "/docs"].map(str::to_owned));
    assert_eq!(routes, described.keys().map(|&path| path.to_owned()).collect());
    for (path, methods) in described {
        let path = path.replace("{symbol}", "A");
        let options = request(server.address, "OPTIONS", &path, &[], b"").await;
        let mut allowed: BTreeSet<String> =
            options.header("allow").unwrap_or_default().split(", ").map(str::to_owned).collect();
        allowed.retain(|method| method != "OPTIONS" && method != "HEAD");
        assert_eq!(allowed, methods, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_is_described_and_holds_what_its_description_says() {
    let server = busy().await;
    let document = server.get("/v1/openapi.json").await.json();
    let schemas = Schemas::of(&document);
    let ask = async |path: &str| -> Response {
        if path.starts_with("/v1/ws") {
            let mut client = RawClient::dial(server.address).await;
            client.send(handshake(server.address, path, &[]).as_bytes()).await;
            return client.response("GET").await;
        }
        server.get(path).await
    };
    let mut checked = 0;
    for (path, method, operation) in operations(&document) {
        // A client of Socket.IO adds what it likes; probes and pages take anything.
        let takes_anything = ["/healthz", "/readyz", "/version", "/", "/ops", "/docs"].contains(&path);
        if method != "GET" || takes_anything || path.starts_with("/socket.io/") {
            continue;
        }
        let parameters = parameters(&schemas, operation);
        let base = address(path, &parameters);
        let and = if base.contains('?') { '&' } else { '?' };
        let names: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let refused = ask(&format!("{base}{and}nothing_like_any_of_them=1")).await;
        refused.check_problem(400, "unknown query parameter");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        let there = detail.split("there ").nth(1).unwrap();
        let there = ["are none", "are ", "is only "].into_iter().find_map(|start| there.strip_prefix(start));
        let mut there: BTreeSet<&str> = there.unwrap().split(", ").filter(|name| !name.is_empty()).collect();
        if path == "/v1/poll" {
            // It reads a session's query, of which it refuses some, and has one of its own.
            let refused =
                ["max_hz=1", "epoch=1", "position=1", "control=all", "seed=1", "start=0", "speed=1"];
            for parameter in refused {
                assert_eq!(ask(&format!("{base}{and}room=x&{parameter}")).await.status, 400, "{parameter}");
                there.remove(parameter.split('=').next().unwrap());
            }
            there.insert("wait");
        }
        assert_eq!(there, names, "{path}");
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            checked += 1;
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let rest: Vec<&Value> =
                parameters.iter().copied().filter(|other| other["name"] != parameter["name"]).collect();
            let base = address(path, &rest);
            let and = if base.contains('?') { '&' } else { '?' };
            let with = async |value: &str| ask(&format!("{base}{and}{name}={value}")).await.status;
            if parameter["required"] == true {
                assert_eq!(ask(&base).await.status, 400, "{path} without {name}");
            }
            // An answer that does not end is only asked for what refuses it.
            let accepts = async |value: &str| SESSIONS.contains(&path) || with(value).await == 200;
            for value in schema["enum"].as_array().into_iter().flatten() {
                assert!(accepts(value.as_str().unwrap()).await, "{path} {name}={value}");
            }
            if schema.get("enum").is_some() {
                assert_eq!(with("nothing").await, 400, "{path} {name}");
            }
            if let (Some(least), Some(most)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
                assert!(
                    accepts(&least.to_string()).await && accepts(&most.to_string()).await,
                    "{path} {name}"
                );
                assert_eq!(with(&(most + 1.0).to_string()).await, 400, "{path} {name}");
                assert_eq!(with(&(least / 2.0 - 1.0).to_string()).await, 400, "{path} {name}");
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_it_is_described_and_every_field_that_is_described_comes() {
    let server = busy().await;
    let document = server.get("/v1/openapi.json").await.json();
    let mut schemas = Schemas::of(&document);
    for (path, method, operation) in operations(&document) {
        if SESSIONS.contains(&path) || ["/", "/ops", "/docs"].contains(&path) {
            continue;
        }
        let parameters = parameters(&schemas, operation);
        let mut asked = vec![address(path, &parameters)];
        if parameters.iter().any(|parameter| parameter["name"] == "page_token") {
            // The other orders of things, with pages.
            let and = if asked[0].contains('?') { '&' } else { '?' };
            asked.push(format!("{}{and}limit=1&sort=asc", asked[0]));
        }
        let body = operation["requestBody"]["content"].as_object().map(|content| {
            let (media_type, content) = content.iter().next().unwrap();
            let example = &content["example"];
            let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            (media_type.clone(), example)
        });
        for asked in asked {
            for (media_type, content) in operation["responses"]["200"]["content"].as_object().unwrap() {
                let mut headers = vec![("Accept", media_type.as_str())];
                if let Some((media_type, _)) = &body {
                    headers.push(("Content-Type", media_type));
                }
                let body = body.as_ref().map_or("", |(_, body)| body);
                let response = request(server.address, &method, &asked, &headers, body.as_bytes()).await;
                // A publisher's market is not replayed.
                if (method.as_str(), path) == ("POST", "/v1/replay") {
                    response.check_problem(409, "nothing");
                    continue;
                }
                assert_eq!(response.status, 200, "{method} {asked}: {}", response.text());
                assert!(response.header("content-type").unwrap().starts_with(media_type), "{asked}");
                let described = operation["responses"]["200"]["headers"].as_object();
                for name in described
                    .into_iter()
                    .flat_map(Map::keys)
                    .filter(|name| *name != "Link" && *name != "Tickcast-Gap")
                {
                    assert!(response.header(&name.to_lowercase()).is_some(), "{asked}: no {name}");
                }
                match media_type.as_str() {
                    "application/json" => schemas.accept(&content["schema"], &response.json(), &asked),
                    "application/x-ndjson" => {
                        for line in response.text().lines() {
                            let row = serde_json::from_str(line).unwrap();
                            schemas.accept(&content["schema"], &row, &asked);
                        }
                    }
                    _ => schemas.accept(&content["schema"], &response.text().into(), &asked),
                }
            }
        }
    }
    // What does not come from these: answers to bad requests, and to publishers of much that is wrong.
    let problem =
        &document["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"];
    schemas.accept(problem, &server.get("/v1/trades/AAPM").await.json(), "a problem");
    let wrong = request(server.address, "POST", "/v1/publish", &[], "{}\n".repeat(1001).as_bytes()).await;
    schemas.accept(&document["components"]["schemas"]["Published"], &wrong.json(), "Published");

    let since = server.get("/v1/poll?topics=quote:AAPL").await.json()["since"].as_str().unwrap().to_owned();
    let polled = server.get(&format!("/v1/poll?topics=quote:AAPL&since={since}")).await.json();
    schemas.accept(&document["components"]["schemas"]["Poll"], &polled, "Poll");

    // What other tests tell of: a long answer to a poll, a simulation, a recording, a seek, a gap.
    let elsewhere = [
        "Poll.more",
        "Feed.simulator.",
        "Feed.scenario.",
        "Replay.seeking",
        "Ready.recording",
        "Gap.",
        "Action.",
    ];
    let all = properties(&document["components"]["schemas"]);
    let missing: Vec<&String> = all
        .iter()
        .filter(|name| {
            !schemas.seen.contains(*name) && !elsewhere.iter().any(|other| name.starts_with(other))
        })
        .collect();
    assert!(missing.is_empty(), "described, but not seen: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_an_answer_is_what_its_schema_says() {
    let server = TestServer::start().await;
    let document = server.get("/v1/openapi.json").await.json();
    let mut schemas = Schemas::of(&document);
    let mut checked = 0;
    for (path, method, operation) in operations(&document) {
        let responses =
            operation["responses"].as_object().unwrap().values().chain([&operation["requestBody"]]);
        for response in responses {
            let (response, _) = schemas.resolve(response);
            for content in response["content"].as_object().into_iter().flat_map(Map::values) {
                if let Some(example) = content.get("example") {
                    schemas.accept(&content["schema"], example, &format!("{method} {path}"));
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 25, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_described_and_its_examples_are_read() {
    let server = TestServer::start().await;
    let document = server.get("/v1/asyncapi.json").await.json();
    assert_eq!(document["asyncapi"], "3.0.0");
    let messages = document["components"]["messages"].as_object().unwrap();
    let names: BTreeSet<String> = messages.keys().cloned().collect();
    let requests = schema::OPS.iter().map(|op| format!("request.{}", op.name));
    let answers = schema::ANSWERS.iter().chain(&["update"]).map(|name| format!("answer.{name}"));
    assert_eq!(names, requests.chain(answers).collect());
    let mut schemas = Schemas::of(&document);
    let updates = decoded_updates();
    for (key, message) in messages {
        let examples = message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{key} has no example");
        assert!(!message["summary"].as_str().unwrap().is_empty(), "{key} has no summary");
        for example in examples {
            let payload = &example["payload"];
            schemas.accept(&message["payload"], payload, key);
            if key.starts_with("request.") {
                Request::from_json(&payload.to_string()).unwrap();
            } else if key == "answer.update" {
                assert!(updates.contains(payload), "{payload} is no golden vector");
            } else {
                let answer: Answer = serde_json::from_value(payload.clone()).unwrap();
                assert_eq!(serde_json::to_value(&answer).unwrap(), *payload);
            }
        }
    }
    assert!(!document.to_string().contains("[`"), "a link of the code's documentation");
    // Every reference leads somewhere.
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        schemas.resolve(value);
        left.extend(value.as_array().into_iter().flatten());
        left.extend(value.as_object().into_iter().flat_map(Map::values));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_vector_is_as_messages_are_described() {
    let server = TestServer::start().await;
    let document = server.get("/v1/asyncapi.json").await.json();
    let mut schemas = Schemas::of(&document);
    let messages = &document["components"]["messages"];
    for (file, frames) in vectors() {
        for frame in frames {
            let message = &frame["json"];
            let key = match (&message["op"], &message["type"]) {
                (Value::String(op), _) => format!("request.{op}"),
                (_, Value::String(kind)) => format!("answer.{kind}"),
                _ => panic!("{file}: {message}"),
            };
            schemas.accept(&messages[&key]["payload"], message, &format!("{file}: {}", frame["name"]));
        }
    }
    // A field more, or one less, is not what is described.
    let mut check = |key: &str, message: Value| schemas.check(&messages[key]["payload"], &message, key);
    assert!(check("request.ping", json!({"op": "ping", "topics": ["x"]})).is_err());
    assert!(check("request.subscribe", json!({"op": "subscribe"})).is_err());
    assert!(check("request.fault", json!({"op": "fault", "fault": "flood"})).is_err());
    assert!(check("answer.pong", json!({"type": "pong", "position": 1})).is_err());
    let update = |entry: Value| json!({"type": "update", "position": 1, "time": "", "updates": [entry]});
    assert!(check("answer.update", update(json!({"topic": "quote:A", "bid": "1"}))).is_ok());
    assert!(check("answer.update", update(json!({"topic": "quote:A", "bid": 1}))).is_err());
    assert!(check("answer.update", update(json!({"topic": "quote:A", "price": "1"}))).is_err());
    assert!(check("answer.update", update(json!({"topic": "trades:A", "trades": [{"number": 1}]}))).is_err());
}

/// The files of golden vectors with messages, and their frames.
fn vectors() -> Vec<(String, Vec<Value>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let vectors: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        if let Some(frames) = vectors["frames"].as_array() {
            let frames = frames.iter().filter(|frame| frame["json"].is_object());
            found.push((file.display().to_string(), frames.cloned().collect()));
        }
    }
    assert!(found.len() > 10, "{}", found.len());
    found
}

/// What our decoder makes of the bytes of all golden updates.
fn decoded_updates() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut updates = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let vectors: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let welcome = &vectors["welcome"];
        if welcome.is_null() || file.ends_with("sessions.json") {
            continue;
        }
        let position = Position::new(welcome["position"].as_u64().unwrap());
        let time = Timestamp::from_micros(welcome["time"].as_i64().unwrap());
        let mut decoder = UpdateDecoder::new(position, time);
        for frame in vectors["frames"].as_array().unwrap() {
            let hex = frame["hex"].as_str().unwrap();
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            updates.push(update_json(&decoder.decode(&bytes).unwrap()));
        }
    }
    updates
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_are_sent_once() {
    let server = TestServer::start().await;
    for path in ["/v1/openapi.json", "/v1/asyncapi.json"] {
        let first = server.get(path).await;
        assert_eq!((first.status, first.header("content-type")), (200, Some("application/json")));
        let tag = first.header("etag").unwrap();
        let again = request(server.address, "GET", path, &[("If-None-Match", tag)], b"").await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let packed = request(server.address, "GET", path, &[("Accept-Encoding", "zstd")], b"").await;
        assert_eq!(packed.header("etag"), Some(format!("W/{tag}").as_str()), "{path}");
        assert_eq!(zstd::decode_all(&*packed.body).unwrap(), first.body, "{path}");
        server.get(&format!("{path}?x=1")).await.check_problem(400, "there are none");
    }
}
