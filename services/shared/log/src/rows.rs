//! The rows of a log, as bytes.

use bytes::Bytes;
use dialtone_store::Table;
use dialtone_vocab::{Epoch, LogId, ShardId, UnixMillis, shard_of};
use sha2::{Digest, Sha256};

use crate::LogError;
use crate::limits::BUCKET;

/// Table of entries: log, bucket, idx, epoch → first, keep_until, kind, content. At idx 0 of each bucket, where no entry
/// is, stands its tail: the highest idx ever written there.
pub const LOG: &str = "log";
/// Table of marks: log, name → a number that only grows.
pub const MARK: &str = "mark";
/// Table of what is due: shard, time, log, idx, kind, opening, write → owner.
pub const DUE: &str = "due";
/// The tables that a service with logs must declare when it opens its database.
pub const TABLES: [Table; 3] =
    [Table::new(LOG, BUCKET_KEY), Table::new(MARK, 16), Table::new(DUE, 2).churning()];

/// Bytes of a log's id and a bucket.
const BUCKET_KEY: usize = 20;

/// What a log is for; part of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// What a user sent.
    Outbox,
    /// What a user receives.
    Inbox,
    /// What came from the operators.
    Inbound,
}

impl LogKind {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Outbox => b"outbox",
            Self::Inbox => b"inbox",
            Self::Inbound => b"inbound",
        }
    }
}

/// The id of the log of `owner` in this store: another store's log of the same owner has another id, so that a
/// cursor from before a loss of all data is noticed.
pub fn log_id(store: &[u8; 16], kind: LogKind, owner: &[u8; 16]) -> LogId {
    let digest = Sha256::new().chain_update(store).chain_update(kind.name()).chain_update(owner).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    LogId::new(id)
}

/// The bucket that an entry is in. Indexes begin with 1.
pub(crate) const fn bucket_of(idx: u64) -> u32 {
    // A log would need 2^41 entries to leave the range; saturated, not wrapped.
    let bucket = idx.saturating_sub(1) / BUCKET;
    if bucket > u32::MAX as u64 { u32::MAX } else { bucket as u32 }
}

/// The last index of a bucket.
pub(crate) const fn last_of(bucket: u32) -> u64 {
    (bucket as u64 + 1) * BUCKET
}

/// A row of the table of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) idx: u64,
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) keep_until: UnixMillis,
    pub(crate) kind: u8,
    pub(crate) content: Bytes,
}

impl Row {
    pub(crate) fn key(&self, log: LogId) -> Vec<u8> {
        entry_key(log, self.idx, self.epoch)
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(17 + self.content.len());
        value.extend_from_slice(&self.first.to_be_bytes());
        value.extend_from_slice(&self.keep_until.0.to_be_bytes());
        value.push(self.kind);
        value.extend_from_slice(&self.content);
        value
    }

    pub(crate) fn parse(key: &[u8], value: &Bytes) -> Result<Self, LogError> {
        let malformed = || LogError::Malformed { table: LOG };
        if key.len() != 36 || value.len() < 17 {
            return Err(malformed());
        }
        Ok(Self {
            idx: u64_at(key, 20).ok_or_else(malformed)?,
            epoch: Epoch(u64_at(key, 28).ok_or_else(malformed)?),
            first: u64_at(value, 0).ok_or_else(malformed)?,
            keep_until: UnixMillis(u64_at(value, 8).ok_or_else(malformed)?),
            kind: value[16],
            content: value.slice(17..),
        })
    }
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn entry_key(log: LogId, idx: u64, epoch: Epoch) -> Vec<u8> {
    let mut key = bucket_key(log, bucket_of(idx));
    key.extend_from_slice(&idx.to_be_bytes());
    key.extend_from_slice(&epoch.0.to_be_bytes());
    key
}

/// Where the tail of a bucket stands.
pub(crate) fn tail_key(log: LogId, bucket: u32) -> Vec<u8> {
    [&bucket_key(log, bucket)[..], &[0; 16]].concat()
}

/// What the keys of a bucket begin with.
pub(crate) fn bucket_key(log: LogId, bucket: u32) -> Vec<u8> {
    let mut key = log.as_bytes().to_vec();
    key.extend_from_slice(&bucket.to_be_bytes());
    key
}

pub(crate) fn mark_key(log: LogId, name: &[u8]) -> Vec<u8> {
    let mut key = log.as_bytes().to_vec();
    key.extend_from_slice(name);
    key
}

/// The name of a mark that there is one of per device, receiver or source: `prefix`, then its bytes.
pub fn mark_name(prefix: &str, of: &[u8]) -> Vec<u8> {
    let mut name = prefix.as_bytes().to_vec();
    name.extend_from_slice(of);
    name
}

/// Something that is to happen to a log at a time, found by whoever owns its shard, also after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Not before then.
    pub at: UnixMillis,
    /// What it is about: an index of the log, or 0 for the log as a whole.
    pub idx: u64,
    /// In the service's own words.
    pub kind: u8,
}

