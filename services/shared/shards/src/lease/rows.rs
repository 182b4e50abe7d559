//! The two kinds of rows, and what is asked of the store that has them.

use dialtone_vocab::{Epoch, ShardId};

/// A process from its start, or from the loss of its last lease, until the loss of the next: a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// A shard of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The service.
    pub service: &'static str,
    /// One of its shards.
    pub shard: ShardId,
}

/// The row of an incarnation. It is made with counter 1, and once closed it stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRow {
    /// How often it was renewed.
    pub counter: u64,
    /// Whether it may be renewed still.
    pub open: bool,
}

/// The row of a shard; the default is that of a shard which nobody ever had: there is no such row then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardRow {
    /// How often it was acquired.
    pub epoch: Epoch,
    /// Who acquired it last; `None` once that was given back.
    pub owner: Option<Incarnation>,
}

/// What a writer works under: a shard, in the epoch in which it was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holding {
    /// The shard.
    pub key: ShardKey,
    /// The epoch of the acquisition.
    pub epoch: Epoch,
}

/// What is asked of the store. Writes are conditional and reads serial: all requests about one row have one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Node row: counter `seen` + 1, if it is `seen` and the row open. With `seen` 0: if there is no row.
    Renew {
        /// Whose row: one's own.
        incarnation: Incarnation,
        /// The counter it must have.
        seen: u64,
    },
    /// Node row: closed, if the counter is `seen` and the row open.
    Close {
        /// Whose row.
        incarnation: Incarnation,
        /// The counter it must have.
        seen: u64,
    },
    /// Shard row: epoch one more and owner `by`, if it is as `seen`. With epoch 0: if there is no row.
    Take {
        /// Which shard.
        key: ShardKey,
        /// The row as it must be.
        seen: ShardRow,
        /// The new owner: oneself.
        by: Incarnation,
    },
    /// Shard row: no owner, if epoch and owner are these.
    GiveBack {
        /// The shard, and the epoch that it must have.
        held: Holding,
        /// The owner that it must have: oneself.
        by: Incarnation,
    },
    /// A serial read of a node row.
    ReadNode(Incarnation),
    /// A serial read of a shard row.
    ReadShard(ShardKey),
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The condition held and the write is done.
    Applied,
    /// The condition did not hold: another's write came first, or an earlier try of the same one.
    Refused,
    /// Nobody knows, and the write may still be done at any time; or a read that brought nothing.
    Unknown,
    /// A node row as read; `None` if there is none.
    Node(Option<NodeRow>),
    /// A shard row as read.
    Shard(ShardRow),
}
