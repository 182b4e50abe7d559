//! The tables: brought by the rooms, applied by one process at a time, checked by all.

use std::time::Duration;

use ::scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use ::scylla::statement::unprepared::Statement as Unprepared;
use dialtone_chassis::Chassis;
use dialtone_vocab::SHARDS;

use super::tables::table_name;
use super::{Kind, Scylla, ScyllaConfig, unreached};
use crate::limits::{CQL_FORGET, CQL_OTHER, CQL_SCHEMA, MIGRATION_LOCK, MIGRATION_TRIES, SCHEMA_TRIES};
use crate::{Schema, StoreError, Table};

/// The store's own tables.
const OWN: [(&str, &str); 3] = [
    ("store", "(id text PRIMARY KEY, store_id blob, shards int, used boolean)"),
    ("schema_version", "(service text PRIMARY KEY, version int)"),
    ("schema_lock", "(id text PRIMARY KEY, holder blob)"),
];

/// Between two tries to get the lock, or to make a table.
const RETRY: Duration = Duration::from_millis(500);

impl Scylla {
    /// Makes the keyspace, with so many replicas, and all tables, if they are not there. True if the store is new: then
    /// `complete` makes what belongs to it and says whether that is there, while everybody else who migrates waits. Until
    /// it was, the store is new for whoever comes next.
    ///
    /// # Errors
    /// [`StoreError`]; some tables may be there then, and the same again makes the others.
    pub async fn migrate(
        config: &ScyllaConfig,
        rooms: &[Schema],
        replicas: u32,
        chassis: &Chassis,
        complete: impl FnOnce() -> bool + Send,
    ) -> Result<bool, StoreError> {
        let scylla = Self::connect(config).await?;
        scylla.make_keyspace(replicas).await?;
        for (table, columns) in OWN {
            let made = format!("CREATE TABLE IF NOT EXISTS {} {columns}", scylla.own(table));
            scylla.make_table(&made, chassis).await?;
        }
        scylla.agree().await?;
        let holder = scylla.lock(chassis).await?;
        let migrated = async {
            let is_new = scylla.migrate_locked(rooms, chassis).await?;
            scylla.agree().await?;
            if is_new && complete() {
                scylla.used().await?;
            }
            Ok(is_new)
        };
        let migrated = migrated.await;
        if let Err(error) = scylla.unlock(&holder).await {
            tracing::warn!(%error, "the lock of the schema goes by itself");
        }
        migrated
    }

    async fn used(&self) -> Result<(), StoreError> {
        let used = format!("UPDATE {} SET used = true WHERE id = 'dialtone' IF EXISTS", self.own("store"));
        let used = self.prepare(&used, Kind::Conditional).await?;
        self.applied(&used, ()).await.map(drop)
    }

    /// Removes the keyspace with all that is in it: for tests, each of which has one of its own.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    #[doc(hidden)]
    pub async fn drop_keyspace(&self) -> Result<(), StoreError> {
        self.statement(&format!("DROP KEYSPACE IF EXISTS {}", self.0.config.keyspace)).await
    }

