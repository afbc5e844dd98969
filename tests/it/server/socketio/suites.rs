//! What the public test suites of both protocols found, and what they need: a server that sends back what
//! comes. Written for this server; the suites themselves are run by hand (`docs/socketio.md`).

use super::{BETWEEN, Client, POLLING, Packet, WEBSOCKET};
use crate::server::support::{PATIENCE, RawClient, TEXT, TestServer, frame, request};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickcast::wire::engineio::Timing;

/// Longer than in the suites: the machine may have other work.
const TIMING: Timing =
    Timing { ping_interval: Duration::from_millis(200), ping_timeout: Duration::from_secs(3) };

async fn echo(timing: Timing) -> TestServer {
    TestServer::start_with(|config| config.protocol_echo = Some(timing)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_engine_io_come_back_in_the_next_poll() {
    let server = echo(Timing { ping_interval: PATIENCE, ..TIMING }).await;
    let polling = "/engine.io/?EIO=4&transport=polling";
    let opened = server.get(polling).await.text();
    let opened: Value = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(
        (&opened["pingInterval"], &opened["pingTimeout"], &opened["maxPayload"]),
        (&json!(30_000), &json!(3000), &json!(1_000_000))
    );
    let target = format!("{polling}&sid={}", opened["sid"].as_str().unwrap());
    let body = format!("4one{BETWEEN}4two{BETWEEN}bAQIDBA==");
    assert_eq!(request(server.address, "POST", &target, &[], body.as_bytes()).await.text(), "ok");
    assert_eq!(server.get(&target).await.text(), body);
    // Without the suites there is no such door.
    let usual = TestServer::start().await;
    assert_eq!(usual.get(polling).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_their_attachments_come_back() {
    let server = echo(TIMING).await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::open(&server, target).await;
        client.send(r#"40/custom,{"token":"abc"}"#).await;
        assert_eq!(client.text().await, format!(r#"40/custom,{{"sid":"{}"}}"#, client.sid));
        assert_eq!(client.text().await, r#"42/custom,["auth",{"token":"abc"}]"#);
        client.send("40/random").await;
        assert_eq!(client.text().await, r#"44/random,{"message":"Invalid namespace"}"#);
        client.send(r#"42/custom,["message",1,"2",{"3":[true]}]"#).await;
        assert_eq!(client.text().await, r#"42/custom,["message-back",1,"2",{"3":[true]}]"#);
        let attachment = r#"{"_placeholder":true,"num":0}"#;
        client.send(&format!(r#"451-/custom,7["message-with-ack",{attachment}]"#)).await;
        client.send_packet(&Packet::Binary(vec![1, 2, 3])).await;
        assert_eq!(client.text().await, format!("461-/custom,7[{attachment}]"));
        assert_eq!(client.packet().await, Packet::Binary(vec![1, 2, 3]));
    }
    // A packet where an attachment was announced, and an attachment that was not.
    for packets in [
        vec![Packet::Text("451-[\"message\",0]".to_owned()), Packet::Text("42[\"message\"]".to_owned())],
        vec![Packet::Binary(vec![1])],
    ] {
        let mut client = Client::open(&server, WEBSOCKET).await;
        client.send("40").await;
        for packet in packets {
            client.send_packet(&packet).await;
        }
        assert_eq!(client.closed().await.0, 1008);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_heartbeat_is_over() {
    let server = echo(TIMING).await;
    let Timing { ping_interval, ping_timeout } = TIMING;
    let began = Instant::now();
    let client = Client::open(&server, POLLING).await;
    assert_eq!(client.poll().await.text(), "2");
    assert!(began.elapsed() >= ping_interval, "{:?}", began.elapsed());
    let last = client.poll().await;
    assert!(began.elapsed() >= ping_interval + ping_timeout, "{:?}", began.elapsed());
    assert_eq!(last.text(), "1");
    assert_eq!(client.poll().await.json()["code"], 1);

    let began = Instant::now();
    let mut socket = RawClient::connect(&server, WEBSOCKET, b"").await;
    assert!(socket.data().await.unwrap().1.starts_with(b"0{"));
    assert_eq!(socket.data().await, Some((TEXT, b"2".to_vec())));
    assert_eq!(socket.closed().await, (4408, "no heartbeat was answered".to_owned()));
    assert!(began.elapsed() >= ping_interval + ping_timeout, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_heartbeats_goes_on_in_no_namespace() {
    let server = echo(TIMING).await;
    let client = Client::open(&server, POLLING).await;
    let mut socket = RawClient::connect(&server, WEBSOCKET, b"").await;
    assert!(socket.data().await.unwrap().1.starts_with(b"0{"));
    for _ in 0..4 {
        assert_eq!(client.poll().await.text(), "2");
        assert_eq!(client.post("3").await.status, 200);
        assert_eq!(socket.data().await, Some((TEXT, b"2".to_vec())));
        socket.send(&frame(TEXT, b"3")).await;
    }
}
