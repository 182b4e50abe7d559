//! The limits of offline, each with a name.

use std::time::Duration;

/// Messages pushed to a device and not acknowledged; then the store is not read for it.
pub const WINDOW_MESSAGES: u64 = 256;
/// Bytes pushed to a device and not acknowledged.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Frames numbered and sent at once.
pub const PUSH_BATCH: usize = 64;
/// Entries kept in memory for a user.
pub const CACHE: usize = 1_024;
/// Entries read from the store at once.
pub const PAGE: usize = 256;
/// After taking over nothing is declined for so long: devices are still attaching.
pub const DECLINE_AFTER: Duration = Duration::from_secs(3);
/// Between two tellings of watermarks that were not taken: longer than their source takes to write them.
pub const WATERMARKS_EVERY: Duration = Duration::from_secs(3);
/// How long an answer of identity about a number's epoch is believed.
pub const EPOCH_LIFE: Duration = Duration::from_secs(30);
/// How long identity may take.
pub const EPOCH_WITHIN: Duration = Duration::from_secs(2);
/// Entries of a page of `List`.
pub const LIST_MOST: u32 = 500;
/// Entries of a page of `List` that asked for no number.
pub const LIST_DEFAULT: u32 = 100;
/// Watermarks that follow each other faster than this go together.
pub const WATERMARKS_COALESCE: Duration = Duration::from_millis(200);
/// An ack of so many messages is written at once: a device that catches up is not held up.
pub const ACKS_AT_ONCE: u64 = 64;
/// Conversations of which it is kept how far they were read: each is a mark for ever, and clients name them.
pub const READ_CONVERSATIONS: usize = 10_000;
/// Conversations whose reads wait for acks to be on disk; more are forgotten.
pub const READS_WAITING: usize = 256;
