//! A namespace is a room, and a connection may be in several.

use super::{Client, MSGPACK_POLLING, MSGPACK_WEBSOCKET, POLLING, Said, WEBSOCKET, soon};
use crate::server::support::{Seen, TestServer, quote, trade};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;

/// What a client has been told in each namespace.
#[derive(Default)]
struct SeenIn(BTreeMap<String, Seen>);

impl SeenIn {
    /// Takes packets in, until one satisfies a condition.
    async fn until(&mut self, client: &mut Client, what: &str, is_it: impl Fn(&Said, &Self) -> bool) -> Said {
        let read = async {
            loop {
                let said = client.said().await;
                if said.kind == 2 && said.data[0] == "update" {
                    self.0.entry(said.namespace.clone()).or_default().take(&said.data[1]);
                }
                if is_it(&said, self) {
                    return said;
                }
            }
        };
        soon(what, read).await
    }

    fn updates(&self, namespace: &str) -> usize {
        self.0.get(namespace).map_or(0, |seen| seen.updates)
    }

    fn position(&self, namespace: &str) -> u64 {
        self.0.get(namespace).map_or(0, |seen| seen.position)
    }

    /// Joins a namespace, and returns the answer.
    async fn join(&mut self, client: &mut Client, namespace: &str, auth: Value) -> Said {
        client.say(0, namespace, None, &auth).await;
        let is_answer = |said: &Said, _: &Self| matches!(said.kind, 0 | 4) && said.namespace == namespace;
        self.until(client, "an answer", is_answer).await
    }

    /// Asks in a namespace whether a session is there.
    async fn ping(&mut self, client: &mut Client, namespace: &str, id: u64) {
        client.say(2, namespace, Some(id), &json!(["ping"])).await;
        let is_pong = |said: &Said, _: &Self| said.kind == 3 && said.id == Some(id);
        let pong = self.until(client, "a pong", is_pong).await;
        assert_eq!((&*pong.namespace, &pong.data[0]["type"]), (namespace, &json!("pong")));
    }
}

