//! What an idle connection costs: the resident memory of the server's own process, with thousands of clients
//! connected. Linux only: it reads `/proc`, and connects from several addresses of the loopback network
//! because one has too few ports.
#![warn(clippy::pedantic)]

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 3;
/// Per connection: what a session needs, and what its handshake left behind.
const MAX_BYTES: usize = 450;
/// Handshakes under way at the same time.
const AT_ONCE: usize = 200;
/// Descriptors of this process besides those of its connections; the server needs no more.
const OTHER_DESCRIPTORS: u64 = 100;
/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
#[ignore = "opens 10,000 connections"]
fn an_idle_connection_takes_at_most_450_bytes_also_after_thousands_came_and_went() {
    raise_descriptor_limit();
    for feed in ["--feed=none", "--symbols=10 --rate=10"] {
        let server = Server::start(feed);
        let before = server.resident_bytes();
        let mut measured = Vec::new();
        for _ in 0..ROUNDS {
            let clients = Clients::connect(server.address);
            measured.push((server.resident_bytes() - before) / CONNECTIONS);
            drop(clients);
            server.until_all_are_gone();
        }
        println!("{feed}: {measured:?} bytes per idle connection");
        assert!(measured.iter().all(|&bytes| bytes <= MAX_BYTES), "{measured:?} bytes per connection");
    }
}

/// The server as a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(feed: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tickcast"))
            .args(["serve", "--listen=127.0.0.1:0", "--max-connections=20000"])
            .args(feed.split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut told = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let address = told.find_map(|line| {
            let line = line.expect("it tells in text");
            Some(
                line.trim()
                    .strip_prefix("dashboard")?
                    .trim()
                    .strip_prefix("http://")?
                    .strip_suffix('/')?
                    .parse(),
            )
        });
        let address = address.expect("it tells its address").expect("host and port");
        let server = Self { process, address };
        let begun = Instant::now();
        while !server.readiness().contains("\"ready\":true") {
            assert!(begun.elapsed() < PATIENCE, "the tape has not begun");
        }
        server
    }

    fn resident_bytes(&self) -> usize {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).expect("the server lives");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kib.expect("Linux tells it").parse::<usize>().expect("a number") * 1024
    }

    fn until_all_are_gone(&self) {
        let begun = Instant::now();
        while !self.readiness().contains("\"connections\":0,") {
            assert!(begun.elapsed() < PATIENCE, "connections are left: {}", self.readiness());
        }
    }

    fn readiness(&self) -> String {
        let mut stream = std::net::TcpStream::connect(self.address).expect("the server accepts");
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("the server answers");
        response
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already where a test that failed has found it so.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connections that were welcomed and are subscribed to one quote.
struct Clients {
    _streams: Vec<TcpStream>,
}

impl Clients {
    fn connect(server: SocketAddr) -> Self {
        let mut poll = Poll::new().expect("a poll");
        let mut events = Events::with_capacity(AT_ONCE);
        let mut streams: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS);
        // What each was told so far, until that is all.
        let mut told: Vec<Option<Vec<u8>>> = Vec::with_capacity(CONNECTIONS);
        let mut subscribed = 0;
        let begun = Instant::now();
        while subscribed < CONNECTIONS {
            while streams.len() < CONNECTIONS && streams.len() - subscribed < AT_ONCE {
                let mut stream = dial(server, streams.len());
                let token = Token(streams.len());
                poll.registry().register(&mut stream, token, Interest::READABLE).expect("a free place");
                streams.push(stream);
                told.push(Some(Vec::new()));
            }
            poll.poll(&mut events, Some(PATIENCE)).expect("a poll");
            assert!(begun.elapsed() < PATIENCE, "only {subscribed} of {CONNECTIONS} are connected");
            for event in &events {
                let Token(number) = event.token();
                let more = read_all(&mut streams[number]);
                // Those that are subscribed are told more and more, which is nothing to us.
                let Some(so_far) = &mut told[number] else { continue };
                so_far.extend(more);
                if so_far.windows(10).any(|word| word == b"subscribed") {
                    told[number] = None;
                    subscribed += 1;
                }
            }
        }
        Self { _streams: streams }
    }
}

/// Connects and asks to be let in. Each address of the loopback network has ports of its own.
fn dial(server: SocketAddr, number: usize) -> TcpStream {
    let from = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 16).expect("below 16"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("a free port");
    socket.connect(&server.into()).expect("the server accepts");
    let mut stream: std::net::TcpStream = socket.into();
    let request = format!(
        "GET /v1/ws?topics=quote:AAPL HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the server reads");
    stream.set_nonblocking(true).expect("sockets can");
    TcpStream::from_std(stream)
}

/// All that can be read now.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => panic!("the server has closed: {}", String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => bytes,
        Err(error) => panic!("a connection broke: {error}"),
    }
}

fn raise_descriptor_limit() {
    let needed = CONNECTIONS as u64 + OTHER_DESCRIPTORS;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} descriptors are needed and {maximum:?} allowed: raise the limit with ulimit -Hn"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("within the limit");
}
