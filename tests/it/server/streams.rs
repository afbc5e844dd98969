//! Sessions that are only listened to: Server-Sent Events, and JSON lines.

use crate::server::support::{PATIENCE, Response, Seen, TestServer, quote, request, soon, trade};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// Reads a stream as an `EventSource` or a reader of lines does.
pub struct Listener {
    stream: BufReader<TcpStream>,
    head: String,
    pub seen: Seen,
    /// The id of the last event that had one.
    last_id: Option<String>,
    retry: Option<u64>,
}

impl Listener {
    pub async fn open(server: &TestServer, target: &str, fields: &str) -> Self {
        let stream = soon("connect", TcpStream::connect(server.address)).await.unwrap();
        Self::over(stream, server, target, fields).await
    }

    async fn over(mut stream: TcpStream, server: &TestServer, target: &str, fields: &str) -> Self {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", server.address);
        soon("send", stream.write_all(request.as_bytes())).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = soon("the head", stream.read_line(&mut head)).await.unwrap();
            assert!(read > 0, "it ends in its head: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        Self { stream, head, seen: Seen::default(), last_id: None, retry: None }
    }

    /// The next message; `None` at the end.
    async fn message(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if soon("a line", self.stream.read_line(&mut line)).await.unwrap() == 0 {
                return None;
            }
            let data = match line.trim_end_matches('\n').split_once(": ") {
                Some(("id", id)) => {
                    self.last_id = Some(id.to_owned());
                    continue;
                }
                Some(("retry", millis)) => {
                    self.retry = Some(millis.parse().unwrap());
                    continue;
                }
                Some(("data", data)) => data,
                _ if line.starts_with('{') => &line,
                _ => continue,
            };
            let message: Value = serde_json::from_str(data).unwrap();
            if message["type"] == "update" {
                self.seen.take(&message);
            }
            return Some(message);
        }
    }

