use crate::server::support::{Client, RawClient, TEXT, TestServer, frame, quote, trade};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fmt::Write as _;
use tickcast::hub::Topic;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_first_and_then_what_changes() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1.50", "1.52")).await;
    let mut client = Client::connect(&server, "").await;
    let subscribed = client.subscribe(json!({"topics": ["quote:A"], "id": 1})).await;
    assert_eq!(subscribed["topics"], json!([{"topic": "quote:A", "instrument": 0}]));
    assert_eq!((&subscribed["id"], subscribed.get("resumed")), (&json!(1), None));
    client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    let image = json!({"bid": "1.50", "bid_size": "1", "ask": "1.52", "ask_size": "2"});
    assert_eq!(Value::Object(client.seen.images["quote:A"].clone()), image);

    client.seen.images.clear();
    let published = server.publish(&quote("A", "1.51", "1.52")).await;
    client.reach(&published["position"]).await;
    assert_eq!(Value::Object(client.seen.images["quote:A"].clone()), json!({"bid": "1.51"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_empties_is_told_as_null() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1.50", "1.52")).await;
    let mut client = Client::connect(&server, "topics=quote:A").await;
    let published = server.publish(r#"{"type":"quote","symbol":"A","bid":1.5,"bid_size":1}"#).await;
    client.answer("subscribed").await;
    client.reach(&published["position"]).await;
    assert_eq!(client.seen.images["quote:A"]["ask"], Value::Null);
    assert_eq!(client.seen.images["quote:A"]["ask_size"], "0");
    assert_eq!(client.seen.images["quote:A"]["bid"], "1.50");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_takes_in_what_appears_later() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    let subscribed = client.subscribe(json!({"topics": ["quote:*", "trades:@mining"]})).await;
    assert_eq!(
        subscribed["topics"],
        json!([{"topic": "quote:*"}, {"topic": "trades:@mining", "pending": true}])
    );
    server.publish(&quote("NEW", "2", "3")).await;
    client.until("the quote", |seen| seen.field("quote:NEW", "bid") == "2.00").await;
    let dig = r#"{"type":"instrument","symbol":"DIG","sector":"mining"}"#.to_owned() + "\n";
    server.publish(&(dig + &trade("DIG", "4", 1) + &trade("NEW", "2", 1))).await;
    client.until("the trade", |seen| seen.numbers("trades:DIG") == [0]).await;
    assert!(client.seen.numbers("trades:NEW").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symbol_may_be_subscribed_before_it_exists() {
    let server = TestServer::start().await;
    server.publish(&quote("APPLE", "1", "2")).await;
    let mut client = Client::connect(&server, "").await;
    let subscribed = client.subscribe(json!({"topics": ["quote:APPLR"]})).await;
    let pending = json!([{"topic": "quote:APPLR", "pending": true, "nearest": "quote:APPLE"}]);
    assert_eq!(subscribed["topics"], pending);
    server.publish(&quote("APPLR", "5", "6")).await;
    client.until("the quote", |seen| seen.field("quote:APPLR", "bid") == "5.00").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_over_the_limit_is_refused_alone() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    let topics: Vec<String> = (0..1025).map(|number| format!("quote:S{number}")).collect();
    let subscribed = client.subscribe(json!({"topics": topics})).await;
    let answers = subscribed["topics"].as_array().unwrap();
    assert!(answers[..1024].iter().all(|answer| answer.get("error").is_none()));
    assert_eq!(answers[1024]["error"]["code"], "too_many_topics");
    server.publish(&(quote("S1024", "1", "2") + &quote("S1023", "1", "2"))).await;
    client.until("a quote", |seen| seen.told.contains_key("quote:S1023")).await;
    assert!(!client.seen.told.contains_key("quote:S1024"));
    client.ask(json!({"op": "unsubscribe", "topics": ["quote:S0"]}), "unsubscribed").await;
    let subscribed = client.subscribe(json!({"topics": ["quote:S1024"]})).await;
    assert_eq!(subscribed["topics"], json!([{"topic": "quote:S1024", "instrument": 0}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_topics_are_refused_one_by_one() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "").await;
    let subscribed = client.subscribe(json!({"topics": ["qoute:A", "quote:a,b", "quote:A", ""]})).await;
    let topics = &subscribed["topics"];
    assert_eq!(topics[0]["error"]["nearest"], "quote:A");
    assert_eq!(topics[1]["error"]["code"], "unknown_topic");
    assert_eq!(topics[2], json!({"topic": "quote:A", "pending": true}));
    assert_eq!(topics[3]["error"]["code"], "unknown_topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsubscribed_is_no_longer_told() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut client = Client::connect(&server, "topics=quote:A,quote:B").await;
    client.answer("subscribed").await;
    client.until("both", |seen| seen.told.len() == 2).await;
    let request = json!({"op": "unsubscribe", "topics": ["quote:A", "quote:C", "quote:BB"], "id": 3});
    let answer = client.ask(request, "unsubscribed").await;
    assert_eq!(answer["id"], 3);
    assert_eq!(answer["topics"][0], json!({"topic": "quote:A"}));
    assert_eq!(answer["topics"][1]["error"]["code"], "not_subscribed");
    client.seen.told.clear();
    let published = server.publish(&(quote("A", "3", "4") + &quote("B", "3", "4"))).await;
    client.reach(&published["position"]).await;
    assert_eq!(client.seen.told.keys().collect::<Vec<_>>(), ["quote:B"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_owed_at_an_unsubscribe_is_still_told() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut client = Client::connect(&server, "topics=quote:A,quote:B&max_hz=0.1").await;
    client.answer("subscribed").await;
    let published = server.publish(&quote("A", "2", "4")).await;
    client.reach(&published["position"]).await;
    // This one is not due for its rate. It must not wait for the next change of A.
    let published = server.publish(&quote("A", "3", "4")).await;
    client.ask(json!({"op": "unsubscribe", "topics": ["quote:B"]}), "unsubscribed").await;
    let begun = std::time::Instant::now();
    client.reach(&published["position"]).await;
    assert_eq!(client.seen.field("quote:A", "bid"), "3.00");
    assert!(begun.elapsed().as_secs() < 3, "told with the next heartbeat only");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_topics_are_delivered_once() {
    let server = TestServer::start().await;
    server.publish("{\"type\":\"instrument\",\"symbol\":\"A\",\"sector\":\"ore\"}\n").await;
    let mut client = Client::connect(&server, "topics=trades:A,trades:*,trades:@ore,trades:A").await;
    client.answer("subscribed").await;
    for price in ["1", "2", "3"] {
        let published = server.publish(&trade("A", price, 1)).await;
        client.reach(&published["position"]).await;
    }
    assert_eq!(client.seen.numbers("trades:A"), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_cap_holds_and_the_newest_value_still_comes() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut capped = Client::connect(&server, "topics=quote:A&max_hz=10").await;
    let mut free = Client::connect(&server, "topics=quote:A").await;
    for client in [&mut capped, &mut free] {
        client.answer("subscribed").await;
        client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    }
    let begun = std::time::Instant::now();
    let (capped_before, free_before) = (capped.seen.updates, free.seen.updates);
    let newest = Cell::new(u64::MAX);
    let publishing = async {
        let mut cents = 100;
        while begun.elapsed().as_millis() < 1500 || cents < 300 {
            cents += 1;
            let published = server.publish(&quote("A", &format!("{cents}e-2"), "200")).await;
            free.reach(&published["position"]).await;
        }
        newest.set(cents);
    };
    let reading = capped.until("the newest", |seen| {
        let cents = newest.get();
        seen.field("quote:A", "bid") == format!("{}.{:02}", cents / 100, cents % 100).as_str()
    });
    tokio::join!(publishing, reading);
    // Every tenth of a second, and one for each end.
    let allowed = begun.elapsed().as_millis() / 100 + 2;
    let (capped, free) = (capped.seen.updates - capped_before, free.seen.updates - free_before);
    assert!(capped as u128 <= allowed, "{capped} updates where {allowed} may come");
    assert!(capped >= 8 && free > 2 * capped, "{capped} capped, {free} free");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_rate_get_the_same_bytes() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let path = "/v1/ws?topics=quote:A,trades:A&max_hz=20";
    let mut clients =
        [RawClient::connect(&server, path, b"").await, RawClient::connect(&server, path, b"").await];
    let publishing = async {
        for number in 1..=200 {
            let price = format!("{number}");
            server.publish(&(quote("A", &price, "1000") + &trade("A", &price, number))).await;
        }
    };
    let [one, other] = &mut clients;
    let (one, other, ()) = tokio::join!(updates_of_200_trades(one), updates_of_200_trades(other), publishing);
    // Their snapshots were taken at different moments, and a machine that has other work may let one of them
    // read late; else they go together.
    let same = one.iter().filter(|update| other.contains(update)).count();
    assert!(2 * same >= one.len().max(other.len()), "{same} of {} and {}", one.len(), other.len());
    assert!(same >= 2, "{same}");
}

async fn updates_of_200_trades(client: &mut RawClient) -> Vec<Vec<u8>> {
    let (mut updates, mut trades) = (Vec::new(), 0);
    while trades < 200 {
        let (_, payload) = client.data().await.unwrap();
        let message: Value = rmp_serde::from_slice(&payload).unwrap();
        if let Some(update) = message.as_array() {
            trades += trades_in(update);
            updates.push(payload);
        }
    }
    updates
}

/// Counts the trades of an update of quotes, trades and definitions.
fn trades_in(update: &[Value]) -> u64 {
    let (mut rest, mut trades) = (&update[2..], 0);
    while let [_, tag, after @ ..] = rest {
        rest = after;
        match tag.as_u64().unwrap() {
            mask @ 1..=15 => rest = &rest[mask.count_ones() as usize..],
            63 => rest = &rest[1..],
            tag @ (32 | 33) => {
                rest = if tag == 33 { &rest[1..] } else { rest };
                let count = rest[0].as_u64().unwrap();
                rest = &rest[1..];
                for _ in 0..count {
                    let conditions = rest[2].as_u64().unwrap() & 4 != 0;
                    rest = &rest[4 + usize::from(conditions)..];
                }
                trades += count;
            }
            other => panic!("tag {other}"),
        }
    }
    trades
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_told_to_those_who_ask() {
    let server = TestServer::start().await;
    let stamped = r#"{"type":"quote","symbol":"A","bid":1,"ask":2,"ts_event":"2026-01-02T03:04:05.000006Z"}"#;
    server.publish(stamped).await;
    let mut with = Client::connect(&server, "topics=quote:A&times=true").await;
    let mut without = Client::connect(&server, "topics=quote:A").await;
    for client in [&mut with, &mut without] {
        client.answer("subscribed").await;
        client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    }
    assert_eq!(with.seen.field("quote:A", "ts_event"), "2026-01-02T03:04:05.000006Z");
    assert_eq!(without.seen.field("quote:A", "ts_event"), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_market_says_what_feeds_it_and_who_is_halted() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, "topics=status,status:A").await;
    client.answer("subscribed").await;
    let feed = |state: &str| json!({"kind": "publisher", "state": state, "speed": 1.0});
    client.until("a feed", |seen| seen.field("status", "feed") == feed("stale")).await;
    assert_eq!(client.seen.field("status", "state"), "open");
    server.publish(&(r#"{"type":"status","symbol":"A","state":"halted"}"#.to_owned() + "\n")).await;
    client.until("the halt", |seen| seen.field("status:A", "state") == "halted").await;
    client.until("the publisher", |seen| seen.field("status", "feed") == feed("live")).await;
    server.publish("{\"type\":\"status\",\"state\":\"closed\"}\n").await;
    client.until("the close", |seen| seen.field("status", "state") == "closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_and_the_day_add_up() {
    let server = TestServer::start().await;
    let mut lines = "{\"type\":\"instrument\",\"symbol\":\"A\",\"previous_close\":\"9.00\"}\n".to_owned();
    for (second, price, size) in [(10, "10.00", 1), (10, "12.00", 3), (10, "11.00", 2), (11, "10.50", 1)] {
        let time = format!("2026-01-02T03:04:{second}Z");
        let event = json!({"type": "trade", "symbol": "A", "price": price, "size": size, "ts_event": time});
        writeln!(lines, "{event}").unwrap();
    }
    server.publish(&lines).await;
    let mut client = Client::connect(&server, "topics=bars.1s:A,day:A").await;
    client.answer("subscribed").await;
    client.until("two closed bars", |seen| seen.numbers("bars.1s:A") == [0, 1]).await;
    let closed = json!({
        "number": 0, "start": "2026-01-02T03:04:10Z", "open": "10.00", "high": "12.00", "low": "10.00",
        "close": "11.00", "volume": "6", "trades": 3, "vwap": "11.3333",
    });
    assert_eq!(client.seen.rings["bars.1s:A"][0], closed);
    let day = json!({
        "start": "2026-01-02T00:00:00Z", "open": "10.00", "high": "12.00", "low": "10.00",
        "close": "10.50", "volume": "7", "trades": 4, "vwap": "11.2143", "previous_close": "9.00",
    });
    assert_eq!(Value::Object(client.seen.images["day:A"].clone()), day);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_that_comes_late_changes_neither_what_is_closed_nor_the_last_price() {
    let server = TestServer::start().await;
    let trades = [
        ("2026-01-02T03:04:10Z", "10.00"),
        ("2026-01-02T03:05:11Z", "11.00"),
        // Earlier today, yesterday, and the last second once more, overtaken.
        ("2026-01-02T03:04:12Z", "99.00"),
        ("2026-01-01T03:05:11Z", "50.00"),
        ("2026-01-02T03:05:11.5Z", "11.50"),
        ("2026-01-02T03:05:11.2Z", "9.00"),
    ];
    for (time, price) in trades {
        let event = json!({"type": "trade", "symbol": "A", "price": price, "size": 1, "ts_event": time});
        server.publish(&format!("{event}\n")).await;
    }
    let bars = server.get("/v1/bars/A?interval=1m").await.json();
    let shown: Vec<String> = bars["bars"].as_array().unwrap().iter().map(shown_bar).collect();
    assert_eq!(shown[0], "2026-01-02T03:04:00Z 10.00 10.00 10.00 10.00 1");
    assert_eq!(shown[1], "2026-01-02T03:05:00Z 11.00 11.50 9.00 11.50 3");
    assert_eq!(shown.len(), 2, "{bars}");
    assert_eq!(server.get("/v1/trades/A").await.json()["trades"].as_array().unwrap().len(), 6);
    let mut client = Client::connect(&server, "topics=day:A").await;
    client.answer("subscribed").await;
    client.until("the day", |seen| seen.images.contains_key("day:A")).await;
    let day = Value::Object(client.seen.images["day:A"].clone());
    assert_eq!(shown_bar(&day), "2026-01-02T00:00:00Z 10.00 99.00 9.00 11.50 5");
    assert_eq!(day["previous_close"], Value::Null);
}

fn shown_bar(bar: &Value) -> String {
    ["start", "open", "high", "low", "close", "volume"]
        .map(|name| bar[name].as_str().unwrap_or("none"))
        .join(" ")
}

/// FNV-1a, 32 bits, over the text of the protocol.
fn checksum(topic: &str, fields: &[String]) -> u64 {
    let text = format!("{topic}={}", fields.join(","));
    let hash =
        text.bytes().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    u64::from(hash)
}

/// An exact decimal in units, as long as it is written with all its decimals.
fn units(value: &Value) -> String {
    let Some(text) = value.as_str() else { return String::new() };
    text.replace('.', "").parse::<i64>().unwrap().to_string()
}

fn bar_fields(seen: &crate::server::support::Seen, topic: &str) -> Vec<String> {
    let field = |name: &str| seen.field(topic, name);
    let start: jiff::Timestamp = field("start").as_str().unwrap().parse().unwrap();
    let mut fields = vec![start.as_second().to_string()];
    fields.extend(["open", "high", "low", "close", "volume"].map(|name| units(&field(name))));
    fields.push(field("trades").to_string());
    // Always of two more decimals than a price; JSON leaves zeros at the end out.
    let vwap = field("vwap");
    let (whole, part) = vwap.as_str().unwrap().split_once('.').unwrap_or((vwap.as_str().unwrap(), ""));
    fields.push(format!("{whole}{part:0<4}"));
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_prove_what_the_client_keeps() {
    let server = TestServer::start().await;
    let mut client =
        Client::connect(&server, "topics=quote:A,day:A,bars.1s:A,bars.1m:A,quote:B&max_hz=5").await;
    let mut other = Client::connect(&server, "topics=quote:B").await;
    client.answer("subscribed").await;
    other.answer("subscribed").await;
    let topics = ["quote:A", "day:A", "bars.1s:A", "bars.1m:A", "quote:B"];
    for number in 1..=20_u64 {
        let price = format!("10.{number:02}");
        let b = format!("{{\"type\":\"quote\",\"symbol\":\"B\",\"bid\":{number},\"bid_size\":{number}}}\n");
        let published =
            server.publish(&(quote("A", &price, "11.11") + &trade("A", &price, number) + &b)).await;
        // Another session is flushed to the same place first: its frame must not be taken for ours.
        other.reach(&published["position"]).await;
        let answer = client.ask(json!({"op": "checksum", "topics": topics, "id": number}), "checksum").await;
        assert_eq!(answer["position"], client.seen.position, "right behind the update that reaches it");
        assert_eq!(answer["position"], published["position"]);
        let seen = &client.seen;
        for told in answer["topics"].as_array().unwrap() {
            let topic = told["topic"].as_str().unwrap();
            let mut fields = match topic.split_once(':').unwrap().0 {
                "quote" => {
                    ["bid", "bid_size", "ask", "ask_size"].map(|n| units(&seen.field(topic, n))).to_vec()
                }
                _ => bar_fields(seen, topic),
            };
            if topic.starts_with("day") {
                fields.push(units(&seen.field(topic, "previous_close")));
            }
            assert_eq!(told["checksum"], checksum(topic, &fields), "{topic} {fields:?} {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_what_is_not_there_are_refused_one_by_one() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut client = Client::connect(&server, "topics=quote:A,trades:A,day:A").await;
    client.answer("subscribed").await;
    let topics = ["quote:B", "quote:NONE", "trades:A", "quote:*", "nonsense", "day:A", "quote:A"];
    let answer = client.ask(json!({"op": "checksum", "topics": topics}), "checksum").await;
    let codes: Vec<&str> = answer["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| told["error"]["code"].as_str().unwrap_or("granted"))
        .collect();
    let expected =
        ["not_subscribed", "unknown_topic", "bad_request", "bad_request", "unknown_topic", "unknown_topic"];
    assert_eq!(codes, [expected.as_slice(), &["granted"]].concat());
    let many: Vec<&str> = std::iter::repeat_n("quote:A", 65).collect();
    assert_eq!(
        client.ask(json!({"op": "checksum", "topics": many}), "error").await["code"],
        "too_many_topics"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_what_happened_and_what_was_delivered() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut client = Client::connect(&server, "topics=quote:A,trades:A&max_hz=10").await;
    client.answer("subscribed").await;
    client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    let first = client.ask(json!({"op": "stats", "enabled": true, "id": 1}), "stats").await;
    assert_eq!((&first["id"], &first["events"], &first["delivered"]), (&json!(1), &json!(0), &json!(0)));
    let mut lines = String::new();
    for number in 2..=101_u64 {
        lines += &quote("A", &number.to_string(), "1000");
    }
    lines += &trade("A", "5", 1);
    let published = server.publish(&lines).await;
    client.reach(&published["position"]).await;
    // One comes each second, unasked; the first of them may be from before the flush.
    let mut told = client.answer("stats").await;
    while told["delivered"] == 0 {
        told = client.answer("stats").await;
    }
    assert_eq!(told.get("id"), None);
    assert_eq!((&told["events"], &told["delivered"]), (&json!(101), &json!(2)), "conflated to one of each");
    assert!(told["frames"].as_u64().unwrap() >= 2 && told["bytes"].as_u64().unwrap() > 100, "{told}");
    client.ask(json!({"op": "stats", "enabled": false, "id": 2}), "stats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_session_hears_the_heart_beat() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut quiet = Client::connect(&server, "").await;
    let heartbeat = quiet.welcome["heartbeat_ms"].as_u64().unwrap();
    let begun = std::time::Instant::now();
    quiet.until("a heartbeat", |seen| seen.updates == 1).await;
    let waited = begun.elapsed().as_millis();
    assert!(waited <= u128::from(heartbeat) + 1000, "{waited} ms");
    assert_eq!(quiet.seen.told.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_for_its_rate_hears_the_heart_beat() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "200")).await;
    let mut client = Client::connect(&server, "topics=quote:A&max_hz=0.1").await;
    client.answer("subscribed").await;
    client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    let published = server.publish(&quote("A", "2", "200")).await;
    client.reach(&published["position"]).await;
    let (begun, updates, told) =
        (std::time::Instant::now(), client.seen.updates, client.seen.told["quote:A"]);
    server.publish(&quote("A", "3", "200")).await;
    let heartbeat = client.welcome["heartbeat_ms"].as_u64().unwrap();
    client.until("a heartbeat", |seen| seen.updates > updates).await;
    let waited = begun.elapsed().as_millis();
    assert!(waited <= u128::from(heartbeat) + 1000, "{waited} ms");
    assert_eq!(client.seen.told["quote:A"], told, "its rate holds all the same");
    client.until("the quote", |seen| seen.field("quote:A", "bid") == "3.00").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hopeless_requests_do_not_hold_up_the_others() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let mut neighbour = Client::connect(&server, "").await;
    let topics = |start: usize| (start..start + 1024).map(|n| format!("quote:{n:0>50}")).collect::<Vec<_>>();
    let ask = |op: &str, topics: Vec<String>| {
        frame(TEXT, json!({"op": op, "topics": topics}).to_string().as_bytes())
    };
    client.send(&ask("subscribe", topics(0))).await;
    for _ in 0..3 {
        client.send(&ask("unsubscribe", topics(1024))).await;
    }
    client.send(&ask(&"x".repeat(60_000), vec!["a".to_owned()])).await;
    client.send(&ask("subscribe", vec!["x".repeat(50_000) + ":A"])).await;
    let begun = std::time::Instant::now();
    while client.text().await["type"] != "unsubscribed" {}
    neighbour.ask(json!({"op": "ping"}), "pong").await;
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
}

/// Symbols that would be read as something else, and how each is written where.
fn table() -> Vec<Value> {
    serde_json::from_str(include_str!("../../topics.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_symbol_is_had_by_its_topic_in_requests_urls_and_paths() {
    let server = TestServer::start().await;
    let lines: String = table()
        .iter()
        .zip(10..)
        .map(|(row, price)| {
            let symbol = row["symbol"].as_str().unwrap();
            quote(symbol, &price.to_string(), "99") + &trade(symbol, &price.to_string(), 5)
        })
        .collect();
    let position = server.publish(&lines).await["position"].clone();
    for (row, price) in table().iter().zip(10..) {
        let [symbol, topic, query, path] =
            ["symbol", "topic", "query", "path"].map(|name| row[name].as_str().unwrap());
        let price = format!("{price}.00");
        let mut asking = Client::connect(&server, "").await;
        let subscribed = asking.subscribe(json!({"topics": [topic]})).await;
        assert_eq!(subscribed["topics"][0]["topic"], topic);
        let mut linked = Client::connect(&server, &format!("topics={query}")).await;
        let subscribed = linked.answer("subscribed").await;
        // As it was asked for, which need not be as it is written elsewhere.
        let answered = subscribed["topics"][0]["topic"].as_str().unwrap();
        assert_eq!(Topic::parse(answered).unwrap().to_string(), topic, "{query}");
        for client in [&mut asking, &mut linked] {
            client.reach(&position).await;
            assert_eq!(client.seen.field(topic, "bid"), price, "{topic}");
        }
        let names = query.strip_prefix("quote:").unwrap();
        let quotes = server.get(&format!("/v1/quotes?symbols={names}")).await.json();
        assert_eq!(quotes["quotes"][0]["symbol"], symbol, "{quotes}");
        assert_eq!(quotes["quotes"][0]["bid"], price);
        let trades = server.get(&format!("/v1/trades/{path}")).await.json();
        assert_eq!((&trades["symbol"], &trades["trades"][0]["price"]), (&json!(symbol), &json!(price)));
        let bars = server.get(&format!("/v1/bars/{path}?interval=1s")).await.json();
        assert_eq!(bars["symbol"], symbol, "{path}");
    }
}
