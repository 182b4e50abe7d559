//! What processes and the machine burnt, from `/proc`.

use anyhow::{Context, Result};
use procfs::process::Process;
use procfs::{CurrentSI, KernelStats};

/// CPU seconds at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the process measured.
    server: f64,
    /// Of this process.
    own: f64,
    /// Of everything on the machine.
    machine: f64,
}

/// CPU seconds between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burnt {
    /// By the process measured, in user and kernel mode.
    pub(crate) server: f64,
    /// By this process.
    pub(crate) own: f64,
    /// By everybody else on the machine, the kernel's own threads included.
    pub(crate) others: f64,
}

impl Cpu {
    /// Now, with the process `pid` as the one measured.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self { server: seconds(&process(pid)?)?, own: seconds(&Process::myself()?)?, machine: machine()? })
    }

    /// Since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Burnt {
        let (server, own) = (self.server - earlier.server, self.own - earlier.own);
        Burnt { server, own, others: (self.machine - earlier.machine - server - own).max(0.0) }
    }
}

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).context("the process measured is gone")
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
        let before = Cpu::of(me).expect("/proc");
        let mut spent = Cpu::of(me).expect("/proc").since(before);
        let mut rounds = 0u64;
        while spent.own < 0.05 {
            rounds = std::hint::black_box(rounds + 1);
            if rounds.is_multiple_of(100_000) {
                spent = Cpu::of(me).expect("/proc").since(before);
            }
        }
        // Read one after the other: a clock tick may fall in between.
        assert!(spent.server >= 0.04 && memory(me).expect("/proc") > 100_000);
    }
}
