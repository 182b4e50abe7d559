//! What a group of batches comes to: conditions checked in order, maxima merged, one row per key.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::batch::{Change, Want};
use crate::engine::{Engine, Row};
use crate::{Batch, Commit, StoreError};

/// The outcome of each batch of a group.
pub(crate) type Outcomes = Vec<Result<Commit, StoreError>>;

/// The rows of a group before they are written. Each batch sees what those before it in the group will write.
pub(crate) struct Plan<'a> {
    engine: &'a dyn Engine,
    tables: &'a [&'static str],
    pending: BTreeMap<(usize, Vec<u8>), Option<Bytes>>,
}

/// Carries out a group. An error here means that nobody knows what is on disk.
pub(crate) fn commit_group(
    engine: &dyn Engine,
    tables: &[&'static str],
    group: Vec<Batch>,
) -> Result<Outcomes, StoreError> {
    let mut plan = Plan { engine, tables, pending: BTreeMap::new() };
    let outcomes = group.into_iter().map(|batch| plan.add(batch)).collect();
    let rows: Vec<_> =
        plan.pending.into_iter().map(|((table, key), value)| Row { table, key, value }).collect();
    if !rows.is_empty() {
        engine.write(rows)?;
    }
    Ok(outcomes)
}

impl Plan<'_> {
    fn add(&mut self, batch: Batch) -> Result<Commit, StoreError> {
        for (index, (table, key, want)) in batch.wants.into_iter().enumerate() {
            let found = self.value(table_number(self.tables, table)?, &key)?;
            let holds = match want {
                Want::Absent => found.is_none(),
                Want::Value(value) => found.is_some_and(|found| found == value),
            };
            if !holds {
                return Ok(Commit::Refused { index });
            }
        }
        // Worked out before anything is taken into the group: a batch that can't be carried out leaves no half.
        let mut own: BTreeMap<(usize, Vec<u8>), Option<Bytes>> = BTreeMap::new();
        for (table, key, change) in batch.changes {
            let place = (table_number(self.tables, table)?, key);
            let value = match change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
                Change::Max(value) => {
                    let found = match own.get(&place) {
                        Some(found) => found.clone(),
                        None => self.value(place.0, &place.1)?,
                    };
                    let found = found.map(|found| number(table, &found)).transpose()?.unwrap_or(0);
                    Some(Bytes::copy_from_slice(&found.max(value).to_be_bytes()))
                }
            };
            own.insert(place, value);
        }
        self.pending.append(&mut own);
        Ok(Commit::Applied)
    }

    fn value(&self, table: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.pending.get(&(table, key.to_vec())) {
            Some(pending) => Ok(pending.clone()),
            None => self.engine.get(table, key),
        }
    }
}

pub(crate) fn table_number(tables: &[&'static str], table: &str) -> Result<usize, StoreError> {
    let number = tables.iter().position(|declared| *declared == table);
    number.ok_or_else(|| StoreError::UnknownTable { table: table.to_owned() })
}

/// A number as maxima keep it.
pub(crate) fn number(table: &str, value: &[u8]) -> Result<u64, StoreError> {
    let bytes = value.try_into().map_err(|_| StoreError::Corrupt { table: table.to_owned() })?;
    Ok(u64::from_be_bytes(bytes))
}
