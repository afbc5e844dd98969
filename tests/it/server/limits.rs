//! What a server takes for what it is sent, measured from outside: of a process of its own, as memory is a
//! process's.

use crate::server::support::{PATIENCE, RawClient, handshake, request, soon, trade};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

const MIB: u64 = 1 << 20;

/// A server that serves what is published to it, and ends with this.
struct Process {
    child: Child,
    address: SocketAddr,
    /// What it says besides, line by line.
    said: std::sync::mpsc::Receiver<String>,
}

impl Process {
    /// Starts one that may have so many descriptors.
    fn start(descriptors: u32, arguments: &str) -> Self {
        let server = env!("CARGO_BIN_EXE_tickcast");
        let script = format!(
            "ulimit -n {descriptors} && exec '{server}' --listen 127.0.0.1:0 --feed none {arguments}"
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (say, said) = std::sync::mpsc::channel();
        let stderr = child.stderr.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let address = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("http://")?.1.trim_end_matches('/').parse().ok());
        Self { child, address: address.expect("it says where it is"), said }
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kib.expect("its memory").parse::<u64>().expect("a number") * 1024
    }

    async fn counted(&self, metric: &str) -> u64 {
        let page = request(self.address, "GET", "/metrics", &[], b"").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {metric} in {page}")).parse().expect("a count")
    }

    /// That its memory has grown by less than so many MiB since it was `before`.
    #[track_caller]
    fn check_grown(&self, before: u64, most: u64, what: &str) {
        let grown = self.resident().saturating_sub(before) / MIB;
        assert!(grown < most, "{what}: {grown} MiB, and not under {most}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_name_topics_without_end_take_nothing() {
    let server = Process::start(2000, "");
    let before = server.resident();
    let path = format!("/v1/ws?topics={}", vec!["a"; 30_000].join(","));
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = RawClient::dial(server.address).await;
        client.send(handshake(server.address, &path, &[]).as_bytes()).await;
        client.response("GET").await.check_problem(400, "at most 1024");
        clients.push(client);
    }
    // Each took 7 MiB.
    server.check_grown(before, 60, "100 handshakes of 60 KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_without_end_take_no_more_than_their_text() {
    let server = Process::start(2000, "");
    let before = server.resident();
    let body = "not even JSON\n".repeat(8 * 1024 * 1024 / 14);
    let answer = request(server.address, "POST", "/v1/publish", &[], body.as_bytes()).await.json();
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1000);
    assert!(answer["rejected_total"].as_u64().unwrap() > 500_000);
    server.check_grown(before, 60, "8 MiB of bad lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_have_a_bound_together_and_are_cut() {
    const CLIENTS: u64 = 40;
    let server = Process::start(2000, "");
    // Few instruments of many bytes: it is not the writing that this is about.
    let long = "x".repeat(256);
    let instrument = |number| json!({"type": "instrument", "symbol": format!("S{number}"), "name": long, "sector": long, "currency": long});
    let lines: Vec<String> = (0..5_000).map(|number| instrument(number).to_string()).collect();
    let lines = lines.join("\n");
    let published = request(server.address, "POST", "/v1/publish", &[], lines.as_bytes()).await.json();
    assert_eq!(published["accepted"], 5_000);
    let length = request(server.address, "GET", "/v1/instruments", &[], b"").await.body.len() as u64;
    assert!(CLIENTS * length > 170 * MIB, "{length} bytes are too few to tell");
    let before = server.resident();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = soon("connect", socket.connect(server.address)).await.unwrap();
        client.write_all(b"GET /v1/instruments HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    // Each is cut, or was refused as there was no room.
    let (refused, cut) = (
        "tickcast_http_requests_refused_total{reason=\"busy\"}",
        "tickcast_http_connections_cut_total{reason=\"unread\"}",
    );
    let over = async {
        while server.counted(refused).await + server.counted(cut).await < CLIENTS {
            server.check_grown(before, 130, "answers that are not read");
        }
    };
    tokio::time::timeout(4 * PATIENCE, over).await.expect("the end of those who do not read");
    assert!(server.counted(cut).await > 0);
    assert_eq!(request(server.address, "GET", "/v1/instruments", &[], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_that_never_end_have_a_bound_together() {
    let server = Process::start(2000, "");
    let before = server.resident();
    let mut clients = Vec::new();
    for _ in 0..150 {
        let mut client = RawClient::dial(server.address).await;
        client.send(b"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n").await;
        // Where there is no room for it the server has stopped to read.
        let _ = client.stream.write_all(&vec![b'\n'; 1 << 20]).await;
        clients.push(client);
    }
    for _ in 0..150 {
        let mut client = RawClient::dial(server.address).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(60_000)).as_bytes()).await;
        clients.push(client);
    }
    let refused = "tickcast_http_requests_refused_total{reason=\"busy\"}";
    soon("the bound", async { while server.counted(refused).await == 0 {} }).await;
    server.check_grown(before, 180, "150 bodies of a MiB each and 150 heads of 60 KiB");
    // A small publication gets through meanwhile.
    let answer = request(server.address, "POST", "/v1/publish", &[], trade("A", "1", 1).as_bytes()).await;
    assert_eq!(answer.json()["accepted"], 1);
    let cut = "tickcast_http_connections_cut_total{reason=\"head\"}";
    soon("the end of the heads", async { while server.counted(cut).await == 0 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_descriptors_are_told_at_start_and_end_in_503_and_not_in_silence() {
    let server = Process::start(200, "--shards 1 --max-rooms 2");
    let warning = server.said.recv_timeout(PATIENCE).expect("a warning");
    let room = server.counted("tickcast_connections_max").await;
    assert!(warning.contains(&format!("--max-connections {room}")) && (50..150).contains(&room), "{warning}");

    let head = handshake(server.address, "/v1/ws", &[]);
    let mut sessions = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..room + 10 {
        let mut client = RawClient::dial(server.address).await;
        client.send(head.as_bytes()).await;
        let answer = client.response("GET").await;
        if answer.status == 101 {
            taken += 1;
        } else {
            answer.check_problem(503, "as many connections");
            assert!(answer.header("retry-after").is_some());
            refused += 1;
        }
        sessions.push(client);
    }
    assert_eq!((taken, refused), (room, 10));
    // Connections that say nothing take what descriptors are left, and make way for whoever says something.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(RawClient::dial(server.address).await);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        assert_eq!(request(server.address, "GET", path, &[], b"").await.status, 200, "{path}");
    }
    assert!(server.counted("tickcast_http_connections_cut_total{reason=\"silent\"}").await > 0);
}
