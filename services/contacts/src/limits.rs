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
/// Facts about numbers that are being taken at the same time.
pub const FACTS_AT_ONCE: usize = 16;
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
/// Between two looks for facts that another process left.
pub const FACT_SWEEP: Duration = Duration::from_secs(60);
/// How long back facts are looked for after a start, in hours.
pub const FACT_HOURS: u32 = 31 * 24;
/// Notes of facts of one hour that are looked at in one round.
pub const FACT_SCAN: usize = 1_000;
/// Hours after which whoever noted a fact and did not decide it never will.
pub const FACT_SETTLED_HOURS: u32 = 2;
/// Rows of a chunk at most.
pub const CHUNK_ROWS: usize = 2 * SYNC_ENTRIES;
/// Numbers that are written together: with three rows each below a hundred rows.
pub const STEP_ITEMS: usize = 32;
/// Batches of numbers that are written at the same time.
pub const STEPS_AT_ONCE: usize = 4;
/// Rows that are read at the same time for one request.
pub const READS_AT_ONCE: usize = 64;
/// How often a change is tried that another process was ahead of.
pub const CHANGE_TRIES: usize = 8;
/// Parts into which the books that hold a number are cut.
pub const HOLDER_BUCKETS: u8 = 16;
