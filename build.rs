//! Builds the dashboard, and the client for other pages, into `$OUT_DIR/web`, from where the server embeds
//! them.
//!
//! `TICKCAST_WEB=skip` embeds a page that says so instead, for machines without Node. `TICKCAST_NPM` names
//! the npm to run. Nothing is generated into the source tree except `web/node_modules`.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The sources of the page. Directories are watched with all their contents. Each must exist, as Cargo would
/// rebuild every time if one did not.
const SOURCES: [&str; 15] = [
    "client/src",
    "client/tsconfig.json",
    "dashboard/docs.html",
    "dashboard/index.html",
    "dashboard/ops.html",
    "dashboard/public",
    "dashboard/src",
    ".npmrc",
    "licences.ts",
    "package-lock.json",
    "package.json",
    "rolldown.config.ts",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
];

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Tickcast</title>
<h1>Tickcast</h1>
<p>This server was built without its dashboard (TICKCAST_WEB=skip). Everything else works.</p>
</html>
";

const NO_CLIENT: &str =
    "throw new Error(\"this server was built without its client (TICKCAST_WEB=skip)\");\n";

fn main() {
    // A client has no page.
    if env::var_os("CARGO_FEATURE_SERVER").is_none() {
        return;
    }
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("web");
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=web/{source}");
    }
    println!("cargo::rerun-if-env-changed=TICKCAST_WEB");
    println!("cargo::rerun-if-env-changed=TICKCAST_NPM");

    let built = if skipped() { write_placeholder(&out) } else { build(&web, &out) };
    if let Err(message) = built {
        eprintln!("{message}");
        eprintln!("To build without the dashboard, set TICKCAST_WEB=skip.");
        exit(1);
    }
}

fn skipped() -> bool {
    env::var_os("TICKCAST_WEB").is_some_and(|value| value == "skip") || env::var_os("DOCS_RS").is_some()
}

fn write_placeholder(out: &Path) -> Result<(), String> {
    let written = fs::remove_dir_all(out)
        .or_else(|error| if out.exists() { Err(error) } else { Ok(()) })
        .and_then(|()| fs::create_dir_all(out))
        .and_then(|()| fs::write(out.join("index.html"), PLACEHOLDER))
        .and_then(|()| fs::write(out.join("ops.html"), PLACEHOLDER))
        .and_then(|()| fs::write(out.join("client.js"), NO_CLIENT))
        .and_then(|()| fs::write(out.join("docs.html"), PLACEHOLDER));
    written.map_err(|error| format!("cannot write {}: {error}", out.display()))
}

fn build(web: &Path, out: &Path) -> Result<(), String> {
    // An editor's `cargo check` and a build in a terminal would install over each other.
    let lock = web.join(".npm.lock");
    let _lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock {}: {error}", lock.display()))?;

    install(web)?;
    npm(web, &["run", "--silent", "build"], Some(out))
}

/// Installs what the build needs, unless this very lock file is installed already. A full install for the
/// tests has the same stamp (`postinstall` in package.json writes it), and is only replaced by a full one.
fn install(web: &Path) -> Result<(), String> {
    let lock = web.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    let stamp = web.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let installed = fs::read_to_string(web.join("node_modules/.package-lock.json")).unwrap_or_default();
    if installed.contains("\"dev\": true") {
        npm(web, &["ci", "--no-audit", "--no-fund"], None)?;
    } else {
        npm(web, &["ci", "--omit=dev", "--no-audit", "--no-fund"], None)?;
    }
    // If npm is configured to run no scripts.
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

/// Runs npm in `web`; silent unless it fails.
fn npm(web: &Path, arguments: &[&str], out: Option<&Path>) -> Result<(), String> {
    let default = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let program = env::var_os("TICKCAST_NPM").unwrap_or_else(|| default.into());
    let mut command = Command::new(&program);
    command.current_dir(web).args(arguments).env("NO_COLOR", "1");
    if let Some(out) = out {
        command.env("WEB_OUT_DIR", out);
    }
    let described = format!("`npm {}` in web/", arguments.join(" "));
    let output = command.output().map_err(|error| {
        format!(
            "The dashboard is built with npm, but {} cannot be run: {error}\n\
             Install Node 20.19 or newer, which brings npm.",
            program.display()
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(format!("{described} failed ({}):\n{stdout}\n{stderr}", output.status))
}
