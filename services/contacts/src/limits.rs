//! The limits of contacts, each with a name.

use std::time::Duration;

/// Entries, added and removed together, of one Sync.
pub const SYNC_ENTRIES: usize = 1_000;
/// Numbers of a book.
pub const BOOK_NUMBERS: u64 = 50_000;
/// The period of the budget on numbers never asked before.
pub const BUDGET_PERIOD: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Friends on a page if the caller doesn't say.
pub const PAGE_DEFAULT: usize = 200;
/// Friends on a page at most.
pub const PAGE_MAX: usize = 1_000;
/// Users that a user may block.
pub const BLOCKS: u64 = 10_000;
/// Subjects of one `MaySee`.
pub const MAY_SEE_BATCH: usize = 1_024;
/// Pairs of one `Blocks`.
pub const BLOCKS_BATCH: usize = 1_000;
/// Numbers or users that identity is asked about at once.
pub const DIRECTORY_BATCH: usize = 1_000;
/// How long identity may take to answer.
pub const DIRECTORY_WITHIN: Duration = Duration::from_secs(3);
/// How long a user's book may take to answer its door; the outcome is unknown then.
pub const BOOK_WITHIN: Duration = Duration::from_secs(10);
/// Books that are told at once of a number's new user.
pub const FACT_FAN: usize = 256;
/// Rows that a step of a clean-up takes.
pub const CLEAN_STEP: usize = 1_000;
/// Facts about blocks that are looked at in one round.
pub const FACT_BATCH: usize = 64;
/// How long a fact may take to be taken.
pub const FACT_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries of a fact; doubles to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest pause between tries.
pub const RETRY_MAX: Duration = Duration::from_secs(10);
