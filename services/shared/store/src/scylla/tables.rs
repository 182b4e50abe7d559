//! The tables of a room on a CQL server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::scylla::statement::batch::{Batch as CqlBatch, BatchType};
use ::scylla::value::CqlValue;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Kind, Scylla, Statement, Values};
use crate::batch::{Change, Want, table_of};
use crate::db::Rows;
use crate::limits::{CQL_PREPARING, CQL_TTL_MOST};
use crate::table::Slice;
use crate::{Batch, Commit, Schema, StoreError, Table};

/// The tables of a room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tables(Arc<Inner>);

struct Inner {
    scylla: Scylla,
    schema: Schema,
    statements: BTreeMap<&'static str, Statements>,
}

/// What is said to one table.
struct Statements {
    get: Statement,
    get_serial: Statement,
    scan: [Statement; 2],
    scan_from: [Statement; 2],
    first: Statement,
    next: Statement,
    put: Statement,
    put_for: Statement,
    max: Statement,
    delete: Statement,
    /// Conditional tables have no row markers: a row there is its value, and gone with it.
    set: Statement,
    set_if: Statement,
}

/// The table of a room's table.
pub(super) fn table_name(service: &str, table: &str) -> String {
    format!("{service}_{table}")
}

impl Scylla {
    /// The tables of a room, whose meaning must be the one that the room knows.
    pub(crate) async fn tables(&self, schema: Schema) -> Result<Tables, StoreError> {
        self.check_schema(&schema).await?;
        let made = stream::iter(schema.tables).map(async |table: &'static Table| {
            let statements =
                Statements::prepare(self, &self.own(&table_name(schema.service, table.name))).await?;
            if table.is_conditional() {
                statements.warm(self).await;
            }
            Ok::<_, StoreError>((table.name, statements))
        });
        let statements = made.buffer_unordered(CQL_PREPARING).try_collect().await?;
        Ok(Tables(Arc::new(Inner { scylla: self.clone(), schema, statements })))
    }
}

impl Statements {
    async fn prepare(scylla: &Scylla, t: &str) -> Result<Self, StoreError> {
        let read = async |text: String| scylla.prepare(&text, Kind::Read).await;
        let write = async |text: String| scylla.prepare(&text, Kind::Write).await;
        let get = format!("SELECT v FROM {t} WHERE p = ? AND c = ?");
        let scan = format!("SELECT c, v FROM {t} WHERE p = ? AND c >= ? AND c < ?");
        let from = format!("SELECT c, v FROM {t} WHERE p = ? AND c >= ?");
        let down = "ORDER BY c DESC LIMIT ?";
        Ok(Self {
            get_serial: scylla.prepare(&get, Kind::SerialRead).await?,
            get: read(get).await?,
            scan: [read(format!("{scan} LIMIT ?")).await?, read(format!("{scan} {down}")).await?],
            scan_from: [read(format!("{from} LIMIT ?")).await?, read(format!("{from} {down}")).await?],
            first: read(format!("SELECT p, c, v FROM {t} LIMIT ?")).await?,
            next: read(format!("SELECT p, c, v FROM {t} WHERE token(p) > token(?) LIMIT ?")).await?,
            put: write(format!("INSERT INTO {t} (p, c, v) VALUES (?, ?, ?)")).await?,
            put_for: write(format!("INSERT INTO {t} (p, c, v) VALUES (?, ?, ?) USING TTL ?")).await?,
            max: write(format!("INSERT INTO {t} (p, c, v) VALUES (?, ?, ?) USING TIMESTAMP ?")).await?,
            delete: write(format!("DELETE FROM {t} WHERE p = ? AND c = ?")).await?,
            set: write(format!("UPDATE {t} SET v = ? WHERE p = ? AND c = ?")).await?,
            set_if: scylla
                .prepare(&format!("UPDATE {t} SET v = ? WHERE p = ? AND c = ? IF v = ?"), Kind::Conditional)
                .await?,
        })
    }
}

impl Statements {
    /// A first condition on a table, which no row meets: what it makes the servers load should not be a user's wait.
    async fn warm(&self, scylla: &Scylla) {
        let nobody: &[u8] = b"nobody";
        let warmed = scylla.applied(&self.set_if, (None::<&[u8]>, nobody, nobody, nobody)).await;
        if let Err(error) = warmed {
            tracing::debug!(%error, "a table is not warm");
        }
    }
}

