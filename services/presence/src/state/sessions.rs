//! The user's own sessions: what comes from their phones, and what is shown there.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_attach::{BeatOutcome, Joined, SessionKey};
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as ToGateway;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{ClientState, Contact, Presence, ServerFrame, Watch};
use dialtone_proto::presence::v1::PeerState;
use dialtone_vocab::{Reason, UnixMillis, UserId};

use super::view::{Peer, View};
use super::{Effect, State, heard};
use crate::limits::{SESSIONS, SNAPSHOT_WAIT, TYPING_EVERY, TYPING_PEERS, UPDATE_EVERY};
use crate::metrics;

/// What a session was told of a peer.
#[derive(Debug)]
struct Told {
    view: View,
    typing: bool,
    at: UnixMillis,
}

/// A session and its interaction table.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The app is in front.
    pub(super) active: bool,
    version: u64,
    table: BTreeSet<UserId>,
    told: BTreeMap<UserId, Told>,
    /// Since when a snapshot is owed.
    owed: Option<UnixMillis>,
}

fn is_active(state: i32) -> bool {
    state != i32::from(ClientState::Inactive)
}

impl Session {
    pub(super) fn peers(&self) -> impl Iterator<Item = UserId> {
        self.table.iter().copied()
    }

    /// Applies a change of the table; false if it would be too large, and then nothing is changed.
    fn apply(&mut self, watch: &Watch, me: UserId, limit: usize, now: UnixMillis) -> bool {
        let id = |peer: &dialtone_proto::types::v1::UserRef| UserId::from_slice(&peer.id).ok();
        let mut table = if watch.is_replace { BTreeSet::new() } else { self.table.clone() };
        table.extend(watch.replace.iter().chain(&watch.add).filter_map(id).filter(|peer| *peer != me));
        for peer in watch.remove.iter().filter_map(id) {
            table.remove(&peer);
        }
        if table.len() > limit {
            return false;
        }
        self.table = table;
        self.version = watch.version;
        self.told.clear();
        self.owed.get_or_insert(now);
        true
    }

    /// The whole table, when all of it is known or enough was waited.
    fn snapshot(
        &mut self,
        peers: &BTreeMap<UserId, Peer>,
        unsure_until: UnixMillis,
        now: UnixMillis,
    ) -> Option<Presence> {
        let owed = self.owed?.max(unsure_until);
        let known = |user| peers.get(user).is_some_and(Peer::is_known);
        if now.since(owed) < SNAPSHOT_WAIT && !self.table.iter().all(known) {
            return None;
        }
        self.owed = None;
        let table = self.table.clone();
        let changes = table.iter().filter_map(|user| self.note(*user, peers.get(user)?, now)).collect();
        Some(Presence { version: self.version, snapshot: true, changes })
    }

    /// What changed of a peer; `None`: nothing.
    fn note(&mut self, user: UserId, peer: &Peer, now: UnixMillis) -> Option<PeerState> {
        let (view, typing) = peer.shown(now);
        if self.told.get(&user).is_some_and(|told| told.view == view && told.typing == typing) {
            return None;
        }
        self.told.insert(user, Told { view: view.clone(), typing, at: now });
        Some(view.of(user, typing))
    }

    /// Whether a peer may be spoken of again.
    fn is_due(&self, user: UserId, now: UnixMillis) -> bool {
        self.told.get(&user).is_none_or(|told| now.since(told.at) >= UPDATE_EVERY)
    }
}

impl State {
    /// A session attaches.
    pub(crate) fn attach(&mut self, key: SessionKey, attach: &bus::Attach, now: UnixMillis) {
        let answer = |refused: &str| {
            ToGateway::Attached(bus::Attached {
                generation: attach.generation,
                epoch: self.epoch.0,
                refused: refused.to_owned(),
                ..Default::default()
            })
        };
        let known = self.sessions.get_mut(&key).is_some();
        if !known && self.sessions.len() >= SESSIONS {
            let refusal = answer(Reason::Busy.as_str());
            return self.effects.push(Effect::Gateway(key, refusal));
        }
        let mut session = Session { active: is_active(attach.client_state), ..Session::default() };
        if let Some(watch) = &attach.watch
            && (watch.version > 0 || !watch.replace.is_empty())
            && !session.apply(watch, self.user, self.limit, now)
        {
            metrics::refused("table");
        }
        let attached = answer("");
        if self.sessions.attach(key.clone(), attach, heard(now), session) == Joined::New {
            self.effects.push(Effect::Gateway(key, attached));
            self.sessions_changed(now);
        }
    }