    async fn answer(&mut self, kind: &str) -> Value {
        let message = self.message().await.expect("it goes on");
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    pub async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let reached = async {
            while !condition(self) {
                self.message().await.expect("it goes on");
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{what}: {:?}", self.seen);
    }

    async fn reach(&mut self, published: &Value) {
        let position = published["position"].as_u64().unwrap();
        self.until("a position", |it| it.seen.position >= position).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_a_message_and_its_id_the_place_to_go_on_from() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let mut events = Listener::open(&server, "/v1/sse?topics=quote:A,trades:A,quote:*", "").await;
    assert!(events.head.contains("content-type: text/event-stream\r\n"), "{}", events.head);
    let epoch = events.answer("welcome").await["epoch"].clone();
    events.answer("subscribed").await;
    assert_eq!(events.last_id, None, "nothing was had yet");
    events.until("the snapshot", |it| it.last_id.is_some()).await;
    assert_eq!(events.seen.numbers("trades:A"), [0]);

    // What is sent of a change is all of the quote.
    let published = server.publish(&quote("A", "1.50", "2")).await;
    let update = loop {
        let message = events.message().await.unwrap();
        if message["position"] == published["position"] {
            break message;
        }
    };
    let (bid, ask) = (&update["updates"][0]["bid"], &update["updates"][0]["ask"]);
    assert_eq!((bid, ask), (&json!("1.50"), &json!("2.00")), "{update}");
    assert_eq!(events.last_id, Some(format!("{epoch}-{}", published["position"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_alone_are_sent_where_they_are_asked_for() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1.00", "2.00")).await;
    for target in ["/v1/sse?delta=1&topics=quote:A", "/v1/lines?topics=quote:A&delta=true&format=json"] {
        let mut stream = Listener::open(&server, target, "").await;
        stream.until("the snapshot", |it| it.seen.images.contains_key("quote:A")).await;
        let bid = format!("{}.00", if target.contains("sse") { 5 } else { 6 });
        let published = server.publish(&quote("A", &bid, "2.00")).await;
        let update = loop {
            let message = stream.message().await.unwrap();
            if message["position"] == published["position"] {
                break message;
            }
        };
        assert_eq!(update["updates"], json!([{ "topic": "quote:A", "bid": bid }]), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_its_last_id_has_each_trade_once() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    let target = "/v1/sse?topics=trades:A";
    let mut events = Listener::open(&server, target, "").await;
    events.until("a trade", |it| it.last_id.is_some()).await;
    let last_id = events.last_id.take().unwrap();
    let instruments = std::mem::take(&mut events.seen.instruments);
    drop(events);
    let missed: String = (2..=40).map(|size| trade("A", "1", size)).collect();
    let published = server.publish(&missed).await;

    let since = format!("{target}&since={last_id}");
    for (target, fields) in [(target, format!("Last-Event-ID: {last_id}\r\n")), (&since, String::new())] {
        let mut events = Listener::open(&server, target, &fields).await;
        // It keeps what it knows.
        events.seen.instruments.clone_from(&instruments);
        events.answer("welcome").await;
        assert_eq!(events.answer("subscribed").await["resumed"], true);
        events.reach(&published).await;
        assert_eq!(events.seen.numbers("trades:A"), (1..40).collect::<Vec<u64>>(), "{target}");
    }

    // Ids of another epoch, and those of whatever was at this address before, begin anew.
    for id in ["1-1", "x", "", "17", "1-2-3"] {
        let mut events = Listener::open(&server, target, &format!("Last-Event-ID: {id}\r\n")).await;
        events.reach(&published).await;
        assert_eq!(events.seen.numbers("trades:A").len(), 40, "{id:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_silent_for_less_than_three_seconds() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    for target in ["/v1/sse?topics=quote:A", "/v1/lines?topics=quote:A"] {
        let mut stream = Listener::open(&server, target, "").await;
        assert_eq!(stream.answer("welcome").await["heartbeat_ms"], 2000);
        stream.until("the snapshot", |it| it.seen.images.contains_key("quote:A")).await;
        for _ in 0..2 {
            let quiet_since = Instant::now();
            assert_eq!(stream.answer("update").await["updates"], json!([]));
            let quiet = quiet_since.elapsed();
            // Python's httpx gives up after 5 s.
            assert!(quiet < Duration::from_secs(4), "{target}: {quiet:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_gets_the_newest_quote_and_what_is_left_of_the_trades() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2000000")).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = soon("connect", socket.connect(server.address)).await.unwrap();
    let mut slow = Listener::over(stream, &server, "/v1/sse?topics=quote:A,trades:A", "").await;
    let mut published = Value::Null;
    for round in 0..20_u64 {
        let of_round = round * 1000..(round + 1) * 1000;
        let lines: String =
            of_round.map(|n| quote("A", &(n + 2).to_string(), "2000000") + &trade("A", "1", n + 1)).collect();
        published = server.publish(&lines).await;
    }
    slow.reach(&published).await;
    assert_eq!(slow.seen.field("quote:A", "bid"), "20001.00");
    let numbers = slow.seen.numbers("trades:A");
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "each at most once and in order");
    assert!(numbers.ends_with(&(20_000 - 1024..20_000).collect::<Vec<u64>>()), "all that the ring holds");
    assert!(slow.seen.updates < 2000, "{} updates", slow.seen.updates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_says_when_to_come_back() {
    let server = TestServer::start().await;
    let mut events = Listener::open(&server, "/v1/sse?topics=status", "").await;
    events.answer("welcome").await;
    events.answer("subscribed").await;
    let stopped = server.shutdown();
    let listened = async {
        let mut last = Value::Null;
        while let Some(message) = events.message().await {
            last = message;
        }
        last
    };
    let ((), last) = tokio::join!(stopped, listened);
    assert_eq!(last["type"], "goodbye", "{last}");
    assert!(events.retry.is_some(), "an EventSource comes back by the field, not by the message");
}

#[track_caller]
fn check_event_of_refusal(response: &Response, expected: &str) {
    let text = response.text();
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some("text/event-stream")),
        "{text}"
    );
    assert!(text.starts_with("retry: 5000\ndata: {") && text.ends_with("}\n\n"), "{text}");
    assert!(text.contains(expected), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_for_whom_there_is_no_room_is_told_so_in_an_event() {
    let server = TestServer::start_with(|config| config.max_connections = 1).await;
    let target = "/v1/sse?topics=status";
    let mut first = Listener::open(&server, target, "").await;
    first.answer("welcome").await;
    check_event_of_refusal(&server.get(target).await, "unavailable");
    server.get("/v1/lines?topics=status").await.check_problem(503, "connections");
    drop(first);
    // The place is free when the server has noticed.
    let again = async {
        while server.get("/metrics").await.text().contains("\ntickcast_connections{shard=\"0\"} 1\n") {}
        Listener::open(&server, target, "").await
    };
    soon("another", again).await.answer("welcome").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_right_is_refused_for_good() {
    let server = TestServer::start().await;
    let check = async |target: &str, status: u16, detail: &str| {
        server.get(target).await.check_problem(status, detail);
    };
    for door in ["/v1/sse", "/v1/lines"] {
        check(door, 400, "a stream is of topics").await;
        check(&format!("{door}?topics=status&delta=2"), 400, "expected true or false").await;
        check(&format!("{door}?topics=status&since=9"), 400, "an epoch and a position").await;
        check(&format!("{door}?topic=status"), 400, "did you mean \"topics\"?").await;
        let posted = request(server.address, "POST", &format!("{door}?topics=status"), &[], b"").await;
        posted.check_problem(405, "cannot be asked with POST");
        let stranger = [("Origin", "https://stranger.example")];
        let refused = request(server.address, "GET", &format!("{door}?topics=status"), &stranger, b"").await;
        refused.check_problem(403, "--allow-origin");
    }
    check("/v1/lines?topics=status&format=msgpack", 400, "expected json").await;
    check("/v1/ws?delta=1", 426, "speaks WebSocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_let_in_may_read_a_stream() {
    let server =
        TestServer::start_with(|config| config.allowed_origins = vec!["desk.example".to_owned()]).await;
    let events = Listener::open(&server, "/v1/sse?topics=status", "Origin: https://desk.example\r\n").await;
    assert!(events.head.contains("access-control-allow-origin: https://desk.example\r\n"), "{}", events.head);
    let own = Listener::open(&server, "/v1/sse?topics=status", "").await;
    assert!(!own.head.contains("access-control"), "{}", own.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_new_come_whole_beside_those_that_go_on() {
    let server = TestServer::start().await;
    server.publish(&(trade("A", "1", 1) + &trade("B", "1", 1))).await;
    let mut events = Listener::open(&server, "/v1/sse?topics=trades:A", "").await;
    events.until("a trade", |it| it.last_id.is_some()).await;
    let since = events.last_id.take().unwrap();
    let published = server.publish(&trade("A", "1", 2)).await;

    let target = format!("/v1/sse?topics=trades:A&since={since}&new=trades:B");
    let mut both = Listener::open(&server, &target, "").await;
    both.seen.instruments.clone_from(&events.seen.instruments);
    both.answer("welcome").await;
    assert_eq!(both.answer("subscribed").await["resumed"], true);
    both.reach(&published).await;
    both.until("what is new", |it| it.seen.told.contains_key("trades:B")).await;
    assert_eq!((both.seen.numbers("trades:A"), both.seen.numbers("trades:B")), (vec![1], vec![0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messagepack_goes_through_a_stream_of_text_in_base64() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    let mut events = Listener::open(&server, "/v1/sse?topics=trades:A&format=msgpack&delta=1", "").await;
    let mut messages = Vec::new();
    let mut ids = 0;
    while messages.len() < 3 {
        let mut line = String::new();
        soon("a line", events.stream.read_line(&mut line)).await.unwrap();
        ids += usize::from(line.starts_with("id: "));
        if let Some(data) = line.strip_prefix("data: ") {
            let bytes = BASE64_STANDARD.decode(data.trim_end()).unwrap();
            messages.push(rmp_serde::from_slice::<Value>(&bytes).unwrap());
        }
    }
    assert_eq!((&messages[0]["type"], &messages[1]["type"]), (&json!("welcome"), &json!("subscribed")));
    assert_eq!((&messages[2][3], ids), (&json!(63), 1), "{}", messages[2]);
    let wrong = server.get("/v1/sse?topics=trades:A&format=msgpack&delta=0").await;
    wrong.check_problem(400, "only changes are sent");
}
