//! A server under test: a child process on a core of its own, and its costs as counted by the kernel.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to end after a request to.
const GRACE: Duration = Duration::from_secs(5);

/// A program to run, with its arguments.
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
}

/// Ends with its owner: also on a panic, and, as the kernel sees to it, when this process is killed.
pub struct Server {
    child: Child,
    log: PathBuf,
}

/// CPU time of a server and its workers since they started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// To the nanosecond.
    pub total: Duration,
    /// In ticks of the kernel, usually of 10 ms: accurate for a whole run, not for a moment.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

/// The cores for the server and for the load.
///
/// # Errors
/// If this process may use only one.
pub fn cores() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    match (cores.next(), cores.next()) {
        (Some(server), Some(load)) => Ok([server, load]),
        _ => bail!("this needs two cores: one for the server, one for the load"),
    }
}

/// Keeps this thread, and those it starts from now on, on one core.
pub fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot stay on core {core}"))
}

/// Becomes another program, on one core, that ends when its parent does. Returns only when that fails.
pub fn become_pinned(core: &str, program: &str, arguments: &[String]) -> Result<()> {
    stay_on(core.parse().context("the core is a number")?)?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot run {program}"))
}

/// A core's time since the machine was started, in ticks of the kernel: busy, and in all.
///
/// # Errors
/// If the kernel does not report it.
pub fn core_ticks(core: usize) -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let fields =
        stat.lines().find_map(|line| line.strip_prefix(&name)).context("the core has no statistics")?;
    let ticks = fields.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user already.
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

impl Server {
    /// Starts `program` on `core`; its output goes into `log`.
    pub fn start(program: &Program, core: usize, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        // This program sets the child's core and its end with the parent, then becomes the server: both
        // always hold.
        let child = Command::new(std::env::current_exe()?)
            .arg("run-pinned")
            .arg(core.to_string())
            .arg(&program.path)
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {}", program.path.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// # Errors
    /// If it has ended, with its last output.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let said: Vec<&str> = log.lines().rev().take(5).collect();
        bail!("the server ended ({status}): {}", said.into_iter().rev().collect::<Vec<_>>().join(" | "));
    }

    /// Of all its threads and worker processes.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut cpu = Cpu::default();
        for process in self.processes()? {
            for thread in fs::read_dir(process.join("task"))? {
                let path = thread?.path().join("schedstat");
                // A thread that has just ended is gone.
                let Ok(schedstat) = fs::read_to_string(path) else { continue };
                let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
                cpu.total += Duration::from_nanos(nanos.context("schedstat is not what it was")?);
            }
            let stat = Stat::read(&process)?;
            cpu.user_ticks += stat.user_ticks;
            cpu.system_ticks += stat.system_ticks;
        }
        ensure!(!cpu.total.is_zero(), "the server has ended, or this kernel keeps no schedstat");
        Ok(cpu)
    }

    /// Resident memory of it and its worker processes, in bytes.
    pub fn resident(&self) -> Result<u64> {
        let mut total = 0;
        for process in self.processes()? {
            // Those in `status` are approximate, these are counted.
            let maps = fs::read_to_string(process.join("smaps_rollup"))?;
            let line = maps.lines().find_map(|line| line.strip_prefix("Rss:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            total += kib.context("the server's memory is not told")? * 1024;
        }
        Ok(total)
    }

    /// Folders in `/proc` of the server and its children.
    fn processes(&self) -> Result<Vec<PathBuf>> {
        let mut processes = vec![PathBuf::from(format!("/proc/{}", self.child.id()))];
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            if Stat::read(&path).is_ok_and(|stat| stat.parent == self.child.id()) {
                processes.push(path);
            }
        }
        Ok(processes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part of `/proc/PID/stat` that is used here.
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn read(process: &Path) -> Result<Self> {
        let text = fs::read_to_string(process.join("stat"))?;
        // The name of the program, in brackets, may hold anything.
        let (_, fields) = text.rsplit_once(") ").context("stat is not what it was")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| -> Result<u64> {
            fields.get(number).and_then(|field| field.parse().ok()).context("stat is not what it was")
        };
        Ok(Self { parent: u32::try_from(field(1)?)?, user_ticks: field(11)?, system_ticks: field(12)? })
    }
}
