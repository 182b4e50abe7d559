//! The tables of a room on the replicas, as [`crate::Db`] asks them.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_chassis::Clock;
use futures::future::{Either, select};
use tokio::sync::oneshot;

use super::Replicas;
use super::cells::{Partition, Place};
use super::cluster::{Answer, Cluster};
use super::serial::Rests;
use crate::batch::{Change, Want, table_of};
use crate::limits::{CQL_REQUEST, CQL_SECOND};
use crate::table::Slice;
use crate::{Batch, Commit, Rows, Schema, StoreError, Table};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tables {
    replicas: Replicas,
    schema: Schema,
    clock: Clock,
}

impl Tables {
    pub(crate) fn new(replicas: Replicas, schema: Schema, clock: &Clock) -> Self {
        Self { replicas, schema, clock: clock.clone() }
    }

    fn place(&self, table: &'static str, partition: &[u8]) -> Place {
        (self.schema.service, table, partition.to_vec())
    }

    /// Asks, and waits for as long as the driver does.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Cluster, usize, Answer<T>) + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.replicas.lock().request(self.replicas.line, move |cluster, via| what(cluster, via, sender));
        let answer = async {
            match receiver.await {
                Ok(answer) => answer,
                // Lost on its way, there or back.
                Err(_) => pending().await,
            }
        };
        self.clock.timeout(CQL_REQUEST, answer).await.ok()
    }

    pub(crate) async fn get(
        &self,
        table: &'static Table,
        partition: &[u8],
        rest: &[u8],
        is_serial: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        if !is_serial {
            let upper = Some([rest, &[0]].concat());
            let slice = Slice { partition: partition.to_vec(), lower: rest.to_vec(), upper };
            let found = self.read(table, slice).await?;
            return Ok(found.rows().next().map(|(_, value)| value.clone()));
        }
        let (line, place, rest) = (self.replicas.line, self.place(table.name, partition), rest.to_vec());
        let read = move |cluster: &mut Cluster, _, answer| cluster.read_serial(line, &place, &rest, answer);
        self.ask(read).await.ok_or_else(unread)
    }

    pub(crate) async fn scan(
        &self,
        table: &'static Table,
        slice: Slice,
        limit: usize,
        backwards: bool,
    ) -> Result<Rows, StoreError> {
        let partition = slice.partition.clone();
        let found = self.read(table, slice).await?;
        let whole =
            |(rest, value): (&Vec<u8>, &Bytes)| (Bytes::from([&partition[..], rest].concat()), value.clone());
        Ok(if backwards {
            found.rows().rev().take(limit).map(whole).collect()
        } else {
            found.rows().take(limit).map(whole).collect()
        })
    }

    async fn read(&self, table: &'static Table, slice: Slice) -> Result<Partition, StoreError> {
        let (line, place) = (self.replicas.line, self.place(table.name, &slice.partition));
        let slice = Arc::new(slice);
        let read =
            move |cluster: &mut Cluster, via, answer| cluster.read((via, line), &place, &slice, answer);
        self.ask(read).await.ok_or_else(unread)
    }

    pub(crate) fn walk(&self, table: &'static Table, after: &[u8], limit: usize) -> Rows {
        let all = self.replicas.at_all(self.schema.service, table.name);
        all.into_iter().filter(|(key, _)| key.as_ref() > after).take(limit).collect()
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Commit, StoreError> {
        let committed = if batch.is_hedged { self.hedged(batch).await } else { self.once(batch).await };
        if let Err(StoreError::Unknown { .. }) = committed {
            self.replicas.lock().seen.unknown += 1;
        }
        committed
    }

    async fn once(&self, batch: Batch) -> Result<Commit, StoreError> {
        if batch.wants.is_empty() { self.write(batch).await } else { self.write_if(batch).await }
    }

    /// Asked a second time while the first is silent, and the first answer counts. The driver asks another server, always;
    /// here it may be the same one.
    async fn hedged(&self, batch: Batch) -> Result<Commit, StoreError> {
        let first = pin!(self.once(batch.clone()));
        let second = pin!(async {
            self.clock.sleep(CQL_SECOND).await;
            self.once(batch).await
        });
        let either = async {
            match select(first, second).await {
                Either::Left((Err(_), other)) => other.await,
                Either::Right((Err(_), other)) => other.await,
                Either::Left((applied, _)) | Either::Right((applied, _)) => applied,
            }
        };
        self.clock.timeout(CQL_REQUEST, either).await.unwrap_or_else(|_| Err(unknown()))
    }

    /// Where a batch goes; `None` for an empty one.
    fn place_of(&self, batch: &Batch) -> Result<Option<Place>, StoreError> {
        let keys = batch.changes.iter().map(|(table, key, _)| (*table, key));
        let mut place = None;
        for (name, key) in keys.chain(batch.wants.iter().map(|(table, key, _)| (*table, key))) {
            let table = table_of(self.schema.tables, name)?;
            let of = self.place(table.name, table.split(key)?.0);
            if *place.get_or_insert_with(|| of.clone()) != of {
                return Err(StoreError::Scattered { table: table.name });
            }
        }
        Ok(place)
    }

    fn rest(&self, table: &str, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(table_of(self.schema.tables, table)?.split(key)?.1.to_vec())
    }

    async fn write(&self, batch: Batch) -> Result<Commit, StoreError> {
        let Some(place) = self.place_of(&batch)? else { return Ok(Commit::Applied) };
        // A later change of a row takes the place of an earlier one; of two maxima the greater stays.
        let mut rows: BTreeMap<Vec<u8>, (Option<i64>, Option<Bytes>)> = BTreeMap::new();
        for (table, key, change) in batch.changes {
            let rest = self.rest(table, &key)?;
            let (at, value) = match change {
                Change::Put(value) | Change::PutFor(value, _) => (None, Some(value)),
                Change::Delete => (None, None),
                Change::Max(value) => {
                    let at = i64::try_from(value).unwrap_or(i64::MAX);
                    (Some(at), Some(Bytes::copy_from_slice(&value.to_be_bytes())))
                }
            };
            match rows.get(&rest) {
                Some((Some(earlier), _)) if at.is_some_and(|at| at < *earlier) => {}
                _ => drop(rows.insert(rest, (at, value))),
            }
        }
        let rows = rows.into_iter().map(|(rest, (at, value))| (rest, at, value)).collect();
        let line = self.replicas.line;
        let write =
            move |cluster: &mut Cluster, via, answer| cluster.write((via, line), &place, rows, answer);
        self.ask(write).await.ok_or_else(unknown)?.map(|()| Commit::Applied)
    }

    async fn write_if(&self, batch: Batch) -> Result<Commit, StoreError> {
        let Some(place) = self.place_of(&batch)? else { return Ok(Commit::Applied) };
        let (mut wants, mut changes) = (Rests::new(), Rests::new());
        for (table, key, want) in batch.wants {
            let wanted = match want {
                Want::Absent => None,
                Want::Value(value) => Some(value),
            };
            wants.push((self.rest(table, &key)?, wanted));
        }
        for (table, key, change) in batch.changes {
            let to = match change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
                Change::PutFor(..) | Change::Max(_) => return Err(StoreError::Scattered { table }),
            };
            changes.push((self.rest(table, &key)?, to));
        }
        let line = self.replicas.line;
        let write = move |cluster: &mut Cluster, _, answer| {
            cluster.write_if(line, &place, (&wants, changes), answer);
        };
        self.ask(write).await.ok_or_else(unknown)
    }
}

fn unread() -> StoreError {
    StoreError::Read { why: "no answer in time".to_owned() }
}

fn unknown() -> StoreError {
    StoreError::Unknown { why: "no answer in time".to_owned() }
}