/// Waits until so many sessions are in the public market, and in rooms.
async fn until_sessions(server: &TestServer, public: usize, rooms: usize) {
    let reached = async {
        loop {
            let text = server.get("/metrics").await.text();
            let lines = [
                format!("tickcast_connections{{shard=\"0\"}} {public}\n"),
                format!("tickcast_rooms {rooms}\n"),
            ];
            if lines.iter().all(|line| text.contains(line)) {
                break;
            }
        }
    };
    soon("as many sessions", reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_a_namespace() {
    let server = TestServer::start_with(|config| config.max_rooms = 2).await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::open(&server, target).await;
        client.send("40/no room,{}").await;
        let refused = client.text().await;
        let invalid = r#"44/no room,{"message":"Invalid namespace","data":{"status":400,"#;
        assert!(refused.starts_with(invalid), "{refused}");
        // It may try another.
        let room = if target == WEBSOCKET { "/one" } else { "/two" };
        client.send(&format!(r#"40{room},{{"topics":["quote:*"],"seed":7}}"#)).await;
        assert_eq!(client.text().await, format!(r#"40{room},{{"sid":"{}"}}"#, client.sid));
        room.clone_into(&mut client.namespace);
        let epoch = client.next("welcome").await["epoch"].clone();
        let instruments = server.get(&format!("/v1/instruments?room={}", &room[1..])).await;
        assert_eq!(instruments.json()["epoch"], epoch);
        client.next("update").await;
        // An event of a namespace that it is not in means nothing.
        client.send(r#"424["ping"]"#).await;
        client.send(&format!(r#"42{room},3["ping"]"#)).await;
        assert_eq!(client.next("ack").await["id"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_namespaces_share_a_connection_and_each_is_left_by_itself() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    for target in [WEBSOCKET, POLLING, MSGPACK_WEBSOCKET, MSGPACK_POLLING] {
        let (mut client, mut seen) = (Client::open(&server, target).await, SeenIn::default());
        let joined = seen.join(&mut client, "/", json!({ "topics": ["trades:A"] })).await;
        assert_eq!((joined.kind, &joined.data["sid"]), (0, &json!(client.sid)), "{target}");
        let joined = seen.join(&mut client, "/one", json!({ "topics": ["quote:*"], "seed": 7 })).await;
        assert_eq!((joined.kind, &joined.data["sid"]), (0, &json!(client.sid)), "{target}");
        // Both go on, each as far as its heartbeats are answered.
        for size in 2..40 {
            let published = server.publish(&trade("A", "1", size)).await;
            let position = published["position"].as_u64().unwrap();
            seen.until(&mut client, "its trade", |_, seen| seen.position("/") >= position).await;
        }
        seen.until(&mut client, "the room", |_, seen| seen.updates("/one") >= 8).await;
        let numbers = seen.0["/"].numbers("trades:A");
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<u64>>());
        seen.ping(&mut client, "/one", 1).await;
        seen.ping(&mut client, "/", 2).await;

        // What cannot be joined leaves the others as they are.
        for (namespace, says) in [("/no room", "Invalid namespace"), ("/one", "in that namespace already")] {
            let refused = seen.join(&mut client, namespace, Value::Null).await;
            let message = refused.data["message"].as_str().unwrap();
            assert!(refused.kind == 4 && message.contains(says), "{refused:?}");
        }
        let refused = seen.join(&mut client, "/two", json!({ "since": "yesterday" })).await;
        assert_eq!((refused.kind, &refused.data["data"]["status"]), (4, &json!(400)), "{refused:?}");

        client.say(1, "/", None, &Value::Null).await;
        until_sessions(&server, 0, 1).await;
        let before = seen.updates("/one");
        seen.until(&mut client, "more of the room", |_, seen| seen.updates("/one") > before + 2).await;
        client.say(1, "/one", None, &Value::Null).await;
        until_sessions(&server, 0, 0).await;
        // The connection goes on without a namespace, for another one.
        let joined = seen.join(&mut client, "/", json!({ "topics": ["trades:A"] })).await;
        assert_eq!(joined.kind, 0, "{joined:?}");
        seen.ping(&mut client, "/", 3).await;
        client.send("1").await;
        until_sessions(&server, 0, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_namespace_may_be_left_for_another_one() {
    let server = TestServer::start().await;
    for target in [WEBSOCKET, POLLING] {
        let (mut client, mut seen) = (Client::open(&server, target).await, SeenIn::default());
        for id in 0..3 {
            assert_eq!(seen.join(&mut client, "/", Value::Null).await.kind, 0);
            seen.ping(&mut client, "/", id).await;
            client.send("41").await;
            until_sessions(&server, 0, 0).await;
        }
        // An event of no namespace breaks the protocol.
        if target == WEBSOCKET {
            client.send(r#"42["ping"]"#).await;
            assert_eq!(client.closed().await.0, 1008);
        } else {
            client.post(r#"42["ping"]"#).await.check_problem(400, "before its namespace");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_takes_all_namespaces_along() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    let (mut client, mut seen) = (Client::open(&server, POLLING).await, SeenIn::default());
    seen.join(&mut client, "/", json!({ "topics": ["trades:A"] })).await;
    seen.join(&mut client, "/one", json!({ "topics": ["quote:*"], "seed": 7 })).await;
    let mut size = 1;
    let mut more = async || {
        let lines: String = (size + 1..=size + 100).map(|size| trade("A", "1", size)).collect();
        size += 100;
        server.publish(&lines).await
    };
    more().await;
    let socket = client.begin_upgrade().await;
    more().await;
    client.end_upgrade(socket).await;
    let position = more().await["position"].as_u64().unwrap();
    seen.until(&mut client, "all trades", |_, seen| seen.position("/") >= position).await;
    let numbers = seen.0["/"].numbers("trades:A");
    assert_eq!(numbers, (0..301).collect::<Vec<u64>>());
    let before = seen.updates("/one");
    seen.until(&mut client, "more of the room", |_, seen| seen.updates("/one") > before + 2).await;
    seen.ping(&mut client, "/", 1).await;
    seen.ping(&mut client, "/one", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_ends_takes_only_its_namespace_along() {
    let server = TestServer::start_with(|config| config.room_idle = Duration::from_millis(200)).await;
    for target in [WEBSOCKET, POLLING] {
        let (mut client, mut seen) = (Client::open(&server, target).await, SeenIn::default());
        seen.join(&mut client, "/", Value::Null).await;
        seen.join(&mut client, "/one", json!({ "seed": 7 })).await;
        client.say(2, "/one", None, &json!(["replay", { "action": "pause" }])).await;
        let is_left = |said: &Said, _: &SeenIn| said.kind == 1;
        let left = seen.until(&mut client, "the end of the room", is_left).await;
        assert_eq!((&*left.namespace, left.data), ("/one", Value::Null));
        seen.ping(&mut client, "/", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_be_in_sixteen_namespaces() {
    let server = TestServer::start_with(|config| {
        // Rooms of a few ticks, which are soon at their end.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/example-quotes.csv");
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
        config.max_rooms = 17;
    })
    .await;
    server.until_ready().await;
    for target in [WEBSOCKET, POLLING] {
        let (mut client, mut seen) = (Client::open(&server, target).await, SeenIn::default());
        let rooms: Vec<String> = (0..16).map(|room| format!("/room-{room}")).collect();
        for room in &rooms {
            let joined = seen.join(&mut client, room, json!({ "topics": ["quote:*"] })).await;
            assert_eq!(joined.kind, 0, "{joined:?}");
        }
        let refused = seen.join(&mut client, "/", Value::Null).await;
        let message = refused.data["message"].as_str().unwrap();
        assert!(refused.kind == 4 && message.contains("16 namespaces"), "{refused:?}");
        // Leaving one makes room for another.
        client.say(1, &rooms[0], None, &Value::Null).await;
        assert_eq!(seen.join(&mut client, "/", Value::Null).await.kind, 0);
        for (id, room) in (0..).zip(&rooms[1..]) {
            seen.ping(&mut client, room, id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_sockets_are_bounded_for_all_connections_together() {
    let server = TestServer::start_with(|config| config.max_http_connections = 2).await;
    let (mut client, mut seen) = (Client::open(&server, WEBSOCKET).await, SeenIn::default());
    assert_eq!(seen.join(&mut client, "/", Value::Null).await.kind, 0);
    assert_eq!(seen.join(&mut client, "/one", json!({ "seed": 7 })).await.kind, 0);
    let refused = seen.join(&mut client, "/two", json!({ "seed": 7 })).await;
    assert_eq!((refused.kind, &refused.data["data"]["status"]), (4, &json!(503)), "{refused:?}");
    // A connection with one namespace needs none, and one that leaves a namespace gives its own back.
    let (mut other, mut seen_by_other) = (Client::open(&server, WEBSOCKET).await, SeenIn::default());
    assert_eq!(seen_by_other.join(&mut other, "/", Value::Null).await.kind, 0);
    client.say(1, "/one", None, &Value::Null).await;
    assert_eq!(seen.join(&mut client, "/two", json!({ "seed": 7 })).await.kind, 0);
    // One that is taken back when there is none is told to come back later.
    other.say(0, "/one", None, &json!({ "seed": 7 })).await;
    assert_eq!(other.closed().await.0, 1013);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_seldom_gets_the_newest_of_each_namespace() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2000000")).await;
    let (mut client, mut seen) = (Client::open(&server, WEBSOCKET).await, SeenIn::default());
    seen.join(&mut client, "/one", json!({ "topics": ["quote:*"], "seed": 7 })).await;
    seen.join(&mut client, "/", json!({ "topics": ["quote:A", "trades:A"] })).await;
    let mut position = 0;
    for round in 0..20_u64 {
        let of_round = round * 1000..(round + 1) * 1000;
        let lines: String =
            of_round.map(|n| quote("A", &(n + 2).to_string(), "2000000") + &trade("A", "1", n + 1)).collect();
        position = server.publish(&lines).await["position"].as_u64().unwrap();
    }
    seen.until(&mut client, "the newest quote", |_, seen| seen.position("/") >= position).await;
    let public = &seen.0["/"];
    assert_eq!(public.field("quote:A", "bid"), "20001.00");
    let numbers = public.numbers("trades:A");
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "each at most once and in order");
    assert!(numbers.ends_with(&(20_000 - 1024..20_000).collect::<Vec<u64>>()), "all that the ring holds");
    assert!(public.updates < 200, "{} updates", public.updates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_closes_a_connection_with_several_namespaces() {
    let server = TestServer::start().await;
    let (mut client, mut seen) = (Client::open(&server, WEBSOCKET).await, SeenIn::default());
    seen.join(&mut client, "/", Value::Null).await;
    seen.join(&mut client, "/one", json!({ "seed": 7 })).await;
    let ((), closed) = tokio::join!(server.shutdown(), client.closed());
    assert_eq!(closed, (1012, "server is shutting down".to_owned()));
}
