//! Who owns which users.
//!
//! ```text
//!   every process ── Heartbeat{node, services} every second ──► everybody
//!   live nodes of a service ── rendezvous hashing ──► node of a shard
//! ```
//!
//! The membership only proposes: where something is written, the store decides. With an embedded store, by its file
//! lock; with one that processes share, by [`Leases`], whose rules are the state machines of [`lease`]. For presence
//! ownership is a hint for a cache.

mod hive;
pub mod lease;
mod leases;
mod map;
mod membership;

pub use hive::{Busy, Hive, Resident, Rest};
#[doc(hidden)]
pub use leases::Trial;
pub use leases::{LEASES, Leases, OpenedShards};
pub use map::rendezvous;
pub use membership::{HEARTBEAT_EVERY, LOST_AFTER, MAX_ADDRESS, Shards};
