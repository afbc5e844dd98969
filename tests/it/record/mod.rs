//! Recordings as users make them, with the binary: they survive a crash, they hold what happened, and a full
//! disk does no harm.

mod resume;
mod support;

use crate::record::support::{Batch, PATIENCE, Server, read, tickcast};
use rustix::process::{WaitId, WaitIdOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tickcast::feed::Feed;
use tickcast::feed::sim::{SimConfig, Simulator, default_universe};
use tickcast::market::{Event, Instruments, Timestamp};
use tickcast::recording::{RecordingHeader, RecordingIndex, RecordingWriter};

#[test]
fn a_killed_server_leaves_all_but_the_last_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let mut server =
        Server::start(&["--symbols", "50", "--rate", "4000", "--record", path.to_str().unwrap()]);
    // Long enough for several frames and a checkpoint, which comes after 64 KiB; the market's past is there
    // at once. On a busy machine all threads are late, so it is killed right after a frame was written.
    server.wait_until("tickcast_recorded_bytes_total", |bytes| bytes > 600_000);
    let written = server.metric("tickcast_recorded_bytes_total");
    server.wait_until("tickcast_recorded_bytes_total", |bytes| bytes > written + 20_000);

    let (recorded, now) = (server.metric("tickcast_tape_position"), Timestamp::now());
    // SIGKILL: nothing of the process runs any more.
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    let (batches, error) = read(&path);
    let &(position, time, _) = batches.last().expect("there are batches");
    let lost = Duration::from_nanos(now.nanos_since(time).max(0).unsigned_abs());
    assert!(lost <= Duration::from_secs(1), "{lost:?} are lost, from {position} to {recorded}; {error:?}");
    assert!(batches.iter().zip(1..).all(|(batch, position)| batch.0 == position), "each batch is there once");
    assert!(batches.is_sorted_by_key(|batch| batch.1));

    let index = RecordingIndex::read(&std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(index.totals, None, "there was no time for an index");
    assert!(!index.checkpoints.is_empty(), "but its checkpoints are found");
}

#[test]
fn a_server_that_ends_well_leaves_everything_with_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let mut server =
        Server::start(&["--symbols", "20", "--rate", "4000", "--record", path.to_str().unwrap()]);
    server.wait_until("tickcast_recorded_bytes_total", |bytes| bytes > 600_000);
    // The end of its standard input ends it.
    drop(server.process.stdin.take());
    assert!(server.process.wait().unwrap().success());

    let (batches, error) = read(&path);
    assert_eq!(error, None);
    let index = RecordingIndex::read(&std::fs::File::open(&path).unwrap()).unwrap();
    let totals = index.totals.expect("an index");
    let events: usize = batches.iter().map(|batch| batch.2.len()).sum();
    assert_eq!((totals.batches, totals.events), (batches.len() as u64, events as u64));
    let last = batches.last().map(|batch| (batch.0, batch.1));
    assert_eq!((totals.first, Some((totals.last_position, totals.last))), (batches[0].1, last));
}

/// A recorded minute of a market, from 23:54:14.
const MINUTE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/feeds/binance-spot-60s.tape");

