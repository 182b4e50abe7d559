//! The times of the lease, and what they assume about clocks.

use std::time::Duration;

use dialtone_store::limits::CQL_SECOND;

/// How long a lease lasts on its owner's clock, from the sending of the renewal.
pub const LEASE: Duration = Duration::from_secs(2);
/// How often it is renewed: three renewals in a row may fail.
pub const RENEW_EVERY: Duration = Duration::from_millis(500);
/// How long another's counter must have been unchanged on the listener's clock before its row may be closed.
pub const WAIT: Duration = Duration::from_secs(4);
/// How far a clock's rate may be from the true one, in percent.
pub const CLOCK_RATE_PERCENT: u32 = 10;
/// How long an owner's clock may stand still unseen within one lease, when checks go by the clock.
pub const HIDDEN_PAUSE: Duration = Duration::from_millis(1_400);
/// How long after an unknown outcome or a failed read the next request about the same row goes out.
pub const RETRY: Duration = Duration::from_millis(250);
/// How often the row of a shard is read again that somebody alive holds: hearing that it was given back is faster.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often [`super::Event::Tick`] is wanted.
pub const TICK_EVERY: Duration = Duration::from_millis(100);
/// How long one request to the store may take until its outcome counts as unknown.
pub const ASKED_WITHIN: Duration = Duration::from_millis(1_500);
/// The same of one about the own row: a lease has room for a second try.
pub const RENEWED_WITHIN: Duration = Duration::from_millis(600);
/// Requests about shards that are under way at the same time, at most.
pub const ASKED_AT_ONCE: usize = 32;
/// How many at first: one more with each fast answer.
pub const ASKED_AT_FIRST: usize = 4;
/// An answer that takes this long is slow: half as many requests are under way then. Far below [`LEASE`], so that
/// renewals, which ask the same store, are in time; and below what a second server waits for: a store that has all it can do
/// is not asked twice.
pub const SLOW_ANSWER: Duration = Duration::from_millis(200);
/// How long a process that has just come listens to who is there before it wants shards, and how often it looks again.
pub const SETTLE_IN: Duration = Duration::from_secs(2);
/// How long what is being written is given to end before shards are given back.
pub const DRAIN: Duration = Duration::from_millis(300);
/// How long a process that leaves tries to give back its shards.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// An incarnation not heard of for this long, and not waited for, is forgotten.
pub const FORGET: Duration = Duration::from_secs(60);

/// The longest lease by the slowest clock that also stood still ends before the shortest wait by the fastest one.
const _: () = {
    let lease = LEASE.as_micros() * 100 / (100 - CLOCK_RATE_PERCENT as u128);
    let wait = WAIT.as_micros() * 100 / (100 + CLOCK_RATE_PERCENT as u128);
    assert!(lease + HIDDEN_PAUSE.as_micros() <= wait);
};

/// When the server that was asked first stands still, the second has as long as the first had; and a lease has room for
/// two such tries.
const _: () = {
    assert!(RENEWED_WITHIN.as_millis() >= 2 * CQL_SECOND.as_millis());
    assert!(2 * RENEWED_WITHIN.as_millis() + RETRY.as_millis() < LEASE.as_millis());
    assert!(SLOW_ANSWER.as_millis() < CQL_SECOND.as_millis());
};
