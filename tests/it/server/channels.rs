//! Messages, states, and how many watch: through each door.

use crate::server::streams::Listener;
use crate::server::support::{Client, Seen, TestServer, quote, request, soon};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tickcast::client::{self, Event, Options};
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;
use tickcast::server::PublishRule;
use tokio_stream::StreamExt;

fn message(channel: &str, data: &Value) -> String {
    json!({"type": "message", "channel": channel, "data": data}).to_string() + "\n"
}

/// What a client has of a channel, number and content of each message.
fn heard(client: &Client, topic: &str) -> Vec<(u64, Value)> {
    let messages = client.seen.rings.get(topic).into_iter().flatten();
    messages.map(|message| (message["number"].as_u64().unwrap(), message["data"].clone())).collect()
}

async fn post(server: &TestServer, path: &str, lines: &str) -> Value {
    request(server.address, "POST", path, &[], lines.as_bytes()).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_posts_reaches_all_who_listen_whatever_their_door() {
    let server = TestServer::start().await;
    let mut ann = Client::connect(&server, "topics=messages:desk").await;
    ann.answer("subscribed").await;
    let mut rust = client::Client::connect(&format!("ws://{}", server.address)).unwrap();
    rust.subscribe(["messages:desk"], Options::default());
    let mut lines = Listener::open(&server, "/v1/lines?topics=messages:desk", "").await;

    let say = json!({"op": "publish", "id": 7, "topic": "messages:desk", "from": "Ann", "event": "chat message",
        "data": {"text": "hello", "list": [1, null, "2"]}});
    let published = ann.ask(say, "published").await;
    assert_eq!(published["id"], 7);
    ann.reach(&published["position"]).await;
    let expected = json!({"number": 0, "from": "Ann", "event": "chat message",
        "data": {"text": "hello", "list": [1, null, "2"]}});
    let mut told = ann.seen.rings["messages:desk"][0].clone();
    assert!(told.as_object_mut().unwrap().remove("ts_event").is_some());
    assert_eq!(told, expected);

    server.publish(&message("desk", &json!("over HTTP"))).await;
    ann.until("the second", |seen| seen.numbers("messages:desk") == [0, 1]).await;
    let mut received = Vec::new();
    while received.len() < 2 {
        let event = soon("an event", rust.next()).await.expect("it goes on");
        if let Event::Messages { channel, missed, messages } = event {
            assert_eq!((channel.as_str(), missed), ("desk", 0));
            received.extend(messages.into_iter().map(|(number, message)| (number, message.data.value())));
        }
    }
    assert_eq!(received[1], (1, json!("over HTTP")));
    lines.until("both", |it| it.seen.numbers("messages:desk") == [0, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_was_away_gets_what_was_said_and_is_told_exactly_what_is_lost() {
    let server = TestServer::start().await;
    server.publish(&message("desk", &json!(0))).await;
    let mut client = Client::connect(&server, "topics=messages:desk").await;
    client.until("what is kept", |seen| seen.numbers("messages:desk") == [0]).await;
    let (epoch, position) = (client.welcome["epoch"].clone(), client.seen.position);
    drop(client);
    server
        .publish(&(message("desk", &json!(1)) + &message("other", &json!(0)) + &message("desk", &json!(2))))
        .await;
    let query = format!("topics=messages:desk&epoch={epoch}&position={position}");
    let mut client = Client::connect(&server, &query).await;
    assert_eq!(client.answer("subscribed").await["resumed"], true);
    client.until("what was missed", |seen| seen.numbers("messages:desk") == [1, 2]).await;
    drop(client);

    let many: String = (3..400).map(|number| message("desk", &json!(number))).collect();
    let published = server.publish(&many).await;
    let mut client = Client::connect(&server, &query).await;
    client.reach(&published["position"]).await;
    let heard = heard(&client, "messages:desk");
    assert_eq!((heard.len(), &heard[0], heard.last()), (256, &(144, json!(144)), Some(&(399, json!(399)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_holds_until_it_is_ended_or_its_time_is_over() {
    let server = TestServer::start().await;
    let mut ann = Client::connect(&server, "topics=states:desk").await;
    ann.answer("subscribed").await;
    let set = |key: &str, data: Value, ttl: Option<u64>| {
        let mut request = json!({"op": "publish", "topic": "states:desk", "key": key, "data": data});
        if let Some(ttl) = ttl {
            request["ttl_ms"] = ttl.into();
        }
        request
    };
    ann.ask(set("Ann", json!({"typing": true}), Some(600_000)), "published").await;
    ann.ask(set("Bob", json!("away"), None), "published").await;
    ann.ask(set("Eve", json!(1), Some(1)), "published").await;
    // Eve's is over by itself.
    ann.until("two that stay", |seen| {
        seen.told.get("states:desk").is_some_and(|told| *told >= 3)
            && Value::Object(seen.images["states:desk"].clone())
                == json!({"Ann": {"typing": true}, "Bob": "away"})
    })
    .await;
    let mut late = Client::connect(&server, "topics=states:desk").await;
    late.until("all", |seen| seen.images.get("states:desk").is_some_and(|states| states.len() == 2)).await;
    // What is set again without a time stays; what is ended ends.
    ann.ask(set("Ann", json!(2), None), "published").await;
    let ended = ann.ask(set("Bob", Value::Null, None), "published").await;
    late.reach(&ended["position"]).await;
    assert_eq!(Value::Object(late.seen.images["states:desk"].clone()), json!({"Ann": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_post_is_named() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    let long = "x".repeat(4095);
    for (fields, expected) in [
        (json!({"data": 1}), "\"publish\" needs a \"topic\": messages:CHANNEL or states:CHANNEL"),
        (
            json!({"topic": "quote:A", "data": 1}),
            "\"quote:A\" takes no posts: only messages:CHANNEL and states:CHANNEL do",
        ),
        (
            json!({"topic": "messages:*", "data": 1}),
            "malformed topic \"messages:*\": messages are of one channel, messages:CHANNEL",
        ),
        (json!({"topic": "messages:a"}), "a message needs \"data\""),
        (json!({"topic": "messages:a", "data": 1, "key": "k"}), "a message has no \"key\": a state has"),
        (json!({"topic": "messages:a", "data": long}), "data: 4097 bytes of JSON exceed the limit of 4096"),
        (
            json!({"topic": "messages:a", "data": 1, "from": ""}),
            "from: expected 1 to 64 bytes without control characters",
        ),
        (json!({"topic": "states:a", "data": 1}), "a state needs \"key\""),
        (json!({"topic": "states:a", "key": "k", "ttl_ms": 0}), "ttl_ms 0 is not from 1 to 86400000"),
        (json!({"topic": "states:a", "key": "k", "event": "e"}), "a state has no \"event\": a message has"),
        (json!({"topic": "messages:a", "data": 1, "echo": 1}), "unknown field `echo`"),
    ] {
        let mut request = fields;
        request["op"] = "publish".into();
        let error = client.ask(request, "error").await;
        assert_eq!(error["code"], "bad_request");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    let lines = [
        json!({"type": "message", "channel": "a"}),
        json!({"type": "message", "channel": "a\u{202e}", "data": 1}),
        json!({"type": "message", "channel": "a", "data": long}),
        json!({"type": "state", "channel": "a", "data": 1}),
        json!({"type": "state", "channel": "a", "key": "k", "ttl_ms": 1.5}),
        json!({"type": "message", "channel": "a", "dat": 1}),
    ];
    let body: String = lines.iter().map(|line| line.to_string() + "\n").collect();
    let answer = post(&server, "/v1/publish", &body).await;
    let reasons: Vec<&str> =
        answer["rejected"].as_array().unwrap().iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[0], "data is missing");
    assert!(reasons[1].starts_with("channel: channel "), "{}", reasons[1]);
    assert_eq!(reasons[2], "data: 4097 bytes of JSON exceed the limit of 4096");
    assert_eq!(reasons[3], "key is missing");
    assert_eq!(reasons[4], "ttl_ms: expected a whole number from 1 to 86400000");
    assert_eq!(reasons[5], "unknown field \"dat\" of a message: did you mean \"data\"?");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_channels_and_no_more() {
    let server = TestServer::start().await;
    let all: String = (0..1000).map(|channel| message(&format!("c{channel}"), &json!(0))).collect();
    server.publish(&all).await;
    let reason = "one more is new, and there are 1000 channels already";
    let answer =
        post(&server, "/v1/publish", &(message("one more", &json!(0)) + &message("c7", &json!(1)))).await;
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["rejected"], json!([{"line": 1, "reason": reason}]));
    let mut client = Client::connect(&server, "").await;
    let say = json!({"op": "publish", "topic": "messages:one more", "data": 0});
    let error = client.ask(say, "error").await;
    assert_eq!((&error["code"], &error["message"]), (&json!("unavailable"), &json!(reason)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_publish_may_not_post() {
    let server = TestServer::start_with(|config| config.publish = PublishRule::Off).await;
    let mut client = Client::connect(&server, "").await;
    let error = client.ask(json!({"op": "publish", "topic": "messages:a", "data": 0}), "error").await;
    assert_eq!(error["code"], "not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_has_its_own_channels_which_a_seek_leaves_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
    let source = Arc::new(Recordings::new(vec![path], OpenOptions::default()));
    let server = TestServer::start_with(|config| config.source = Some(source)).await;
    server.until_ready().await;
    let mut desk = Client::connect(&server, "room=desk&topics=messages:a,quote:*").await;
    desk.answer("subscribed").await;
    let mut public = Client::connect(&server, "topics=messages:a").await;
    public.answer("subscribed").await;
    let answer =
        post(&server, "/v1/publish?room=desk", &(message("a", &json!("desk")) + &quote("A", "1", "2"))).await;
    assert_eq!(answer["accepted"], 1);
    assert!(
        answer["rejected"][0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("the market of a room is what it plays")
    );
    server.publish(&message("a", &json!("public"))).await;
    public.until("the public one", |seen| seen.numbers("messages:a") == [0]).await;
    assert_eq!(heard(&public, "messages:a"), [(0, json!("public"))]);
    desk.until("the desk's", |seen| seen.numbers("messages:a") == [0]).await;
    let (epoch, position) = (desk.welcome["epoch"].clone(), desk.seen.position);

    desk.ask(json!({"op": "replay", "action": "seek", "to": "2024-08-08T23:54:20Z"}), "replay").await;
    desk.until("the reset", |seen| seen.resets == 1).await;
    let say = json!({"op": "publish", "topic": "messages:a", "data": "after it"});
    let published = desk.ask(say, "published").await;
    desk.reach(&published["position"]).await;
    assert_eq!(heard(&desk, "messages:a"), [(0, json!("desk")), (1, json!("after it"))]);
    // One who was away across the reset misses nothing, and gets nothing twice.
    let query = format!("room=desk&topics=messages:a,quote:*&epoch={epoch}&position={position}");
    let mut back = Client::connect(&server, &query).await;
    back.reach(&published["position"]).await;
    assert_eq!(heard(&back, "messages:a"), [(1, json!("after it"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_name_a_symbol_are_counted() {
    let server = TestServer::start_with(|config| config.shards = 2.try_into().unwrap()).await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut counting = Client::connect(&server, "topics=watchers:A,watchers:B").await;
    counting.answer("subscribed").await;
    let counts = |a: u64, b: u64| {
        move |seen: &Seen| {
            (seen.field("watchers:A", "watchers"), seen.field("watchers:B", "watchers"))
                == (json!(a), json!(b))
        }
    };
    counting.until("nobody", counts(0, 0)).await;
    let mut one = Client::connect(&server, "topics=quote:A,trades:A,quote:*").await;
    one.answer("subscribed").await;
    let mut two = Client::connect(&server, "topics=quote:A,day:B,watchers:B").await;
    two.answer("subscribed").await;
    counting.until("two and one", counts(2, 1)).await;
    two.ask(json!({"op": "unsubscribe", "topics": ["day:B"]}), "unsubscribed").await;
    counting.until("two and none", counts(2, 0)).await;
    drop(one);
    counting.until("one and none", counts(1, 0)).await;
    drop(two);
    counting.until("nobody again", counts(0, 0)).await;
}