impl Tables {
    fn of(&self, table: &str) -> Result<(&Table, &Statements), StoreError> {
        let declared = table_of(self.0.schema.tables, table)?;
        // There for every declared table.
        let unknown = || StoreError::UnknownTable { table: table.to_owned() };
        Ok((declared, self.0.statements.get(table).ok_or_else(unknown)?))
    }

    pub(crate) async fn get(
        &self,
        table: &Table,
        partition: &[u8],
        rest: &[u8],
        is_serial: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        let (_, statements) = self.of(table.name)?;
        let statement = if is_serial { &statements.get_serial } else { &statements.get };
        let found: Option<(Option<Vec<u8>>,)> =
            self.0.scylla.row(statement, (stored(partition), rest)).await?;
        Ok(found.and_then(|(value,)| value).map(Bytes::from))
    }

    pub(crate) async fn scan(
        &self,
        table: &Table,
        slice: &Slice,
        limit: usize,
        backwards: bool,
    ) -> Result<Rows, StoreError> {
        if limit == 0 {
            return Ok(Rows::new());
        }
        let (_, statements) = self.of(table.name)?;
        let (p, way) = (stored(&slice.partition), usize::from(backwards));
        let found: Vec<(Vec<u8>, Option<Vec<u8>>)> = match &slice.upper {
            Some(upper) => {
                let values = (p, &slice.lower, upper, capped(limit));
                self.0.scylla.rows(&statements.scan[way], values).await?
            }
            None => {
                let values = (p, &slice.lower, capped(limit));
                self.0.scylla.rows(&statements.scan_from[way], values).await?
            }
        };
        let row = |(rest, value): (Vec<u8>, Option<Vec<u8>>)| {
            Some((Bytes::from([&slice.partition[..], &rest].concat()), Bytes::from(value?)))
        };
        Ok(found.into_iter().filter_map(row).collect())
    }

