//! Other logs than memory under a server that knows nothing of them: one that takes its time, says things
//! twice, or fails.

use crate::server::support::{Client, RawClient, TestServer, quote, request, soon, trade};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;
use tickcast::market::Speed;
use tickcast::tape::{Bell, Entry, Epoch, Log, LogError, Position, Submission};

/// A log as others have them: what stands on it outlives its server, and those who read it share it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Stream>>);

struct Stream {
    entries: Vec<Entry>,
    /// How many of them can be read already.
    readable: usize,
    bells: Vec<Bell>,
}

/// What is amiss with it.
#[derive(Clone, Copy, Default)]
struct Amiss {
    /// What is appended can be read so much later.
    delay: Duration,
    /// Each of so many entries stands there twice, as its producer could not know whether it had arrived; and
    /// each time some are given again that were read before.
    repeats: Option<u64>,
    /// So many are taken, and then none.
    takes: Option<usize>,
    /// So many can be read, and then none.
    gives: Option<usize>,
}

/// The way of one server to it.
struct Way {
    stream: Shared,
    amiss: Amiss,
    /// To the thread that writes.
    disk: mpsc::Sender<Submission>,
    appended: usize,
}

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Stream { entries: Vec::new(), readable: 0, bells: Vec::new() })))
    }

    fn open(&self, amiss: Amiss) -> Box<dyn Log> {
        let (disk, submissions) = mpsc::channel();
        let stream = self.clone();
        std::thread::spawn(move || {
            for submission in submissions {
                std::thread::sleep(amiss.delay);
                stream.write(submission, amiss);
            }
        });
        Box::new(Way { stream: self.clone(), amiss, disk, appended: 0 })
    }

    fn write(&self, submission: Submission, amiss: Amiss) {
        let mut stream = self.0.lock().unwrap();
        let is_repeated = amiss.repeats.is_some_and(|each| submission.id.number.is_multiple_of(each));
        let twice = is_repeated.then(|| submission.clone());
        for submission in [Some(submission), twice].into_iter().flatten() {
            let position = Position::new(stream.entries.len() as u64 + 1);
            stream.entries.push(Entry { position, submission });
        }
        stream.readable = stream.entries.len();
        stream.bells.iter().for_each(Bell::ring);
    }
}

impl Log for Way {
    fn epoch(&self) -> Epoch {
        Epoch::new(7)
    }

    fn append(&mut self, submission: Submission) -> Result<(), LogError> {
        self.appended += 1;
        if self.amiss.takes.is_some_and(|most| self.appended > most) {
            return Err(LogError::Failed("the disk is full".to_owned()));
        }
        self.disk.send(submission).expect("the thread is there");
        Ok(())
    }

    fn read(&mut self, after: Position, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let stream = self.stream.0.lock().unwrap();
        let after = usize::try_from(after.get()).unwrap();
        if self.amiss.gives.is_some_and(|most| after >= most) {
            return Err(LogError::Failed("the stream is cut".to_owned()));
        }
        let from = if self.amiss.repeats.is_some() { after.saturating_sub(3) } else { after };
        out.extend_from_slice(&stream.entries[from..stream.readable]);
        Ok(())
    }

    fn notify(&mut self, bell: Bell) {
        self.stream.0.lock().unwrap().bells.push(bell);
    }
}

async fn server_on(log: Box<dyn Log>) -> TestServer {
    let server = TestServer::start_with(|config| config.log = log).await;
    server.until_ready().await;
    server
}

