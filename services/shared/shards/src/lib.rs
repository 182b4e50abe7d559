//! Who owns which users.
//!
//! ```text
//!   every process ── Heartbeat{node, services} every second ──► everybody
//!   live nodes of a service ── rendezvous hashing ──► node of a shard
//! ```
//!
//! The membership only proposes: where something is written, the store's lease decides (with the embedded store, its
//! file lock). For presence ownership is a hint for a cache. [`lease`] is how processes that share a store will agree
//! on owners: its state machines are here and tested, and no process uses them yet.

mod hive;
pub mod lease;
mod map;
mod membership;

pub use hive::{Busy, Hive, Resident, Rest};
pub use map::rendezvous;
pub use membership::{HEARTBEAT_EVERY, LOST_AFTER, Shards};
