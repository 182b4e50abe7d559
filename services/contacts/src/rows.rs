//! What stands in the tables of contacts.

use prost::Message;

/// The head of a user's book: whatever becomes of the book is decided by replacing it.
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
    /// How often this row was replaced.
    #[prost(uint64, tag = "8")]
    pub(crate) version: u64,
    /// Chunks that were acknowledged: of two words about a number the later chunk's holds.
    #[prost(uint64, tag = "9")]
    pub(crate) chunks: u64,
    /// Numbers that were removed since a whole book came last; their rows are still there.
    #[prost(uint64, tag = "10")]
    pub(crate) removed: u64,
    /// The chunk that was answered and not acknowledged.
    #[prost(message, optional, tag = "11")]
    pub(crate) pending: Option<PendingRow>,
    /// What was decided and may not stand in the other tables yet. Nothing else is decided before.
    #[prost(message, optional, tag = "12")]
    pub(crate) owed: Option<OwedRow>,
    /// Chunks prepared over earlier versions of this row are swept away.
    #[prost(uint64, tag = "13")]
    pub(crate) swept: u64,
    #[prost(message, optional, tag = "14")]
    pub(crate) budget: Option<BudgetRow>,
    /// How often the book was forgotten.
    #[prost(uint64, tag = "15")]
    pub(crate) forgotten: u64,
}

/// Where the numbers of a chunk stand.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ChunkRow {
    /// The version of the book's head over which it was prepared.
    #[prost(uint64, tag = "1")]
    pub(crate) over: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) token: Vec<u8>,
}

/// A chunk that was answered and not acknowledged; its numbers are [`PendingEntry`]s.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PendingRow {
    #[prost(message, required, tag = "1")]
    pub(crate) chunk: ChunkRow,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) base: Vec<u8>,
    /// A keyed hash of the request.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(crate) more: bool,
    /// Numbers that are new in the generation it goes into.
    #[prost(uint64, tag = "5")]
    pub(crate) grown: u64,
    /// Numbers that leave that generation.
    #[prost(uint64, tag = "6")]
    pub(crate) shrunk: u64,
    /// Numbers that were never asked about before.
    #[prost(uint32, tag = "7")]
    pub(crate) fresh: u32,
}

/// What is still to be done.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OwedRow {
    /// The chunk that it is about; none: the book was forgotten.
    #[prost(message, optional, tag = "1")]
    pub(crate) chunk: Option<ChunkRow>,
    /// The generation into which the chunk goes; 0: it was given up, and only counts as asked.
    #[prost(uint64, tag = "2")]
    pub(crate) generation: u64,
    /// See [`BookRow::chunks`].
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
}

/// A number of a chunk.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PendingEntry {
    /// Whose the number is, 16 bytes; empty: no user's.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) user: Vec<u8>,
    /// Of the number's binding; 0: never known to be a user's.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// As the user calls itself; for a repetition's answer.
    #[prost(string, tag = "3")]
    pub(crate) nickname: String,
    /// It was never asked about before.
    #[prost(bool, tag = "4")]
    pub(crate) is_fresh: bool,
    /// It makes somebody a friend who wasn't one.
    #[prost(bool, tag = "5")]
    pub(crate) is_new: bool,
}

/// What a user has asked in this period.
#[derive(Clone, Copy, PartialEq, Message)]
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
