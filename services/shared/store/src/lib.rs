//! Durable rows for the services: tables of byte keys and values, one writer per database.
//!
//! ```text
//!   actors ── commit(batch) ──► queue ──► writer ──► conditions, maxima ──► engine: one batch, one fsync
//!      │  ▲                                  │                                  ▲
//!      │  └──────────── answers to all ◄─────┘                                  │
//!      └───── get, scan ────────────────────────────────────────────────────────┘
//! ```
//!
//! While one fsync runs, commits queue; the next group takes all of them. An answer means that the rows are on disk.
//! A write that fails leaves nobody knowing what is on disk, so the database then refuses everything until the
//! process starts again and looks.
//!
//! Three engines hold the rows. Two are embedded: a folder ([`StoreUrl::Folder`], fjall underneath, values with a checksum, a lock
//! against a second process), and a disk of memory that outlives its databases ([`MemoryDisk`]), with which tests
//! crash processes at any moment. They have one process at a time, and every opening is a new [epoch](Db::epoch). The
//! third is a CQL server ([`scylla`]), which many processes share: each commit is a request of its own, and one whose
//! outcome is [unknown](StoreError::Unknown) poisons nothing. (A fourth, [`replicas`], simulates that server for tests.)

mod batch;
mod db;
mod embedded;
mod engine;
mod error;
mod file;
pub mod limits;
mod manifest;
mod memory;
mod meta;
mod metrics;
mod plan;
#[doc(hidden)]
pub mod replicas;
pub mod scylla;
mod table;
mod url;
mod writer;

pub use batch::{Batch, Commit};
pub use db::{Db, Rows, Schema};
pub use error::StoreError;
pub use memory::MemoryDisk;
pub use metrics::Stats;
pub use table::Table;
pub use url::StoreUrl;
