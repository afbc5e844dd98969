//! What clients tell each other: as a server of Socket.IO that broadcasts would let them.

use super::{Client, MSGPACK_WEBSOCKET, POLLING, WEBSOCKET};
use crate::server::support::{TestServer, request, soon};
use serde_json::{Value, json};
use tickcast::server::PublishRule;

/// The next event that is not the server's own, with all its arguments. That Ann has come may be told to
/// those who come right after her.
async fn heard(client: &mut Client) -> Value {
    let read = async {
        loop {
            let said = client.said().await;
            if said.kind != 2 {
                continue;
            }
            if said.data[0] == "update" {
                client.seen.take(&said.data[1]);
            } else if !matches!(said.data[0].as_str(), Some("welcome" | "subscribed" | "status"))
                && said.data != json!(["joined", { "name": "Ann", "room": "all" }])
            {
                return said.data;
            }
        }
    };
    soon("an event", read).await
}

async fn emit(client: &mut Client, event: Value) {
    client.say(2, "/", None, &event).await;
}

/// Emits and waits for the acknowledgement.
async fn emit_with_ack(client: &mut Client, event: Value) -> Value {
    client.say(2, "/", Some(9), &event).await;
    let read = async {
        loop {
            let said = client.said().await;
            if said.kind == 3 {
                return said.data[0].clone();
            }
        }
    };
    soon("an acknowledgement", read).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_ones_own_reaches_all_by_any_transport_and_parser() {
    let server = TestServer::start_with(|config| config.shards = 2.try_into().unwrap()).await;
    let mut clients = Vec::new();
    for target in [WEBSOCKET, POLLING, MSGPACK_WEBSOCKET] {
        clients.push(Client::connect(&server, target, Value::Null).await);
    }
    let says =
        [json!(["chat message", "hello"]), json!(["move", 1, { "x": [null] }, "three"]), json!(["ready"])];
    for event in &says {
        emit(&mut clients[0], event.clone()).await;
    }
    for client in &mut clients {
        assert_eq!(heard(client).await, says[0]);
        assert_eq!(heard(client).await, says[1]);
        assert_eq!(heard(client).await, json!(["ready", null]));
    }
    // A server of one's own speaks over HTTP; names of events that are the server's are not for that.
    let news = r#"{"type":"message","channel":"all","event":"news","data":{"headline":"x"}}
{"type":"message","channel":"all","event":"update","data":"forged"}"#;
    server.publish(news).await;
    for client in &mut clients {
        assert_eq!(heard(client).await, json!(["news", { "headline": "x" }]));
        assert_eq!(heard(client).await, json!(["message", "forged"]));
    }
    let posted = emit_with_ack(&mut clients[1], json!(["chat message", "by a poll"])).await;
    assert_eq!(posted["type"], "published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_all_but_its_sender_and_a_room_only_those_in_it() {
    let server = TestServer::start().await;
    let mut ann = Client::connect(&server, WEBSOCKET, json!({ "name": "Ann" })).await;
    let mut bob = Client::connect(&server, WEBSOCKET, json!({ "name": "Bob" })).await;
    // Who says a name is told of.
    assert_eq!(heard(&mut ann).await, json!(["joined", { "name": "Bob", "room": "all" }]));
    emit(&mut ann, json!(["broadcast", "typing", "Ann"])).await;
    emit(&mut ann, json!(["chat message", "after it"])).await;
    assert_eq!(heard(&mut bob).await, json!(["typing", "Ann"]));
    for client in [&mut ann, &mut bob] {
        assert_eq!(heard(client).await, json!(["chat message", "after it"]));
    }

    let joined = emit_with_ack(&mut ann, json!(["join", "traders"])).await;
    assert_eq!(joined["type"], "subscribed");
    emit(&mut bob, json!(["to", "traders", "order", 7])).await;
    assert_eq!(heard(&mut ann).await, json!(["order", 7]));
    emit_with_ack(&mut bob, json!(["join", ["traders", "others"]])).await;
    assert_eq!(heard(&mut ann).await, json!(["joined", { "name": "Bob", "room": "traders" }]));
    emit(&mut ann, json!(["to", "traders", "order", 8])).await;
    assert_eq!(heard(&mut bob).await, json!(["order", 8]), "what was said before is not for one who joins");
    emit_with_ack(&mut bob, json!(["leave", "traders"])).await;
    assert_eq!(heard(&mut ann).await, json!(["left", { "name": "Bob", "room": "traders" }]));
    emit_with_ack(&mut ann, json!(["to", "traders", "order", 9])).await;
    emit(&mut ann, json!(["chat message", "the end"])).await;
    assert_eq!(heard(&mut bob).await, json!(["chat message", "the end"]));
    assert_eq!(heard(&mut ann).await, json!(["chat message", "the end"]), "nothing of its own came back");
    drop(bob);
    // Of the rooms that both were in.
    assert_eq!(heard(&mut ann).await, json!(["left", { "name": "Bob", "room": "all" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_of_its_sender_and_ends_by_itself() {
    let server = TestServer::start().await;
    let mut ann = Client::connect(&server, WEBSOCKET, json!({ "name": "Ann" })).await;
    let mut eve = Client::connect(&server, MSGPACK_WEBSOCKET, Value::Null).await;
    emit(&mut ann, json!(["state", { "typing": true }, { "ttl_ms": 1 }])).await;
    // Where the end has come before, both are one change, or none.
    let ended = json!(["state", "Ann", null, "all"]);
    let first = heard(&mut eve).await;
    if first != ended {
        assert_eq!(first, json!(["state", "Ann", { "typing": true }, "all"]));
        assert_eq!(heard(&mut eve).await, ended);
    }
    emit(&mut ann, json!(["state", "away"])).await;
    assert_eq!(heard(&mut eve).await, json!(["state", "Ann", "away", "all"]));
    let refused = emit_with_ack(&mut eve, json!(["state", "away"])).await;
    assert_eq!(refused["message"], "a state is of somebody: say your name in auth");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_are_all_there_are_follow_the_word_that_the_others_have_ended() {
    let server = TestServer::start().await;
    let set = |key: &str, data: Value| {
        json!({ "type": "state", "channel": "desk", "key": key, "data": data }).to_string() + "\n"
    };
    server.publish(&set("Ann", json!("away"))).await;
    let auth = |since: Value| json!({ "topics": "states:desk", "since": since });
    let mut client = Client::connect(&server, WEBSOCKET, auth(Value::Null)).await;
    let epoch = client.next("welcome").await["epoch"].clone();
    assert_eq!(heard(&mut client).await, json!(["state", null, null, "desk"]));
    assert_eq!(heard(&mut client).await, json!(["state", "Ann", "away", "desk"]));
    client.next("update").await;
    let since = json!({ "epoch": epoch, "position": client.seen.position });
    drop(client);
    // So many that the end of Ann's is not kept.
    let many: String = (0..64).map(|number| set(&format!("{number:02}"), json!(number))).collect();
    server.publish(&(set("Ann", Value::Null) + &many)).await;
    let mut back = Client::connect(&server, WEBSOCKET, auth(since)).await;
    assert_eq!(heard(&mut back).await, json!(["state", null, null, "desk"]));
    for number in 0..64 {
        assert_eq!(heard(&mut back).await, json!(["state", format!("{number:02}"), number, "desk"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_was_away_gets_what_was_said_meanwhile_and_one_who_is_new_nothing_of_before() {
    let server = TestServer::start().await;
    let mut ann = Client::connect(&server, WEBSOCKET, Value::Null).await;
    let epoch = ann.next("welcome").await["epoch"].clone();
    emit(&mut ann, json!(["chat message", "before"])).await;
    assert_eq!(heard(&mut ann).await, json!(["chat message", "before"]));
    // The update behind it says where the client is.
    ann.next("update").await;
    let since = json!({ "epoch": epoch, "position": ann.seen.position });
    drop(ann);
    let said = r#"{"type":"message","channel":"all","event":"chat message","data":"meanwhile"}"#;
    request(server.address, "POST", "/v1/publish", &[], said.as_bytes()).await;
    let mut back = Client::connect(&server, WEBSOCKET, json!({ "since": since })).await;
    let mut new = Client::connect(&server, WEBSOCKET, Value::Null).await;
    assert_eq!(heard(&mut back).await, json!(["chat message", "meanwhile"]));
    emit(&mut new, json!(["chat message", "after"])).await;
    for client in [&mut back, &mut new] {
        assert_eq!(heard(client).await, json!(["chat message", "after"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_is_answered() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, WEBSOCKET, Value::Null).await;
    let long = "x".repeat(5000);
    for (event, code, expected) in [
        (
            json!(["subscrbe", "quote:A"]),
            "unknown_op",
            "unknown event \"subscrbe\": did you mean \"subscribe\"?",
        ),
        (
            json!(["broadcast", "update", 1]),
            "bad_request",
            "the event \"update\" is the server's: choose another name",
        ),
        (json!(["welcome", 1]), "bad_request", "the event \"welcome\" is the server's: choose another name"),
        (
            json!(["chat message", long]),
            "bad_request",
            "chat message: 5002 bytes of JSON exceed the limit of 4096",
        ),
        (json!(["to", "room"]), "bad_request", "to: expected a room, an event, and its arguments"),
        (json!(["join"]), "bad_request", "join needs at least one room"),
        (json!(["join", 5]), "bad_request", "join: 5 is no room"),
        (json!(["join", ""]), "bad_request", "a room: symbol is empty"),
        (
            json!(["state", 1, { "ttl": 5 }]),
            "bad_request",
            "state: unknown field \"ttl\": there are room and ttl_ms",
        ),
    ] {
        let answer = emit_with_ack(&mut client, event.clone()).await;
        assert_eq!((&answer["code"], &answer["message"]), (&json!(code), &json!(expected)), "{event}");
    }
    let server = TestServer::start_with(|config| config.publish = PublishRule::Off).await;
    let mut client = Client::connect(&server, WEBSOCKET, json!({ "name": "Ann" })).await;
    emit(&mut client, json!(["chat message", "hello"])).await;
    assert_eq!(client.next("error").await["code"], "not_allowed");
}
