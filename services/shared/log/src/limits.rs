//! How much of what, everywhere in the logs.

use std::time::Duration;

/// Entries of a bucket: the unit in which a log is read at opening and dropped when its time is over. Never changes.
pub const BUCKET: u64 = 512;
/// Rows of a bucket that are read in one query: its entries, its tail, and what owners before wrote again.
pub const BUCKET_ROWS: usize = 2_048;
/// Entries of one write, and so how far the end of a bucket must be read.
pub const WRITE_ENTRIES: usize = 64;
/// Bytes of contents after which a write takes no further entry.
pub const WRITE_BYTES: usize = 4 * 1024 * 1024;
/// Entries that may wait for the writer; see [`crate::Log::is_full`].
pub const QUEUE: usize = 1_024;
/// Lazy marks go along with a write when this many entries were written since they last did.
pub const MARKS_EVERY: u64 = 64;
/// Positions in one offer.
pub const OFFER_ENTRIES: usize = 64;
/// How long an offer waits for its answers the first time; each silence doubles it.
pub const OFFER_RETRY: Duration = Duration::from_millis(500);
/// The longest that an offer waits for its answers.
pub const OFFER_RETRY_MOST: Duration = Duration::from_secs(8);
/// How long entries are kept: inboxes and the logs of groups.
pub const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long entries are kept in outboxes and the inbound log: a decision outlives what it was made from.
pub const KEEP_SOURCE: Duration = Duration::from_secs(31 * 24 * 3600);
/// How much longer a shared store keeps the rows of entries that nobody reads any more.
pub const KEEP_ROWS: Duration = Duration::from_secs(24 * 3600);
/// How long a write to a shared store, whose outcome is unknown, waits the first time until it is repeated.
pub const WRITE_RETRY: Duration = Duration::from_millis(50);
/// The longest that it waits.
pub const WRITE_RETRY_MOST: Duration = Duration::from_secs(1);
/// How often the due rows of what one owns are looked through: an old owner's may have come late.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Shards whose due rows are read at the same time.
pub const WAKE_AT_ONCE: usize = 16;
/// Marks that are written again together when a log of a shared store is opened.
pub const MARKS_AGAIN: usize = 256;
/// Between two sweeps of what is past its time.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Buckets looked at in one sweep.
pub const SWEEP_BUCKETS: usize = 256;
