use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tickcast::market::{Event, Timestamp};
use tickcast::recording::RecordingReader;

/// What a test waits for has come by then, or never will.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a process of its own, which ends with the test.
pub struct Server {
    pub process: Child,
    pub address: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(&mut Command::new(env!("CARGO_BIN_EXE_tickcast")), args)
    }

    pub fn spawn(command: &mut Command, args: &[&str]) -> Self {
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--while-stdin"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let address = lines
            .find_map(|line| Some(line.ok()?.split_once("http://")?.1.trim_end_matches('/').to_owned()))
            .expect("it says where it listens");
        Self { process, address }
    }

    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Controls what is played.
    pub fn control(&self, action: &str) -> String {
        self.post("/v1/replay", action)
    }

    pub fn post(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let (host, length) = (&self.address, body.len());
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close");
        write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in {page}")).parse().expect("a count")
    }

    pub fn wait_until(&self, name: &str, reached: impl Fn(u64) -> bool) {
        let stop = Instant::now() + PATIENCE;
        while !reached(self.metric(name)) {
            assert!(Instant::now() < stop, "{name} is still {}", self.metric(name));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn tickcast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickcast")).args(args).output().expect("the binary starts")
}

/// Position, time and events.
pub type Batch = (u64, Timestamp, Vec<Event>);

/// What a recording holds, and what ended it early.
pub fn read(path: &Path) -> (Vec<Batch>, Option<String>) {
    let file = std::fs::File::open(path).expect("there is a recording");
    let mut reader = RecordingReader::new(zstd::Decoder::new(file).unwrap()).expect("it has a header");
    let mut batches = Vec::new();
    loop {
        let mut events = Vec::new();
        match reader.next(&mut events) {
            Ok(Some((position, time))) => batches.push((position, time, events)),
            Ok(None) => return (batches, None),
            Err(error) => return (batches, Some(error.to_string())),
        }
    }
}
