//! What the store takes at once.

use std::time::Duration;

/// Commits that wait for the writer; more wait in their callers.
pub const QUEUE: usize = 16_384;
/// Commits that share one fsync.
pub const GROUP_BATCHES: usize = 2_048;
/// Bytes of rows after which a group takes no further commit.
pub const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Longest key, in bytes.
pub const KEY_BYTES: usize = 1_024;
/// Rows (puts, deletes, maxima and conditions) of one commit.
pub const BATCH_ROWS: usize = 8_192;
/// Bytes of keys and values of one commit.
pub const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Rows of one page of [`crate::Db::all`].
pub const PAGE_ROWS: usize = 512;
/// Rows that one step of [`crate::Db::delete_range`] drops.
pub const DELETE_STEP: usize = 1_024;
/// After the process was told to stop: how long without a commit until the writer ends.
pub const STOP_IDLE: Duration = Duration::from_millis(200);
/// Numbers that merge by maximum whose present value a writer remembers; at more it forgets them all and reads again.
pub const MAXIMA: usize = 65_536;
/// Under load group commits begin no faster than this: a sync costs the same for one batch as for a hundred.
pub const PACE: Duration = Duration::from_millis(2);
/// How long a CQL server may take to accept a connection.
pub const CQL_CONNECT: Duration = Duration::from_secs(5);
/// How long one request to a CQL server may take, with the driver's own retries, until its outcome counts as unknown.
pub const CQL_REQUEST: Duration = Duration::from_secs(2);
/// How long a CQL server waits for the replicas that it asked for a row until it asks another.
pub const CQL_OTHER: Duration = Duration::from_millis(50);
/// How long a read, or a hedged write, waits for one CQL server at least until a second is asked as well.
pub const CQL_SECOND: Duration = Duration::from_millis(300);
/// How often a CQL server is asked whether it is alive, on every connection; the driver warns of a second or less.
pub const CQL_ALIVE_EVERY: Duration = Duration::from_millis(1_100);
/// How long it may owe the answer to that; then the connection is closed, and others are asked until there is a new one.
pub const CQL_SILENCE: Duration = Duration::from_millis(1_500);
/// How long making a keyspace or a table may take.
pub const CQL_SCHEMA: Duration = Duration::from_secs(30);
/// How often a table is tried to be made by servers that have not heard of its keyspace, every half second.
pub const SCHEMA_TRIES: u32 = 60;
/// Statements of one room that are prepared at the same time.
pub const CQL_PREPARING: usize = 16;
/// How long whoever migrates the schema keeps others from it, also if it dies.
pub const MIGRATION_LOCK: Duration = Duration::from_secs(120);
/// How often a process asks whether it may migrate, every half second.
pub const MIGRATION_TRIES: u32 = 300;
/// The longest time that a CQL server keeps what is to expire, in seconds: 20 years.
pub const CQL_TTL_MOST: i32 = 630_720_000;
/// How long a CQL server remembers what was deleted from a table whose rows come and go.
pub const CQL_FORGET: Duration = Duration::from_secs(3_600);
