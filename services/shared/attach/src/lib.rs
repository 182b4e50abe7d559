//! Sessions attached to owners, both ends, as pure state machines.
//!
//! ```text
//!   gateway                                   owner (routing, offline, presence)
//!   Link ── Attach{generation} ─────────────► Attachments
//!        ◄── Attached{generation} ────────────
//!        ◄── Frames{generation, first, …} ────  numbered from 1 within a generation
//!        ── Beat{received} every second ─────►  level? behind? lost? unknown?
//!        ◄── Reattach{generation} ────────────  lost or unknown: begin a new generation
//! ```
//!
//! The bus may lose, repeat and reorder. Numbers within a generation make a repeat harmless and a loss visible:
//! at once when a later frame comes, and by the beat when it was the last one. The repair is always the same: a new
//! generation, with the cursor the gateway has passed on, served from the owner's store.

mod link;
mod owner;

use std::time::Duration;

use dialtone_proto::bus::v1 as bus;
use dialtone_vocab::NodeId;

pub use link::{Link, Received};
pub use owner::{Attached, Attachments, BeatOutcome, Joined};

/// How often a gateway tells each owner which sessions it has there.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A session whose gateway was not heard for this long is detached.
pub const LOST_AFTER: Duration = Duration::from_secs(3);
/// An attach that was not answered for this long is sent again.
pub const ATTACH_RETRY: Duration = Duration::from_millis(500);
/// A gap that was not filled for this long is repaired by a new generation.
pub const GAP_PATIENCE: Duration = Duration::from_millis(300);
/// Batches of frames kept while an earlier one is missing; one more begins a new generation.
pub const REORDER_BATCHES: usize = 32;

/// A session at its gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The gateway's node.
    pub gateway: NodeId,
    /// The gateway's own number for the session.
    pub ticket: u64,
}

impl SessionKey {
    /// From the wire; `None` if the gateway's name is not a node name.
    pub fn from_proto(key: &bus::SessionKey) -> Option<Self> {
        NodeId::is_valid(&key.gateway)
            .then(|| Self { gateway: NodeId::new(&key.gateway), ticket: key.ticket })
    }

    /// For the wire.
    pub fn to_proto(&self) -> bus::SessionKey {
        bus::SessionKey { gateway: self.gateway.as_str().to_owned(), ticket: self.ticket }
    }
}

#[cfg(test)]
mod tests;
