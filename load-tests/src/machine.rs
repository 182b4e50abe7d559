//! What processes and the machine burnt, from `/proc`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use procfs::process::{FDTarget, Process};
use procfs::{CurrentSI, KernelStats};

/// Processes that are measured, by name.
pub(crate) type Watched = BTreeMap<String, u32>;

/// CPU seconds at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    /// Of the processes measured.
    watched: BTreeMap<String, f64>,
    /// Of this process.
    own: f64,
    /// Of everything on the machine.
    machine: f64,
}

/// CPU seconds between two moments.
#[derive(Debug, Clone)]
pub(crate) struct Burnt {
    /// By each process measured, in user and kernel mode.
    pub(crate) watched: BTreeMap<String, f64>,
    /// By this process.
    pub(crate) own: f64,
    /// By everybody else on the machine, the kernel's own threads included.
    pub(crate) others: f64,
}

impl Cpu {
    /// Now.
    pub(crate) fn of(watched: &Watched) -> Result<Self> {
        let watched = watched.iter().map(|(name, pid)| Ok((name.clone(), seconds(&process(*pid)?)?)));
        let watched = watched.collect::<Result<_>>()?;
        Ok(Self { watched, own: seconds(&Process::myself()?)?, machine: machine()? })
    }

    /// Since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Burnt {
        let before = |name: &String| earlier.watched.get(name).copied().unwrap_or_default();
        let watched: BTreeMap<_, _> =
            self.watched.iter().map(|(name, now)| (name.clone(), now - before(name))).collect();
        let own = self.own - earlier.own;
        let ours = own + watched.values().sum::<f64>();
        Burnt { watched, own, others: (self.machine - earlier.machine - ours).max(0.0) }
    }
}

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).context("a process measured is gone")
}

#[expect(clippy::cast_precision_loss, reason = "clock ticks of minutes")]
fn seconds(process: &Process) -> Result<f64> {
    let stat = process.stat().context("/proc/PID/stat")?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since boot")]
fn machine() -> Result<f64> {
    let total = KernelStats::current().context("/proc/stat")?.total;
    let busy = total.user_ms()
        + total.nice_ms()
        + total.system_ms()
        + total.irq_ms().unwrap_or(0)
        + total.softirq_ms().unwrap_or(0)
        + total.steal_ms().unwrap_or(0);
    Ok(busy as f64 / 1_000.0)
}

/// Memory of a process alone, in bytes: its share of what it shares, counted proportionally.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let rollup = process(pid)?.smaps_rollup().context("/proc/PID/smaps_rollup")?;
    let map = rollup.memory_map_rollup.0.first().context("an empty smaps_rollup")?;
    map.extension.map.get("Pss").copied().context("no Pss in smaps_rollup")
}

/// The process that listens on a TCP port of this machine, if it is ours to see.
pub(crate) fn listener(port: u16) -> Result<Option<u32>> {
    let sockets = procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6()?);
    let listens = |socket: &procfs::net::TcpNetEntry| {
        socket.state == procfs::net::TcpState::Listen && socket.local_address.port() == port
    };
    let Some(inode) = sockets.filter(listens).map(|socket| socket.inode).next() else { return Ok(None) };
    let has = |process: &Process| {
        let mut files = process.fd().into_iter().flatten().flatten();
        files.any(|file| matches!(file.target, FDTarget::Socket(found) if found == inode))
    };
    let found = procfs::process::all_processes()?.flatten().find(has);
    Ok(found.map(|process| process.pid.unsigned_abs()))
}

/// Cores of the machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_burns_is_seen() {
        let me = std::process::id();
        let watched = Watched::from([("me".to_owned(), me)]);
        let before = Cpu::of(&watched).expect("/proc");
        let mut spent = Cpu::of(&watched).expect("/proc").since(&before);
        let mut rounds = 0u64;
        while spent.own < 0.05 {
            rounds = std::hint::black_box(rounds + 1);
            if rounds.is_multiple_of(100_000) {
                spent = Cpu::of(&watched).expect("/proc").since(&before);
            }
        }
        // Whatever happens between two looks, the later sees all that the earlier did.
        let later = Cpu::of(&watched).expect("/proc").since(&before);
        assert!(later.watched["me"] >= spent.own && memory(me).expect("/proc") > 100_000);
    }

    #[test]
    fn who_listens_is_found_by_the_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(super::listener(port).expect("/proc"), Some(std::process::id()));
    }
}
