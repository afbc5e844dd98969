//! What clients may not do, and what they are told.

use super::{BETWEEN, Client, MSGPACK_POLLING, MSGPACK_WEBSOCKET, POLLING, Packet, WEBSOCKET};
use crate::server::support::{RawClient, TEXT, TestServer, frame, handshake, request, soon};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_gets_the_errors_of_engine_io() {
    let server = TestServer::start().await;
    let check =
        async |method: &str, target: &str, headers: &[(&str, &str)], status: u16, code: u8, says: &str| {
            let response = request(server.address, method, target, headers, b"").await;
            response.check_problem(status, says);
            let body = response.json();
            assert_eq!(body["code"], code, "{method} {target}: {body}");
            assert!(body["message"].is_string(), "{body}");
        };
    check("GET", "/socket.io/", &[], 400, 5, "EIO=\"\": version 4").await;
    check("GET", "/socket.io/?EIO=3&transport=polling", &[], 400, 5, "EIO=\"3\"").await;
    check("GET", "/socket.io/?EIO=4", &[], 400, 0, "transport=\"\"").await;
    check("GET", "/socket.io/?EIO=4&transport=webtransport", &[], 400, 0, "polling and websocket").await;
    check("POST", POLLING, &[], 400, 2, "POST does not begin").await;
    check("PUT", &format!("{POLLING}&sid=x"), &[], 400, 2, "PUT").await;
    check("GET", &format!("{POLLING}&sid=nobody"), &[], 400, 1, "sid=\"nobody\"").await;
    check("POST", &format!("{POLLING}&sid=nobody"), &[], 400, 1, "no such connection").await;
    check("GET", POLLING, &[("Origin", "https://stranger.example")], 403, 4, "not let in").await;
    server.get(WEBSOCKET).await.check_problem(426, "speaks WebSocket");
    assert_eq!(request(server.address, "OPTIONS", POLLING, &[], b"").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_is_no_handshake_gets_the_same_errors() {
    let server = TestServer::start().await;
    let upgrade = format!("{WEBSOCKET}&sid=nobody");
    let stranger = [("Origin", "https://stranger.example")];
    for (target, headers, status, code, says) in [
        ("/socket.io/?EIO=3&transport=websocket", &[][..], 400, 5, "EIO=\"3\""),
        (&upgrade, &[], 400, 1, "sid=\"nobody\""),
        (WEBSOCKET, &stranger, 403, 4, "not let in"),
        (&upgrade, &stranger, 403, 4, "not let in"),
    ] {
        let mut client = RawClient::dial(server.address).await;
        client.send(handshake(server.address, target, headers).as_bytes()).await;
        let response = client.response("GET").await;
        response.check_problem(status, says);
        assert_eq!(response.json()["code"], code, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_packet_over_a_websocket_is_none() {
    let server = TestServer::start().await;
    let mut listener = Client::connect(&server, WEBSOCKET, Value::Null).await;
    let mut half = RawClient::connect(&server, WEBSOCKET, b"").await;
    let packet = frame(TEXT, br#"42["chat message","half"]"#);
    half.send(&[frame(TEXT, b"40"), packet[..packet.len() / 2].to_vec()].concat()).await;
    drop(half);
    let is_gone = async {
        while !server.get("/metrics").await.text().contains("tickcast_connections{shard=\"0\"} 1\n") {}
    };
    soon("its end", is_gone).await;
    server
        .publish("{\"type\":\"message\",\"channel\":\"all\",\"event\":\"news\",\"data\":\"whole\"}\n")
        .await;
    let heard = async {
        loop {
            let said = listener.said().await;
            if !matches!(said.data[0].as_str(), Some("welcome" | "subscribed" | "update")) {
                return said.data;
            }
        }
    };
    assert_eq!(soon("what is whole", heard).await, json!(["news", "whole"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_breaks_the_protocol_ends_its_connection() {
    let server = TestServer::start().await;
    for (packet, says) in [
        ("", "empty"),
        ("x", "Engine.IO packet type 'x'"),
        ("4", "Socket.IO packet type"),
        ("42[]", "begins with its name"),
        ("42[\"subscribe\"", "malformed JSON"),
        ("45[\"x\"]", "attachments"),
        ("4510000-[\"x\"]", "attachments"),
    ] {
        for is_connected in [false, true] {
            let mut client = if is_connected {
                Client::connect(&server, WEBSOCKET, Value::Null).await
            } else {
                Client::open(&server, WEBSOCKET).await
            };
            client.send(packet).await;
            let (code, reason) = client.closed().await;
            assert!(code == 1008 && reason.contains(says), "{packet:?}: {code} {reason:?}");
        }
        // Bodies of HTTP are never empty.
        if packet.is_empty() {
            continue;
        }
        let client = Client::open(&server, POLLING).await;
        client.post(packet).await.check_problem(400, says);
        assert_eq!(client.poll().await.json()["code"], 1, "{packet:?}");
    }
    let mut early = Client::open(&server, WEBSOCKET).await;
    early.send("42[\"ping\"]").await;
    assert_eq!(early.closed().await, (1008, "an event before its namespace was connected".to_owned()));
    let early = Client::open(&server, POLLING).await;
    early.post("42[\"ping\"]").await.check_problem(400, "before its namespace");
    let large = Client::open(&server, POLLING).await;
    large.post(&"4".repeat(70_000)).await.check_problem(413, "64 KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_is_refused_and_passed_over() {
    let server = TestServer::start().await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::connect(&server, target, Value::Null).await;
        client.send(r#"451-9["ping",{"_placeholder":true,"num":0}]"#).await;
        client.send_packet(&Packet::Binary(b"abc".to_vec())).await;
        let refused = client.next("ack").await;
        assert_eq!((&refused["id"], &refused["code"]), (&json!(9), &json!("bad_request")), "{refused}");
        client.send(r#"421["ping"]"#).await;
        assert_eq!(client.next("ack").await["type"], "pong");
    }
    for target in [MSGPACK_WEBSOCKET, MSGPACK_POLLING] {
        let mut client = Client::connect(&server, target, Value::Null).await;
        // The same with its data where the other parser has a placeholder.
        let mut event =
            rmp_serde::to_vec(&json!({ "type": 2, "nsp": "/", "id": 9, "data": ["ping", null] })).unwrap();
        assert_eq!(event.pop(), Some(0xc0));
        event.extend([0xc4, 3, b'a', b'b', b'c']);
        client.send_packet(&Packet::Binary(event)).await;
        let refused = client.next("ack").await;
        assert_eq!((&refused["id"], &refused["code"]), (&json!(9), &json!("bad_request")), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_other_parser_is_told_where_its_own_is_spoken() {
    let server = TestServer::start().await;
    let connect = rmp_serde::to_vec(&json!({ "type": 0, "nsp": "/" })).unwrap();
    for (target, packet, says) in [
        (MSGPACK_WEBSOCKET, Packet::Text("40".to_owned()), "here packets are MessagePack"),
        (WEBSOCKET, Packet::Binary(connect), "MessagePack is spoken at /socket.io/msgpack/"),
    ] {
        let mut client = Client::open(&server, target).await;
        client.send_packet(&packet).await;
        let (code, reason) = client.closed().await;
        assert!(code == 1008 && reason.contains(says), "{code} {reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_in_messagepack_that_break_the_protocol_end_their_connection() {
    let server = TestServer::start().await;
    let deep = [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data".to_vec(), vec![0x91; 40_000]].concat();
    for (packet, says) in [
        (Vec::new(), "malformed MessagePack"),
        (vec![0xdf, 0xff, 0xff, 0xff, 0xff], "malformed MessagePack"),
        (deep, "malformed MessagePack"),
        (rmp_serde::to_vec(&json!({ "type": 2, "nsp": "/", "data": {} })).unwrap(), "begins with its name"),
        (rmp_serde::to_vec(&json!({ "type": 9, "nsp": "/" })).unwrap(), "packet type"),
    ] {
        for is_connected in [false, true] {
            let mut client = if is_connected {
                Client::connect(&server, MSGPACK_WEBSOCKET, Value::Null).await
            } else {
                Client::open(&server, MSGPACK_WEBSOCKET).await
            };
            client.send_packet(&Packet::Binary(packet.clone())).await;
            let (code, reason) = client.closed().await;
            assert!(code == 1008 && reason.contains(says), "{packet:?}: {code} {reason:?}");
        }
        let client = Client::open(&server, MSGPACK_POLLING).await;
        client.post(&format!("b{}", BASE64_STANDARD.encode(&packet))).await.check_problem(400, says);
        assert_eq!(client.poll().await.json()["code"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cannot_be_read_ends_its_connection() {
    let server = TestServer::start().await;
    let check = async |body: &[u8], says: &str| {
        let client = Client::connect(&server, POLLING, Value::Null).await;
        let posted = request(server.address, "POST", &client.polling(), &[], body).await;
        posted.check_problem(400, says);
        assert_eq!(client.poll().await.json()["code"], 1, "{says}");
    };
    check(b"42[\"ping\"]\x1e\xff", "a payload is UTF-8").await;
    check(b"b!", "malformed base64").await;
    // One that ends too early is no payload at all: the client may post again.
    let mut client = Client::connect(&server, POLLING, Value::Null).await;
    let mut half = RawClient::dial(server.address).await;
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n421[\"pi", client.polling());
    half.send(head.as_bytes()).await;
    drop(half);
    client.send(r#"422["ping"]"#).await;
    assert_eq!(client.next("ack").await["id"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_is_checked() {
    let server = TestServer::start().await;
    for (auth, says) in [
        (json!({ "topics": ["quote:A"], "max_hz": 0 }), "expected a number from 0.1 to 1000"),
        (json!({ "since": "yesterday" }), "an epoch and a position"),
        (json!({ "since": { "epoch": 1 } }), "an epoch and a position"),
        (json!({ "topics": [1] }), "1 is not a text"),
        (json!({ "topic": "quote:A" }), "did you mean \\\"topics\\\"?"),
        (json!(["quote:A"]), "expected a map"),
        (json!({ "key": "k" }), "are of a room"),
    ] {
        for target in [WEBSOCKET, POLLING] {
            let mut client = Client::open(&server, target).await;
            client.send(&format!("40{auth}")).await;
            let refused = client.text().await;
            assert!(refused.starts_with("44{") && refused.contains(says), "{auth}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_nobody_fetches_do_not_pile_up() {
    let server = TestServer::start().await;
    let client = Client::open(&server, POLLING).await;
    let many = vec!["40/no room,"; 1000].join(&BETWEEN.to_string());
    client.post(&many).await.check_problem(400, "64 answers wait");
    assert_eq!(client.poll().await.json()["code"], 1);
}