fn seek(to: &str) -> String {
    format!(r#"{{"action":"seek","to":"2024-08-08T{to}Z"}}"#)
}

/// The one after the other as they should be: in the order of time, and with positions that go on.
#[track_caller]
fn check_sorted(batches: &[Batch]) {
    assert!(batches.is_sorted_by_key(|batch| batch.1), "time runs back");
    assert!(batches.windows(2).all(|two| two[0].0 < two[1].0), "positions do not grow");
}

/// Waits until a file holds so many bytes.
fn wait_for_bytes(path: &Path, bytes: u64) {
    let stop = Instant::now() + PATIENCE;
    while std::fs::metadata(path).map_or(0, |metadata| metadata.len()) < bytes {
        assert!(Instant::now() < stop, "{} does not grow to {bytes} bytes", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_seek_begins_another_file_and_overwrites_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("day.2.tape"), "of somebody else").unwrap();
    let mut server = Server::start(&["--feed", MINUTE, "--record", path("day.tape").to_str().unwrap()]);
    server.control(r#"{"action":"pause"}"#);
    server.control(r#"{"action":"step","by":"5s"}"#);
    // The last of these counts: nothing has happened between them.
    for to in ["23:55:10", "23:54:50", "23:54:30"] {
        server.control(&seek(to));
    }
    server.control(r#"{"action":"step","by":"10s"}"#);
    server.control(&seek("23:54:20"));
    server.control(r#"{"action":"step","by":"5s"}"#);
    drop(server.process.stdin.take());
    assert!(server.process.wait().unwrap().success());

    assert_eq!(std::fs::read(path("day.2.tape")).unwrap(), b"of somebody else");
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["day.2.tape", "day.3.tape", "day.4.tape", "day.tape"]);
    let mut positions = Vec::new();
    for (name, first, last) in [
        ("day.tape", "23:54:14", "23:54:19"),
        ("day.3.tape", "23:54:30", "23:54:40"),
        ("day.4.tape", "23:54:20", "23:54:25"),
    ] {
        let (batches, error) = read(&path(name));
        assert_eq!(error, None, "{name}");
        check_sorted(&batches);
        let time = |batch: Option<&Batch>| batch.unwrap().1.to_string()[11..19].to_owned();
        assert_eq!((&*time(batches.first()), &*time(batches.last())), (first, last), "{name}");
        let count =
            |wanted: fn(&Event) -> bool| batches.iter().flat_map(|b| &b.2).filter(|&e| wanted(e)).count();
        assert!(count(|event| matches!(event, Event::Trade(..))) > 10, "{name}");
        let quoted = |event: &Event| matches!(event, Event::Quote(..));
        assert!(
            name == "day.tape" || batches[0].2.iter().any(quoted),
            "{name} begins with the market as it was"
        );
        assert_eq!(count(|event| matches!(event, Event::Snapshot(..) | Event::Reset)), 0, "{name}");
        // As a user would look into it.
        assert!(tickcast(&["inspect", path(name).to_str().unwrap()]).status.success());
        positions.push((batches[0].0, batches.last().unwrap().0));
    }
    assert!(
        positions.windows(2).all(|two| two[0].1 < two[1].0),
        "positions go on from file to file: {positions:?}"
    );
}

#[test]
fn a_replay_from_a_later_start_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let args = ["--feed", MINUTE, "--start", "2024-08-08T23:54:40Z", "--record", path.to_str().unwrap()];
    let mut server = Server::start(&args);
    server.wait_until("tickcast_tape_events_total", |events| events > 500);
    drop(server.process.stdin.take());
    assert!(server.process.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let (batches, _) = read(&path);
    check_sorted(&batches);
    assert_eq!(batches[0].1.to_string(), "2024-08-08T23:54:40Z");
}

#[test]
fn a_client_that_records_begins_another_file_with_a_seek() {
    let server = Server::start(&["--feed", MINUTE, "--speed", "4"]);
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["day.tape", "day.2.tape"].map(|name| folder.path().join(name));
    let mut recorder = Command::new(env!("CARGO_BIN_EXE_tickcast"))
        .args(["record", &format!("ws://{}", server.address), "-o", first.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_bytes(&first, 10_000);
    let from: Timestamp = "2024-08-08T23:54:16Z".parse().unwrap();
    server.control(&seek("23:54:16"));
    wait_for_bytes(&second, 10_000);
    rustix::process::kill_process(rustix::process::Pid::from_child(&recorder), rustix::process::Signal::TERM)
        .unwrap();
    assert!(recorder.wait().unwrap().success());
    let mut told = String::new();
    recorder.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("wound to 2024-08-08T23:54:16") && told.contains("in 2 files"), "{told}");

    let trades = |batches: &[Batch]| -> Vec<Timestamp> {
        let events = batches.iter().flat_map(|batch| &batch.2);
        events
            .filter_map(|event| if let Event::Trade(_, trade) = event { Some(trade.ts_event) } else { None })
            .collect()
    };
    for path in [&first, &second] {
        let (batches, error) = read(path);
        assert_eq!(error, None);
        check_sorted(&batches);
        assert!(trades(&batches).len() > 20);
    }
    let (batches, _) = read(&second);
    assert_eq!(batches[0].1, from);
    // Trades of the market carry the exchange's time, a little before they arrived.
    let early = trades(&batches).into_iter().filter(|at| from.nanos_since(*at) > 500_000_000).count();
    assert_eq!(early, 0, "trades from before the seek are not what happened since");
}

#[test]
fn a_client_records_so_many_events_and_not_what_was_before() {
    let server = Server::start(&["--symbols", "5", "--rate", "2000"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.tape");
    let url = format!("ws://{}", server.address);
    // Rings are full of trades by then.
    server.wait_until("tickcast_tape_events_total", |events| events > 1000);
    let begun = Timestamp::now();
    let args =
        ["record", &url, "--topics", "quote:*,trades:*", "-o", path.to_str().unwrap(), "--count", "400"];
    let output = tickcast(&args);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("400 events"), "{told}");

    let (batches, error) = read(&path);
    assert_eq!(error, None);
    let events: Vec<&Event> = batches.iter().flat_map(|batch| &batch.2).collect();
    let trades = events.iter().filter(|event| matches!(event, Event::Trade(..))).count();
    let quotes = events.iter().filter(|event| matches!(event, Event::Quote(..))).count();
    assert_eq!(trades + quotes, 400);
    assert!(trades > 20 && quotes > 100, "{trades} trades, {quotes} quotes");
    for event in &events {
        if let Event::Trade(_, trade) = event {
            // The rings hold half a second of trades. A feed that is behind tells of the last few
            // milliseconds only now.
            let before = begun.nanos_since(trade.ts_event);
            assert!(before < 200_000_000, "{} is before {begun}", trade.ts_event);
        }
    }

    let refused = tickcast(&args);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("exists (--force overwrites it)"), "{told}");
    assert!(tickcast(&[&args[..], &["--force"]].concat()).status.success());
}

#[test]
fn what_cannot_be_recorded_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tape");
    let check = |args: &[&str], code, expected: &str| {
        let output = tickcast(&[&["record", "-o", path.to_str().unwrap()], args].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!path.exists());
    };
    check(&["--topics", "bars.1s:X"], 2, "bars.1s:X is not recorded: bars follow from trades");
    check(&["--topics", "qoute:X"], 2, "did you mean \"quote:X\"?");
    check(&["ws://127.0.0.1:1"], 3, "cannot connect to ws://127.0.0.1:1");
    let server = Server::start(&["--symbols", "5"]);
    let url = format!("ws://{}", server.address);
    check(&[&url, "--duration", "soon"], 2, "no length of time");
}

#[test]
fn a_disk_that_is_full_stops_the_recording_and_not_the_market() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    // Files of this process end at 1 MiB, whatever the disk has. (The unit of `ulimit -f` is 512 bytes, or
    // 1,024.)
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$@\"";
    // The log is on the same disk, so nothing can be said of it either.
    let log = folder.path().join("log");
    std::fs::write(&log, vec![b'\n'; 1 << 22]).unwrap();
    let args = ["--symbols", "20", "--rate", "4000", "--record", path.to_str().unwrap()];
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_tickcast")]);
    command.stderr(std::fs::File::options().append(true).open(&log).unwrap());
    let server = Server::spawn(&mut command, &args);
    server.wait_until("tickcast_recording_live", |live| live == 0);
    let before = server.metric("tickcast_tape_position");
    server.wait_until("tickcast_tape_position", |position| position > before + 10);
    check_ended(server, "File too large");

    let (batches, error) = read(&path);
    assert_eq!(error, None, "what is there ends with a whole frame");
    assert!(batches.len() > 100 && batches.iter().zip(1..).all(|(batch, position)| batch.0 == position));
}

/// Publishes trades of so many symbols that nobody knew before, all in one request.
fn publish_new(server: &Server, symbols: u32) -> String {
    use std::fmt::Write;
    let mut body = String::new();
    for n in 0..symbols {
        writeln!(body, r#"{{"type":"trade","symbol":"NEW.{n:06}","price":"{n}.25","size":"1"}}"#).unwrap();
    }
    server.post("/v1/publish", &body)
}

/// As many new symbols as a server takes at once.
const ALL_NEW: u32 = 99_000;

#[test]
fn a_publication_of_any_size_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut server = Server::start(&["--feed", "none", "--record", &path("day.tape")]);
    let answer = publish_new(&server, ALL_NEW);
    assert!(answer.contains(&format!("\"accepted\":{ALL_NEW}")), "{answer}");
    server.wait_until("tickcast_recording_position", |position| position > 1);
    // Behind the frame of that, with the first trade that comes when it is closed, is a checkpoint.
    let (written, mut more) = (server.metric("tickcast_recorded_bytes_total"), 0);
    let trade = r#"{"type":"trade","symbol":"NEW.098999","price":"7","size":"1"}"#;
    while server.metric("tickcast_recorded_bytes_total") < written + 500_000 {
        server.post("/v1/publish", trade);
        more += 1;
    }
    drop(server.process.stdin.take());
    assert!(server.process.wait().unwrap().success());

    let (batches, error) = read(Path::new(&path("day.tape")));
    assert_eq!(error, None);
    let events = || batches.iter().flat_map(|batch| &batch.2);
    let trades = events().filter(|event| matches!(event, Event::Trade(..))).count();
    assert_eq!(trades, (ALL_NEW + more) as usize);
    let check_whole = |name: &str| check_whole(&path(name), ALL_NEW, ALL_NEW + more);
    check_whole("day.tape");

    // What is made of it says the same.
    assert!(tickcast(&["convert", &path("day.tape"), &path("again.tape")]).status.success());
    check_whole("again.tape");

    // Sought to its end, by its checkpoint.
    let index = RecordingIndex::read(&std::fs::File::open(path("day.tape")).unwrap()).unwrap();
    assert!(!index.checkpoints.is_empty());
    let server =
        Server::start(&["--feed", &path("day.tape"), "--speed", "0.001", "--record", &path("played.tape")]);
    server.control(&format!(r#"{{"action":"seek","to":"{}"}}"#, batches.last().unwrap().1));
    let answer = server.get("/v1/trades/NEW.098999?limit=1");
    assert!(answer.contains(r#""price":"7.00""#), "{answer}");
    assert_eq!(server.metric("tickcast_recording_live"), 1);
}

/// Looks into a recording as a user would.
#[track_caller]
fn check_whole(path: &str, symbols: u32, trades: u32) {
    let output = tickcast(&["inspect", "--json", path]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let count = |name: &str| told[name].as_u64();
    let expected = [Some(symbols.into()), Some(trades.into()), Some(0)];
    assert_eq!([count("symbols"), count("trades"), count("faults")], expected, "{path}: {told}");
}

#[test]
fn a_client_records_a_publication_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let server = Server::start(&["--feed", "none"]);
    let mut recorder = Command::new(env!("CARGO_BIN_EXE_tickcast"))
        .args(["record", &format!("ws://{}", server.address), "--topics", "trades:*"])
        .args(["-o", path.to_str().unwrap()])
        .spawn()
        .unwrap();
    wait_for_bytes(&path, 1);
    // What was there when its topics were granted is the past to it: so it is asked until it records.
    let stop = Instant::now() + PATIENCE;
    while traded(&path) == 0 {
        assert!(Instant::now() < stop, "nothing is recorded");
        server.post("/v1/publish", r#"{"type":"trade","symbol":"FIRST","price":"1","size":"1"}"#);
    }
    publish_new(&server, ALL_NEW);
    let stop = Instant::now() + 4 * PATIENCE;
    while traded(&path) <= ALL_NEW as usize {
        assert!(Instant::now() < stop, "trades of {} symbols are recorded", traded(&path));
    }
    let process = rustix::process::Pid::from_child(&recorder);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert!(recorder.wait().unwrap().success());
    assert_eq!((read(&path).1, traded(&path)), (None, ALL_NEW as usize + 1));
}

/// Of how many symbols a recording has trades, each defined before.
fn traded(path: &Path) -> usize {
    let (mut symbols, mut traded) = (std::collections::HashMap::new(), std::collections::HashSet::new());
    for event in read(path).0.into_iter().flat_map(|batch| batch.2) {
        match event {
            Event::Instrument(definition) => drop(symbols.insert(definition.id, definition.symbol.clone())),
            Event::Trade(id, _) => drop(traded.insert(symbols[&id].clone())),
            _ => {}
        }
    }
    traded.len()
}

/// Ends a server whose recording has ended early: it must have said so wherever anyone looks.
#[track_caller]
fn check_ended(mut server: Server, reason: &str) {
    server.wait_until("tickcast_recording_live", |live| live == 0);
    let ready = server.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "the market goes on: {ready}");
    assert!(ready.contains(r#""state":"ended""#) && ready.contains(reason), "{ready}");
    drop(server.process.stdin.take());
    assert_eq!(server.process.wait().unwrap().code(), Some(1));
}

#[test]
fn a_recording_whose_folder_is_removed_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("recordings");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("day.tape");
    let server = Server::start(&["--symbols", "5", "--record", path.to_str().unwrap()]);
    server.wait_until("tickcast_recorded_bytes_total", |bytes| bytes > 1000);
    assert!(server.get("/readyz").contains(r#""state":"live""#));
    std::fs::remove_dir_all(&inner).unwrap();
    check_ended(server, "the file was removed");
}

#[test]
fn two_recordings_do_not_write_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let args = ["--symbols", "5", "--record", path.to_str().unwrap(), "--force"];
    let server = Server::start(&args);
    let output = tickcast(&[&["serve", "--listen", "127.0.0.1:0"], &args[..]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && told.contains("another recording is being written to it"),
        "{told}"
    );
    assert_eq!(server.metric("tickcast_recording_live"), 1);
    drop(server);
    let (batches, _) = read(&path);
    assert!(batches.iter().zip(1..).all(|(batch, position)| batch.0 == position));
}

#[test]
fn a_disk_that_is_full_at_the_start_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.tape");
    let args = ["serve", "--listen", "127.0.0.1:0", "--symbols", "5", "--record", path.to_str().unwrap()];
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_tickcast")])
        .args(args)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("cannot record: "), "{told}");
    assert!(!path.exists(), "it would stand in the way of the next attempt");
    // And a device that is always full is not removed.
    let output = tickcast(&["serve", "--listen", "127.0.0.1:0", "--record", "/dev/full", "--force"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "tickcast: cannot record: /dev/full: No space left on device (os error 28)\n");
    assert!(Path::new("/dev/full").exists());
}

#[test]
fn a_recording_goes_to_a_pipe_until_that_is_closed() {
    let server = Server::start(&["--symbols", "5", "--rate", "2000"]);
    let url = format!("ws://{}", server.address);
    let record = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tickcast"))
            .args(["record", &url, "--quiet", "--force", "-o", "/dev/stdout"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let output = record(&["--count", "100"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let unpacked = zstd::decode_all(&output.stdout[..]).unwrap();
    assert!(unpacked.windows(13).any(|bytes| bytes == b"tickcast.tape"));

    let mut recorder = record(&[]);
    drop(recorder.stdout.take());
    let output = recorder.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("Broken pipe"), "{told}");
}

#[test]
fn a_file_that_cannot_be_written_at_all_is_told_at_the_start() {
    let check = |path: &str, expected: &str| {
        let output = tickcast(&["serve", "--listen", "127.0.0.1:0", "--record", path]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && told.contains(expected), "{told}");
    };
    check("no/such/folder.tape", "cannot record: no/such/folder.tape: No such file");
    check(env!("CARGO_BIN_EXE_tickcast"), "there is such a file already (--force overwrites it)");
}

#[test]
fn a_server_whose_address_is_taken_touches_no_recording() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.tape", "new.tape"].map(|name| folder.path().join(name));
    std::fs::write(&old, "yesterday's").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for args in [&["--record", old.to_str().unwrap(), "--force"][..], &["--record", new.to_str().unwrap()]] {
        let output = tickcast(&[&["serve", "--listen", &address], args].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && told.contains(&format!("cannot serve on {address}")),
            "{told}"
        );
    }
    assert_eq!(std::fs::read(&old).unwrap(), b"yesterday's");
    assert!(!new.exists(), "an empty file would be in the way of the next attempt");
}

/// What recording costs the server: the processor time of the whole process, the recorder's thread included,
/// beyond what it takes to play the same feed without, for each tick.
#[test]
#[ignore = "a measurement of the released program, which TICKCAST_BIN names"]
fn recording_costs_less_than_a_microsecond_a_tick() {
    const TICKS: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let (feed, recorded) = (folder.path().join("feed.tape"), folder.path().join("recorded.tape"));
    write_simulated(&feed, TICKS);
    let without = played(&feed, &[]);
    let with = played(&feed, &["--record", recorded.to_str().unwrap()]);
    let each = with.saturating_sub(without) / u32::try_from(TICKS).unwrap();
    let bytes = std::fs::metadata(&recorded).unwrap().len();
    println!(
        "{TICKS} ticks: {each:?} of processor time a tick ({with:?} - {without:?}), {bytes} bytes in all"
    );
    let (batches, error) = read(&recorded);
    assert_eq!(error, None);
    let ticks = batches.iter().flat_map(|(_, _, events)| events).filter(|event| is_tick(event)).count();
    assert!(ticks as u64 >= TICKS, "{ticks} recorded");
    assert!(each < Duration::from_micros(1), "{each:?}");
}

fn is_tick(event: &Event) -> bool {
    matches!(event, Event::Quote(..) | Event::Trade(..))
}

/// A simulated market, in batches as a live tape makes them: whatever comes within half a millisecond is one.
fn write_simulated(path: &Path, ticks: u64) {
    let start = Timestamp::from_nanos(1_704_067_200_000_000_000);
    let rate = std::num::NonZeroU32::new(20_000).unwrap();
    let config = SimConfig { symbols: 550, rate, seed: 1, ..SimConfig::starting(start) };
    let mut market = Simulator::new(&default_universe(), config);
    let mut writer =
        RecordingWriter::new(std::fs::File::create(path).unwrap(), &RecordingHeader::default()).unwrap();
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let (mut batch_of, mut position, mut count) = (start, 0, 0);
    while count < ticks {
        let time = market.next(&mut instruments, &mut events).unwrap().unwrap();
        if time.nanos_since(batch_of) >= 500_000 {
            count += events.iter().filter(|event| is_tick(event)).count() as u64;
            position += 1;
            writer.append(position, time, &events).unwrap();
            events.clear();
            batch_of = time;
        }
    }
    writer.finish().unwrap();
}

/// The processor time of a server that has played a feed as fast as it can be, and has ended in order.
fn played(feed: &Path, args: &[&str]) -> Duration {
    let args = [&["--feed", feed.to_str().unwrap(), "--speed", "max"], args].concat();
    let mut server = Server::spawn(&mut Command::new(crate::released()), &args);
    let url = format!("ws://{}", server.address);
    let mut watch = Command::new(crate::released())
        .args(["watch", &url, "status"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.unwrap().contains(r#""state":"ended""#)), "the feed ends");
    watch.kill().unwrap();
    watch.wait().unwrap();
    drop(server.process.stdin.take());
    let id = rustix::process::Pid::from_child(&server.process);
    // It is left to be waited for again, as its times are gone with it.
    let left = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(id), left).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.id())).unwrap();
    // After the name, which is in parentheses: user and system time are fields 14 and 15, in hundredths of a
    // second.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}
