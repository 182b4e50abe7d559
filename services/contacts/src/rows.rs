//! What stands in the tables of contacts.

use prost::Message;

/// The head of a user's book.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BookRow {
    /// The generation that counts; 0: no book.
    #[prost(uint64, tag = "1")]
    pub(crate) generation: u64,
    /// The generation that is being sent in chunks; 0: none.
    #[prost(uint64, tag = "2")]
    pub(crate) building: u64,
    /// The last generation that was begun.
    #[prost(uint64, tag = "3")]
    pub(crate) last_generation: u64,
    /// The token that the next Sync begins from.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) base: Vec<u8>,
    /// Numbers in `generation`.
    #[prost(uint64, tag = "5")]
    pub(crate) size: u64,
    /// Numbers in `building`.
    #[prost(uint64, tag = "6")]
    pub(crate) building_size: u64,
    /// Generations whose rows are still to be removed.
    #[prost(uint64, repeated, tag = "7")]
    pub(crate) dropping: Vec<u64>,
}

/// A number in a book, and whose it is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContactRow {
    /// 16 bytes; empty: no user's.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) user: Vec<u8>,
    /// Of the number's binding; 0: never known to be a user's.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// The book's owner was told that it is this user's.
    #[prost(bool, tag = "3")]
    pub(crate) told: bool,
}

/// A number of a chunk that was answered and not acknowledged.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PendingEntry {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) hash: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) contact: Option<ContactRow>,
    /// As the user calls itself; for a repetition's answer.
    #[prost(string, tag = "3")]
    pub(crate) nickname: String,
}

/// A chunk that was answered and not acknowledged: what a repetition is answered with, and what an acknowledgement
/// puts into the book.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PendingRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) token: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) base: Vec<u8>,
    /// A keyed hash of the request.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(crate) more: bool,
    #[prost(message, repeated, tag = "5")]
    pub(crate) added: Vec<PendingEntry>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) removed: Vec<Vec<u8>>,
    /// Hashes that were never asked about before.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(crate) fresh: Vec<Vec<u8>>,
}

/// What a user has asked in this period.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BudgetRow {
    #[prost(uint64, tag = "1")]
    pub(crate) from_ms: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) used: u32,
}

/// How many users a user blocks, and how often that changed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlockHead {
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}