    pub(crate) async fn walk(&self, table: &Table, after: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let (_, statements) = self.of(table.name)?;
        let whole = |(p, rest, value): (Vec<u8>, Vec<u8>, Option<Vec<u8>>)| {
            Some((Bytes::from([unstored(table, &p), &rest].concat()), Bytes::from(value?)))
        };
        if after.is_empty() {
            let found = self.0.scylla.rows(&statements.first, (capped(limit),)).await?;
            return Ok(found.into_iter().filter_map(whole).collect());
        }
        let (partition, rest) = table.split(after)?;
        let lower = [rest, &[0]].concat();
        let slice = Slice { partition: partition.to_vec(), lower, upper: None };
        let mut rows = self.scan(table, &slice, limit, false).await?;
        if rows.len() < limit {
            let values = (stored(partition), capped(limit - rows.len()));
            let found = self.0.scylla.rows(&statements.next, values).await?;
            rows.extend(found.into_iter().filter_map(whole));
        }
        Ok(rows)
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Commit, StoreError> {
        if batch.wants.is_empty() { self.write(batch).await } else { self.write_if(batch).await }
    }

    /// One partition at a time, or all of them by way of the server's log of batches, which writes all of them or none.
    async fn write(&self, batch: Batch) -> Result<Commit, StoreError> {
        let mut latest = BTreeMap::new();
        for (table, key, change) in batch.changes {
            let merged = match (latest.get(&(table, key.clone())), change) {
                (Some(Change::Max(earlier)), Change::Max(value)) => Change::Max(value.max(*earlier)),
                (_, change) => change,
            };
            latest.insert((table, key), merged);
        }
        let mut partitions = BTreeSet::new();
        let mut writes = Vec::with_capacity(latest.len());
        for ((table, key), change) in latest {
            let (declared, statements) = self.of(table)?;
            let (partition, rest) = declared.split(&key)?;
            partitions.insert((table, partition.to_vec()));
            writes.push(change.into_statement(statements, stored(partition), rest));
        }
        let scylla = &self.0.scylla;
        match writes.len() {
            0 => {}
            1 => {
                if let Some((statement, values)) = writes.pop() {
                    match batch.is_hedged {
                        true => scylla.run(&scylla.hedged(statement), values).await?,
                        false => scylla.run(statement, values).await?,
                    }
                }
            }
            _ => {
                let kind = if partitions.len() == 1 { BatchType::Unlogged } else { BatchType::Logged };
                let (mut cql, mut all) = (CqlBatch::new(kind), Vec::with_capacity(writes.len()));
                cql.set_is_idempotent(true);
                if batch.is_hedged {
                    scylla.hedge(&mut cql);
                }
                for (statement, values) in writes {
                    cql.append_statement(statement.0.clone());
                    all.push(values);
                }
                scylla.batch(cql, all).await?;
            }
        }
        Ok(Commit::Applied)
    }

    /// Every row that is changed or looked at, under the condition that there is for it.
    async fn write_if(&self, batch: Batch) -> Result<Commit, StoreError> {
        let mut rows: BTreeMap<(&'static str, Vec<u8>), Guarded> = BTreeMap::new();
        for (table, key, want) in &batch.wants {
            let expected = match want {
                Want::Absent => None,
                Want::Value(value) => Some(value.clone()),
            };
            let row = rows.entry((table, key.clone())).or_default();
            if row.expected.as_ref().is_some_and(|known| *known != expected) {
                return Ok(Commit::Refused);
            }
            row.expected = Some(expected);
        }
        for (table, key, change) in batch.changes {
            let value = match change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
                Change::PutFor(..) | Change::Max(_) => return Err(StoreError::Scattered { table }),
            };
            rows.entry((table, key)).or_default().to = Some(value);
        }
        let (mut cql, mut all) = (CqlBatch::new(BatchType::Unlogged), Vec::with_capacity(rows.len()));
        if batch.is_hedged {
            self.0.scylla.hedge(&mut cql);
        }
        for ((table, key), row) in rows {
            let (declared, statements) = self.of(table)?;
            let (partition, rest) = declared.split(&key)?;
            let Guarded { expected, to } = row;
            let blob = |value: Option<Bytes>| value.map(|value| CqlValue::Blob(value.to_vec()));
            // What is only looked at is set to what it is.
            let to = to.unwrap_or_else(|| expected.clone().flatten());
            let (p, c) =
                (Some(CqlValue::Blob(stored(partition).to_vec())), Some(CqlValue::Blob(rest.to_vec())));
            match expected {
                Some(expected) => {
                    cql.append_statement(statements.set_if.0.clone());
                    all.push(vec![blob(to), p, c, blob(expected)]);
                }
                None => match to {
                    Some(to) => {
                        cql.append_statement(statements.set.0.clone());
                        all.push(vec![blob(Some(to)), p, c]);
                    }
                    None => {
                        cql.append_statement(statements.delete.0.clone());
                        all.push(vec![p, c]);
                    }
                },
            }
        }
        let applied = self.0.scylla.applied_batch(cql, all).await?;
        Ok(if applied { Commit::Applied } else { Commit::Refused })
    }
}

/// What is to become of a row in a batch with conditions.
#[derive(Default)]
struct Guarded {
    /// What it must be, if there is a condition for it: a value, or absent.
    expected: Option<Option<Bytes>>,
    /// What it is to be, if that is something else.
    to: Option<Option<Bytes>>,
}

impl Change {
    fn into_statement<'s>(
        self,
        to: &'s Statements,
        partition: &[u8],
        rest: &[u8],
    ) -> (&'s Statement, Values) {
        let blob = |bytes: &[u8]| Some(CqlValue::Blob(bytes.to_vec()));
        let (p, c) = (blob(partition), blob(rest));
        match self {
            Self::Put(value) => (&to.put, vec![p, c, blob(&value)]),
            Self::PutFor(value, keep) => {
                let seconds = i32::try_from(keep.as_secs()).unwrap_or(i32::MAX).clamp(1, CQL_TTL_MOST);
                (&to.put_for, vec![p, c, blob(&value), Some(CqlValue::Int(seconds))])
            }
            // Merged by maximum: of two writes of a cell the one with the higher timestamp stays.
            Self::Max(value) => {
                let at = i64::try_from(value).unwrap_or(i64::MAX);
                (&to.max, vec![p, c, blob(&value.to_be_bytes()), Some(CqlValue::BigInt(at))])
            }
            Self::Delete => (&to.delete, vec![p, c]),
        }
    }
}

/// A partition as it is stored: CQL has none that is empty.
fn stored(partition: &[u8]) -> &[u8] {
    if partition.is_empty() { &[0] } else { partition }
}

/// A partition as its table has it.
fn unstored<'p>(table: &Table, partition: &'p [u8]) -> &'p [u8] {
    if table.is_one_partition() { &[] } else { partition }
}

fn capped(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
