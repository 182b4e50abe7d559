//! What a group of batches comes to: conditions checked in order, maxima merged, one row per key.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::batch::{Change, Want};
use crate::engine::{Engine, Row};
use crate::limits::MAXIMA;
use crate::{Batch, Commit, StoreError};

/// The outcome of each batch of a group.
pub(crate) type Outcomes = Vec<Result<Commit, StoreError>>;

/// A table's number and a key.
type Place = (usize, Vec<u8>);

/// What the numbers that merge by maximum stand at, as far as this writer raised them itself: there is no other, so
/// most are raised again without being read.
#[derive(Debug, Default)]
pub(crate) struct Maxima(HashMap<Place, u64>);

impl Maxima {
    fn note(&mut self, place: Place, value: Option<u64>) {
        match value {
            Some(value) => {
                if self.0.len() >= MAXIMA {
                    self.0.clear();
                }
                self.0.insert(place, value);
            }
            None => drop(self.0.remove(&place)),
        }
    }
}

/// The rows of a group before they are written. Each batch sees what those before it in the group will write.
struct Plan<'a> {
    engine: &'a dyn Engine,
    tables: &'a [&'static str],
    maxima: &'a mut Maxima,
    pending: BTreeMap<Place, Option<Bytes>>,
}

/// Carries out a group. An error here means that nobody knows what is on disk.
pub(crate) fn commit_group(
    engine: &dyn Engine,
    tables: &[&'static str],
    maxima: &mut Maxima,
    group: Vec<Batch>,
) -> Result<Outcomes, StoreError> {
    let mut plan = Plan { engine, tables, maxima, pending: BTreeMap::new() };
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
        for (table, key, want) in batch.wants {
            let found = self.value(table_number(self.tables, table)?, &key)?;
            let holds = match want {
                Want::Absent => found.is_none(),
                Want::Value(value) => found.is_some_and(|found| found == value),
            };
            if !holds {
                return Ok(Commit::Refused);
            }
        }
        // Worked out before anything is taken into the group: a batch that can't be carried out leaves no half.
        let mut own: Vec<(Place, Option<Bytes>, Option<u64>)> = Vec::with_capacity(batch.changes.len());
        for (table, key, change) in batch.changes {
            let place = (table_number(self.tables, table)?, key);
            let (value, maximum) = match change {
                Change::Put(value) | Change::PutFor(value, _) => (Some(value), None),
                Change::Delete => (None, None),
                Change::Max(value) => {
                    let earlier = own.iter().rev().find(|(known, ..)| *known == place);
                    let found = match earlier {
                        Some((_, found, _)) => {
                            found.as_deref().map_or(Ok(0), |found| number(table, found))?
                        }
                        None => self.maximum(table, &place)?,
                    };
                    let raised = found.max(value);
                    (Some(Bytes::copy_from_slice(&raised.to_be_bytes())), Some(raised))
                }
            };
            own.push((place, value, maximum));
        }
        for (place, value, maximum) in own {
            self.maxima.note(place.clone(), maximum);
            self.pending.insert(place, value);
        }
        Ok(Commit::Applied)
    }

    fn maximum(&self, table: &str, place: &Place) -> Result<u64, StoreError> {
        if let Some(known) = self.maxima.0.get(place) {
            return Ok(*known);
        }
        self.value(place.0, &place.1)?.map_or(Ok(0), |found| number(table, &found))
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
