//! One gapless log: how it is opened, appended to, offered to another, and taken from one.
//!
//! A sender's outbox, a receiver's inbox and the inbound log of the SMS service are all this one thing: an
//! append-only log without gaps, with one writer at a time.
//!
//! ```text
//!                 push                next_write                 write
//!   service ──────────────► Log ────────────────────► Write ─────────────► LogStore ──► Db (one transaction, fsync)
//!      ▲   entries, marks,   ▲                                                 │
//!      │   due rows          └──────────── settled ◄───────────────────────────┘ check: still the owner?
//!      └── tells what is settled, and nothing else
//!
//!   outbox of A                               inbox of B
//!   Source ── Offer{settled, prev, positions} ──► Sink ── Take ──► push ── settled ──┐
//!      ▲                                                                            │
//!      └──────────────── answers (kept, declined, …), or Expected{taken} ◄──────────┘
//! ```
//!
//! # The rules
//!
//! *Ownership.* A log in an embedded database is written by whoever has that open; every opening of the database is a
//! new epoch, on disk before anything is read. A log in a store that processes share is written by the process that has
//! the lease of its owner's shard, under the epoch of the lease. An entry's key has the epoch of its writer, so two
//! owners never write one cell.
//!
//! *Opening.* At each index the row of the highest epoch counts; the log ends before the first index without a row,
//! or whose epoch is lower than that of the one before it. With nothing alive it ends at the tail row, so an index is
//! never used twice. The last write found is written once more under the own epoch before anything is served: a
//! later opening finds it then, whatever became of the first attempt.
//!
//! *Appending.* One write in flight per log; what arrives meanwhile goes into the next one, of at most 64 entries in
//! one bucket of 512. A write whose outcome is unknown is repeated as it was, never replaced. It is *settled* when it
//! is on disk and the owner has seen afterwards that it still is the owner. Only what is settled is told.
//!
//! *Marks* are numbers that only grow, and merge by maximum. They follow from settled entries. All that a bucket
//! moved are on disk no later than the first entry of the next, so marks and the last bucket give the state.
//!
//! *Time.* Entries are kept for a while; their time never goes down along a log, so what is past is always a
//! beginning. Below the lowest live entry everything is expired; above it a hole is an error, and never passed.
//!
//! *Offering.* A log offers its settled entries for one receiver in order, one batch in flight, each with the
//! position before it for the same receiver. The receiver takes each position exactly once, as an entry of its own
//! log, and answers when that entry is settled; what it took, it answers again the same way. If the position before
//! is not the last one it took, it says which one that is, and the source goes back there.
//!
//! *Settling.* The source's mark passes a position only when what follows from its answer is settled in the source's
//! own log. A new owner offers again from the mark and gets the same answers, so nothing happens twice.
//!
//! *Due rows* say which logs have something to do, and when. They are put in the transaction of the entry they are
//! about, or before it. One too many is harmless; one too few is a defect.

mod append;
mod defect;
mod error;
mod keep;
pub mod limits;
mod metrics;
mod open;
mod owner;
mod rows;
mod sink;
mod source;
mod store;
mod writer;

#[doc(hidden)]
pub use defect::Defect;
pub use error::LogError;
pub use rows::{DUE, Due, DueRow, LOG, LogKind, MARK, TABLES, log_id, mark_name};
pub use sink::{Answered, Sink, Step};
pub use source::{Back, Offer, Source};
pub use store::{LogStore, Marks, Opened, Page};
pub use writer::{Entry, Log, Settled, Write};
