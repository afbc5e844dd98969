//! `tickcast scenario`, run as people run it, and the recording that ships with a scenario.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tickcast::feed::sim::scenario::{READY, Scenario};
use tickcast::market::{Instruments, Timestamp};
use tickcast::recording::RecordingReader;

fn scenario(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickcast"));
    command.arg("scenario").args(args).output().expect("the program runs")
}

#[track_caller]
fn said(args: &[&str]) -> String {
    let output = scenario(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn check_error(command: &str, args: &[&str], expected: &str) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tickcast")).arg(command).args(args).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
    assert!(told.contains(expected), "{args:?}: {told}");
}

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_ready_scenarios_are_listed_and_tell_what_happens_when() {
    let list = said(&[]);
    for (name, text) in READY {
        assert!(list.contains(&format!("{name}\n")), "{name} is not in {list}");
        assert_eq!(said(&[name, "--toml"]), text);
    }
    let timeline = said(&["flash-crash"]);
    for line in [
        "100 symbols, 2000 ticks/s, seed 6; starts when it is played, ends at 6m",
        "        0s  continuous: quotes and trades",
        "        2m  crash of all symbols by 9 % within 40s, there for 10s, back within 1m30s",
        "     2m30s  halt AAPL for 30s",
    ] {
        assert!(timeline.contains(line), "{line:?} is not in {timeline}");
    }
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_name_line_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = file(&directory, "mine.toml", "[market]\nsymbols = 5\nrte = 7\n");
    let expected = format!("{wrong}:3: unknown key \"rte\": did you mean \"rate\"?");
    check_error("scenario", &[&wrong], &expected);
    check_error("serve", &["--scenario", &wrong], &expected);
    let absent = file(&directory, "absent.toml", "[[halt]]\nat = \"1s\"\nfor = \"1s\"\nsymbol = \"XYZ\"\n");
    check_error("scenario", &[&absent], "absent.toml:1: symbol \"XYZ\" is not in this market");
    check_error("scenario", &["flash-crsh"], "did you mean flash-crash?");
    check_error("serve", &["--scenario", "burst", "--feed", "none"], "--scenario is of the simulated market");
    let endless = file(&directory, "endless.toml", "[market]\nsymbols = 5\n");
    check_error("scenario", &[&endless, "-o", "/dev/null"], "never ends");
    check_error("serve", &["--scenario", &endless, "--loop"], "never ends");
}

#[test]
fn a_scenario_with_a_start_is_recorded_the_same_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let record = |name: &str| {
        let path = directory.path().join(name);
        said(&["burst", "-o", path.to_str().unwrap()]);
        std::fs::read(path).unwrap()
    };
    assert_eq!(record("a.tape"), record("b.tape"));
}

/// Batches of a recording: their times and events, unpacked.
fn recorded(path: &Path) -> Vec<(Timestamp, String)> {
    let unpacked = zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut reader = RecordingReader::new(unpacked).unwrap();
    let (mut batches, mut events) = (Vec::new(), Vec::new());
    while let Some((_, time)) = reader.next(&mut events).unwrap() {
        batches.push((time, format!("{events:?}")));
        events.clear();
    }
    batches
}

#[test]
fn the_burst_that_ships_is_what_its_scenario_plays() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("feeds/burst-10s.tape");
    let text = READY.iter().find(|ready| ready.0 == "burst").unwrap().1;
    let mut feed = Scenario::parse(text).unwrap().play(Timestamp::default()).unwrap();
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let mut played = Vec::new();
    while let Some(time) = feed.next(&mut instruments, &mut events).unwrap() {
        played.push((time, format!("{events:?}")));
        events.clear();
    }
    let recorded = recorded(&path);
    assert_eq!(recorded.len(), played.len());
    for (recorded, played) in recorded.iter().zip(&played) {
        assert_eq!(recorded, played);
    }
    assert!(std::fs::metadata(&path).unwrap().len() < 300 << 10, "small enough to ship");
}

#[test]
fn a_recorded_scenario_can_be_sought_in() {
    let directory = tempfile::tempdir().unwrap();
    let script = file(&directory, "slow.toml", "end = \"5m\"\n[market]\nsymbols = 3\nrate = 20\n");
    let path = directory.path().join("slow.tape");
    said(&[&script, "-o", path.to_str().unwrap()]);
    let told = Command::new(env!("CARGO_BIN_EXE_tickcast"))
        .arg("inspect")
        .arg("--json")
        .arg(&path)
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(told["tape"]["checkpoints"].as_u64().unwrap() > 0, "{}", told["tape"]);
}
