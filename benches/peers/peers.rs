//! The servers that are compared, and how each is started.

use crate::dialect::Dialect;
use crate::measure::Workload;
use crate::server::Program;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// A bare loop of `send`
    Floor,
    /// This repository's server
    Tickcast,
    /// … by its door of Socket.IO
    #[value(name = "tickcast-socket.io")]
    TickcastSocketIo,
    /// … by Server-Sent Events
    #[value(name = "tickcast-sse")]
    TickcastEvents,
    /// axum's WebSocket and `tokio::sync::broadcast`
    Axum,
    /// npm's `ws`
    Ws,
    /// npm's `socket.io`
    #[value(name = "socket.io")]
    SocketIo,
    /// nats-server, by its own protocol
    Nats,
    /// nginx with its module Nchan
    Nchan,
    /// … by Server-Sent Events
    #[value(name = "nchan-sse")]
    NchanEvents,
    /// npm's `better-sse`
    #[value(name = "better-sse")]
    BetterSse,
}

/// Where nginx's modules are: Debian and its kin, Fedora and its kin.
const NGINX_MODULES: [&str; 2] = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"];

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tickcast => "tickcast",
            Self::Axum => "axum",
            Self::Ws => "ws",
            Self::SocketIo => "socket.io",
            Self::Nats => "nats",
            Self::Nchan => "nchan",
            Self::TickcastSocketIo => "tickcast-socket.io",
            Self::TickcastEvents => "tickcast-sse",
            Self::NchanEvents => "nchan-sse",
            Self::BetterSse => "better-sse",
        }
    }

    pub fn dialect(self) -> Dialect {
        match self {
            Self::Floor => Dialect::Bare,
            Self::Axum | Self::Ws => Dialect::WebSocket,
            Self::SocketIo => Dialect::SocketIo,
            Self::Nats => Dialect::Nats,
            Self::Nchan => Dialect::Nchan,
            Self::Tickcast => Dialect::Tickcast,
            Self::TickcastSocketIo => Dialect::TickcastSocketIo,
            Self::TickcastEvents => Dialect::TickcastEvents,
            Self::NchanEvents | Self::BetterSse => Dialect::Events,
        }
    }

    /// The name and version of what is measured. Packages of npm are installed into `folder`.
    ///
    /// # Errors
    /// If it is not installed: what is missing, and how to get it.
    pub fn find(self, folder: &Path) -> Result<String> {
        Ok(match self {
            Self::Floor => "bare sends".to_owned(),
            Self::Tickcast | Self::TickcastSocketIo | Self::TickcastEvents => {
                concat!("tickcast ", env!("CARGO_PKG_VERSION"), ", trades").to_owned()
            }
            Self::Axum => "axum 0.8, tokio broadcast".to_owned(),
            Self::Ws | Self::SocketIo | Self::BetterSse => {
                let node = debian("nodejs npm", version("node", "--version"))?;
                install(folder)?;
                let package = folder.join("node_modules").join(self.name()).join("package.json");
                let package: serde_json::Value = serde_json::from_slice(&fs::read(package)?)?;
                format!("{} {}, node {node}", self.name(), package["version"].as_str().unwrap_or("?"))
            }
            Self::Nats => debian("nats-server", version("nats-server", "--version"))?,
            Self::Nchan | Self::NchanEvents => {
                let nginx = version("nginx", "-v").and_then(|nginx| nchan_module().map(|_| nginx));
                let nginx = debian("nginx libnginx-mod-nchan", nginx)?;
                format!("{nginx} with Nchan")
            }
        })
    }

    /// The command that makes it listen on `port`. Its files go into `folder`.
    pub fn program(self, port: u16, folder: &Path, work: &Workload) -> Result<Program> {
        let this = || std::env::current_exe().context("cannot tell where this program is");
        let port = port.to_string();
        let program = |path: PathBuf, arguments: &[&str]| Program {
            path,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        Ok(match self {
            Self::Floor => {
                let frame = Dialect::bare_frame_bytes(work.bytes).to_string();
                program(this()?, &["serve-floor", &port, &work.clients.to_string(), &frame])
            }
            Self::Axum => program(this()?, &["serve-axum", &port]),
            Self::Tickcast | Self::TickcastSocketIo | Self::TickcastEvents => {
                let listen = format!("127.0.0.1:{port}");
                let clients = (work.clients + 1).to_string();
                let arguments = [
                    "serve",
                    "--feed",
                    "none",
                    "--listen",
                    &listen,
                    "--shards",
                    "1",
                    "--max-connections",
                    &clients,
                ];
                program(env!("CARGO_BIN_EXE_tickcast").into(), &arguments)
            }
            Self::Ws | Self::SocketIo | Self::BetterSse => {
                let script = match self {
                    Self::Ws => "ws.mjs",
                    Self::SocketIo => "socketio.mjs",
                    _ => "events.mjs",
                };
                program("node".into(), &[&folder.join(script).to_string_lossy(), &port])
            }
            Self::Nats => program(sbin("nats-server"), &["--addr", "127.0.0.1", "--port", &port]),
            Self::Nchan | Self::NchanEvents => {
                let subscriber = if self == Self::Nchan { "websocket" } else { "eventsource" };
                let configuration = folder.join("nginx.conf");
                fs::write(&configuration, nginx_conf(&port, folder, &nchan_module()?, subscriber))?;
                let [folder, configuration] = [folder, &configuration].map(Path::to_string_lossy);
                program(sbin("nginx"), &["-p", &folder, "-c", &configuration, "-e", "stderr"])
            }
        })
    }
}

