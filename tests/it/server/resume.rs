use crate::server::support::{Client, RawClient, TestServer, quote, trade};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_epoch_gives_only_what_changed() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2") + &trade("A", "1", 1))).await;
    let mut client = Client::connect(&server, "topics=quote:*,trades:*").await;
    client.answer("subscribed").await;
    client.until("the snapshot", |seen| seen.told.len() == 3).await;
    let since = json!({"epoch": client.welcome["epoch"], "position": client.seen.position});
    drop(client);

    let published = server.publish(&(quote("B", "1.5", "2") + &trade("A", "3", 2))).await;
    let mut client = Client::connect(&server, "").await;
    client.seen.instruments = [("A".to_owned(), Value::Null), ("B".to_owned(), Value::Null)].into();
    let subscribed = client.subscribe(json!({"topics": ["quote:*", "trades:*"], "since": since})).await;
    assert_eq!(subscribed["resumed"], true);
    client.reach(&published["position"]).await;
    assert_eq!(client.seen.images["quote:B"].keys().collect::<Vec<_>>(), ["bid"]);
    assert_eq!(client.seen.numbers("trades:A"), [1]);
    assert!(!client.seen.told.contains_key("quote:A"));
    assert_eq!(client.seen.instruments["B"], Value::Null, "its definition has not changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changed_is_nothing_told() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let mut client = Client::connect(&server, "topics=quote:A,trades:A,day:A,bars.1m:A").await;
    client.answer("subscribed").await;
    client.until("the snapshot", |seen| seen.told.len() == 4).await;
    let (epoch, position) = (client.welcome["epoch"].clone(), client.seen.position);
    let query = format!("topics=quote:A,trades:A,day:A,bars.1m:A&epoch={epoch}&position={position}");
    let mut client = Client::connect(&server, &query).await;
    assert_eq!(client.answer("subscribed").await["resumed"], true);
    client.until("an update", |seen| seen.updates > 0).await;
    assert_eq!((client.seen.told.len(), client.seen.instruments.len()), (0, 0), "{:?}", client.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_epoch_gives_a_snapshot() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let client = Client::connect(&server, "").await;
    let epoch = client.welcome["epoch"].as_u64().unwrap() ^ 1;
    let position = &client.welcome["position"];
    let mut client =
        Client::connect(&server, &format!("topics=quote:A&epoch={epoch}&position={position}")).await;
    assert_eq!(client.answer("subscribed").await["resumed"], false);
    client.until("the snapshot", |seen| seen.field("quote:A", "bid") == "1.00").await;
    assert!(client.seen.instruments["A"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_ahead_of_this_shard_goes_on_from_where_the_shard_is() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let client = Client::connect(&server, "").await;
    let (epoch, position) = (&client.welcome["epoch"], client.welcome["position"].as_u64().unwrap() + 5);
    let path = format!("/v1/ws?format=json&topics=quote:A&epoch={epoch}&position={position}");
    let mut client = RawClient::connect(&server, &path, b"").await;
    assert_eq!(client.text().await["type"], "welcome");
    assert_eq!(client.text().await["resumed"], true);
    server.publish(&quote("A", "1", "3")).await;
    let told = loop {
        let updates = client.text().await["updates"].take();
        if updates != json!([]) {
            break updates;
        }
    };
    assert_eq!(told, json!([{ "topic": "quote:A", "ask": "3.00" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_missed_beyond_the_ring_are_counted_exactly() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1).repeat(10)).await;
    let mut client = RawClient::connect(&server, "/v1/ws?topics=trades:A", b"").await;
    let welcome = client.binary().await;
    assert_eq!(client.binary().await["type"], "subscribed");
    let update = client.binary().await;
    // Its definition, then numbered trades: number 0, 10 of them.
    assert_eq!(update.as_array().unwrap()[5..9], [json!(0), json!(33), json!(0), json!(10)]);
    let position = welcome["position"].as_u64().unwrap() + update[0].as_u64().unwrap();
    drop(client);

    for _ in 0..20 {
        server.publish(&trade("A", "2", 1).repeat(100)).await;
    }
    let path = format!("/v1/ws?topics=trades:A&epoch={}&position={position}", welcome["epoch"]);
    let mut client = RawClient::connect(&server, &path, b"").await;
    client.binary().await;
    assert_eq!(client.binary().await["resumed"], true);
    // Of the 2,010 trades the ring holds the last 1,024: number 986 comes where 10 was expected, a gap of
    // 976.
    let update = client.binary().await;
    assert_eq!(update.as_array().unwrap()[2..6], [json!(0), json!(33), json!(986), json!(1024)]);
    server.publish(&trade("A", "3", 1)).await;
    let update = client.binary().await;
    assert_eq!(
        update.as_array().unwrap()[2..5],
        [json!(0), json!(32), json!(1)],
        "numbers go on by themselves"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_inside_the_ring_is_none() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1).repeat(10)).await;
    let mut client = Client::connect(&server, "topics=trades:A").await;
    client.answer("subscribed").await;
    client.until("ten", |seen| seen.numbers("trades:A").len() == 10).await;
    let since = json!({"epoch": client.welcome["epoch"], "position": client.seen.position});
    drop(client);
    server.publish(&trade("A", "2", 1).repeat(1000)).await;
    let mut client = Client::connect(&server, "").await;
    client.seen.instruments = [("A".to_owned(), Value::Null)].into();
    client.subscribe(json!({"topics": ["trades:A"], "since": since})).await;
    client.until("the rest", |seen| seen.numbers("trades:A").len() == 1000).await;
    assert_eq!(client.seen.numbers("trades:A"), (10..1010).collect::<Vec<_>>());
}
