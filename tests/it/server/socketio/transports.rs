//! One transport, the other, and from one to the other.

use super::{Client, POLLING, WEBSOCKET};
use crate::server::support::{RawClient, TestServer, quote, soon, trade};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_loses_nothing_and_sends_nothing_twice() {
    let server = TestServer::start().await;
    let mut size = 0;
    let mut more = async || {
        let lines: String = (size + 1..=size + 100).map(|size| trade("A", "1", size)).collect();
        size += 100;
        server.publish(&lines).await
    };
    more().await;
    for fetched_before in [false, true] {
        let mut client = Client::connect(&server, POLLING, json!({ "topics": ["trades:A"] })).await;
        if fetched_before {
            let published = more().await;
            client.reach(&published).await;
        }
        // What is in the slot, what comes while the WebSocket is tried, and what comes after.
        more().await;
        let socket = client.begin_upgrade().await;
        more().await;
        // A client posts meanwhile, and its last poll ends without anything.
        assert_eq!(client.post(r#"425["ping"]"#).await.status, 200);
        client.end_upgrade(socket).await;
        let published = more().await;
        client.reach(&published).await;
        let numbers = client.seen.numbers("trades:A");
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<u64>>(), "{fetched_before}");
        client.send(r#"426["ping"]"#).await;
        client.next("ack").await;
        // Its polls are over.
        assert_eq!(client.poll().await.json()["code"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_waits_is_sent_home_by_an_upgrade() {
    let server = TestServer::start().await;
    let mut client = Client::open(&server, POLLING).await;
    let polling = client.polling();
    let (waited, socket) = tokio::join!(server.get(&polling), client.begin_upgrade());
    // Clients end their upgrade once that poll is over.
    assert_eq!(waited.text(), "6");
    client.end_upgrade(socket).await;
    // As Python's client does, it connects only now.
    client.send("40").await;
    let connected = client.text().await;
    assert!(connected.starts_with("40{\"sid\":"), "{connected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_polls_seldom_gets_the_newest_quote() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2000000")).await;
    let mut client = Client::connect(&server, POLLING, json!({ "topics": ["quote:A", "trades:A"] })).await;
    client.next("update").await;
    let mut published = Value::Null;
    for round in 0..20_u64 {
        let of_round = round * 1000..(round + 1) * 1000;
        let lines: String =
            of_round.map(|n| quote("A", &(n + 2).to_string(), "2000000") + &trade("A", "1", n + 1)).collect();
        published = server.publish(&lines).await;
    }
    client.reach(&published).await;
    assert_eq!(client.seen.field("quote:A", "bid"), "20001.00");
    let numbers = client.seen.numbers("trades:A");
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "each at most once and in order");
    assert!(numbers.ends_with(&(20_000 - 1024..20_000).collect::<Vec<u64>>()), "all that the ring holds");
    assert!(client.seen.updates < 200, "{} updates", client.seen.updates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_poll_ends_both() {
    let server = TestServer::start().await;
    let client = Client::connect(&server, POLLING, Value::Null).await;
    client.poll().await;
    // Both wait: whichever is the second is refused.
    let (one, two) = tokio::join!(client.poll(), client.poll());
    let (ended, refused) = if one.status == 200 { (one, two) } else { (two, one) };
    assert_eq!(ended.text(), "1");
    refused.check_problem(400, "another poll");
    assert_eq!(client.poll().await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_away_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let gone = async |server: &TestServer| {
        let is_gone = async {
            loop {
                let text = server.get("/metrics").await.text();
                let none = ["tickcast_connections{shard=\"0\"} 0\n", "tickcast_polling_clients 0\n"];
                if none.iter().all(|line| text.contains(line)) {
                    break;
                }
            }
        };
        soon("it is gone", is_gone).await;
    };
    // By its own packets, and by a poll whose connection breaks.
    for target in [POLLING, WEBSOCKET] {
        let mut client = Client::connect(&server, target, Value::Null).await;
        client.next("welcome").await;
        client.send("1").await;
        if target == WEBSOCKET {
            assert_eq!(client.closed().await.0, 1000);
        }
        gone(&server).await;
    }
    let mut client = Client::connect(&server, POLLING, Value::Null).await;
    client.next("welcome").await;
    let mut poll = RawClient::dial(server.address).await;
    let head = format!("GET {POLLING}&sid={} HTTP/1.1\r\nHost: x\r\n\r\n", client.sid);
    poll.send(head.as_bytes()).await;
    drop(poll);
    // Whether that came before it went or not: a poll that is answered shows that it is not there any more.
    while client.poll().await.status == 200 {
        client.post("42[\"ping\"]").await;
    }
    gone(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_closes_the_transport_so_that_clients_come_back() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, WEBSOCKET, Value::Null).await;
    client.next("welcome").await;
    let ((), closed) = tokio::join!(server.shutdown(), client.closed());
    // Not by `41`: no client comes back after that.
    assert_eq!(closed, (1012, "server is shutting down".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_under_way_is_answered_when_its_client_says_goodbye() {
    let server = TestServer::start().await;
    // Whichever of the two arrives first.
    for _ in 0..20 {
        let client = Client::open(&server, POLLING).await;
        let (polled, posted) = tokio::join!(client.poll(), client.post("1"));
        assert_eq!((polled.text().as_str(), posted.text().as_str()), ("6", "ok"));
        assert_eq!(client.poll().await.json()["code"], 1);
        assert_eq!(client.post("3").await.json()["code"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_websocket_of_a_client_is_ended() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, POLLING, Value::Null).await;
    let socket = client.begin_upgrade().await;
    let during = client.dial_with_sid().await.closed().await;
    client.end_upgrade(socket).await;
    client.next("welcome").await;
    let after = client.dial_with_sid().await.closed().await;
    for (code, reason) in [during, after] {
        assert_eq!((code, reason.as_str()), (1008, "this client has another WebSocket"));
    }
    client.send(r#"421["ping"]"#).await;
    client.next("ack").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_follows_the_end_of_an_upgrade_is_refused() {
    let server = TestServer::start().await;
    // The server may read the poll before that end: it waits a little before it says that there is nothing.
    for _ in 0..20 {
        let mut client = Client::open(&server, POLLING).await;
        let socket = client.begin_upgrade().await;
        client.end_upgrade(socket).await;
        let began = Instant::now();
        let polled = client.poll().await;
        if polled.status == 200 {
            assert!(polled.text() == "6" && began.elapsed() >= Duration::from_millis(100), "{polled:?}");
        } else {
            assert_eq!(polled.json()["code"], 1);
        }
    }
}