/// A due row as it stands. Each putting is a row of its own, never put again once it was deleted: of a row that were,
/// nobody could say whether it is there, if owners' clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueRow {
    /// Whose log it is.
    pub(crate) owner: [u8; 16],
    /// The log.
    pub(crate) log: LogId,
    /// What is due.
    pub(crate) due: Due,
    /// Which opening of the log, by a number drawn at random, and which of its writes put it.
    pub(crate) put: (u64, u64),
}

impl DueRow {
    /// Whose log has something to do.
    pub fn owner(&self) -> [u8; 16] {
        self.owner
    }

    /// What there is to do.
    pub fn due(&self) -> Due {
        self.due
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = due_prefix(shard_of(&self.owner));
        key.extend_from_slice(&self.due.at.0.to_be_bytes());
        key.extend_from_slice(self.log.as_bytes());
        key.extend_from_slice(&self.due.idx.to_be_bytes());
        key.push(self.due.kind);
        key.extend_from_slice(&self.put.0.to_be_bytes());
        key.extend_from_slice(&self.put.1.to_be_bytes());
        key
    }

    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<Self, LogError> {
        let parse = || {
            let due = Due { at: UnixMillis(u64_at(key, 2)?), idx: u64_at(key, 26)?, kind: *key.get(34)? };
            let log = LogId::from_slice(key.get(10..26)?).ok()?;
            let put = (u64_at(key, 35)?, u64_at(key, 43)?);
            Some(Self { owner: value.try_into().ok()?, log, due, put })
        };
        parse().ok_or(LogError::Malformed { table: DUE })
    }
}

pub(crate) fn due_prefix(shard: ShardId) -> Vec<u8> {
    shard.0.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ids_are_pinned_and_differ_by_store_kind_and_owner() {
        let id = log_id(&[1; 16], LogKind::Outbox, &[2; 16]);
        assert_eq!(id.to_string(), "30a72d82ddccec33fcf7a6b97a7b4150");
        for other in [
            log_id(&[3; 16], LogKind::Outbox, &[2; 16]),
            log_id(&[1; 16], LogKind::Inbox, &[2; 16]),
            log_id(&[1; 16], LogKind::Inbound, &[2; 16]),
            log_id(&[1; 16], LogKind::Outbox, &[3; 16]),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn buckets_have_512_entries_from_1() {
        assert_eq!([1, 512, 513, 1024, 1025].map(bucket_of), [0, 0, 1, 1, 2]);
        assert_eq!((last_of(0), last_of(1)), (512, 1024));
    }

    #[test]
    fn rows_survive_the_round_trip_and_sort_by_index_then_epoch() {
        let log = LogId::new([9; 16]);
        let row = Row {
            idx: 513,
            epoch: Epoch(4),
            first: 511,
            keep_until: UnixMillis(77),
            kind: 3,
            content: Bytes::from_static(b"x"),
        };
        assert_eq!(Row::parse(&row.key(log), &row.value().into()), Ok(row.clone()));
        assert!(entry_key(log, 512, Epoch(9)) < entry_key(log, 513, Epoch(1)));
        assert!(entry_key(log, 513, Epoch(1)) < entry_key(log, 513, Epoch(2)));
        assert_eq!(Row::parse(b"short", &Bytes::new()), Err(LogError::Malformed { table: LOG }));
        let due =
            DueRow { owner: [5; 16], log, due: Due { at: UnixMillis(1), idx: 2, kind: 3 }, put: (4, 5) };
        assert_eq!(DueRow::parse(&due.key(), &due.owner), Ok(due));
        assert_eq!(DueRow::parse(&due.key()[1..], &due.owner), Err(LogError::Malformed { table: DUE }));
    }
}
