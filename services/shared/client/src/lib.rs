//! The Rust client of the public API: registers, logs in, keeps a session open and resumes it.
//!
//! ```text
//!   application ── send, read, watch ──► Session ──► stream to the gateway
//!               ◄── Event ──────────────   │  ▲
//!                                          ▼  │ Outbox: client_seq, repeats, answers   (pure)
//!                                       Journal │ Inbox: each idx once, in order       (pure)
//! ```
//!
//! A send is journalled before it leaves, an entry before it is acknowledged; so a client that dies loses nothing
//! that it told its user and shows nothing twice.

mod api;
mod flows;
mod inbox;
mod journal;
mod outbox;
mod session;
mod stream;

pub use api::{Api, ClientError, Connection};
pub use flows::{CodeOutcome, Credentials, DeviceKey, PendingFlow};
pub use journal::{FileJournal, Journal, Saved, SharedJournal};
pub use outbox::SendId;
pub use session::{Event, Options, Session};

/// Receivers of messages, as [`Session::send`] takes them.
pub mod to {
    use dialtone_proto::types::v1::{Recipient, TypedNumber, UserRef, recipient::To};
    use dialtone_vocab::UserId;

    /// A number as typed; `region` may be empty for `+` forms.
    pub fn number(text: impl Into<String>, region: impl Into<String>) -> Recipient {
        Recipient { to: Some(To::Number(TypedNumber { text: text.into(), region: region.into() })) }
    }

    /// A user known from a match or a conversation.
    pub fn user(user: UserId) -> Recipient {
        Recipient { to: Some(To::User(UserRef { id: user.to_vec() })) }
    }
}

/// A body of plain text.
pub fn text(text: impl Into<String>) -> dialtone_proto::types::v1::Body {
    let content = text.into().into_bytes().into();
    dialtone_proto::types::v1::Body { content, ..Default::default() }
}
