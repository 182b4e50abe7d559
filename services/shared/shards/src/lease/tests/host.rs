//! A host, its clock, and the process on it: the driver of a lease, and the writer of the logs it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::weather::Way;
use crate::lease::{Answer, Holding, Incarnation, Lease, Moment, Request, ShardKey, Ticket};

/// A clock of a rate of its own, which may stand still for a while.
#[derive(Debug)]
pub(super) struct HostClock {
    rate: u64,
    true_mark: u64,
    local_mark: u64,
}

impl HostClock {
    pub(super) fn new(rate: u64, local: u64) -> Self {
        Self { rate, true_mark: 0, local_mark: local }
    }

    fn local(&self, now: u64) -> u64 {
        self.local_mark + now.saturating_sub(self.true_mark) * self.rate / 1_000
    }

    pub(super) fn read(&self, now: u64) -> Moment {
        Duration::from_micros(self.local(now))
    }

    /// Stands still from `now` until `then`.
    pub(super) fn freeze(&mut self, now: u64, then: u64) {
        self.local_mark = self.local(now);
        self.true_mark = then;
    }
}

/// A machine that may sleep, and on which a process lives or not.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) clock: HostClock,
    pub(super) way: Way,
    pub(super) asleep_until: u64,
    /// Until when nothing is heard of which shards it is to have.
    pub(super) deaf_until: u64,
    /// Until when it may not sleep unseen again: the pauses within one lease add up.
    pub(super) seen_until: u64,
    /// Grows with every start: what was for an earlier process never arrives.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
}

/// What a process asks of the store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Lease(Ticket, Request),
    /// What do the logs of this shard hold?
    Open(Holding),
    /// Append this entry.
    Append(Holding, u64),
}

/// What it gets.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Lease(Answer),
    Found(BTreeSet<u64>),
    Appended,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) lease: Lease,
    pub(super) incarnation: Option<Incarnation>,
    /// Which incarnation leaves, until others were told that it has.
    pub(super) leaves: Option<Incarnation>,
    /// It was told to end, and begins nothing more.
    pub(super) ends: bool,
    pub(super) wants: BTreeSet<ShardKey>,
    /// What was opened and not gone since.
    pub(super) held: BTreeMap<ShardKey, Holding>,
    /// Where it writes: what it holds and did not release.
    pub(super) writes: BTreeSet<Holding>,
    pub(super) unanswered: BTreeMap<u64, Kind>,
    /// For the build that checks too early: what it found when it sent the entry.
    pub(super) checked: BTreeMap<u64, bool>,
}

impl Process {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            incarnation: None,
            leaves: None,
            ends: false,
            wants: BTreeSet::new(),
            held: BTreeMap::new(),
            writes: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            checked: BTreeMap::new(),
        }
    }
}