const SLOW: Amiss = Amiss { delay: Duration::from_millis(3), repeats: None, takes: None, gives: None };
const TWICE: Amiss = Amiss { repeats: Some(2), ..SLOW };

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_comes_once_and_in_order_whatever_the_log_takes_or_says_twice() {
    for amiss in [SLOW, TWICE, Amiss { repeats: Some(1), ..TWICE }] {
        let server = server_on(Shared::new().open(amiss)).await;
        let mut client = Client::connect(&server, "topics=trades:A,status").await;
        client.answer("subscribed").await;
        let mut before = 0;
        for price in 1..=100 {
            let answer = server.publish(&trade("A", &price.to_string(), 1)).await;
            let position = answer["position"].as_u64().unwrap();
            assert!(position > before && answer["accepted"] == 1, "{answer}");
            before = position;
        }
        client.reach(&json!(before)).await;
        assert_eq!(client.seen.numbers("trades:A"), (0..100).collect::<Vec<_>>());
        let prices = client.seen.rings["trades:A"].iter().map(|trade| trade["price"].clone());
        assert!(prices.eq((1..=100).map(|price| json!(format!("{price}.00")))));
        assert_eq!(client.seen.field("status", "feed")["state"], "live");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publish_at_once_and_each_is_told_its_own_faults() {
    let server = server_on(Shared::new().open(TWICE)).await;
    let all = (1..=40).map(|number| {
        let address = server.address;
        tokio::spawn(async move {
            let lines = trade(&format!("S{number}"), "1", 1)
                + &json!({"type": "cancel", "symbol": format!("N{number}"), "id": "1"}).to_string();
            request(address, "POST", "/v1/publish", &[], lines.as_bytes()).await.json()
        })
    });
    let all: Vec<_> = all.collect();
    for (number, answer) in (1..=40).zip(all) {
        let answer = soon("an answer", answer).await.unwrap();
        assert_eq!(answer["accepted"], 1, "{answer}");
        let rejected = answer["rejected"].as_array().unwrap();
        assert_eq!((rejected.len(), &rejected[0]["line"]), (1, &json!(2)), "{answer}");
        let reason = rejected[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("N{number} has no such trade")), "{answer}");
    }
    let instruments = server.get("/v1/instruments").await.json();
    assert_eq!(instruments["instruments"].as_array().unwrap().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_one_more_producer_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let mut rows = "time,symbol,price,size\n".to_owned();
    (0..500).for_each(|number| writeln!(rows, "{},A,{number},1", number * 10).unwrap());
    std::fs::write(&path, rows).unwrap();
    let server = TestServer::start_with(|config| {
        config.log = Shared::new().open(TWICE);
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
        config.speed = Speed::Max;
    })
    .await;
    let mut client = Client::connect(&server, "topics=trades:A,status").await;
    client.answer("subscribed").await;
    let is_over = |seen: &crate::server::support::Seen| seen.field("status", "feed")["state"] == "ended";
    client.until("the end", is_over).await;
    assert_eq!(client.seen.numbers("trades:A"), (0..500).collect::<Vec<_>>());
    // It begins anew there, over the same log: a reset, and then all of it once more.
    let response = server.post(&json!({"action": "play"})).await;
    assert_eq!(response.status, 200, "{}", response.text());
    client.until("a reset", |seen| seen.resets == 1).await;
    client.until("the second end", |seen| is_over(seen) && seen.numbers("trades:A").len() == 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_to_its_log_knows_what_was_published_and_goes_on() {
    let log = Shared::new();
    let server = server_on(log.open(TWICE)).await;
    let named = r#"{"type":"trade","symbol":"A","price":"1.25","size":1,"id":"x"}"#.to_owned() + "\n";
    let first = server.publish(&(named + &trade("B", "0.001", 2))).await["position"].as_u64().unwrap();
    server.shutdown().await;

    let server = server_on(log.open(SLOW)).await;
    let quotes = server.get("/v1/trades/A").await.json();
    assert_eq!(quotes["trades"][0]["price"], "1.25", "{quotes}");
    // Its numbering has gone on, too: what the first knew by name the second can take back.
    let cancel = r#"{"type":"cancel","symbol":"A","id":"x"}"#.to_owned() + "\n";
    let second = server.publish(&(cancel + &quote("C", "1", "2"))).await["position"].as_u64().unwrap();
    assert!(second > first);
    let instruments = server.get("/v1/instruments").await.json();
    let symbols: Vec<_> =
        instruments["instruments"].as_array().unwrap().iter().map(|i| &i["symbol"]).collect();
    assert_eq!(symbols, ["A", "B", "C"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_log_tell_the_same() {
    let log = Shared::new();
    let (one, two) = (server_on(log.open(TWICE)).await, server_on(log.open(SLOW)).await);
    for number in 0..50 {
        let at = if number % 3 == 0 { &one } else { &two };
        at.publish(&(quote(&format!("S{}", number % 7), "1.5", "2") + &trade("T", "3", number + 1))).await;
    }
    let last = one.publish(&trade("T", "4", 1)).await["position"].clone();
    let mut seen = Vec::new();
    for server in [&one, &two] {
        let mut client = Client::connect(server, "topics=quote:*,trades:*").await;
        client.answer("subscribed").await;
        client.reach(&last).await;
        assert_eq!(client.seen.numbers("trades:T"), (0..51).collect::<Vec<_>>());
        seen.push((
            client.welcome["epoch"].clone(),
            client.seen.images,
            client.seen.rings,
            client.seen.instruments,
        ));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fails_ends_the_market_for_everybody_to_see() {
    for amiss in [Amiss { takes: Some(8), ..TWICE }, Amiss { gives: Some(8), ..SLOW }] {
        let server = server_on(Shared::new().open(amiss)).await;
        let mut client = Client::connect(&server, "topics=trades:A").await;
        client.answer("subscribed").await;
        let mut accepted = 0;
        let refused = loop {
            let line = trade("A", "1", 1);
            let response = request(server.address, "POST", "/v1/publish", &[], line.as_bytes()).await;
            if response.status != 200 {
                break response;
            }
            accepted += 1;
            client.reach(&response.json()["position"]).await;
        };
        refused.check_problem(503, "the market has failed");
        client.answer("goodbye").await;
        assert_eq!(client.message().await, Err(Some(1011)));
        // Of what was accepted everything was told, and nothing twice.
        let told = client.seen.numbers("trades:A");
        assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>());
        assert!(told.len() >= accepted, "{told:?} of {accepted}");
        server.get("/readyz").await.check_problem(503, "the market has failed");
        let mut late = RawClient::dial(server.address).await;
        late.send(crate::server::support::handshake(server.address, "/v1/ws", &[]).as_bytes()).await;
        late.response("GET").await.check_problem(503, "the market has failed");
        server.shutdown().await;
    }
}
