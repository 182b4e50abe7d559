//! A CQL server of three replicas, in memory and in simulated time: what tests of weather stand on.
//!
//! ```text
//!   Db of a process ── its line ──► a coordinator, by chance ──► three replicas, each part on its own way
//!            ▲                           │  writes: done when two have it; else nobody knows
//!            └──── answer, if any ◄──────┘  reads: two of them, by chance, each as it is when the question arrives
//! ```
//!
//! Nothing moves by itself: whoever simulates calls [`Replicas::advance`]. What a process has sent goes on when that is
//! paused or killed. Plain writes get their timestamps from the clock of the coordinator at which they arrive, as with the
//! real driver, numbers that merge by maximum their own value; of two writes of a row the later timestamp stays. A part
//! that is lost never comes, one that is late may come long after its answer. Conditional writes and serial reads are done
//! one at a time, where they arrive; whether one that is never answered was done nobody knows until the next one: so it is
//! decided at once.
//!
//! What it leaves out: rows that expire (the logs read none that could) and batches over several partitions (they write
//! none).
#![expect(clippy::disallowed_types, reason = "one cluster for all runtimes of a simulation, held for a look")]

mod cells;
mod cluster;
mod serial;
mod tables;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone_chassis::Rng;

use crate::Rows;
use cluster::Cluster;
pub(crate) use tables::Tables;

/// The replicas, as seen over one line. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    cluster: Arc<Mutex<Cluster>>,
    line: usize,
}

/// How what is sent arrives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// It takes up to so long.
    pub slow: Duration,
    /// So many of a hundred never arrive.
    pub lost: u64,
    /// So many of a hundred take up to `late_by`.
    pub late: u64,
    /// How long that is.
    pub late_by: Duration,
}

/// What happens among the replicas.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// How the replicas reach each other.
    pub between: Way,
    /// So many of a hundred parts of writes are lost on top of that.
    pub dropped: u64,
    /// So many of a hundred conditional writes are never answered; half of them are done.
    pub undecided: u64,
    /// How many replicas a read asks.
    pub reads_from: usize,
    /// After so many of a hundred reads the replicas that were asked have what was found.
    pub repaired: u64,
    /// Each request keeps the one machine on which they all run busy for so long; others wait.
    pub work: Duration,
}

impl Weather {
    /// Nothing goes wrong.
    pub fn fair() -> Self {
        Self {
            between: Way::default(),
            dropped: 0,
            undecided: 0,
            reads_from: 2,
            repaired: 0,
            work: Duration::ZERO,
        }
    }
}

/// What was seen of the weather.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Writes whose caller never heard what became of them.
    pub unknown: u64,
    /// Parts of writes that never arrived.
    pub lost: u64,
    /// Parts of writes that arrived after their caller had given up.
    pub late: u64,
    /// Reads of which a replica knew what another did not.
    pub unequal: u64,
}

impl Replicas {
    /// Three empty ones, whose clocks are up to `apart` ahead.
    pub fn new(rng: &Rng, apart: Duration) -> Self {
        Self { cluster: Arc::new(Mutex::new(Cluster::new(rng, apart))), line: 0 }
    }

    /// The same, over another line.
    #[must_use]
    pub fn over(&self, line: usize) -> Self {
        Self { line, ..self.clone() }
    }

    /// Everything that is to happen until then.
    pub fn advance(&self, now: Duration) {
        self.lock().advance(now);
    }

    /// From now on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// How what is sent over this line arrives from now on, there and back.
    pub fn set_way(&self, way: Way) {
        let line = self.line;
        self.lock().lines.insert(line, way);
    }

    /// A replica does nothing for so long; what reaches it waits.
    pub fn stand_still(&self, replica: usize, time: Duration) {
        self.lock().stand_still(replica, time);
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// All rows of a table, as read from all replicas.
    pub fn at_all(&self, service: &'static str, table: &'static str) -> Rows {
        self.lock().at_all(service, table)
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.lock().store_id
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").field("line", &self.line).finish_non_exhaustive()
    }
}
