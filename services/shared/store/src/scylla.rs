//! A CQL server of ScyllaDB's kind (ScyllaDB, Apache Cassandra): one session for a whole process.
//!
//! ```text
//!   Db of a room ── get, scan, walk, commit ──► Tables ── prepared statements ──► Scylla ──► a replica of the partition
//! ```
//!
//! A table of a room is a table there: partition, rest of the key and value, as bytes. [`Scylla::migrate`] makes them;
//! a room that starts checks that their meaning is the one it knows.
//!
//! What a write came to may be unknown: [`StoreError::Unknown`] says that it may be applied now, later, or never. Only
//! the very same write may be tried again, or what is there be read serially.

mod config;
mod error;
mod hedge;
mod metrics;
mod schema;
mod server;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ::scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use ::scylla::client::session::Session;
use ::scylla::client::session_builder::SessionBuilder;
use ::scylla::deserialize::row::{ColumnIterator, DeserializeRow};
use ::scylla::errors::{DeserializationError, ExecutionError, TypeCheckError};
use ::scylla::frame::response::result::ColumnSpec;
use ::scylla::response::query_result::QueryResult;
use ::scylla::serialize::row::SerializeRow;
use ::scylla::statement::batch::Batch;
use ::scylla::statement::prepared::PreparedStatement;
use ::scylla::statement::unprepared::Statement as Unprepared;
use ::scylla::statement::{Consistency, SerialConsistency};
use ::scylla::value::CqlValue;

use crate::StoreError;
use crate::limits::{CQL_ALIVE_EVERY, CQL_CONNECT, CQL_REQUEST, CQL_SILENCE};
pub use config::ScyllaConfig;
use error::{lost, unreached, unread};
use hedge::{Hedge, Pulse};
pub(crate) use tables::Tables;

/// A row that owns what is in it.
trait OwnedRow: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send + 'static {}
impl<T: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send + 'static> OwnedRow for T {}

/// A CQL server, connected. Cheap to clone; clones share the session.
#[derive(Clone)]
pub struct Scylla(Arc<Inner>);

struct Inner {
    session: Session,
    /// How reads are executed, and hedged writes: by two servers, if the first is silent.
    hedged: ExecutionProfileHandle,
    pulse: Arc<Pulse>,
    config: ScyllaConfig,
}

/// How a statement is to be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A read at LOCAL_QUORUM, tried again by the driver, at a second server already while the first is silent.
    Read,
    /// A read that sees every conditional write before it: at LOCAL_SERIAL. A second server is asked while the first is
    /// silent, and nothing else is tried again.
    SerialRead,
    /// A write at LOCAL_QUORUM that may be applied twice without harm: tried again by the driver.
    Write,
    /// A conditional write (LWT), LOCAL_SERIAL: never tried again by itself.
    Conditional,
}

/// A prepared statement. Cheap to clone.
#[derive(Debug, Clone)]
struct Statement(PreparedStatement);

impl Scylla {
    /// Connects, without looking at the keyspace or what is in it.
    ///
    /// # Errors
    /// [`StoreError::BadFile`] for files that can't be read, [`StoreError::Unreachable`].
    pub async fn connect(config: &ScyllaConfig) -> Result<Self, StoreError> {
        Self::connect_reading(config, Consistency::LocalQuorum).await
    }