    /// A session is gone.
    pub(crate) fn detach(&mut self, key: &SessionKey, now: UnixMillis) {
        if self.sessions.detach(key).is_some() {
            self.sessions_changed(now);
        }
    }

    /// A session's gateway says that it is there, and what has arrived.
    pub(crate) fn beat(&mut self, key: &SessionKey, beat: &bus::SessionBeat, now: UnixMillis) {
        match self.sessions.beat(key, beat, heard(now)) {
            BeatOutcome::Level | BeatOutcome::Behind => {}
            BeatOutcome::Lost { generation } | BeatOutcome::Unknown { generation } => {
                self.attach_again(key, generation);
            }
        }
    }

    fn attach_again(&mut self, key: &SessionKey, generation: u32) {
        let item = ToGateway::Reattach(bus::Reattach { generation });
        self.effects.push(Effect::Gateway(key.clone(), item));
    }

    /// A phone changes its table. One that is unknown or has missed a change brings the whole table along by attaching
    /// again.
    pub(crate) fn watch(&mut self, key: &SessionKey, watch: &Watch, now: UnixMillis) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (me, limit, generation) = (self.user, self.limit, session.generation);
        if watch.version < session.state.version {
            return;
        }
        if !watch.is_replace && watch.version > session.state.version + 1 {
            return self.attach_again(key, generation);
        }
        if !session.state.apply(watch, me, limit, now) {
            return metrics::refused("table");
        }
        self.tables_changed(now);
    }

    /// A phone turns active or inactive.
    pub(crate) fn client_state(&mut self, key: &SessionKey, state: i32, now: UnixMillis) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.state.active = is_active(state);
            self.sessions_changed(now);
        }
    }

    /// The user types to a peer. Nothing is said of somebody invisible.
    pub(crate) fn typing(&mut self, key: &SessionKey, to: UserId, now: UnixMillis) {
        self.typed.retain(|_, at| now.since(*at) < TYPING_EVERY);
        let known = self.sessions.get_mut(key).is_some() && !self.row().invisible;
        if !known || to == self.user || self.typed.contains_key(&to) || self.typed.len() >= TYPING_PEERS {
            return;
        }
        self.typed.insert(to, now);
        let typing = bus::PeerTyping { watcher: to.to_vec(), target: self.user.to_vec() };
        self.effects.push(Effect::Typing(typing));
    }

    /// Something became of a contact: every session is told.
    pub(crate) fn contact(&mut self, contact: &Contact) {
        let epoch = self.epoch;
        for (key, session) in self.sessions.iter_mut() {
            let frames = session.number(epoch, vec![frame(Frame::Contact(contact.clone()))]);
            self.effects.push(Effect::Gateway(key.clone(), ToGateway::Frames(frames)));
        }
    }

    /// Shows sessions what is owed to them: snapshots, and of every peer the latest value at most once a second.
    pub(super) fn show(&mut self, now: UnixMillis) {
        let mut later = BTreeSet::new();
        for (key, session) in self.sessions.iter_mut() {
            let presence = if session.state.owed.is_some() {
                session.state.snapshot(&self.peers, self.unsure_until, now)
            } else {
                let dirty: Vec<_> =
                    self.dirty.iter().copied().filter(|user| session.state.table.contains(user)).collect();
                let mut changes = Vec::new();
                for user in dirty {
                    let Some(peer) = self.peers.get(&user) else { continue };
                    if session.state.is_due(user, now) {
                        changes.extend(session.state.note(user, peer, now));
                    } else {
                        later.insert(user);
                    }
                }
                let presence = Presence { version: session.state.version, snapshot: false, changes };
                (!presence.changes.is_empty()).then_some(presence)
            };
            if let Some(presence) = presence {
                let frames = session.number(self.epoch, vec![frame(Frame::Presence(presence))]);
                self.effects.push(Effect::Gateway(key.clone(), ToGateway::Frames(frames)));
            }
        }
        self.dirty = later;
    }
}

fn frame(frame: Frame) -> ServerFrame {
    ServerFrame { frame: Some(frame) }
}
