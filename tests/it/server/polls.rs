//! Clients without a session: `GET /v1/poll`.

use crate::server::metrics::Scrape;
use crate::server::rooms::{self, HOUR};
use crate::server::support::{Client, RawClient, Response, Seen, TestServer, quote, request, soon, trade};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Reads what is polled, each time from where the last answer ended.
struct Poller<'a> {
    server: &'a TestServer,
    target: String,
    since: Option<String>,
    seen: Seen,
}

impl<'a> Poller<'a> {
    fn new(server: &'a TestServer, query: &str) -> Self {
        let target = format!("/v1/poll?{query}");
        Self { server, target, since: None, seen: Seen::default() }
    }

    async fn poll(&mut self, wait: u32) -> Value {
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let response = self.server.get(&format!("{}{since}&wait={wait}", self.target)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        self.seen.take(&answer);
        self.since = Some(answer["since"].as_str().unwrap().to_owned());
        answer
    }

    /// Polls until it has what was published.
    async fn reach(&mut self, published: &Value) {
        let position = published["position"].as_u64().unwrap();
        while self.poll(20).await["more"] == true || self.seen.position < position {}
    }
}

async fn built(server: &TestServer) -> u64 {
    Scrape::of(server).await.count("tickcast_poll_answers_built_total")
}

async fn waiting(server: &TestServer) -> u64 {
    Scrape::of(server).await.count("tickcast_polls_waiting")
}

/// Waits until so many polls wait.
async fn wait(server: &TestServer, count: u64) {
    let is_so = async {
        while waiting(server).await != count {
            tokio::task::yield_now().await;
        }
    };
    soon("polls that wait", is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_an_update_that_says_where_the_next_one_begins() {
    let server = TestServer::start().await;
    let first = server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let mut poller = Poller::new(&server, "topics=quote:A,trades:A");
    poller.reach(&first).await;
    assert_eq!(poller.seen.numbers("trades:A"), [0]);

    let position = server.publish(&quote("A", "1.50", "2")).await["position"].clone();
    let answer = poller.poll(20).await;
    let epoch = server.get("/v1/quotes").await.json()["epoch"].clone();
    let updates = answer["updates"].as_array().unwrap();
    // Of the moment before it may be, and the quote is the newest all the same.
    assert!(answer["position"].as_u64() <= position.as_u64(), "{answer}");
    let position = &answer["position"];
    assert_eq!(answer["type"], "update");
    assert_eq!((&answer["epoch"], &answer["resumed"]), (&epoch, &json!(true)));
    assert_eq!(answer["since"], format!("{epoch}-{position}"));
    // Of the definition nothing has changed, and of the quote all is told.
    assert_eq!(updates.len(), 1, "{answer}");
    assert_eq!((&updates[0]["bid"], &updates[0]["ask"]), (&json!("1.50"), &json!("2.00")));
    assert!(answer.get("more").is_none());
    let last = server.publish(&trade("A", "1", 2)).await;
    poller.reach(&last).await;
    assert_eq!(poller.seen.numbers("trades:A"), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_alone_are_polled_where_they_are_asked_for() {
    let server = TestServer::start().await;
    let first = server.publish(&quote("A", "1.00", "2.00")).await;
    let mut poller = Poller::new(&server, "topics=quote:A&delta=1");
    poller.reach(&first).await;
    server.publish(&quote("A", "1.50", "2.00")).await;
    assert_eq!(poller.poll(20).await["updates"], json!([{ "topic": "quote:A", "bid": "1.50" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_poll_in_messagepack() {
    let server = TestServer::start().await;
    let first = server.publish(&trade("A", "1", 1)).await;
    let mut poller = Poller::new(&server, "topics=trades:A");
    poller.reach(&first).await;
    let response = server.get("/v1/poll?topics=trades:A&format=msgpack").await;
    assert_eq!(response.header("content-type"), Some("application/msgpack"));
    // The last field is the update as bytes.
    let name = b"\xa6update\xc4";
    let at = response.body.windows(name.len()).position(|bytes| bytes == name).expect("an update");
    let (length, update) = response.body[at + name.len()..].split_first().unwrap();
    assert_eq!(usize::from(*length), update.len());
    let update: Value = rmp_serde::from_slice(update).unwrap();
    let [positions, micros, _, definition, ..] = &update.as_array().unwrap()[..] else { panic!("{update}") };
    assert_eq!((positions, micros), (&json!(0), &json!(0)), "they count from what is beside it");
    assert_eq!(definition, 63, "{update}");
    let since = poller.since.unwrap();
    assert!(response.body.windows(since.len()).any(|bytes| bytes == since.as_bytes()));
    let wrong = server.get("/v1/poll?topics=trades:A&format=msgpack&delta=0").await;
    wrong.check_problem(400, "only changes are sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_without_news_changes_nothing_and_costs_no_body() {
    let server = TestServer::start().await;
    let first = server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut poller = Poller::new(&server, "topics=quote:A");
    poller.reach(&first).await;
    let since = poller.since.clone().unwrap();
    let target = format!("/v1/poll?topics=quote:A&since={since}");
    let tag = server.get(&target).await.header("etag").unwrap().to_owned();

    // The tape goes on, and the client stays where it is.
    let next = server.publish(&quote("B", "3", "4")).await["position"].as_u64().unwrap();
    let mut other = Poller::new(&server, "topics=quote:B");
    other.reach(&json!({ "position": next })).await;
    let answer = server.get(&target).await;
    assert_eq!(answer.json()["updates"], json!([]));
    assert_eq!(answer.json()["since"], since);
    assert_eq!(answer.header("etag"), Some(&*tag));
    for known in [&*tag, tag.strip_prefix("W/").unwrap(), "\"x\", *"] {
        let unchanged = request(server.address, "GET", &target, &[("If-None-Match", known)], b"").await;
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{known}");
        assert_eq!(unchanged.header("etag"), Some(&*tag));
    }

    let changed = server.publish(&quote("A", "5", "6")).await;
    poller.reach(&changed).await;
    let changed = request(server.address, "GET", &target, &[("If-None-Match", &tag)], b"").await;
    assert_eq!(changed.status, 200, "{}", changed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_caches_may_keep_what_did_not_wait() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let cached = |response: Response| response.header("cache-control").unwrap().to_owned();
    assert_eq!(cached(server.get("/v1/poll?topics=quote:A").await), "max-age=0, s-maxage=1");
    assert_eq!(cached(server.get("/v1/poll?topics=quote:A&wait=1").await), "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_may_read_varies_with_its_origin() {
    let server = TestServer::start_with(|config| {
        config.allowed_origins = vec!["https://desk.example".to_owned()];
    })
    .await;
    let poll = async |origin| {
        request(server.address, "GET", "/v1/poll?topics=quote:A", &[("Origin", origin)], b"").await
    };
    let known = poll("https://desk.example").await;
    assert_eq!(known.header("access-control-allow-origin"), Some("https://desk.example"));
    assert_eq!(known.header("vary"), Some("Origin"));
    assert_eq!(poll("https://other.example").await.header("access-control-allow-origin"), None);
    let options = request(server.address, "OPTIONS", "/v1/poll", &[], b"").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    request(server.address, "POST", "/v1/poll", &[], b"")
        .await
        .check_problem(405, "cannot be asked with POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_poll_is_said() {
    let server = TestServer::start().await;
    let check = async |query: &str, detail: &str| {
        server.get(&format!("/v1/poll?{query}")).await.check_problem(400, detail);
    };
    check("", "name them with topics=").await;
    check("topics=", "name them with topics=").await;
    check("topics=qoute:A", "did you mean \"quote:A\"").await;
    check("topics=stats", "stats is of one server").await;
    check("topics=quote:A&new=watchers:A", "watchers:A is of one server").await;
    let wrong = server.get("/v1/poll?topics=quote:A,nothing:B").await.json();
    assert_eq!(wrong["topic"], "nothing:B", "a client knows which one to leave out");
    for since in ["", "17", "17-x", "17-1-2", "17-1-2-3-99", "x-1", "-"] {
        check(&format!("topics=quote:A&since={since}"), "an epoch and a position, as 17-4711").await;
    }
    check("topics=quote:A&epoch=1&position=2", "since=EPOCH-POSITION").await;
    for wait in ["", "-1", "31", "x", "NaN", "inf"] {
        check(&format!("topics=quote:A&wait={wait}"), "seconds from 0 to 30").await;
    }
    check("topics=quote:A&max_hz=1", "has its own rate").await;
    check("topics=quote:A&room=x&speed=2", "open a room").await;
    check("topics=quote:A&key=x", "name it with room=NAME").await;
    check("topics=quote:A&nwe=quote:B", "did you mean \"new\"").await;
    server.get("/v1/poll?topics=quote:A&room=x").await.check_problem(404, "no room \"x\"");
    let many: Vec<String> = (0..1025).map(|n| format!("quote:{n}")).collect();
    check(&format!("topics={}", many.join(",")), "at most 1024").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_tape_was_never_at_a_client_begins_anew() {
    let server = TestServer::start().await;
    let first = server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let mut poller = Poller::new(&server, "topics=quote:A,trades:A");
    poller.reach(&first).await;
    let (epoch, position) = poller.since.as_ref().unwrap().split_once('-').unwrap();
    let (epoch, position): (u64, u64) = (epoch.parse().unwrap(), position.parse().unwrap());

    for since in [format!("{}-{position}", epoch ^ 1), format!("{}-0-9-0-0", epoch ^ 1)] {
        let answer = server.get(&format!("/v1/poll?topics=quote:A,trades:A&since={since}")).await.json();
        assert_eq!(answer["resumed"], false, "{answer}");
        assert_eq!(answer["updates"][0], json!({ "reset": true }));
        let mut seen = Seen::default();
        seen.take(&answer);
        assert_eq!((seen.numbers("trades:A"), seen.resets), (vec![0], 1));
        assert_eq!(answer["since"], format!("{epoch}-{position}"));
    }
    // A position of a node that is ahead, or the rest of an answer of one.
    for since in [format!("{epoch}-{}", position + 1000), format!("{epoch}-{position}-{}-0-0", position + 9)]
    {
        let answer = server.get(&format!("/v1/poll?topics=quote:A&since={since}")).await.json();
        assert_eq!((&answer["resumed"], &answer["updates"]), (&json!(true), &json!([])), "{since}");
        assert_eq!(answer["since"], format!("{epoch}-{position}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_topics_come_whole_beside_what_changed_of_the_others() {
    let server = TestServer::start().await;
    let lines = quote("A", "1", "2") + &quote("B", "3", "4") + &trade("A", "1", 1) + &trade("B", "1", 1);
    let first = server.publish(&lines).await;
    let mut poller = Poller::new(&server, "topics=quote:A,trades:A");
    poller.reach(&first).await;
    poller.target = "/v1/poll?topics=quote:A,trades:A&new=quote:B,trades:B,quote:A".to_owned();
    let answer = poller.poll(0).await;
    let topics: Vec<&Value> =
        answer["updates"].as_array().unwrap().iter().filter_map(|entry| entry.get("topic")).collect();
    assert_eq!(topics, ["quote:B", "trades:B"], "{answer}");
    assert_eq!(answer["resumed"], true);
    poller.target = "/v1/poll?topics=quote:A,trades:A,quote:B,trades:B".to_owned();
    assert_eq!(poller.poll(0).await["updates"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_goes_on_in_the_next_one() {
    const SYMBOLS: usize = 4;
    const TRADES: u64 = 900;
    let server = TestServer::start().await;
    let mut published = json!(null);
    for symbol in 0..SYMBOLS {
        let lines: String = (1..=TRADES).map(|size| trade(&format!("S{symbol}"), "1.5", size)).collect();
        published = server.publish(&lines).await;
    }
    let mut poller = Poller::new(&server, "topics=trades:*");
    let answer = poller.poll(20).await;
    assert_eq!(answer["more"], true);
    let part = poller.since.clone().unwrap();
    assert_eq!(part.split('-').count(), 5, "{part}");
    // Meanwhile the market goes on, with a symbol that is new, too.
    let lines = trade("S0", "2", 1) + &trade("S3", "2", 1) + &trade("NEW", "2", 1);
    let last = server.publish(&lines).await;
    poller.reach(&published).await;
    poller.reach(&last).await;
    for symbol in 0..SYMBOLS {
        let more = u64::from(symbol == 0 || symbol == 3);
        let numbers = poller.seen.numbers(&format!("trades:S{symbol}"));
        assert_eq!(numbers, (0..TRADES + more).collect::<Vec<_>>(), "{symbol}");
    }
    assert_eq!(poller.seen.numbers("trades:NEW"), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_until_something_of_its_topics_happens() {
    let server = TestServer::start().await;
    let first = server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut poller = Poller::new(&server, "topics=quote:A");
    poller.reach(&first).await;
    let answered = async {
        let begun = Instant::now();
        (poller.poll(30).await, begun.elapsed())
    };
    let published = async {
        wait(&server, 1).await;
        for bid in 3..10 {
            // None of its topics.
            server.publish(&quote("B", &bid.to_string(), "20")).await;
        }
        assert_eq!(waiting(&server).await, 1);
        server.publish(&quote("A", "1.25", "2")).await
    };
    let ((answer, after), published) = tokio::join!(answered, published);
    assert_eq!(answer["updates"][0]["bid"], "1.25");
    assert!(answer["position"].as_u64() <= published["position"].as_u64(), "{answer}");
    assert!(after < Duration::from_secs(25), "{after:?}");
    wait(&server, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_waited_in_vain_says_so_in_time() {
    let server = TestServer::start().await;
    let first = server.publish(&quote("A", "1", "2")).await;
    let mut poller = Poller::new(&server, "topics=quote:A");
    poller.reach(&first).await;
    let since = poller.since.clone();
    let begun = Instant::now();
    let answer = poller.poll(1).await;
    assert_eq!((&answer["updates"], poller.since), (&json!([]), since));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_polls_of_one_position_cost_one_answer() {
    const CLIENTS: usize = 100;
    let server = TestServer::start_with(|config| config.max_http_connections = 2 * CLIENTS).await;
    let first = server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let mut poller = Poller::new(&server, "topics=quote:A,trades:A");
    poller.reach(&first).await;
    let since = poller.since.unwrap();
    let before = built(&server).await;
    // They ask in any order, with the parameter anywhere.
    let target = |number: usize| {
        if number.is_multiple_of(2) {
            format!("/v1/poll?topics=quote:A,trades:A&since={since}&wait=30")
        } else {
            format!("/v1/poll?since={since}&topics=quote:A,trades:A&wait=29.5")
        }
    };
    let targets: Vec<String> = (0..CLIENTS).map(target).collect();
    let answered = join_all(targets.iter().map(|target| server.get(target)));
    let published = async {
        wait(&server, CLIENTS as u64).await;
        server.publish(&trade("A", "1", 2)).await
    };
    let (answers, _) = tokio::join!(answered, published);
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body);
    }
    let answer = answers[0].json();
    assert_eq!(answer["updates"][0]["trades"][0]["number"], 1, "{answer}");
    // That nothing was pending, and what there was at last. The clock may have gone on meanwhile, so that
    // nothing was pending up to another position.
    let first = built(&server).await - before;
    assert!((2..=4).contains(&first), "{first}");

    // And they go on together.
    let since = answer["since"].as_str().unwrap();
    let target = format!("/v1/poll?topics=quote:A,trades:A&since={since}");
    let answers = join_all((0..CLIENTS).map(|_| server.get(&target))).await;
    assert!(answers.iter().all(|answer| answer.json()["updates"] == json!([])));
    let then = built(&server).await - before - first;
    assert!((1..=3).contains(&then), "{then}");
    let scrape = Scrape::of(&server).await;
    assert!(scrape.count("tickcast_polls_total{status=\"200\"}") >= 2 * CLIENTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_begins_the_market_anew_for_whoever_polls() {
    let server = rooms::server(HOUR).await;
    server.post(&json!({ "action": "pause" })).await;
    let mut poller = Poller::new(&server, "topics=quote:*");
    while poller.seen.images.is_empty() {
        poller.poll(1).await;
    }
    let to = "2024-08-08T23:54:20Z";
    assert_eq!(server.post(&json!({ "action": "seek", "to": to })).await.status, 200);
    while poller.seen.resets == 0 {
        let answer = poller.poll(20).await;
        assert_eq!(answer["resumed"], answer["updates"][0]["reset"] != true, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_polled_as_long_as_it_is_there() {
    let server = rooms::server(HOUR).await;
    let mut guest = Client::connect(&server, "room=mine&key=secret&topics=quote:*").await;
    guest.answer("subscribed").await;
    let query = "topics=quote:*&room=mine";
    let mut poller = Poller::new(&server, query);
    while poller.seen.images.is_empty() {
        poller.poll(20).await;
    }
    let epoch = guest.welcome["epoch"].as_u64().unwrap();
    assert!(poller.since.as_ref().unwrap().starts_with(&format!("{epoch}-")));
    let kept = server.get(&format!("/v1/poll?{query}")).await;
    assert_eq!(kept.header("cache-control"), Some("no-store"));
    assert_eq!(server.get(&format!("/v1/poll?{query}&key=secret")).await.status, 200);

    // A poll is no guest: the room is over when the last one has left.
    drop(guest);
    let gone = async {
        loop {
            let response = server.get(&format!("/v1/poll?{query}&wait=5")).await;
            match response.status {
                200 => {}
                503 => response.check_problem(503, "this room"),
                _ => break response.check_problem(404, "no room"),
            }
        }
    };
    soon("the end of the room", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_wait_are_answered_when_the_server_stops() {
    let server = TestServer::start().await;
    let first = server.publish(&quote("A", "1", "2")).await;
    let mut poller = Poller::new(&server, "topics=quote:A");
    poller.reach(&first).await;
    let (address, since) = (server.address, poller.since.unwrap());
    let target = format!("/v1/poll?topics=quote:A&since={since}&wait=30");
    let answered = tokio::spawn(async move { request(address, "GET", &target, &[], b"").await });
    wait(&server, 1).await;
    let begun = Instant::now();
    server.shutdown().await;
    let response = answered.await.unwrap();
    assert_eq!((response.status, &response.json()["updates"]), (200, &json!([])));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_waits_no_more() {
    let server = TestServer::start().await;
    let first = server.publish(&quote("A", "1", "2")).await;
    let mut poller = Poller::new(&server, "topics=quote:A");
    poller.reach(&first).await;
    let target = format!("/v1/poll?topics=quote:A&since={}&wait=30", poller.since.unwrap());
    let mut client = RawClient::dial(server.address).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes()).await;
    wait(&server, 1).await;
    drop(client);
    wait(&server, 0).await;
}