    async fn connect_reading(config: &ScyllaConfig, at: Consistency) -> Result<Self, StoreError> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(CQL_REQUEST))
            .build();
        let pulse = Arc::<Pulse>::default();
        let second = Arc::new(Hedge(Arc::clone(&pulse)));
        let hedged = profile.to_builder().consistency(at).speculative_execution_policy(Some(second));
        let hedged = hedged.build().into_handle();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .connection_timeout(CQL_CONNECT)
            .keepalive_interval(CQL_ALIVE_EVERY)
            .keepalive_timeout(CQL_SILENCE)
            .default_execution_profile_handle(profile.into_handle());
        if !config.data_center.is_empty() {
            builder = builder.prefer_datacenter(config.data_center.clone());
        }
        if let Some(password) = config.password()? {
            builder = builder.user(&config.user, password);
        }
        if let Some(tls) = config.tls()? {
            builder = builder.tls_context(Some(tls));
        }
        let session = builder.build().await.map_err(|error| unreached(&error))?;
        Ok(Self(Arc::new(Inner { session, hedged, pulse, config: config.clone() })))
    }

    /// Connects and looks for the keyspace; checks what the server is and how it syncs.
    ///
    /// # Errors
    /// As [`Scylla::connect`]; [`StoreError::NoKeyspace`]; [`StoreError::Unsafe`] in strict mode.
    pub async fn open(config: &ScyllaConfig) -> Result<Self, StoreError> {
        let scylla = Self::connect(config).await?;
        scylla.find_keyspace().await?;
        scylla.check_servers().await?;
        // Of the session that a process keeps, not of those that only look.
        metrics::tell(Arc::downgrade(&scylla.0));
        Ok(scylla)
    }

    /// As [`Scylla::open`], for tests that look at what is there: reads, and what is hedged, ask all replicas.
    #[doc(hidden)]
    pub async fn open_at_all(config: &ScyllaConfig) -> Result<Self, StoreError> {
        let scylla = Self::connect_reading(config, Consistency::All).await?;
        scylla.find_keyspace().await?;
        Ok(scylla)
    }

    /// Asks a quorum for a row: whether a room could.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn answers(&self) -> Result<(), StoreError> {
        let mut asked =
            Unprepared::new(format!("SELECT id FROM {} WHERE id = 'dialtone'", self.own("store")));
        asked.set_is_idempotent(true);
        asked.set_execution_profile_handle(Some(self.0.hedged.clone()));
        self.0.session.query_unpaged(asked, ()).await.map(drop).map_err(|error| unread(&error))
    }

    /// Where it was reached, as configured.
    pub(crate) fn nodes(&self) -> String {
        self.0.config.nodes.join(",")
    }

    async fn find_keyspace(&self) -> Result<(), StoreError> {
        let keyspace = &self.0.config.keyspace;
        let text = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let found = self.prepare(text, Kind::Read).await?;
        let found: Option<(BTreeMap<String, String>,)> = self.row(&found, (keyspace,)).await?;
        let (replication,) = found.ok_or_else(|| StoreError::NoKeyspace { keyspace: keyspace.clone() })?;
        if self.0.config.data_center.is_empty() && has_several_centres(&replication) {
            return Err(StoreError::Unsafe {
                why: "the keyspace is in several data centres: set store.data_center, the same for all processes",
            });
        }
        Ok(())
    }

    /// The whole name of a table: a keyspace that a connection uses would be none of the statement's.
    fn own(&self, table: &str) -> String {
        format!("{}.{table}", self.0.config.keyspace)
    }

    /// Prepares a statement.
    async fn prepare(&self, text: &str, kind: Kind) -> Result<Statement, StoreError> {
        let prepared = self.0.session.prepare(text).await;
        let mut prepared = prepared.map_err(|error| StoreError::Read { why: error.to_string() })?;
        prepared.set_is_idempotent(kind != Kind::Conditional);
        if matches!(kind, Kind::Read | Kind::SerialRead) {
            prepared.set_execution_profile_handle(Some(self.0.hedged.clone()));
        }
        if kind == Kind::SerialRead {
            prepared.set_consistency(Consistency::LocalSerial);
        }
        Ok(Statement(prepared))
    }

    async fn execute(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, ExecutionError> {
        let Inner { session, pulse, .. } = &*self.0;
        pulse.of(session.execute_unpaged(&statement.0, values)).await
    }

    async fn execute_batch(&self, batch: &Batch, values: Vec<Values>) -> Result<QueryResult, ExecutionError> {
        let Inner { session, pulse, .. } = &*self.0;
        pulse.of(session.batch(batch, values)).await
    }

    /// All rows of a read, which must have a LIMIT or be of one bounded partition.
    async fn rows<T: OwnedRow>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, StoreError> {
        let result = self.execute(statement, values).await;
        let result = result.map_err(|error| unread(&error))?;
        let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
        let rows = rows.rows::<T>().map_err(|error| unreadable(&error))?;
        rows.map(|row| row.map_err(|error| unreadable(&error))).collect()
    }

    /// The first row of a read.
    async fn row<T: OwnedRow>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// A write.
    async fn run(&self, statement: &Statement, values: impl SerializeRow) -> Result<(), StoreError> {
        self.execute(statement, values).await.map(drop).map_err(|error| lost(&error))
    }

    /// A conditional write: whether its condition held, and it is done.
    async fn applied(&self, statement: &Statement, values: impl SerializeRow) -> Result<bool, StoreError> {
        let result = self.execute(statement, values).await;
        applied(result.map_err(|error| lost(&error))?)
    }

    /// The statement as it is hedged.
    fn hedged(&self, statement: &Statement) -> Statement {
        let mut hedged = statement.clone();
        hedged.0.set_execution_profile_handle(Some(self.0.hedged.clone()));
        hedged
    }

    /// The batch as it is hedged.
    fn hedge(&self, batch: &mut Batch) {
        batch.set_is_idempotent(true);
        batch.set_execution_profile_handle(Some(self.0.hedged.clone()));
    }

    /// Several writes to one partition as one: applied whole on a replica, or not at all.
    async fn batch(&self, batch: Batch, values: Vec<Values>) -> Result<(), StoreError> {
        self.execute_batch(&batch, values).await.map(drop).map_err(|error| lost(&error))
    }

    /// Several writes under conditions to one partition: whether all conditions held, and it is done.
    async fn applied_batch(&self, batch: Batch, values: Vec<Values>) -> Result<bool, StoreError> {
        let result = self.execute_batch(&batch, values).await;
        applied(result.map_err(|error| lost(&error))?)
    }
}