    async fn make_keyspace(&self, replicas: u32) -> Result<(), StoreError> {
        let ScyllaConfig { keyspace, data_center, .. } = &self.0.config;
        let data_center =
            if data_center.is_empty() { self.data_center().await? } else { data_center.clone() };
        // Names can't be bound: both are checked with the settings.
        self.statement(&format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{data_center}': {replicas}}}"
        ))
        .await
    }

    async fn data_center(&self) -> Result<String, StoreError> {
        let local = self.prepare("SELECT data_center FROM system.local", Kind::Read).await?;
        let found: Option<(String,)> = self.row(&local, ()).await?;
        found.map(|(name,)| name).ok_or_else(|| unreached(&"the server names no data centre"))
    }

    async fn lock(&self, chassis: &Chassis) -> Result<[u8; 16], StoreError> {
        let holder = chassis.rng.bytes::<16>();
        let take = format!(
            "INSERT INTO {} (id, holder) VALUES ('migrate', ?) IF NOT EXISTS USING TTL {}",
            self.own("schema_lock"),
            MIGRATION_LOCK.as_secs()
        );
        let take = self.prepare(&take, Kind::Conditional).await?;
        for _ in 0..MIGRATION_TRIES {
            if self.applied(&take, (&holder[..],)).await.unwrap_or(false) {
                return Ok(holder);
            }
            chassis.clock.sleep(RETRY).await;
        }
        Err(unreached(&"another process is migrating the schema, or died of it less than two minutes ago"))
    }

    async fn unlock(&self, holder: &[u8]) -> Result<(), StoreError> {
        let give = format!("DELETE FROM {} WHERE id = 'migrate' IF holder = ?", self.own("schema_lock"));
        let give = self.prepare(&give, Kind::Conditional).await?;
        let _gone_by_itself_soon = self.applied(&give, (holder,)).await?;
        Ok(())
    }

    async fn migrate_locked(&self, rooms: &[Schema], chassis: &Chassis) -> Result<bool, StoreError> {
        let store = self.own("store");
        let make =
            format!("INSERT INTO {store} (id, store_id, shards) VALUES ('dialtone', ?, ?) IF NOT EXISTS");
        let make = self.prepare(&make, Kind::Conditional).await?;
        let _or_is_there = self.applied(&make, (&chassis.rng.bytes::<16>()[..], i32::from(SHARDS))).await?;
        self.store_id().await?;
        let used = format!("SELECT used FROM {store} WHERE id = 'dialtone'");
        let used = self.prepare(&used, Kind::SerialRead).await?;
        let used: Option<(Option<bool>,)> = self.row(&used, ()).await?;
        let is_new = used != Some((Some(true),));
        // Conditional, as all of this table is.
        let versions = self.own("schema_version");
        let begin = format!("INSERT INTO {versions} (service, version) VALUES (?, 0) IF NOT EXISTS");
        let begin = self.prepare(&begin, Kind::Conditional).await?;
        let raise = format!("UPDATE {versions} SET version = ? WHERE service = ? IF EXISTS");
        let raise = self.prepare(&raise, Kind::Conditional).await?;
        for room in rooms {
            let _or_is_there = self.applied(&begin, (room.service,)).await?;
            let found = self.version_of(room.service).await?;
            // There is no step from one version to another yet: rows of an older one would be taken for something else.
            if found != 0 && found != room.version {
                return Err(wrong(room, found));
            }
            for table in room.tables {
                self.make_table(&self.made(room, table), chassis).await?;
            }
            if found < room.version {
                if !self.applied(&raise, (room.version.cast_signed(), room.service)).await? {
                    return Err(wrong(room, found));
                }
                tracing::info!(service = room.service, version = room.version, "schema migrated");
            }
        }
        Ok(is_new)
    }

    /// Makes a table. A server that joined a moment ago may not have heard of its keyspace yet, and the driver not yet of
    /// that server when all were to agree on the keyspace: it is asked again.
    async fn make_table(&self, text: &str, chassis: &Chassis) -> Result<(), StoreError> {
        for _ in 1..SCHEMA_TRIES {
            match self.schema(text).await {
                Err(error) if is_invalid(&error) => {
                    tracing::info!(%error, "a CQL server is to hear of the keyspace yet");
                    chassis.clock.sleep(RETRY).await;
                }
                outcome => return outcome.map_err(|error| unreached(&error)),
            }
        }
        self.statement(text).await
    }

    /// Waits until all servers that are known now have the same schema.
    async fn agree(&self) -> Result<(), StoreError> {
        let session = &self.0.session;
        session.refresh_metadata().await.map_err(|error| unreached(&error))?;
        session.await_schema_agreement().await.map(drop).map_err(|error| unreached(&error))
    }

    async fn statement(&self, text: &str) -> Result<(), StoreError> {
        self.schema(text).await.map_err(|error| unreached(&error))
    }

    /// A statement that can't be prepared, because it makes what others speak of.
    async fn schema(&self, text: &str) -> Result<(), ExecutionError> {
        let mut text = Unprepared::new(text);
        text.set_request_timeout(Some(CQL_SCHEMA));
        text.set_is_idempotent(true);
        self.0.session.query_unpaged(text, ()).await.map(drop)
    }

    async fn version_of(&self, service: &str) -> Result<u32, StoreError> {
        let text = format!("SELECT version FROM {} WHERE service = ?", self.own("schema_version"));
        let found: Option<(i32,)> = match self.prepare(&text, Kind::SerialRead).await {
            Ok(statement) => self.row(&statement, (service,)).await?,
            // Not even the store's own tables are there.
            Err(_) => None,
        };
        Ok(found.map_or(0, |(version,)| version.unsigned_abs()))
    }

    /// Whether the tables of rooms have the meaning that this program knows.
    ///
    /// # Errors
    /// [`StoreError::WrongSchema`] for the first one that has not.
    pub async fn check_schemas(&self, rooms: &[Schema]) -> Result<(), StoreError> {
        for room in rooms {
            self.check_schema(room).await?;
        }
        Ok(())
    }

    pub(super) async fn check_schema(&self, room: &Schema) -> Result<(), StoreError> {
        let found = self.version_of(room.service).await?;
        if found == room.version { Ok(()) } else { Err(wrong(room, found)) }
    }

    /// Every table has the same shape: what is in a value is the room's own business, as with the other engines.
    fn made(&self, room: &Schema, table: &Table) -> String {
        let name = self.own(&table_name(room.service, table.name));
        // A replica that stands still is not known to for ten seconds; by default a read that asked it may wait for
        // longer than anybody waits for the read.
        let made = format!(
            "CREATE TABLE IF NOT EXISTS {name} (p blob, c blob, v blob, PRIMARY KEY (p, c)) \
             WITH speculative_retry = '{}ms'",
            CQL_OTHER.as_millis()
        );
        if table.is_churning() {
            // Deletions are read past until they are forgotten: by default after ten days.
            return format!("{made} AND gc_grace_seconds = {}", CQL_FORGET.as_secs());
        }
        made
    }

    /// Made at random when the store was made.
    pub(crate) async fn store_id(&self) -> Result<[u8; 16], StoreError> {
        let text = format!("SELECT store_id, shards FROM {} WHERE id = 'dialtone'", self.own("store"));
        let found: Option<(Vec<u8>, i32)> =
            self.row(&self.prepare(&text, Kind::SerialRead).await?, ()).await?;
        let corrupt = || StoreError::Corrupt { table: "store".to_owned() };
        let (id, shards) = found.ok_or_else(corrupt)?;
        if shards != i32::from(SHARDS) {
            return Err(StoreError::WrongShards { found: shards.unsigned_abs(), wanted: SHARDS.into() });
        }
        id.try_into().map_err(|_| corrupt())
    }
}

fn is_invalid(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _)))
}

fn wrong(room: &Schema, found: u32) -> StoreError {
    StoreError::WrongSchema { service: room.service.to_owned(), found, wanted: room.version }
}
