use crate::server::support::{BINARY, CLOSE, Client, PING, PONG, RawClient, TEXT, TestServer, frame};
use serde_json::{Value, json};

/// That these bytes end a session with that code, and a Close frame that says why.
async fn check_violation(bytes: &[u8], code: u16, reason: &str) {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.send(bytes).await;
    let (closed, why) = client.closed().await;
    assert_eq!(closed, code, "{why}");
    assert!(why.contains(reason), "{why:?} does not say {reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_is_answered_with_a_close_frame_before_the_end() {
    check_violation(b"\x81\x02hi", 1002, "not masked").await;
    for reserved in [0x40, 0x20, 0x10] {
        check_violation(&frame(TEXT | reserved, b"{}"), 1002, "reserved bits").await;
    }
    check_violation(&frame(0x83, b""), 1002, "opcode 3").await;
    check_violation(&frame(0x8b, b""), 1002, "opcode 11").await;
    check_violation(&frame(0x09, b""), 1002, "control frame").await;
    check_violation(&frame(PING, &[0; 126]), 1002, "control frame").await;
    check_violation(&frame(0x80, b"x"), 1002, "continuation").await;
    check_violation(&[frame(0x01, b"{"), frame(TEXT, b"}")].concat(), 1002, "inside").await;
    check_violation(&[0x82, 0xfe, 0, 5, 0, 0, 0, 0], 1002, "shortest form").await;
    check_violation(&frame(CLOSE, b"\x03"), 1002, "close frame").await;
    for unsendable in [999_u16, 1005, 1006, 1015, 2999, 5000] {
        check_violation(&frame(CLOSE, &unsendable.to_be_bytes()), 1002, "close frame").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf_8_ends_the_session_with_1007() {
    check_violation(&frame(TEXT, b"\xc3\x28"), 1007, "UTF-8").await;
    check_violation(&[frame(0x01, b"\xc3"), frame(0x80, b"\x28")].concat(), 1007, "UTF-8").await;
    check_violation(&frame(CLOSE, b"\x03\xe8\xff"), 1007, "UTF-8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_64_kib_ends_the_session_with_1009() {
    check_violation(&frame(TEXT, &vec![b'x'; 70 * 1024]), 1009, "65536").await;
    check_violation(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009, "65536").await;
    let half = vec![b'x'; 35 * 1024];
    check_violation(&[frame(0x01, &half), frame(0x80, &half)].concat(), 1009, "65536").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_make_one_message_with_control_frames_between() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.text().await;
    let pieces: Vec<u8> = [
        frame(0x01, br#"{"op":"pi"#),
        frame(PING, b"between"),
        frame(0x00, br#"ng","id":""#),
        frame(0x00, b"\xc3"),
        frame(0x80, b"\xa9\"}"),
    ]
    .concat();
    for byte in pieces {
        client.send(&[byte]).await;
    }
    assert_eq!(client.frame().await, Some((PONG, b"between".to_vec())));
    assert_eq!(client.text().await["id"], "\u{e9}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_exactly_64_kib_is_read() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.text().await;
    let mut text = json!({"op": "ping", "id": 1}).to_string();
    text.push_str(&" ".repeat(64 * 1024 - text.len()));
    client.send(&frame(TEXT, text.as_bytes())).await;
    assert_eq!(client.text().await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_with_its_payload() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.text().await;
    for payload in [b"".as_slice(), b"tick", &[7; 125]] {
        client.send(&frame(PING, payload)).await;
        assert_eq!(client.frame().await, Some((PONG, payload.to_vec())));
    }
    client.send(&[frame(PONG, b"unasked"), frame(PING, b"still here")].concat()).await;
    assert_eq!(client.frame().await, Some((PONG, b"still here".to_vec())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_answered_with_its_code() {
    for (payload, code) in [(b"\x03\xe8".as_slice(), 1000), (b"\x0f\xa0bye", 4000), (b"", 1000)] {
        let server = TestServer::start().await;
        let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
        client.send(&[frame(CLOSE, payload), frame(TEXT, br#"{"op":"ping"}"#)].concat()).await;
        assert_eq!(client.closed().await.0, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_answered_and_the_session_goes_on() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    let long = "x".repeat(65);
    for (request, code, told) in [
        (json!("{{{"), "bad_request", "malformed request"),
        (json!([1, 2]), "bad_request", "malformed request"),
        (json!({"id": 1}), "bad_request", "missing field `op`"),
        (json!({"op": "subscrbe"}), "unknown_op", "did you mean \"subscribe\"?"),
        (json!({"op": "subscribe"}), "bad_request", "needs \"topics\""),
        (json!({"op": "subscribe", "topics": []}), "bad_request", "at least one topic"),
        (json!({"op": "subscribe", "topics": "quote:A"}), "bad_request", "malformed request"),
        (json!({"op": "subscribe", "topic": ["quote:A"]}), "bad_request", "topic"),
        (json!({"op": "subscribe", "topics": ["quote:A"], "max_hz": 0}), "bad_request", "max_hz"),
        (json!({"op": "ping", "id": long}), "bad_request", "64 bytes"),
        (json!({"op": "ping", "id": 1_u64 << 53}), "bad_request", "2^53"),
        (json!({"op": "ping", "id": -1}), "bad_request", "malformed"),
    ] {
        let answer = client.ask(request.clone(), "error").await;
        assert_eq!(answer["code"], code, "{request}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(told), "{request}: {message}");
    }
    assert_eq!(client.ask(json!({"op": "ping", "id": 5}), "pong").await["id"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_answered_with_its_id() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    for request in [
        json!({"op": "nonsense", "id": "mine"}),
        json!({"op": "subscribe", "id": "mine"}),
        json!({"op": "ping", "id": "mine", "extra": {"a": [1]}}),
        json!({"op": 5, "id": "mine"}),
    ] {
        assert_eq!(client.ask(request.clone(), "error").await["id"], "mine", "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_does_not_overflow_a_stack() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.text().await;
    let json = format!(r#"{{"op":"ping","id":{}"#, "[".repeat(60_000));
    client.send(&frame(TEXT, json.as_bytes())).await;
    assert_eq!(client.text().await["type"], "error");
    for key in [b"\xa2id".as_slice(), b"\xa1x"] {
        let nested = [b"\x82\xa2op\xa4ping", key, &vec![0x91; 60_000]].concat();
        client.send(&frame(BINARY, &nested)).await;
        assert_eq!(client.text().await["type"], "error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_200_requests_ends_the_session_with_4429() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    client.text().await;
    client.send(&frame(TEXT, br#"{"op":"ping"}"#).repeat(200)).await;
    let (mut pongs, mut last) = (0, Value::Null);
    let code = loop {
        match client.frame().await.expect("a Close frame before the end") {
            (TEXT, payload) => {
                last = serde_json::from_slice(&payload).unwrap();
                pongs += 1;
            }
            (CLOSE, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((code, &last["type"]), (4429, &json!("pong")));
    // 100 at once, and what a second or two of a slow machine adds.
    assert!((100..200).contains(&pongs), "{pongs}");
    assert_eq!(client.frame().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_used_up_its_requests_may_still_close() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let burst = [frame(TEXT, br#"{"op":"ping"}"#).repeat(100), frame(CLOSE, b"\x03\xe8")].concat();
    client.send(&burst).await;
    assert_eq!(client.closed().await.0, 1000);
}
