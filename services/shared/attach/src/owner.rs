//! The owner's end: who is attached here, what was sent to whom, and whether it got there.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_proto::bus::v1 as bus;
use dialtone_proto::edge::v1::ServerFrame;
use dialtone_vocab::{DeviceId, Epoch, UnixMillis};

use crate::{LOST_AFTER, SessionKey};

/// A session as its owner sees it, with the room's own state `T`.
#[derive(Debug)]
pub struct Attached<T> {
    /// Which attach of the session this is.
    pub generation: u32,
    /// The device within the user.
    pub device: DeviceId,
    /// When the stream was opened at the gateway: of two streams of a device the newer wins.
    pub opened: UnixMillis,
    /// What the room keeps about it.
    pub state: T,
    /// By a clock that nobody sets: on the wall's, a step would make everybody seem gone.
    heard: Duration,
    sent: u64,
    sent_at_beat: u64,
    received_at_beat: u64,
}

impl<T> Attached<T> {
    /// Numbers frames for this session; they must be sent, in this order.
    pub fn number(&mut self, epoch: Epoch, frames: Vec<ServerFrame>) -> bus::Frames {
        let first = self.sent + 1;
        self.sent += frames.len() as u64;
        bus::Frames { generation: self.generation, epoch: epoch.0, first, frames }
    }
}

/// What an attach came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is served from now on; an older generation of the session was forgotten.
    New,
    /// The same or a newer generation is here already: nothing changed.
    Stale,
}

/// What a beat says about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatOutcome {
    /// Everything sent has arrived.
    Level,
    /// Something is under way; the next beat will tell.
    Behind,
    /// Something was lost: answer `Reattach` with this generation.
    Lost {
        /// The generation that lost something.
        generation: u32,
    },
    /// The session is not known here: answer `Reattach` with this generation.
    Unknown {
        /// The generation that the gateway believes in.
        generation: u32,
    },
}

/// The sessions attached here: of a user, or of a shard.
#[derive(Debug)]
pub struct Attachments<T> {
    sessions: BTreeMap<SessionKey, Attached<T>>,
}

impl<T> Default for Attachments<T> {
    fn default() -> Self {
        Self { sessions: BTreeMap::new() }
    }
}

impl<T> Attachments<T> {
    /// Takes an attach; `state` is dropped if it is stale.
    pub fn attach(&mut self, key: SessionKey, attach: &bus::Attach, now: Duration, state: T) -> Joined {
        if self.sessions.get(&key).is_some_and(|known| known.generation >= attach.generation) {
            return Joined::Stale;
        }
        let attached = Attached {
            generation: attach.generation,
            device: DeviceId(attach.device),
            opened: UnixMillis(attach.opened_ms),
            state,
            heard: now,
            sent: 0,
            sent_at_beat: 0,
            received_at_beat: 0,
        };
        self.sessions.insert(key, attached);
        Joined::New
    }

    /// Takes a beat of one session.
    pub fn beat(&mut self, key: &SessionKey, beat: &bus::SessionBeat, now: Duration) -> BeatOutcome {
        let unknown = BeatOutcome::Unknown { generation: beat.generation };
        let Some(session) = self.sessions.get_mut(key) else { return unknown };
        if beat.generation > session.generation {
            return unknown;
        }
        session.heard = now;
        if beat.generation < session.generation {
            return BeatOutcome::Behind;
        }
        let lost = beat.received < session.sent_at_beat && beat.received == session.received_at_beat;
        session.received_at_beat = beat.received;
        session.sent_at_beat = session.sent;
        match (lost, beat.received >= session.sent) {
            (true, _) => BeatOutcome::Lost { generation: session.generation },
            (false, true) => BeatOutcome::Level,
            (false, false) => BeatOutcome::Behind,
        }
    }

    /// Forgets a session.
    pub fn detach(&mut self, key: &SessionKey) -> Option<Attached<T>> {
        self.sessions.remove(key)
    }

    /// Forgets the sessions that were not heard for [`LOST_AFTER`], and says which.
    pub fn expire(&mut self, now: Duration) -> Vec<(SessionKey, Attached<T>)> {
        self.sessions.extract_if(.., |_, session| now.saturating_sub(session.heard) >= LOST_AFTER).collect()
    }

    /// A session by its key.
    pub fn get_mut(&mut self, key: &SessionKey) -> Option<&mut Attached<T>> {
        self.sessions.get_mut(key)
    }

    /// All sessions, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, &Attached<T>)> {
        self.sessions.iter()
    }

    /// All sessions, by key, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&SessionKey, &mut Attached<T>)> {
        self.sessions.iter_mut()
    }

    /// The sessions of the same device that are older than `opened`: the newer stream closes them.
    pub fn older(&self, device: DeviceId, opened: UnixMillis, than: &SessionKey) -> Vec<SessionKey> {
        let older = |(key, session): &(&SessionKey, &Attached<T>)| {
            *key != than && session.device == device && (session.opened, *key) < (opened, than)
        };
        self.sessions.iter().filter(older).map(|(key, _)| key.clone()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nobody is attached.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
