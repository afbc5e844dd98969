use super::BenchError;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A child process of this program, held to some cores; killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

/// CPU time of a process since it began, and its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In user mode and in the kernel.
    pub cpu: Duration,
    pub user: Duration,
    pub resident_bytes: u64,
}

impl Usage {
    /// CPU time in all and in user mode since an earlier look.
    #[must_use]
    pub fn spent_since(&self, before: &Self) -> (Duration, Duration) {
        (self.cpu.saturating_sub(before.cpu), self.user.saturating_sub(before.user))
    }
}

/// How long a server may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

impl Process {
    /// Starts this program with these arguments on these cores (empty: all) and waits until it prints the
    /// address it listens on.
    ///
    /// # Errors
    /// What it printed instead.
    pub fn start(args: &[String], cores: &[usize], input: Option<&[u8]>) -> Result<Self, BenchError> {
        // A child begins on its parent's cores.
        let pinned = Pinned::to(cores)?;
        let child = std::env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        });
        drop(pinned);
        let mut child = child.map_err(|error| BenchError::io("starting the server", error))?;
        if let (Some(input), Some(stdin)) = (input, &mut child.stdin) {
            stdin.write_all(input).map_err(|error| BenchError::io("speaking to the server", error))?;
        }
        let stdout = child.stdout.take().expect("piped");
        let mut process = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let address = BufReader::new(stdout).lines().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            rest.trim_end_matches('/').parse().ok()
        });
        process.address = address.ok_or(BenchError::NoServer)?;
        Ok(process)
    }

    /// A line for its standard input.
    ///
    /// # Errors
    /// The operating system's: it has ended.
    pub fn tell(&mut self, line: &str) -> Result<(), BenchError> {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .map_err(|error| BenchError::io("speaking to the server", error))
    }

    /// # Errors
    /// That it has ended.
    pub fn usage(&self) -> Result<Usage, BenchError> {
        usage(self.child.id()).ok_or(BenchError::ServerEnded)
    }

    /// The most bytes pending in the kernel on its side of one connection.
    #[must_use]
    pub fn most_unsent(&self) -> u64 {
        let port = format!(":{:04X}", self.address.port());
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).unwrap_or_default();
        // number, local, remote, state, tx:rx in hexadecimal (proc_net_tcp)
        let unsent = table.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next()?;
            let queues = fields.nth(2)?;
            local.ends_with(&port).then(|| u64::from_str_radix(queues.split(':').next()?, 16).ok())?
        });
        unsent.max().unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Holds this thread, and its children, to some cores until it is dropped; then the earlier cores are allowed
/// again.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// With no cores: changes nothing.
    ///
    /// # Errors
    /// The operating system's: there is no such core.
    pub fn to(cores: &[usize]) -> Result<Self, BenchError> {
        let failed = |error| BenchError::io(&format!("cores {cores:?}"), error);
        let before = sched_getaffinity(None).map_err(failed)?;
        if !cores.is_empty() {
            let mut set = CpuSet::new();
            for &core in cores {
                set.set(core);
            }
            sched_setaffinity(None, &set).map_err(failed)?;
        }
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Refused only if none of those cores is left.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// The cores that this thread may use.
///
/// # Errors
/// The operating system's.
pub fn cores() -> Result<Vec<usize>, BenchError> {
    let set = sched_getaffinity(None).map_err(|error| BenchError::io("the cores of this process", error))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// CPU time of this thread.
#[must_use]
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// `None` if there is no such process.
fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold blanks; utime and stime are fields 14 and 15 (proc_pid_stat).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = rustix::param::clock_ticks_per_second();
    let mut time = || -> Option<Duration> {
        let count: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_nanos(count * (1_000_000_000 / ticks)))
    };
    let (user, system) = (time()?, time()?);
    // The counters of `status` and `statm` are approximate, those of `smaps_rollup` are counted.
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib: u64 =
        maps.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse().ok())?;
    // To the nanosecond, where `stat` counts in hundredths of a second; not every kernel has it.
    let cpu = on_cpu(pid).unwrap_or(user + system);
    Some(Usage { cpu, user, resident_bytes: kib * 1024 })
}

/// CPU time of its threads; a thread that has ended is not in it.
fn on_cpu(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of = |thread: std::io::Result<fs::DirEntry>| -> Option<Duration> {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
    };
    threads.map(of).sum()
}

/// `GET` of a small JSON document.
///
/// # Errors
/// Why there was none, in words.
pub fn get_json(address: SocketAddr, path: &str) -> Result<serde_json::Value, BenchError> {
    let body = get(address, path).map_err(|error| BenchError::io(&format!("GET {path}"), error))?;
    serde_json::from_str(&body).map_err(|error| BenchError::Answer(format!("GET {path}: {error}")))
}

/// # Errors
/// The operating system's, or a status other than 200.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // With HTTP/1.0 the answer ends where the connection does.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(std::io::Error::other(format!("the server answered {status:?}")));
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_given_back_so_that_each_round_has_them_all() {
        let all = cores().unwrap();
        for _ in 0..2 {
            let pinned = Pinned::to(&all[..1]).unwrap();
            assert_eq!(cores().unwrap(), all[..1]);
            drop(pinned);
            assert_eq!(cores().unwrap(), all);
        }
    }

    #[test]
    fn a_core_that_is_not_there_is_named() {
        assert!(Pinned::to(&[CpuSet::MAX_CPU - 1]).unwrap_err().to_string().contains("cores [1023]"));
    }
}
