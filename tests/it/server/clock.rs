//! The tape's clock, where the machine's is not what it was.

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tickcast::market::Timestamp;

use crate::server::support::request;

const HOUR: Duration = Duration::from_hours(1);

/// A server under Debian's faketime, whose wall clock is set and whose other one runs on: a machine that
/// sleeps.
struct Sleeper {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    ahead: i64,
}

impl Sleeper {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickcast"));
        command.args(["--listen", "127.0.0.1:0"]).args(args);
        set(folder.path(), 0);
        let child = command
            .env("LD_PRELOAD", library())
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_TIMESTAMP_FILE", clock_file(folder.path()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                let line = line.unwrap();
                let from = line.find("127.0.0.1:")?;
                let digits = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
                line[from..].split(|c| !digits(c)).next()?.parse().ok()
            })
            .expect("it says where it listens");
        // Nobody reads on, and it must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder, ahead: 0 }
    }

    /// Its wall clock goes ahead, or back.
    fn step(&mut self, seconds: i64) {
        self.ahead += seconds;
        set(self.folder.path(), self.ahead);
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now().plus_nanos(self.ahead * 1_000_000_000)
    }

    async fn get(&self, path: &str) -> Value {
        request(self.address, "GET", path, &[], b"").await.json()
    }

    async fn publish(&self, price: u32) {
        let time = self.wall();
        let trade =
            format!(r#"{{"type":"trade","symbol":"CK","price":{price},"size":1,"ts_event":"{time}"}}"#);
        assert_eq!(request(self.address, "POST", "/v1/publish", &[], trade.as_bytes()).await.status, 200);
    }

    /// Waits until the tape's clock is the wall's.
    async fn until_on_the_wall(&self) {
        let deadline = SystemTime::now() + Duration::from_secs(20);
        loop {
            let time: Timestamp = self.get("/v1/quotes").await["time"].as_str().unwrap().parse().unwrap();
            let behind = self.wall().nanos_since(time);
            if behind.abs() < 1_500_000_000 {
                return;
            }
            assert!(SystemTime::now() < deadline, "{behind} ns behind the wall's");
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn clock_file(folder: &Path) -> PathBuf {
    folder.join("clock")
}

/// At once, as the server may look at any moment.
fn set(folder: &Path, ahead: i64) {
    fs::write(folder.join("next"), format!("{ahead:+}")).unwrap();
    fs::rename(folder.join("next"), clock_file(folder)).unwrap();
}

fn library() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime"));
    let mut found = libraries.map(|folder| folder.join("libfaketime.so.1"));
    found.find(|library| library.exists()).expect("Debian's package faketime is installed")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package faketime"]
async fn bars_are_of_the_time_on_the_wall_after_a_sleep_and_after_the_clock_was_set() {
    let mut server = Sleeper::start(&["--feed", "none"]);
    server.until_on_the_wall().await;
    server.publish(100).await;
    let hour = i64::try_from(HOUR.as_secs()).unwrap();
    for (number, step) in [(1, hour), (2, 24 * hour), (3, -2 * hour)] {
        server.step(step);
        server.until_on_the_wall().await;
        let before = server.wall();
        server.publish(100 + number).await;
        let bars = server.get("/v1/bars/CK?interval=1m").await;
        let last = bars["bars"].as_array().unwrap().last().unwrap();
        let start: Timestamp = last["start"].as_str().unwrap().parse().unwrap();
        assert!(before.nanos_since(start) < 61_000_000_000, "{bars}");
        assert_eq!(last["close"], format!("{}.00", 100 + number));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's package faketime"]
async fn a_simulation_does_not_catch_up_with_what_its_machine_has_slept_through() {
    let mut server = Sleeper::start(&["--rate", "100"]);
    server.until_on_the_wall().await;
    server.step(i64::try_from(HOUR.as_secs()).unwrap());
    server.until_on_the_wall().await;
    let metrics = request(server.address, "GET", "/metrics", &[], b"").await.text();
    let count = metrics.lines().find_map(|line| line.strip_prefix("tickcast_tape_events_total ")).unwrap();
    let count: f64 = count.parse().unwrap();
    // 360,000 ticks are an hour's.
    assert!(count < 20_000.0, "{count} events");
    let feed = server.get("/v1/feed").await;
    let told = feed["clock"]["wall_us"].as_i64().unwrap();
    assert!((server.wall().micros() - told).abs() < 60_000_000, "{feed}");
}
