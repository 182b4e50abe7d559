//! What can go wrong on the bus.

/// Why a message did not go or was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody listens to the subject.
    #[error("nobody listens")]
    NoResponder,
    /// No answer in time: the outcome is unknown.
    #[error("no answer in time")]
    Timeout,
    /// Larger than the bus carries.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// Too much is waiting for this destination.
    #[error("too much is waiting")]
    Busy,
    /// The bus is closed, or the connection is gone.
    #[error("the bus is closed")]
    Closed,
    /// An answer could not be decoded.
    #[error("an answer could not be decoded")]
    Garbled,
    /// The server is not there, or does not answer: it may later.
    #[error("{0}")]
    Unreachable(String),
    /// The server can't be used.
    #[error("{0}")]
    Connect(String),
}
