//! The limits of identity, each with a name.

use std::time::Duration;

/// How long a registration or one-time password stays open.
pub const FLOW_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long a code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(5 * 60);
/// Wrong codes of a registration.
pub const REGISTRATION_TRIES: u32 = 5;
/// Wrong codes of a login.
pub const LOGIN_TRIES: u32 = 3;
/// Pauses between two SMS to a number; the last one repeats.
pub const SMS_PAUSES: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(3_600)];
/// SMS with codes to a number within a day.
pub const SMS_PER_DAY: u32 = 10;
/// After this long without SMS the pauses begin anew.
pub const SMS_FORGET: Duration = Duration::from_secs(24 * 3_600);
/// An access token's life.
pub const ACCESS_LIFE: Duration = Duration::from_secs(15 * 60);
/// A refresh token's life.
pub const REFRESH_LIFE: Duration = Duration::from_secs(60 * 24 * 3_600);
/// How long the refresh token before the present one still works: its answer may have been lost.
pub const REFRESH_GRACE: Duration = Duration::from_secs(60);
/// A login nonce's life.
pub const NONCE_LIFE: Duration = Duration::from_secs(60);
/// Devices of a user.
pub const DEVICES: u32 = 64;
/// Sessions that a user is told of.
pub const SESSIONS_LISTED: usize = 64;
/// Rows of a user: themselves, their devices, and one to see that there are no more.
pub const ACCOUNT_ROWS: usize = 66;
/// Rows read at the same time for one question.
pub const READS_AT_ONCE: usize = 32;
/// Characters of a nickname or device name.
pub const NAME_CHARS: usize = 64;
/// Numbers or users of one internal question.
pub const RESOLVE_BATCH: usize = 1_000;
/// How often a compare-and-set is tried before the caller is told to come back.
pub const CAS_TRIES: usize = 8;
/// After the first failed compare-and-set the next try waits up to this long; doubles each time.
pub const CAS_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
pub const CAS_PAUSE_MOST: Duration = Duration::from_millis(500);
/// How long the SMS service may take to take a code.
pub const SMS_WITHIN: Duration = Duration::from_secs(2);
/// How often a code is handed to the SMS service.
pub const SMS_TRIES: usize = 5;
/// Between two tries of a fact or a code; doubles to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest pause between tries.
pub const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long contacts may take to take a fact: it tells every book that holds the number first.
pub const FACT_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks for facts that another process left, on average; at most twice that.
pub const FACT_LOOK: Duration = Duration::from_secs(10);
/// Parts of the facts, each told for itself: what is not taken holds up the others of its own part only.
pub const FACT_LOTS: u8 = 64;
/// Facts of a lot read at once.
pub const FACT_BATCH: usize = 64;
/// How long after it was put down a fact may still come to pass.
pub const FACT_PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// How long a user may take to own their number.
pub const USER_PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// Until when the sweep asks whether they do.
pub const USER_LOOKED_AT: Duration = Duration::from_secs(8 * 24 * 3_600);
/// How often a watcher looks at its flow: another process may have changed it.
pub const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Changes of flows that a watcher may miss before it looks at the row itself.
pub const FLOW_EVENTS: usize = 1_024;
/// Between two sweeps of what has expired.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Rows of a table looked at in one step of a sweep.
pub const SWEEP_ROWS: usize = 1_024;
/// Steps of one sweep in a table.
pub const SWEEP_STEPS: usize = 16;
/// Rows that are dropped at the same time.
pub const SWEEP_AT_ONCE: usize = 16;
