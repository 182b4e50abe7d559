//! The rows of the simulation: linearizable, as requests arrive at it one after the other; and the logs whose
//! writers the lease is for.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_vocab::Epoch;

use crate::lease::{Answer, Holding, Incarnation, NodeRow, Request, ShardKey, ShardRow};

#[derive(Debug, Default)]
pub(super) struct Store {
    nodes: BTreeMap<Incarnation, NodeRow>,
    shards: BTreeMap<ShardKey, ShardRow>,
    /// Who acquired what, ever.
    pub(super) acquired: BTreeMap<Holding, Incarnation>,
    /// The entries of each log, by number: written, in that order, under these holdings.
    logs: BTreeMap<ShardKey, BTreeMap<u64, Epoch>>,
}

impl Store {
    pub(super) fn shard(&self, key: ShardKey) -> ShardRow {
        self.shards.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn node(&self, incarnation: Incarnation) -> Option<NodeRow> {
        self.nodes.get(&incarnation).copied()
    }

    /// Carries out a request, in the order in which they arrive.
    pub(super) fn ask(&mut self, request: Request) -> Answer {
        let applied = match request {
            Request::ReadNode(incarnation) => return Answer::Node(self.node(incarnation)),
            Request::ReadShard(key) => return Answer::Shard(self.shard(key)),
            Request::Renew { incarnation, seen } => {
                let before = (seen > 0).then_some(NodeRow { counter: seen, open: true });
                let after = NodeRow { counter: seen + 1, open: true };
                self.node(incarnation) == before && self.put(incarnation, after)
            }
            Request::Close { incarnation, seen } => {
                let before = NodeRow { counter: seen, open: true };
                self.node(incarnation) == Some(before)
                    && self.put(incarnation, NodeRow { open: false, ..before })
            }
            Request::Take { key, seen, by } => {
                let epoch = Epoch(seen.epoch.0 + 1);
                let holds = self.shard(key) == seen;
                if holds {
                    self.shards.insert(key, ShardRow { epoch, owner: Some(by) });
                    self.acquired.insert(Holding { key, epoch }, by);
                }
                holds
            }
            Request::GiveBack { held: Holding { key, epoch }, by } => {
                let holds = self.shard(key) == ShardRow { epoch, owner: Some(by) };
                if holds {
                    self.shards.insert(key, ShardRow { epoch, owner: None });
                }
                holds
            }
        };
        if applied { Answer::Applied } else { Answer::Refused }
    }

    fn put(&mut self, incarnation: Incarnation, row: NodeRow) -> bool {
        self.nodes.insert(incarnation, row);
        true
    }

    /// An entry of a log is written, unconditionally: that is what the lease is for.
    pub(super) fn append(&mut self, held: Holding, entry: u64) {
        self.logs.entry(held.key).or_default().insert(entry, held.epoch);
    }

    /// What an opening finds of those before it.
    pub(super) fn found(&self, held: Holding) -> BTreeSet<u64> {
        let log = self.logs.get(&held.key).into_iter().flatten();
        log.filter(|(_, epoch)| **epoch < held.epoch).map(|(entry, _)| *entry).collect()
    }
}
