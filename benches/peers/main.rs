//! The same one-topic workload against Tickcast, what users would pick instead, and the floor that none can
//! go below.
//!
//! `cargo bench --bench peers` runs all in turn on this machine, several rounds of them, and prints each
//! one's cost of a delivery. It decides whether the server's own code is worth optimising: the cost above the
//! floor is ours, the rest is the kernel's.
//!
//! Each server runs by itself on one core, with one thread to do the work; the load runs on another, with
//! connections from one process. A publisher sends the server each message over one connection at its due
//! time; N subscribers receive it.

mod dialect;
mod load;
mod measure;
mod ours;
mod peers;
mod polls;
mod report;
mod server;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use measure::{Run, Workload};
use peers::Peer;
use polls::Polled;
use report::{Measured, Report};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Compares several servers' cost of a delivery.
#[derive(Parser)]
struct Args {
    /// Subscribers of the one topic
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    clients: u32,

    /// Messages a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// Length of a message; Tickcast's are trades, as long as its protocol makes them
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=60_000))]
    bytes: u32,

    /// Measured seconds of each run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// Rounds; in each every server runs once, and medians are reported
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Only these servers
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Peer>,

    /// Measure clients that poll once a second instead, of Tickcast and of nginx
    #[arg(long)]
    polls: bool,

    /// Print JSON, every run included
    #[arg(long)]
    json: bool,

    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Deliveries whose latencies are kept in memory, 4 bytes each.
const MAX_DELIVERIES: u64 = 200_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).context("too few arguments")?.parse().context("no number");
    match arguments.first().map(String::as_str) {
        // The roles in which this program starts itself.
        Some("run-pinned") if arguments.len() > 2 => {
            server::become_pinned(&arguments[1], &arguments[2], &arguments[3..])
        }
        Some("serve-floor") => Ok(ours::floor(u16::try_from(number(1)?)?, number(2)?, number(3)?)?),
        Some("serve-axum") => Ok(ours::axum(u16::try_from(number(1)?)?)?),
        _ => compare(&Args::parse()),
    }
}

fn compare(args: &Args) -> Result<()> {
    if !args.bench {
        // `cargo test --all-targets` runs this as well.
        println!("this takes minutes and a quiet machine: cargo bench --bench peers");
        return Ok(());
    }
    let work = Workload {
        clients: args.clients as usize,
        rate: args.rate,
        bytes: args.bytes as usize,
        seconds: args.seconds,
    };
    let deliveries = u64::from(args.clients) * u64::from(args.rate) * u64::from(args.seconds);
    ensure!(deliveries <= MAX_DELIVERIES, "{deliveries} deliveries a run are more than {MAX_DELIVERIES}");
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let [server_core, load_core] = server::cores()?;
    server::stay_on(load_core)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    if args.polls {
        return compare_polls(args, server_core, &folder);
    }

    let mut report = Report { work, rounds: args.rounds, measured: Vec::new(), missing: Vec::new() };
    for &peer in Peer::value_variants() {
        if args.only.is_empty() || args.only.contains(&peer) {
            match peer.find(&folder) {
                Ok(about) => report.measured.push(Measured { peer: peer.name(), about, runs: Vec::new() }),
                Err(error) => report.missing.push((peer.name(), format!("missing: {error:#}"))),
            }
        }
    }
    for round in 1..=args.rounds {
        for &peer in Peer::value_variants() {
            let Some(at) = report.measured.iter().position(|measured| measured.peer == peer.name()) else {
                continue;
            };
            eprintln!("round {round} of {}: {}", args.rounds, peer.name());
            match run(peer, server_core, &folder, &work) {
                Ok(run) => report.measured[at].runs.push(run),
                Err(error) => {
                    report.measured.remove(at);
                    report.missing.push((peer.name(), format!("failed in round {round}: {error:#}")));
                }
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Prints the processor time of a poll, of each round.
fn compare_polls(args: &Args, core: usize, folder: &Path) -> Result<()> {
    let (clients, seconds) = (args.clients as usize, args.seconds);
    let nginx_path = peers::nginx()?;
    println!(
        "{clients} clients, each of which polls once a second, for {seconds} s. CPU of the server a poll:\n"
    );
    println!(
        "{:>10} {:>12} {:>12} {:>8} {:>8} {:>6}",
        "tickcast", "nginx", "÷ nginx", "bytes", "polls", "late"
    );
    let mut ratios = Vec::new();
    for _ in 0..args.rounds {
        let cost = |polled, name: &str, program: &dyn Fn(u16) -> Result<server::Program>| {
            let port = free_port()?;
            let log = folder.join(format!("{name}-polls.log"));
            polls::run(&program(port)?, &polled, port, core, &log, clients, seconds)
        };
        let ours = cost(Polled::Quotes, "tickcast", &|port| Ok(polls::tickcast(port, clients)))?;
        let bytes = ours.mean_bytes;
        let nginx = cost(Polled::File, "nginx", &|port| polls::nginx(port, folder, bytes, &nginx_path))?;
        let ratio = ours.cpu_micros / nginx.cpu_micros;
        println!(
            "{:>7.2} µs {:>9.2} µs {ratio:>12.2} {bytes:>8} {:>8} {:>6}",
            ours.cpu_micros, nginx.cpu_micros, ours.polls, ours.late
        );
        ratios.push(ratio);
    }
    println!("\nmedian of the ratios: {:.2}", report::median(ratios.into_iter()));
    Ok(())
}

fn run(peer: Peer, core: usize, folder: &Path, work: &Workload) -> Result<Run> {
    let port = free_port()?;
    let program = peer.program(port, folder, work)?;
    let log = folder.join(format!("{}.log", peer.name()));
    Run::new(&program, peer.dialect(), port, core, &log, work)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
