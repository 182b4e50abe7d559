//! The gateway's limits, each with a name.

use std::time::Duration;

/// Longest client frame in bytes.
pub const MAX_FRAME_BYTES: usize = 128 * 1024;
/// Largest unary request in bytes.
pub const MAX_UNARY_BYTES: usize = 1024 * 1024;
/// Items from the bus that wait for a session; one more is dropped, and its stream repairs itself.
pub const SESSION_MAILBOX: usize = 256;
/// Frames made for a client that it has not taken yet; while there are more, its bus items wait.
pub const SESSION_OUT: usize = 512;
/// How long a stream may stay without its `Hello`.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long owners may take to answer the first attach.
pub const ATTACH_WITHIN: Duration = Duration::from_secs(5);
/// How often a session that is not level looks at its links.
pub const REPAIR_EVERY: Duration = Duration::from_millis(100);
/// Sends of a device that may be unanswered; the outbox refuses more.
pub const MAX_UNANSWERED_SENDS: u32 = 256;
/// Peers in an interaction table.
pub const WATCH_TABLE: usize = 64;
/// Sessions named in one beat item.
pub const BEAT_CHUNK: usize = 1_000;
/// Parts in which the beats of a second go out: owners are not struck all at once.
pub const BEAT_PARTS: u32 = 10;
/// Streams of one process.
pub const MAX_SESSIONS: usize = 100_000;
/// Ended sessions that are remembered, so that their tokens open nothing here any more; one more forgets the oldest.
pub const ENDED_SESSIONS: usize = 100_000;
/// How long an ended session is remembered: an access token lives 15 minutes, on another clock.
pub const ENDED_KEPT: Duration = Duration::from_secs(20 * 60);
/// What `GoAway` tells clients to wait at least and, on top, at random.
pub const RECONNECT_AFTER: Duration = Duration::from_millis(200);
/// The random part.
pub const RECONNECT_JITTER: Duration = Duration::from_millis(800);
