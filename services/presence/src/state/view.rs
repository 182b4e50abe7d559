//! What is said about a user, and what a watcher knows of a peer.

use dialtone_proto::presence::v1::{Availability, LastSeen, PeerState};
use dialtone_proto::types::v1::UserRef;
use dialtone_vocab::{UnixMillis, UserId};

use crate::limits::{MONTH, PEER_LIFE, RECENTLY, WEEK};

/// What is said about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) availability: Availability,
    pub(crate) status: String,
    pub(crate) last_seen: LastSeen,
}

impl View {
    /// What is said about somebody of whom nothing is known or may be said.
    pub(crate) fn nothing() -> Self {
        Self { availability: Availability::Offline, status: String::new(), last_seen: LastSeen::Unspecified }
    }

    pub(crate) fn of(self, user: UserId, typing: bool) -> PeerState {
        PeerState {
            user: Some(UserRef { id: user.to_vec() }),
            availability: self.availability.into(),
            status: self.status,
            typing,
            last_seen: self.last_seen.into(),
        }
    }
}

/// When somebody was last seen, coarsely; `seen` 0: never.
pub(crate) fn last_seen(seen: UnixMillis, now: UnixMillis) -> LastSeen {
    match now.since(seen) {
        _ if seen == UnixMillis(0) => LastSeen::Unspecified,
        age if age < RECENTLY => LastSeen::Recently,
        age if age < WEEK => LastSeen::Week,
        age if age < MONTH => LastSeen::Month,
        _ => LastSeen::LongAgo,
    }
}

/// What contacts said about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// Not said yet: nothing is shown.
    Unknown,
    /// Its presence may be shown, and its typing.
    See { typing: bool },
    /// It blocks me.
    Nothing,
}

/// A peer in the table of one of my sessions.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) may: May,
    /// When contacts answered.
    pub(crate) may_at: UnixMillis,
    /// When contacts was asked; zero: never.
    pub(crate) may_asked: UnixMillis,
    /// When its owner was asked; zero: never.
    pub(crate) asked: UnixMillis,
    /// When its owner last said something.
    pub(crate) heard: UnixMillis,
    pub(crate) version: u64,
    pub(crate) view: Option<View>,
    pub(crate) typing_until: UnixMillis,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            may: May::Unknown,
            may_at: UnixMillis(0),
            may_asked: UnixMillis(0),
            asked: UnixMillis(0),
            heard: UnixMillis(0),
            version: 0,
            view: None,
            typing_until: UnixMillis(0),
        }
    }

    /// Whether a snapshot need not wait for it.
    pub(crate) fn is_known(&self) -> bool {
        match self.may {
            May::Unknown => false,
            May::Nothing => true,
            May::See { .. } => self.view.is_some(),
        }
    }

    /// What is shown of it now, and whether it types.
    pub(crate) fn shown(&self, now: UnixMillis) -> (View, bool) {
        let typing = self.may == May::See { typing: true } && now < self.typing_until;
        match &self.view {
            Some(view) if matches!(self.may, May::See { .. }) && now.since(self.heard) < PEER_LIFE => {
                (view.clone(), typing)
            }
            _ => (View::nothing(), false),
        }
    }
}
