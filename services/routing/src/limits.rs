//! The limits of routing, each with a name.

use std::time::Duration;

/// Largest body in bytes.
pub const BODY_BYTES: usize = 64 * 1024;
/// Characters of a content type.
pub const CONTENT_TYPE_CHARS: usize = 128;
/// Characters of an SMS text: ten parts in GSM-7.
pub const SMS_CHARS: usize = 1_530;
/// Shortest `fallback_after`.
pub const FALLBACK_MIN: Duration = Duration::from_secs(5);
/// Longest `fallback_after`.
pub const FALLBACK_MAX: Duration = Duration::from_secs(24 * 3_600);
/// After `show_until`: how long until nobody can still be showing the data, whoever owned the inbox meanwhile.
pub const FALLBACK_MARGIN: Duration = Duration::from_secs(4);
/// Sends of a device that are not settled.
pub const UNANSWERED: usize = 256;
/// How long another service may take.
pub const PEER_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer of identity is believed.
pub const RESOLVED_LIFE: Duration = Duration::from_secs(30);
/// Answers of identity kept for one sender.
pub const RESOLVED: usize = 256;
/// Finished messages kept in memory for one sender, so that repeats are answered without reading.
pub const FINISHED: usize = 1_024;
/// Entries read from the store at once.
pub const PAGE: usize = 256;
/// The first pause between two tries to hand an SMS over; it doubles to [`SMS_RETRY_MAX`].
pub const SMS_RETRY: Duration = Duration::from_millis(500);
/// The longest one.
pub const SMS_RETRY_MAX: Duration = Duration::from_secs(10);
/// Conversations whose receipts a session is told when it attaches.
pub const RECEIPTS: usize = 1_000;
/// Between two rests of a busy outbox: marks that others wait for go to disk, a spell ends. Each rest is a write, so not
/// too often; until then sends that follow each other share a due row, and receipts a mark.
pub const REST_EVERY: Duration = Duration::from_secs(1);
/// Entries looked at at once for a session that was away; the rest follows at the next ticks.
pub const FATES_STEP: u64 = 1_024;
/// Outboxes of which the ledger is recounted before it pauses.
pub const RECOUNT_LOGS: usize = 16;
/// Pages of entries that it reads before it pauses.
pub const RECOUNT_PAGES: usize = 8;
/// Its pause between two steps.
pub const RECOUNT_PAUSE: Duration = Duration::from_secs(1);
/// Its pause between two passes over everything.
pub const RECOUNT_REST: Duration = Duration::from_secs(60);
