//! Holds what `docs/architecture.md` promises: who knows whom, who touches the world, and that the map is
//! complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules in the order of the flow, and what each may know: nothing that comes after it, and not all
/// that comes before.
const KNOWS: [(&str, &[&str]); 11] = [
    ("market", &[]),
    ("recording", &["market"]),
    ("feed", &["market", "recording"]),
    ("tape", &["market", "recording", "feed"]),
    ("hub", &["market", "tape"]),
    ("record", &["market", "recording", "feed", "tape", "hub"]),
    ("wire", &["market", "tape", "hub"]),
    ("server", &["market", "feed", "tape", "hub", "record", "wire"]),
    ("client", &["market", "tape", "hub", "wire"]),
    ("bench", &["market", "recording", "feed", "tape", "hub", "wire", "client"]),
    ("cli", &["market", "recording", "feed", "tape", "hub", "record", "wire", "server", "client", "bench"]),
];

/// Inputs and the time go in, actions come out: these touch nothing else.
const PURE: [&str; 7] = [
    "src/market",
    "src/hub",
    "src/wire",
    "src/server/fanout",
    "src/client/session.rs",
    "src/client/requests.rs",
    "src/client/conflation.rs",
];

/// How code would touch the world, as parts of paths.
const WORLD: [&str; 17] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "Instant::now",
    "SystemTime",
    "tokio",
    "mio",
    "rustix",
    "socket2",
    "axum",
    "hyper",
    "rand",
];

/// The one place where the wall clock enters the domain.
const CLOCK: (&str, &str) = ("src/market/time.rs", "SystemTime");

#[test]
fn the_table_points_only_back() {
    for (index, (module, known)) in KNOWS.iter().enumerate() {
        let before: Vec<&str> = KNOWS[..index].iter().map(|(name, _)| *name).collect();
        for name in *known {
            assert!(before.contains(name), "{module} may not know {name}, which comes after it");
        }
    }
}

#[test]
fn modules_are_declared_in_the_order_of_the_flow() {
    let lib = read(&root().join("src/lib.rs"));
    let declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.split(';').next()).collect();
    assert_eq!(declared, KNOWS.map(|(module, _)| module));
}

#[test]
fn a_module_knows_only_what_it_may() {
    for (module, known) in KNOWS {
        for file in rust_files(&root().join("src").join(module)) {
            for path in paths(&read(&file)) {
                if let Some(other) = module_of(&path) {
                    assert!(
                        other == module || known.contains(&other.as_str()),
                        "{}: {module} must not know {other} ({path})",
                        shown(&file)
                    );
                }
            }
        }
    }
}

#[test]
fn the_cores_do_not_touch_the_world() {
    for place in PURE {
        for file in rust_files(&root().join(place)) {
            for path in paths(&read(&file)) {
                for outside in WORLD {
                    let allowed = (shown(&file).as_str(), outside) == CLOCK;
                    assert!(
                        allowed || !has_part(&path, outside),
                        "{}: {path} is not for a core: hand it in",
                        shown(&file)
                    );
                }
            }
        }
    }
}

#[test]
fn every_feed_is_described() {
    let feeds = root().join("feeds");
    let readme = read(&feeds.join("README.md"));
    for file in files(&feeds) {
        let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let described = name.ends_with(".md") || file.with_extension("md").is_file();
        assert!(
            described || readme.contains(&format!("`{name}`")),
            "feeds/README.md does not tell what {name} is"
        );
    }
}

#[test]
fn every_module_is_on_the_map() {
    let map = read(&root().join("docs/architecture.md"));
    for (module, _) in KNOWS {
        assert!(map.contains(&format!("`{module}`")), "docs/architecture.md does not tell of {module}");
    }
}

#[test]
fn paths_are_found_wherever_they_are_written() {
    check_paths("use crate::hub::Form;", "crate::hub::Form");
    check_paths(
        "use crate::{hub, wire::{Answer, json}};",
        "crate::hub crate::wire::Answer crate::wire::json",
    );
    check_paths("let x = crate::tape::Position::new(1);", "crate::tape::Position::new");
    check_paths(
        "use std::{\n    fmt,\n    time::SystemTime as Clock,\n};",
        "std::fmt std::time::SystemTime std::Clock",
    );
    check_paths("// crate::server is not known here\n/// nor crate::cli\nlet y = 1;", "");
}

