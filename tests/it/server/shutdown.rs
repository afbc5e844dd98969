use crate::server::support::{Client, RawClient, TestServer, quote, request, soon};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_told_goodbye_with_1012() {
    let server = TestServer::start_with(|config| config.shards = 2.try_into().unwrap()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&server, "topics=quote:*").await);
    }
    let stopped = tokio::spawn(server.shutdown());
    for client in &mut clients {
        client.answer("subscribed").await;
        let goodbye = client.answer("goodbye").await;
        assert_eq!(goodbye["code"], 1012);
        assert!(
            goodbye["retry_after_ms"].as_u64().unwrap() > 0 && goodbye["jitter_ms"].is_u64(),
            "{goodbye}"
        );
        assert_eq!(client.message().await, Err(Some(1012)));
    }
    soon("shutdown", stopped).await.unwrap();
}

/// A shard without sessions ends at once: that is no market that has failed.
#[tokio::test(flavor = "multi_thread")]
async fn shards_that_are_gone_first_change_nothing_about_the_reason() {
    const SHARDS: usize = 8;
    for _ in 0..5 {
        let server = TestServer::start_with(|config| config.shards = SHARDS.try_into().unwrap()).await;
        let mut clients = Vec::new();
        for _ in 0..SHARDS {
            clients.push(Client::connect(&server, "").await);
        }
        // The others leave their shards, the last of which is told last.
        let mut last = clients.pop().unwrap();
        drop(clients);
        let stopped = tokio::spawn(server.shutdown());
        assert_eq!(last.answer("goodbye").await["code"], 1012);
        soon("shutdown", stopped).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_or_answer_hold_it_up_a_few_seconds_only() {
    let server = TestServer::start().await;
    let address = server.address;
    let mut deaf = RawClient::connect(&server, "/v1/ws?topics=quote:*", b"").await;
    let half = {
        let mut half = RawClient::dial(address).await;
        half.send(b"GET /readyz HTTP/1.1\r\n").await;
        half
    };
    let idle = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    server.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(deaf.closed().await.0, 1012);
    drop((half, idle));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_are_refused_from_then_on() {
    let server = TestServer::start().await;
    let address = server.address;
    let mut kept = RawClient::dial(address).await;
    let ask = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    kept.send(ask.as_bytes()).await;
    assert_eq!(kept.response("GET").await.status, 200);
    server.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_the_port_over_at_once_with_another_epoch() {
    let server = TestServer::start().await;
    let address = server.address;
    let mut client = Client::connect(&server, "").await;
    let epoch = client.welcome["epoch"].clone();
    server.shutdown().await;
    client.answer("goodbye").await;
    let server = TestServer::start_with(|config| config.listen = vec![address]).await;
    server.publish(&quote("A", "1", "2")).await;
    let query = format!("topics=quote:A&epoch={epoch}&position=1");
    let mut client = Client::connect(&server, &query).await;
    assert_eq!(client.answer("subscribed").await["resumed"], false);
    client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    assert_eq!(request(address, "GET", "/readyz", &[], b"").await.status, 200);
    server.shutdown().await;
}
