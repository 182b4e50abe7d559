//! What one commit writes, and under which conditions.

use std::time::Duration;

use bytes::Bytes;

use crate::limits::{BATCH_BYTES, BATCH_ROWS, KEY_BYTES};
use crate::{StoreError, Table};

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(Bytes),
    PutFor(Bytes, Duration),
    Delete,
    Max(u64),
}

#[derive(Debug, Clone)]
pub(crate) enum Want {
    Absent,
    Value(Bytes),
}

/// What is to be written together: all of it or nothing, also across tables.
///
/// With conditions it is about one partition of one table, which is [conditional](Table::conditional), and nothing else;
/// without, about tables that are not.
///
/// A key that is named more than once takes the changes in the order in which they were added.
#[derive(Debug, Clone, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    pub(crate) changes: Vec<(&'static str, Vec<u8>, Change)>,
    pub(crate) wants: Vec<(&'static str, Vec<u8>, Want)>,
    bytes: usize,
    pub(crate) is_hedged: bool,
}

impl Batch {
    /// An empty batch. Committing it waits for everything that was committed before it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value, whatever was there.
    pub fn put(self, table: &'static str, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.change(table, key.into(), Change::Put(Bytes::from(value.into())))
    }

    /// Writes a value that a shared store may drop after so long; an embedded one keeps it until somebody sweeps.
    pub fn put_for(
        self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        keep: Duration,
    ) -> Self {
        self.change(table, key.into(), Change::PutFor(Bytes::from(value.into()), keep))
    }

    /// Removes a row, if it is there.
    pub fn delete(self, table: &'static str, key: impl Into<Vec<u8>>) -> Self {
        self.change(table, key.into(), Change::Delete)
    }

    /// Raises a number to at least `value`: 8 bytes, big endian; see [`crate::Db::get_u64`].
    pub fn max(self, table: &'static str, key: impl Into<Vec<u8>>, value: u64) -> Self {
        self.change(table, key.into(), Change::Max(value))
    }

    /// Commits only if no such row is there.
    pub fn expect_absent(self, table: &'static str, key: impl Into<Vec<u8>>) -> Self {
        self.want(table, key.into(), Want::Absent)
    }

    /// Commits only if the row has exactly this value.
    pub fn expect_value(
        self,
        table: &'static str,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Self {
        self.want(table, key.into(), Want::Value(Bytes::from(value.into())))
    }

    /// May be sent to a second CQL server while the first is silent. One of two copies may then come late, after whatever
    /// is written next: only for rows that take one value ever, or grow. And a copy may be refused because the other one
    /// was applied: only for whoever looks what is there when it is refused.
    pub fn hedged(mut self) -> Self {
        self.is_hedged = true;
        self
    }

    /// The changes and conditions of `other` after these.
    pub fn and(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        self.wants.extend(other.wants);
        self.bytes += other.bytes;
        self.is_hedged &= other.is_hedged;
        self
    }

    /// Whether it neither changes nor asks anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.wants.is_empty()
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn change(mut self, table: &'static str, key: Vec<u8>, change: Change) -> Self {
        self.bytes += key.len()
            + match &change {
                Change::Put(value) | Change::PutFor(value, _) => value.len(),
                Change::Max(_) | Change::Delete => 8,
            };
        self.changes.push((table, key, change));
        self
    }

    fn want(mut self, table: &'static str, key: Vec<u8>, want: Want) -> Self {
        self.bytes += key.len() + if let Want::Value(value) = &want { value.len() } else { 0 };
        self.wants.push((table, key, want));
        self
    }

    pub(crate) fn check(&self, tables: &[Table]) -> Result<(), StoreError> {
        let keys = self.changes.iter().map(|(_, key, _)| key).chain(self.wants.iter().map(|(_, key, _)| key));
        if keys.into_iter().any(|key| key.is_empty() || key.len() > KEY_BYTES) {
            return Err(StoreError::TooLarge { what: "a key" });
        }
        if self.changes.len() + self.wants.len() > BATCH_ROWS || self.bytes > BATCH_BYTES {
            return Err(StoreError::TooLarge { what: "a batch" });
        }
        self.check_places(tables)
    }

    /// Whether every engine could write it.
    fn check_places(&self, tables: &[Table]) -> Result<(), StoreError> {
        let places = self.changes.iter().map(|(table, key, _)| (*table, key));
        let mut first = None;
        for (name, key) in places.chain(self.wants.iter().map(|(table, key, _)| (*table, key))) {
            let table = table_of(tables, name)?;
            let place = (name, table.split(key)?.0);
            let is_apart = *first.get_or_insert(place) != place;
            if table.is_conditional() == self.wants.is_empty() || (is_apart && !self.wants.is_empty()) {
                return Err(StoreError::Scattered { table: table.name });
            }
        }
        Ok(())
    }
}

pub(crate) fn table_of<'t>(tables: &'t [Table], name: &str) -> Result<&'t Table, StoreError> {
    let table = tables.iter().find(|declared| declared.name == name);
    table.ok_or_else(|| StoreError::UnknownTable { table: name.to_owned() })
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a refused batch wrote nothing"]
pub enum Commit {
    /// All of it is on disk.
    Applied,
    /// A condition did not hold, nothing was written.
    Refused,
}

impl Commit {
    /// Whether the batch was written.
    pub fn is_applied(self) -> bool {
        self == Self::Applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_hedged_if_all_of_it_is() {
        let hedged = || Batch::new().put("t", "a", "1").hedged();
        let plain = || Batch::new().put("t", "b", "2");
        assert!(hedged().is_hedged && hedged().and(hedged()).is_hedged);
        assert!(![plain(), plain().and(hedged()), hedged().and(plain())].iter().any(|batch| batch.is_hedged));
    }
}