#[test]
fn modules_are_recognised_however_they_are_named() {
    let check =
        |path: &str, expected: Option<&str>| assert_eq!(module_of(path).as_deref(), expected, "{path}");
    check("crate::hub::Form", Some("hub"));
    check("tickcast::server::Server", Some("server"));
    check("super::super::server::Server", Some("server"));
    check("super::view::View", None);
    check("std::net::TcpStream", None);
    assert!(has_part("std::time::SystemTime", "SystemTime"));
    assert!(has_part("tokio::net::TcpStream", "tokio"));
    assert!(!has_part("std::operand::x", "rand"));
}

/// `expected`: the paths of more than one part, but for the word `as`.
#[track_caller]
fn check_paths(code: &str, expected: &str) {
    let found: Vec<String> = paths(code).into_iter().filter(|path| !path.ends_with("::as")).collect();
    assert_eq!(found.join(" "), expected, "{code}");
}

/// The module of this crate that a path leads into.
fn module_of(path: &str) -> Option<String> {
    let mut parts = path.split("::").skip_while(|&part| part == "super").peekable();
    let from_root = parts.next_if(|&part| part == "crate" || part == "tickcast").is_some();
    // No module has a part of its own by the name of another module, so what `super` leads to is one.
    let climbed = path.starts_with("super::");
    let module = parts.next().filter(|part| KNOWS.iter().any(|(module, _)| module == part))?;
    (from_root || climbed).then(|| module.to_owned())
}

fn has_part(path: &str, part: &str) -> bool {
    format!("::{path}::").contains(&format!("::{part}::"))
}

/// All paths of more than one part outside of comment lines, the groups of `use` written out.
fn paths(source: &str) -> Vec<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut scan = Scan { rest: &code, found: Vec::new() };
    while scan.skip_to(|c| c == '_' || c.is_alphabetic()) {
        scan.path("");
    }
    scan.found
}

struct Scan<'a> {
    rest: &'a str,
    found: Vec<String>,
}

impl<'a> Scan<'a> {
    fn path(&mut self, prefix: &str) {
        let mut path = format!("{prefix}{}", self.word());
        while let Some(rest) = self.rest.strip_prefix("::") {
            self.rest = rest;
            if let Some(rest) = rest.strip_prefix('{') {
                self.rest = rest;
                return self.group(&format!("{path}::"));
            }
            match self.word() {
                "" => break,
                word => path = format!("{path}::{word}"),
            }
        }
        if path.contains("::") {
            self.found.push(path);
        }
    }

    fn group(&mut self, prefix: &str) {
        while self.skip_to(|c| c == '_' || c == '}' || c.is_alphabetic()) {
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return;
            }
            self.path(prefix);
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Returns whether there is such a character.
    fn skip_to(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let at = self.rest.find(wanted);
        self.rest = &self.rest[at.unwrap_or(self.rest.len())..];
        at.is_some()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

fn rust_files(place: &Path) -> BTreeSet<PathBuf> {
    let found: BTreeSet<PathBuf> =
        files(place).into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).collect();
    assert!(!found.is_empty(), "there is no code in {}", place.display());
    found
}

/// All files below a directory, or the file itself.
fn files(place: &Path) -> BTreeSet<PathBuf> {
    if place.is_file() {
        return BTreeSet::from([place.to_owned()]);
    }
    let entries =
        fs::read_dir(place).unwrap_or_else(|error| panic!("cannot read {}: {error}", place.display()));
    entries.flat_map(|entry| files(&entry.expect("a readable directory").path())).collect()
}

#[test]
fn a_client_alone_is_built_of_few_packages() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--no-default-features", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let (tree, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let packages: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split(" (").next()).filter(|line| !line.is_empty()).collect();
    assert!(
        output.status.success() && packages.iter().any(|package| package.starts_with("tokio v")),
        "{told}"
    );
    assert!(packages.len() < 60, "{} packages: {packages:#?}", packages.len());
}

/// Lines that are longer than `most` characters, of those that `counts`.
fn too_long(extension: &str, most: usize, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", &format!("*.{extension}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git runs");
    let files = String::from_utf8(output.stdout).unwrap();
    let mut long = Vec::new();
    for file in files.lines() {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        let lines = text.lines().enumerate().filter(|(_, line)| counts(line) && line.chars().count() > most);
        long.extend(lines.map(|(at, _)| format!("{file}:{}", at + 1)));
    }
    long
}

#[test]
fn comments_wrap_at_110_columns_and_prose_at_160() {
    let comments = too_long("rs", 110, |line| line.trim_start().starts_with("//"));
    assert!(comments.is_empty(), "comments over 110 columns: {comments:#?}");
    // A row of a table is one line, as are a link and a message.
    let prose = too_long("md", 160, |line| !line.starts_with(['|', '{']) && !line.contains("](http"));
    assert!(prose.is_empty(), "lines over 160 columns: {prose:#?}");
}
