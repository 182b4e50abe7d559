//! The words of the house: what a number, a user, a log position is.
//!
//! Pure: no I/O, no clock, no randomness. A word enters here when two services already say it; a helper
//! function never does.

mod ids;
mod number;
mod reason;
mod shard;

pub use ids::{
    ClientSeq, DeviceId, Epoch, LogId, MessageId, NodeId, NumberHash, SessionId, UnixMillis, UserId,
};
pub use number::{MalformedNumber, PhoneNumber};
pub use reason::{GrpcCode, Reason};
pub use shard::{SHARDS, ShardId, shard_of};

/// An identifier arrived with another length than its kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes, got {got}")]
pub struct WrongLength {
    /// Length in bytes that the kind has.
    pub expected: usize,
    /// Length in bytes that came.
    pub got: usize,
}
