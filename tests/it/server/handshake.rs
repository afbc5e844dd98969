use crate::server::support::{
    BINARY, Client, RawClient, Response, TEXT, TestServer, frame, handshake, request,
};
use serde_json::json;

/// The answer to a handshake with these headers behind the usual ones.
async fn shake(server: &TestServer, path: &str, extra: &[(&str, &str)]) -> Response {
    let mut client = RawClient::dial(server.address).await;
    client.send(handshake(server.address, path, extra).as_bytes()).await;
    client.response("GET").await
}

async fn check_refused(path: &str, extra: &[(&str, &str)], status: u16, detail: &str) {
    let server = TestServer::start().await;
    shake(&server, path, extra).await.check_problem(status, detail);
}

/// A handshake with one line of it replaced by another.
async fn check_broken(line: &str, by: &str, status: u16, detail: &str) {
    let server = TestServer::start().await;
    let whole = handshake(server.address, "/v1/ws", &[]);
    let broken = whole.replace(line, by);
    assert_ne!(whole, broken);
    let mut client = RawClient::dial(server.address).await;
    client.send(broken.as_bytes()).await;
    let response = client.response("GET").await;
    response.check_problem(status, detail);
    if status == 426 {
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
        assert_eq!(response.header("upgrade"), Some("websocket"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_handshake_are_told_what_one_is() {
    check_broken("Upgrade: websocket\r\n", "", 426, "websocat").await;
    check_broken("Connection: Upgrade\r\n", "Connection: keep-alive\r\n", 426, "websocat").await;
    check_broken("Version: 13", "Version: 8", 426, "version 13").await;
    check_broken("Sec-WebSocket-Version: 13\r\n", "", 426, "version 13").await;
    check_broken("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400, "16 bytes").await;
    check_broken("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "Sec-WebSocket-Key").await;
    check_broken("GET ", "POST ", 405, "POST").await;
    let server = TestServer::start().await;
    let mut client = RawClient::dial(server.address).await;
    client.send(handshake(server.address, "/v1/ws", &[]).replace("GET ", "HEAD ").as_bytes()).await;
    let response = client.response("HEAD").await;
    assert_eq!((response.status, response.header("allow")), (405, Some("GET")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_by_the_rfc_is_answered_with_its_key() {
    let server = TestServer::start().await;
    let response = shake(&server, "/v1/ws", &[]).await;
    assert_eq!(response.status, 101);
    // The example of RFC 6455, section 1.3.
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(response.header("sec-websocket-protocol"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_known_subprotocol_is_taken() {
    let server = TestServer::start().await;
    for (offered, taken) in [
        ("mqtt, tickcast.v1.json, tickcast.v1.msgpack", "tickcast.v1.json"),
        ("tickcast.v1.msgpack,tickcast.v1.json", "tickcast.v1.msgpack"),
    ] {
        let response = shake(&server, "/v1/ws", &[("Sec-WebSocket-Protocol", offered)]).await;
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, Some(taken)));
    }
    let in_two = [("Sec-WebSocket-Protocol", "mqtt"), ("Sec-WebSocket-Protocol", "tickcast.v1.json")];
    let response = shake(&server, "/v1/ws", &in_two).await;
    assert_eq!(response.header("sec-websocket-protocol"), Some("tickcast.v1.json"));
    let deflate = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    assert_eq!(shake(&server, "/v1/ws", &deflate).await.header("sec-websocket-extensions"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unknown_subprotocols_are_refused() {
    let offered = [("Sec-WebSocket-Protocol", "tickcast.v2.json")];
    check_refused("/v1/ws", &offered, 400, "unknown subprotocol \"tickcast.v2.json\"").await;
    check_refused("/v1/ws", &[("Sec-WebSocket-Protocol", "\u{e9}")], 400, "subprotocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_are_refused() {
    check_refused("/v1/ws", &[("Origin", "https://evil.example")], 403, "origin").await;
    let server =
        TestServer::start_with(|config| config.allowed_origins = vec!["desk.example".to_owned()]).await;
    let response = shake(&server, "/v1/ws", &[("Origin", "https://desk.example")]).await;
    assert_eq!(response.status, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_query_is_told_the_right_one() {
    check_refused("/v1/ws?topcis=quote:A", &[], 400, "did you mean \"topics\"?").await;
    check_refused("/v1/ws?zzzzzzzzzz=1", &[], 400, "there are topics, new, max_hz").await;
    check_refused("/v1/ws?max_hz=fast", &[], 400, "max_hz=\"fast\": expected a number from 0.1 to 1000")
        .await;
    check_refused("/v1/ws?max_hz=NaN", &[], 400, "max_hz").await;
    check_refused("/v1/ws?times=yes", &[], 400, "times=\"yes\": expected true or false").await;
    check_refused("/v1/ws?epoch=5", &[], 400, "epoch and position go together").await;
    check_refused("/v1/ws?epoch=5&position=-1", &[], 400, "position=\"-1\"").await;
    check_refused("/v1/ws?format=xml", &[], 400, "expected json or msgpack").await;
    let msgpack = [("Sec-WebSocket-Protocol", "tickcast.v1.msgpack")];
    check_refused("/v1/ws?format=json", &msgpack, 400, "the form of the subprotocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_sent_away_until_another_leaves() {
    let server = TestServer::start_with(|config| config.max_connections = 2).await;
    let first = Client::connect(&server, "").await;
    let _second = Client::connect(&server, "").await;
    let response = shake(&server, "/v1/ws", &[]).await;
    response.check_problem(503, "as many connections as it may");
    assert!(response.header("retry-after").is_some());
    drop(first);
    let let_in = async {
        while shake(&server, "/v1/ws", &[]).await.status != 101 {
            tokio::task::yield_now().await;
        }
    };
    crate::server::support::soon("a free place", let_in).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_for_handshakes_at_the_same_moment() {
    let server = TestServer::start_with(|config| config.max_connections = 3).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(RawClient::dial(server.address).await);
    }
    let head = handshake(server.address, "/v1/ws", &[]);
    let shakes = clients.iter_mut().map(|client| async {
        client.send(head.as_bytes()).await;
        client.response("GET").await.status
    });
    let mut statuses = futures_util::future::join_all(shakes).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[101; 3].as_slice(), [503; 17].as_slice()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_in_one_packet_with_the_handshake_are_not_lost() {
    let server = TestServer::start().await;
    let early = [frame(TEXT, br#"{"op":"ping","id":1}"#), frame(TEXT, br#"{"op":"ping","id":2}"#)].concat();
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", &early).await;
    assert_eq!(client.text().await["type"], "welcome");
    for id in [1, 2] {
        let answer = client.text().await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("pong"), &json!(id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_in_one_packet_with_the_handshake_waits_for_its_rest() {
    let server = TestServer::start().await;
    let request = frame(TEXT, br#"{"op":"ping","id":1}"#);
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", &request[..9]).await;
    assert_eq!(client.text().await["type"], "welcome");
    client.send(&request[9..]).await;
    assert_eq!(client.text().await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_subscribes() {
    let server = TestServer::start().await;
    server.publish(r#"{"type":"trade","symbol":"A B&C","price":"1.5","size":1}"#).await;
    let mut client =
        Client::connect(&server, "topics=trades:A%20B%26C,qoute:X,status&max_hz=10&times=true").await;
    let subscribed = client.answer("subscribed").await;
    assert_eq!(subscribed.get("id"), None);
    assert_eq!(subscribed.get("resumed"), None);
    assert_eq!(subscribed["topics"][0], json!({"topic": "trades:A B&C", "instrument": 0}));
    assert_eq!(subscribed["topics"][1]["error"]["nearest"], "quote:X");
    client
        .until("both", |seen| seen.numbers("trades:A B&C") == [0] && seen.told.contains_key("status"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_subprotocol_the_query_or_messagepack_decides() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws", b"").await;
    let welcome = client.binary().await;
    assert_eq!((&welcome["type"], &welcome["protocol"]), (&json!("welcome"), &json!("tickcast.v1")));
    assert_eq!(welcome["limits"]["message_bytes"], 65536);
    // A person may drive it with JSON all the same.
    client.send(&frame(TEXT, br#"{"op":"ping","id":"x"}"#)).await;
    assert_eq!(client.binary().await["id"], "x");
    let ping = rmp_serde::to_vec_named(&json!({"op": "ping", "id": 9})).unwrap();
    client.send(&frame(BINARY, &ping)).await;
    assert_eq!(client.binary().await["id"], 9);
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    assert_eq!(client.text().await["type"], "welcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_does_not_keep_others_waiting() {
    let server = TestServer::start().await;
    let mut slow = RawClient::dial(server.address).await;
    slow.send(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert_eq!(request(server.address, "GET", "/healthz", &[], b"").await.status, 200);
    let mut rest = Vec::new();
    let cut = crate::server::support::soon("the server's patience", async {
        use tokio::io::AsyncReadExt;
        slow.stream.read_to_end(&mut rest).await
    });
    assert!(cut.await.is_ok(), "closed after its header timeout");
}