/// Adds to an error how to install the missing package on Debian.
fn debian<T>(packages: &str, found: Result<T>) -> Result<T> {
    found.map_err(|error| anyhow!("{error:#} (to install it: apt-get install {packages})"))
}

/// The version that a program prints, in one line.
fn version(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(sbin(program)).arg(argument).output();
    let output = output.with_context(|| format!("{program} cannot be run"))?;
    ensure!(output.status.success(), "`{program} {argument}` failed");
    // nginx prints it to stderr.
    let said = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    Ok(line.replace("nginx version: ", "").replace(": v", " "))
}

/// A program that distributions install into a folder for administrators, found even if that is not in the
/// PATH.
fn sbin(program: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(program);
    if path.exists() { path } else { program.into() }
}

/// Where nginx is.
///
/// # Errors
/// It is not installed.
pub fn nginx() -> Result<PathBuf> {
    debian("nginx", version("nginx", "-v")).map(|_| sbin("nginx"))
}

fn nchan_module() -> Result<PathBuf> {
    let modules = NGINX_MODULES.map(|folder| Path::new(folder).join("ngx_nchan_module.so"));
    modules.into_iter().find(|module| module.exists()).context("nginx has no module nchan")
}

/// One worker, and Nchan with its defaults; only limits that the workload would exceed are raised.
fn nginx_conf(port: &str, folder: &Path, module: &Path, subscriber: &str) -> String {
    let (folder, module) = (folder.display(), module.display());
    format!(
        "load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 40000;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 20100; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /subscribe {{ nchan_subscriber {subscriber}; nchan_channel_id X; }}
    location = /publish {{ nchan_publisher http; nchan_channel_id X; }}
  }}
}}
"
    )
}

/// Installs the packages of npm into `folder`, unless this very lock file is installed there already.
fn install(folder: &Path) -> Result<()> {
    const LOCK: &str = include_str!("package-lock.json");
    let files = [
        ("package.json", include_str!("package.json")),
        ("package-lock.json", LOCK),
        (".npmrc", include_str!(".npmrc")),
        ("events.mjs", include_str!("events.mjs")),
        ("ws.mjs", include_str!("ws.mjs")),
        ("socketio.mjs", include_str!("socketio.mjs")),
    ];
    for (name, content) in files {
        fs::write(folder.join(name), content)?;
    }
    let stamp = folder.join("installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == LOCK.as_bytes()) {
        return Ok(());
    }
    let output = Command::new("npm").arg("ci").current_dir(folder).output();
    let output = output.context("npm cannot be run (to install it: apt-get install npm)")?;
    if !output.status.success() {
        bail!("`npm ci` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::write(stamp, LOCK)?;
    Ok(())
}
