//! Clients that poll once a second: Tickcast, whose market moves, beside nginx, which answers with a file of
//! the same length.

use crate::server::{Program, Server};
use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a client polls.
const EVERY: Duration = Duration::from_secs(1);
/// How often the sockets are looked at.
const TURN: Duration = Duration::from_micros(500);
const CONNECTED_TOGETHER: usize = 100;

/// What is polled.
pub enum Polled {
    /// All quotes of a simulated market, of what has changed since the last poll.
    Quotes,
    /// A file.
    File,
}

/// The cost of the polls of one run.
pub struct Cost {
    pub cpu_micros: f64,
    /// Of an answer, without its head.
    pub mean_bytes: usize,
    pub polls: usize,
    /// Polls that were due and had no answer yet when the next one was.
    pub late: usize,
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    due: Instant,
    /// It has an answer to its last request.
    is_free: bool,
    since: String,
}

/// The programs' arguments for so many clients.
pub fn tickcast(port: u16, clients: usize) -> Program {
    let clients = (clients + 10).to_string();
    let listen = format!("127.0.0.1:{port}");
    let arguments = [
        "serve",
        "--listen",
        &listen,
        "--shards",
        "1",
        "--symbols",
        "20",
        "--rate",
        "100",
        "--max-connections",
        "100",
        "--max-http-connections",
        &clients,
    ];
    Program { path: env!("CARGO_BIN_EXE_tickcast").into(), arguments: arguments.map(str::to_owned).into() }
}

/// # Errors
/// Its files cannot be written.
pub fn nginx(port: u16, folder: &Path, bytes: usize, path: &Path) -> Result<Program> {
    fs::write(folder.join("polled.json"), vec![b'x'; bytes])?;
    let configuration = folder.join("polls.conf");
    let shown = folder.display();
    let text = format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 40000;
pid {shown}/nginx.pid;
error_log stderr;
events {{ worker_connections 20100; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=10;
  keepalive_requests 1000000;
  client_body_temp_path {shown}/nginx-body;
  proxy_temp_path {shown}/nginx-proxy;
  fastcgi_temp_path {shown}/nginx-fastcgi;
  uwsgi_temp_path {shown}/nginx-uwsgi;
  scgi_temp_path {shown}/nginx-scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {shown}; }}
}}
"
    );
    fs::write(&configuration, text)?;
    let arguments = ["-p", &shown.to_string(), "-c", &configuration.to_string_lossy(), "-e", "stderr"];
    Ok(Program { path: path.to_owned(), arguments: arguments.map(str::to_owned).into() })
}

/// Polls for so many seconds, after as long a second as it takes to begin.
///
/// # Errors
/// The server does not start, or an answer is not 200.
pub fn run(
    program: &Program,
    polled: &Polled,
    port: u16,
    core: usize,
    log: &Path,
    clients: usize,
    seconds: u32,
) -> Result<Cost> {
    let mut server = Server::start(program, core, log)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut poll = Poll::new()?;
    let mut all = Vec::with_capacity(clients);
    let until = Instant::now() + Duration::from_secs(20);
    while all.len() < clients {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(all.len()), Interest::READABLE)?;
                let (received, since, due) = (Vec::new(), String::new(), Instant::now());
                all.push(Client { stream, received, due, is_free: true, since });
                if all.len() % CONNECTED_TOGETHER == 0 {
                    // So that the backlog is taken.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Err(error) => {
                server.check()?;
                ensure!(Instant::now() < until, "cannot connect: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    let begin = Instant::now();
    for (number, client) in (0..).zip(&mut all) {
        client.due = begin + EVERY * number / u32::try_from(clients)?;
    }
    // The first answers have everything, and warm the caches.
    let (from, end) = (begin + 2 * EVERY, begin + 2 * EVERY + Duration::from_secs(seconds.into()));
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(clients);
    let (mut begun, mut polls, mut bytes, mut late) = (None, 0, 0, 0);
    loop {
        let now = Instant::now();
        if now >= from && begun.is_none() {
            begun = Some(server.cpu()?);
        }
        if now >= end {
            break;
        }
        for client in &mut all {
            if client.due > now {
                continue;
            }
            client.due += EVERY;
            if client.is_free {
                client.ask(polled)?;
            } else {
                late += 1;
            }
        }
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let client = &mut all[event.token().0];
            if let Some(length) = client.read(&mut buffer)?
                && begun.is_some()
            {
                polls += 1;
                bytes += length;
            }
        }
        std::thread::sleep(TURN.saturating_sub(now.elapsed()));
    }
    let cpu = server.cpu()?.total.saturating_sub(begun.context("it was too short")?.total);
    ensure!(polls > 0, "no poll was answered");
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let cpu_micros = cpu.as_secs_f64() * 1e6 / polls as f64;
    Ok(Cost { cpu_micros, mean_bytes: bytes / polls, polls, late })
}

impl Client {
    fn ask(&mut self, polled: &Polled) -> Result<()> {
        let path = match polled {
            Polled::File => "/polled.json".to_owned(),
            Polled::Quotes if self.since.is_empty() => "/v1/poll?topics=quote:*".to_owned(),
            Polled::Quotes => format!("/v1/poll?topics=quote:*&since={}", self.since),
        };
        // A few bytes into an empty socket.
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        self.is_free = false;
        Ok(())
    }

    /// Reads what has arrived; the length of the answer's body if it is complete now.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(end) = self.received.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&self.received[..end])?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "an answer: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("an answer without a length")?.parse()?;
        let Some(body) = self.received.get(end + 4..end + 4 + length) else { return Ok(None) };
        let since = b"\"since\":\"";
        if let Some(at) = body.windows(since.len()).rposition(|window| window == since) {
            let since = body[at + since.len()..].split(|&byte| byte == b'"').next().unwrap_or_default();
            self.since = std::str::from_utf8(since)?.to_owned();
        }
        self.received.clear();
        self.is_free = true;
        Ok(Some(length))
    }
}
