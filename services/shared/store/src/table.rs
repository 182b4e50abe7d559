//! Tables, as rooms declare them: which rows are together.

use std::ops::Bound;

use crate::StoreError;
use crate::engine::KeyRange;

/// A table.
///
/// What begins with the same bytes is one *partition*: it is on one set of replicas, is read in order, and can be
/// written as one. Every engine holds to that, also those that could do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name, in lower-case letters and underscores; the same in no other table of the room.
    pub name: &'static str,
    partition: Partition,
    is_conditional: bool,
    is_churning: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partition {
    /// The first so many bytes of a key; with 0 the whole table is one partition.
    First(usize),
    /// All of a key.
    Key,
}

/// Part of a partition: rows from `lower` to before `upper`, by what follows the partition in their keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) partition: Vec<u8>,
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl Table {
    /// A table whose keys' first `bytes` bytes are the partition; with 0 it is one partition, for a few rows.
    pub const fn new(name: &'static str, bytes: usize) -> Self {
        Self { name, partition: Partition::First(bytes), is_conditional: false, is_churning: false }
    }

    /// A table in which every row is a partition of its own.
    pub const fn of_rows(name: &'static str) -> Self {
        Self { name, partition: Partition::Key, is_conditional: false, is_churning: false }
    }

    /// A table that is written under conditions only, one partition at a time: what others see of it has one order.
    #[must_use]
    pub const fn conditional(self) -> Self {
        Self { is_conditional: true, ..self }
    }

    /// A table whose rows come and go: a shared store soon forgets that they were there. A row that comes back, because a
    /// server slept through its deletion, must do no harm, and no key may be used again.
    #[must_use]
    pub const fn churning(self) -> Self {
        Self { is_churning: true, ..self }
    }

    pub(crate) const fn is_churning(&self) -> bool {
        self.is_churning
    }

    pub(crate) const fn is_conditional(&self) -> bool {
        self.is_conditional
    }

    pub(crate) fn is_one_partition(&self) -> bool {
        self.partition == Partition::First(0)
    }

    /// A key's partition and the rest.
    ///
    /// # Errors
    /// [`StoreError::Scattered`] if it is too short to have a partition.
    pub(crate) fn split<'k>(&self, key: &'k [u8]) -> Result<(&'k [u8], &'k [u8]), StoreError> {
        match self.partition {
            Partition::First(bytes) => {
                key.split_at_checked(bytes).ok_or(StoreError::Scattered { table: self.name })
            }
            Partition::Key => Ok((key, &[])),
        }
    }

    /// The slice of a partition that a range of keys is; `None` if nothing can lie in it.
    ///
    /// # Errors
    /// [`StoreError::Scattered`] if it is more than one partition.
    pub(crate) fn slice(&self, range: &KeyRange) -> Result<Option<Slice>, StoreError> {
        if range.is_empty() {
            return Ok(None);
        }
        let scattered = StoreError::Scattered { table: self.name };
        let (partition, lower) = match &range.lower {
            Bound::Included(key) => self.split(key).map(|(partition, rest)| (partition, rest.to_vec()))?,
            Bound::Excluded(key) => self.split(key).map(|(partition, rest)| (partition, behind(rest)))?,
            Bound::Unbounded => (self.split(&[])?.0, Vec::new()),
        };
        let upper = match &range.upper {
            Bound::Unbounded if partition.is_empty() => None,
            Bound::Excluded(key) if Some(key) == next_prefix(partition).as_ref() => None,
            Bound::Included(key) | Bound::Excluded(key) => {
                let (of, rest) = self.split(key)?;
                if of != partition {
                    return Err(scattered);
                }
                let is_in = matches!(range.upper, Bound::Included(_));
                Some(if is_in { behind(rest) } else { rest.to_vec() })
            }
            // Nothing comes after a partition of nothing but 0xff.
            Bound::Unbounded if next_prefix(partition).is_none() => None,
            Bound::Unbounded => return Err(scattered),
        };
        let is_empty = upper.as_ref().is_some_and(|upper| *upper <= lower);
        Ok((!is_empty).then(|| Slice { partition: partition.to_vec(), lower, upper }))
    }
}

/// The first key behind this one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key behind all that begin with `prefix`; `None` if there is none.
pub(crate) fn next_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use super::*;

    fn slice(table: Table, range: impl RangeBounds<Vec<u8>>) -> Result<Option<Slice>, StoreError> {
        table.slice(&KeyRange { lower: range.start_bound().cloned(), upper: range.end_bound().cloned() })
    }

    fn is(partition: &[u8], lower: &[u8], upper: Option<&[u8]>) -> Result<Option<Slice>, StoreError> {
        let (partition, lower) = (partition.to_vec(), lower.to_vec());
        Ok(Some(Slice { partition, lower, upper: upper.map(<[u8]>::to_vec) }))
    }

    #[test]
    fn a_range_lies_in_one_partition() {
        let table = Table::new("t", 2);
        let key = |bytes: &[u8]| bytes.to_vec();
        assert_eq!(slice(table, key(&[1, 2])..key(&[1, 3])), is(&[1, 2], &[], None));
        assert_eq!(slice(table, key(&[1, 2, 5])..key(&[1, 2, 9])), is(&[1, 2], &[5], Some(&[9])));
        let after = (Bound::Excluded(key(&[1, 2, 5])), Bound::Included(key(&[1, 2, 9])));
        assert_eq!(slice(table, after), is(&[1, 2], &[5, 0], Some(&[9, 0])));
        assert_eq!(slice(table, key(&[1, 2, 5])..key(&[1, 2, 5])), Ok(None));
        assert_eq!(slice(table, key(&[255, 255])..), is(&[255, 255], &[], None));
        for scattered in [slice(table, ..), slice(table, key(&[1])..key(&[2])), slice(table, key(&[1, 2])..)]
        {
            assert_eq!(scattered, Err(StoreError::Scattered { table: "t" }));
        }
        let over = slice(table, key(&[1, 2])..key(&[1, 3, 0]));
        assert_eq!(over, Err(StoreError::Scattered { table: "t" }));
    }

    #[test]
    fn a_small_table_is_one_partition_and_a_table_of_rows_has_one_for_each() {
        assert_eq!(slice(Table::new("t", 0), ..), is(&[], &[], None));
        assert_eq!(Table::of_rows("t").split(&[1, 2]), Ok((&[1, 2][..], &[][..])));
        assert_eq!(Table::new("t", 2).split(&[1]), Err(StoreError::Scattered { table: "t" }));
    }
}