impl fmt::Debug for Scylla {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scylla").field("config", &self.0.config).finish_non_exhaustive()
    }
}

fn applied(result: QueryResult) -> Result<bool, StoreError> {
    let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
    let Applied(applied) = rows.first_row().map_err(|error| unreadable(&error))?;
    Ok(applied)
}

/// Whether conditions, which hold within one data centre, could be asked of two.
fn has_several_centres(replication: &BTreeMap<String, String>) -> bool {
    let is_network = replication.get("class").is_some_and(|class| class.ends_with("NetworkTopologyStrategy"));
    is_network && replication.len() > 2
}

fn unreadable(error: &(impl fmt::Display + ?Sized)) -> StoreError {
    StoreError::Read { why: error.to_string() }
}

/// What a statement is executed with.
type Values = Vec<Option<CqlValue>>;

/// The column `[applied]`, found by its name: which others stand beside it differs between the servers.
struct Applied(bool);

impl<'frame, 'metadata> DeserializeRow<'frame, 'metadata> for Applied {
    fn type_check(_: &[ColumnSpec<'_>]) -> Result<(), TypeCheckError> {
        Ok(())
    }

    fn deserialize(row: ColumnIterator<'frame, 'metadata>) -> Result<Self, DeserializationError> {
        for column in row {
            let column = column?;
            if column.spec.name() == "[applied]" {
                let applied = column.slice.is_some_and(|value| value.as_slice() == [1]);
                return Ok(Self(applied));
            }
        }
        Ok(Self(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_in_two_data_centres_is_seen() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            has_several_centres(&pairs.collect())
        };
        let network = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        assert!(!of(&[network, ("a", "3")]));
        assert!(of(&[network, ("a", "3"), ("b", "3")]));
        assert!(!of(&[("class", "SimpleStrategy"), ("replication_factor", "1")]));
    }
}
