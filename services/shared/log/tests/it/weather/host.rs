//! A host: a clock of its own rate, and the process on it, which may be killed or stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dialtone_chassis::{Chassis, SimWall};
use dialtone_store::replicas::Replicas;
use dialtone_vocab::NodeId;
use tokio::runtime::Runtime;

use super::actor::{Ground, Process};

/// Where the clocks of hosts begin, in unix milliseconds.
const BEGAN: u64 = 1_767_225_600_000;
/// How long a process that leaves may take.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// What keeps a host from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Still {
    /// The process alone stands still: its clock goes on.
    Process(Duration),
    /// The clock does too.
    Clock(Duration),
}

pub(super) struct Host {
    place: usize,
    /// Milliseconds of its clock in a true second.
    rate: u64,
    seed: u64,
    wall: SimWall,
    /// By its clock: how long it has run, in microseconds, and how many milliseconds of that its process has seen.
    passed: u64,
    seen: u64,
    still: Option<Still>,
    starts: u64,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    process: Process,
    has_left: Arc<AtomicBool>,
}

impl Host {
    pub(super) fn new(place: usize, rate: u64, ahead: Duration, seed: u64) -> Self {
        let wall = SimWall::new(AtomicU64::new(BEGAN));
        let passed = u64::try_from(ahead.as_micros()).unwrap_or(0);
        Self { place, rate, seed, wall, passed, seen: 0, still: None, starts: 0, running: None }
    }

    /// Starts a process; it has a name that no other had.
    pub(super) fn start(&mut self, ground: &Ground, replicas: &Replicas) {
        self.starts += 1;
        self.seen = self.passed / 1_000;
        self.wall.store(BEGAN + self.seen, Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(self.starts);
        let node = NodeId::new(&format!("node-{}", self.place));
        let chassis = Chassis::simulated(node, seed, self.wall.clone());
        let name = format!("{}.{}", self.place, self.starts);
        let replicas = replicas.over(self.place);
        let process = runtime.block_on(async {
            let process = Process::start(ground, &chassis, replicas, &name).await;
            process.serve();
            process
        });
        self.running = Some(Running { runtime, process, has_left: Arc::default() });
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.running.as_ref().map(|running| running.process.name.as_str())
    }

    /// Whatever its process had in memory is gone.
    pub(super) fn kill(&mut self) {
        self.still = None;
        self.running = None;
    }

    /// Its process gives back what it has, and ends.
    pub(super) fn leave(&mut self) {
        if let Some(running) = &self.running {
            let (chassis, left) = (running.process.chassis.clone(), running.has_left.clone());
            let _inside = running.runtime.enter();
            // A task of another set: else it would wait for itself.
            dialtone_chassis::Tasks::default().spawn("leave", async move {
                chassis.tasks.shutdown(LEAVES_WITHIN).await;
                left.store(true, Ordering::Relaxed);
            });
        }
    }

    /// Its process reads all logs from their beginnings.
    pub(super) fn audit(&self) {
        if let Some(running) = &self.running {
            let (process, tasks) = (running.process.clone(), &running.process.chassis.tasks);
            let _inside = running.runtime.enter();
            tasks.spawn("audit", async move { process.audit().await });
        }
    }

    /// The process does nothing for so long; whether it can tell afterwards depends on its clock.
    pub(super) fn stand_still(&mut self, time: Duration, with_clock: bool) {
        self.still = Some(if with_clock { Still::Clock(time) } else { Still::Process(time) });
    }

    pub(super) fn is_still(&self) -> bool {
        self.still.is_some()
    }

    /// So much true time passes.
    pub(super) fn step(&mut self, step: Duration) {
        if self.running.as_ref().is_some_and(|running| running.has_left.load(Ordering::Relaxed)) {
            self.kill();
        }
        let ticked = u64::try_from(step.as_micros()).unwrap_or(0) * self.rate / 1_000;
        match self.still.take() {
            Some(Still::Clock(left)) => {
                self.still = less(left, step).map(Still::Clock);
                return;
            }
            Some(Still::Process(left)) => {
                self.passed += ticked;
                self.still = less(left, step).map(Still::Process);
                if self.still.is_some() {
                    return;
                }
                // All its timers are late.
                self.run(true);
                return;
            }
            None => self.passed += ticked,
        }
        self.run(false);
    }

    /// What its process does in the time since it last did something, as far as it sees that time go by.
    fn run(&mut self, at_once: bool) {
        let now = self.passed / 1_000;
        let time = Duration::from_millis(now - self.seen);
        self.seen = now;
        self.wall.store(BEGAN + now, Ordering::Relaxed);
        if let Some(running) = &self.running {
            running.runtime.block_on(async {
                match at_once {
                    true => tokio::time::advance(time).await,
                    false => running.process.chassis.clock.sleep(time).await,
                }
            });
        }
    }
}

/// What is left of a time.
fn less(left: Duration, step: Duration) -> Option<Duration> {
    left.checked_sub(step).filter(|left| !left.is_zero())
}
