//! `tickcast watch` and `tickcast publish` against a running server, as people start and stop them; and the
//! client that they use.

use crate::server::support::{PATIENCE, Response, TestServer, quote, request, soon, trade};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use tickcast::client::{Change, Client, Event, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

/// The program at work, which ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tickcast(args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickcast"));
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program(command.spawn().expect("the program runs"))
}

/// Waits for what may never come, on a thread of its own.
fn in_time<T: Send + 'static>(what: &str, happens: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(happens()));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

impl Program {
    fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("piped"))
    }

    fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().expect("piped")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a number of a process");
        kill_process(Pid::from_raw(pid).expect("above 0"), signal).expect("it is ours");
    }

    /// Its exit, and what it said.
    fn end(mut self) -> (ExitStatus, String) {
        in_time("its end", move || {
            let mut said = String::new();
            if let Some(mut stderr) = self.0.stderr.take() {
                stderr.read_to_string(&mut said).expect("text");
            }
            (self.0.wait().expect("a status"), said)
        })
    }
}

/// The next line; empty at the end.
fn line<R: BufRead + Send + 'static>(mut from: R) -> (R, String) {
    in_time("a line", move || {
        let mut line = String::new();
        from.read_line(&mut line).expect("text");
        (from, line)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_nobody_reads_any_more_ends_though_nothing_happens() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut watch = tickcast(&["watch", &format!("ws://{}", server.address), "quote:A", "--json"]);
    let (out, first) = line(watch.lines());
    assert!(first.contains(r#""bid":"1.00""#), "{first}");
    // As `head` does. No other quote comes.
    drop(out);
    assert_eq!(watch.end().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_stopped_by_a_signal_also_while_its_reader_takes_nothing() {
    let server = TestServer::start().await;
    let url = format!("ws://{}", server.address);
    for is_read in [true, false] {
        server.publish(&quote("A", "1", "2")).await;
        let mut watch = tickcast(&["watch", &url, "trades:A", "quote:A"]);
        let (_out, first) = line(watch.lines());
        assert!(!first.is_empty());
        if !is_read {
            // More than the pipe holds.
            let many: String = (1..=500).map(|size| trade("A", "1", size)).collect();
            server.publish(&many).await;
        }
        watch.signal(Signal::TERM);
        let (status, said) = watch.end();
        assert_eq!(status.code(), Some(0), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_drawn_where_it_is_asked_for() {
    let server = TestServer::start().await;
    server.publish(&(quote("MINE", "1", "2") + &trade("MINE", "1.50", 7))).await;
    let args =
        ["watch", &format!("ws://{}", server.address), "quote:*", "trades:*", "--table", "--count", "2"];
    let mut watch = tickcast(&args);
    let mut out = watch.lines();
    let drawn = in_time("the table", move || {
        let mut drawn = String::new();
        out.read_to_string(&mut drawn).map(|_| drawn).expect("text")
    });
    assert_eq!(watch.end().0.code(), Some(0));
    assert!(drawn.contains("1.50 × 7") && drawn.contains("SYMBOL") && drawn.contains("1 symbol"), "{drawn}");
}

/// A server that is a process of its own, at an address that it keeps when it is started again.
fn serve(listen: &str) -> (Program, SocketAddr) {
    let mut program = tickcast(&["serve", "--feed", "none", "--listen", listen]);
    let mut out = program.lines();
    loop {
        let (rest, line) = line(out);
        assert!(!line.is_empty(), "the server tells its address");
        out = rest;
        if let Some((_, address)) = line.split_once("http://") {
            // Whoever serves may go on talking.
            std::thread::spawn(move || out.lines().count());
            return (program, address.trim().trim_end_matches('/').parse().expect("an address"));
        }
    }
}

async fn sizes(address: SocketAddr) -> Vec<u64> {
    let Response { status, body, .. } = request(address, "GET", "/v1/trades/P?limit=1000", &[], b"").await;
    if status != 200 {
        return Vec::new();
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let size = |trade: &serde_json::Value| trade["size"].as_str().unwrap().parse().unwrap();
    answer["trades"].as_array().unwrap().iter().map(size).collect()
}

async fn until_size(address: SocketAddr, newest: u64) {
    let published = async {
        while sizes(address).await.last() != Some(&newest) {
            tokio::task::yield_now().await;
        }
    };
    soon("what was published", published).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_survives_a_restart_of_the_server_and_loses_nothing_of_the_pipe() {
    let (server, address) = serve("127.0.0.1:0");
    let mut publish = tickcast(&["publish", &format!("ws://{address}")]);
    let mut input = publish.input();
    input.write_all(trade("P", "1", 1).as_bytes()).unwrap();
    until_size(address, 1).await;
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
    // Nobody is there to take these.
    for size in 2..=20 {
        input.write_all(trade("P", "1", size).as_bytes()).unwrap();
    }
    let (server, again) = serve(&address.to_string());
    assert_eq!(again, address);
    until_size(address, 20).await;
    input.write_all(trade("P", "1", 21).as_bytes()).unwrap();
    drop(input);
    let (status, said) = publish.end();
    assert!(status.success(), "{said}");
    assert!(said.contains("connected again") && said.contains("21 accepted, 0 refused"), "{said}");
    assert_eq!(sizes(address).await, (2..=21).collect::<Vec<u64>>());
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_ends_where_trying_again_would_not_help_and_at_once_where_it_is_stopped() {
    let publish = tickcast(&["publish", "ws://127.0.0.1:1"]);
    publish_line(publish, 3, "cannot connect to ws://127.0.0.1:1: Connection refused");

    // It would go on trying.
    let mut publish = tickcast(&["publish", "ws://127.0.0.1:1", "--retry"]);
    let mut input = publish.input();
    input.write_all(trade("P", "1", 1).as_bytes()).unwrap();
    let stderr = BufReader::new(publish.0.stderr.take().unwrap());
    let (stderr, first) = line(stderr);
    assert!(first.contains("trying again in"), "{first}");
    publish.signal(Signal::TERM);
    assert_eq!(publish.end().0.code(), Some(1));
    let rest: Vec<String> = in_time("the rest", move || stderr.lines().map_while(Result::ok).collect());
    assert!(rest.iter().any(|line| line.contains("stopped: line 1")), "{rest:?}");

    // No server of ours.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                if socket.write_all(answer).await.is_err() {
                    break;
                }
            }
        }
    });
    publish_line(tickcast(&["publish", &url]), 1, "line 1: the server answered 404 Not Found");
}

/// Publishes one line and holds the exit to this.
fn publish_line(mut publish: Program, code: i32, says: &str) {
    let mut input = publish.input();
    input.write_all(trade("P", "1", 1).as_bytes()).unwrap();
    let (status, said) = publish.end();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
}

/// A server that takes a publication and goes before it answers: whether it has it nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_same_server_may_have_is_told_and_not_published_twice_and_what_a_new_one_cannot_have_is_sent_again()
 {
    for (epochs, is_sent_again) in [([7, 7], false), ([7, 8], true)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let posts = tokio::spawn(async move {
            let mut posts = Vec::new();
            for (index, epoch) in epochs.into_iter().enumerate() {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                let mut answered_epoch = false;
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    text += std::str::from_utf8(&buffer[..read]).unwrap();
                    let mut body = format!("{{\"epoch\":{epoch},\"quotes\":[]}}");
                    if answered_epoch {
                        if !text.contains("\"symbol\"") || !text.ends_with('\n') {
                            continue;
                        }
                        posts.push(text.split("\r\n\r\n").nth(1).unwrap().to_owned());
                        if index == 0 {
                            break;
                        }
                        body = r#"{"accepted":1,"rejected":[],"position":1}"#.to_owned();
                    }
                    answered_epoch = true;
                    text.clear();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            }
            posts
        });
        let mut publish = tickcast(&["publish", &url]);
        let mut input = publish.input();
        input.write_all(trade("P", "1", 1).as_bytes()).unwrap();
        drop(input);
        let (status, said) = publish.end();
        let posts = soon("the server's end", posts).await.unwrap();
        assert_eq!(posts.len(), 1 + usize::from(is_sent_again), "{said}");
        assert_eq!(status.success(), is_sent_again, "{said}");
        assert_eq!(said.contains("line 1: perhaps published"), !is_sent_again, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_takes_nothing_for_long_gets_what_is_newest_and_every_trade_or_its_gap() {
    // More than a client keeps unmerged.
    const ROUNDS: u64 = 100;
    const PER_ROUND: u64 = 100;
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2000000") + &trade("A", "1", 1))).await;
    let mut client = Client::connect(&format!("ws://{}", server.address)).unwrap();
    client.subscribe(["quote:A", "trades:A"], Options::default());
    let settled = async { while !matches!(client.next().await, Some(Event::Settled { .. })) {} };
    soon("the snapshot", settled).await;
    let mut neighbour = crate::server::support::Client::connect(&server, "topics=quote:A").await;
    for round in 0..ROUNDS {
        let mut lines = String::new();
        for number in round * PER_ROUND..(round + 1) * PER_ROUND {
            lines += &quote("A", &(number + 2).to_string(), "2000000");
            lines += &trade("A", "1", number + 1);
        }
        let published = server.publish(&lines).await;
        neighbour.reach(&published["position"]).await;
    }
    // It ends when its clients have read all that it sent.
    drop(neighbour);
    server.shutdown().await;
    let (mut trades, mut bids) = (1, Vec::new());
    let all = async {
        while trades < ROUNDS * PER_ROUND + 1
            || bids.last() != Some(&format!("{}.00", ROUNDS * PER_ROUND + 1))
        {
            let event = client.next().await.expect("the client goes on");
            let Event::Update { position, time, changes } = event else {
                assert!(matches!(event, Event::Lagging { .. } | Event::Live), "{event:?}");
                continue;
            };
            for change in changes {
                match &change {
                    Change::Trade { number, .. } => {
                        assert_eq!(*number, trades);
                        trades += 1;
                    }
                    Change::Gap { missed, .. } => trades += missed,
                    change => {
                        let line = change.to_json(time, position).unwrap();
                        bids.extend(line["bid"].as_str().map(str::to_owned));
                    }
                }
            }
        }
    };
    soon("all", all).await;
    // Not thousands of old ones.
    assert!(bids.len() <= 3, "{bids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_with_escapes_are_watched_and_symbols_with_escapes_picked() {
    let table: Vec<Value> = serde_json::from_str(include_str!("../../topics.json")).unwrap();
    let server = TestServer::start().await;
    let symbols: Vec<&str> = table.iter().map(|row| row["symbol"].as_str().unwrap()).collect();
    let lines: String = symbols.iter().map(|symbol| quote(symbol, "1", "2")).collect();
    server.publish(&lines).await;
    let url = format!("ws://{}", server.address);
    let topics: Vec<&str> = table.iter().map(|row| row["topic"].as_str().unwrap()).collect();
    let count = topics.len().to_string();
    let mut watch = tickcast(&[&["watch", &url, "--json", "--count", &count][..], &topics].concat());
    let told = in_time("what was asked for", {
        let mut out = watch.lines();
        move || {
            let mut told = String::new();
            out.read_to_string(&mut told).map(|_| told).expect("text")
        }
    });
    assert_eq!(watch.end().0.code(), Some(0));
    let mut watched: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["topic"].as_str().unwrap().to_owned())
        .collect();
    watched.sort_unstable();
    let mut expected = topics.clone();
    expected.sort_unstable();
    assert_eq!(watched, expected);

    // And one that is not picked.
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all.jsonl");
    let lines = (lines + &quote("OTHER", "1", "2")).replace('}', ",\"ts_event\":\"2024-01-01T00:00:00Z\"}");
    std::fs::write(&all, lines).unwrap();
    let only: Vec<&str> = topics.iter().map(|topic| topic.strip_prefix("quote:").unwrap()).collect();
    let feed = all.to_str().unwrap();
    let mut serve =
        tickcast(&["serve", "--listen", "127.0.0.1:0", "--feed", feed, "--only", &only.join(",")]);
    let (mut out, mut told) = (serve.lines(), "-".to_owned());
    let address: SocketAddr = loop {
        assert!(!told.is_empty(), "it has not told where it listens");
        (out, told) = line(out);
        if let Some((_, address)) = told.split_once("http://") {
            break address.trim_end().trim_end_matches('/').parse().unwrap();
        }
    };
    let is_served = async {
        loop {
            let answer = request(address, "GET", "/v1/instruments", &[], b"").await.json();
            let mut known: Vec<String> = answer["instruments"]
                .as_array()
                .unwrap()
                .iter()
                .map(|known| known["symbol"].as_str().unwrap().to_owned())
                .collect();
            known.sort_unstable();
            if known.len() >= symbols.len() {
                return known;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut expected = symbols.clone();
    expected.sort_unstable();
    assert_eq!(soon("the symbols", is_served).await, expected);
}
