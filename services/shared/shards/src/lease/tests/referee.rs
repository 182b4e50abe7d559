//! What must hold, whatever the weather.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Process;
use super::store::Store;
use crate::lease::{Holding, Incarnation, Moment, ShardKey, ShardRow};

/// How often what happened, so that it can be seen that the weather reaches the rules.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) opened: u64,
    pub(super) settled: u64,
    pub(super) unsettled: u64,
    pub(super) stopped: u64,
    pub(super) closed_by_another: u64,
    pub(super) given_back: u64,
    pub(super) left: u64,
    /// Done at the store after its sender had called it unknown.
    pub(super) late: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.settled += other.settled;
        self.unsettled += other.unsettled;
        self.stopped += other.stopped;
        self.closed_by_another += other.closed_by_another;
        self.given_back += other.given_back;
        self.left += other.left;
        self.late += other.late;
    }
}

/// Sees everything, and complains.
#[derive(Debug, Default)]
pub(super) struct Referee {
    pub(super) wrong: Option<String>,
    pub(super) tally: Tally,
    opened: BTreeSet<Holding>,
    /// What each completed opening found.
    found: BTreeMap<ShardKey, Vec<(Holding, BTreeSet<u64>)>>,
    settled: BTreeMap<ShardKey, Vec<(Holding, u64)>>,
}

impl Referee {
    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    /// An epoch is acquired by one incarnation, and opened by it once.
    pub(super) fn opened(&mut self, held: Holding, by: Option<Incarnation>, store: &Store) {
        self.tally.opened += 1;
        let first = self.opened.insert(held);
        if !first || store.acquired.get(&held).copied() != by {
            self.complain(|| format!("{held:?} was opened twice, or without being acquired, by {by:?}"));
        }
    }

    /// The logs were read: everything that was settled before must be among it.
    pub(super) fn found(&mut self, held: Holding, found: BTreeSet<u64>) {
        let before = self.settled.entry(held.key).or_default();
        let lost = before.iter().find(|(by, entry)| by.epoch < held.epoch && !found.contains(entry)).copied();
        if let Some((by, entry)) = lost {
            self.complain(|| format!("{held:?} did not find {entry}, which was settled under {by:?}"));
        }
        self.found.entry(held.key).or_default().push((held, found));
    }

    /// An entry is settled: nobody may have opened the log without it. By the clock the writer even is the owner at
    /// this very moment; by a read it was when the read was carried out.
    pub(super) fn settled(&mut self, held: Holding, entry: u64, is_owner: Option<bool>) {
        self.tally.settled += 1;
        let after = self.found.entry(held.key).or_default();
        let without = after.iter().find(|(later, found)| later.epoch > held.epoch && !found.contains(&entry));
        if let Some(later) = without.map(|(later, _)| *later) {
            self.complain(|| {
                format!("{entry} was settled under {held:?} after {later:?} had opened without it")
            });
        }
        if is_owner == Some(false) {
            self.complain(|| format!("{entry} was settled under {held:?}, which is not the owner's"));
        }
        self.settled.entry(held.key).or_default().push((held, entry));
    }

    /// Whoever would pass the check by the clock at this moment is the one that the row names: so never two at once,
    /// even when none of them has a write under way.
    pub(super) fn believes(&mut self, process: &Process, now: Moment, store: &Store) {
        for held in process.held.values().filter(|held| process.lease.is_owner(held, now)) {
            let row = ShardRow { epoch: held.epoch, owner: process.incarnation };
            if store.shard(held.key) != row {
                let says = store.shard(held.key);
                self.complain(|| {
                    format!("{row:?} believes that it owns {:?}, the row says {says:?}", held.key)
                });
            }
        }
    }

    /// Long after the storm: whoever is to have the shard has it, and its logs are open.
    pub(super) fn is_well(&mut self, key: ShardKey, process: Option<&Process>, now: Moment) {
        let well = process.is_some_and(|process| {
            let held = process.held.get(&key);
            held.is_some_and(|held| process.lease.is_owner(held, now) && process.writes.contains(held))
        });
        if !well {
            self.complain(|| format!("{key:?} has no owner: {process:#?}"));
        }
    }
}
