//! A user's presence, pure: what happened and a time go in, effects come out.
//!
//! Two sides in one: *seen*, by the users that subscribed here, and *seeing*, the peers in the tables of the user's own
//! sessions.

mod seen;
mod sessions;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dialtone_attach::{Attachments, SessionKey};
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as ToGateway;
use dialtone_vocab::{Epoch, NodeId, UnixMillis, UserId};

use crate::limits::{
    MAY_SEE_LIFE, MAY_SEE_RETRY, SUBSCRIBE_EVERY, SUBSCRIBE_RETRY, TYPING_LIFE, UPKEEP_EVERY, WATCH_LEASE,
};
use crate::store::Status;
use seen::Seen;
pub(crate) use sessions::Session;
use view::Peer;
pub(crate) use view::{May, View};

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// To the gateway of a session.
    Gateway(SessionKey, ToGateway),
    /// To the owner of a peer.
    Subscribe(bus::PeerSubscribe),
    /// To a watcher's node.
    Update(NodeId, bus::PeerUpdate),
    /// To the owner of a peer: I type to it.
    Typing(bus::PeerTyping),
    /// Contacts is to say what I may see of these.
    AskMaySee(Vec<UserId>),
    /// The store is to keep that the user was there then.
    Seen(UnixMillis),
}

/// What contacts says about a peer; `None`: it could not say.
pub(crate) type Judged = (UserId, Option<May>);

/// A user.
#[derive(Debug)]
pub(crate) struct State {
    user: UserId,
    node: NodeId,
    epoch: Epoch,
    limit: usize,
    sessions: Attachments<Session>,
    seen: Seen,
    peers: BTreeMap<UserId, Peer>,
    /// Peers of whom something else may have to be shown.
    dirty: BTreeSet<UserId>,
    typed: BTreeMap<UserId, UnixMillis>,
    looked: UnixMillis,
    /// Until then sessions may be attached that this process has not heard of yet, of this user and of its peers.
    unsure_until: UnixMillis,
    effects: Vec<Effect>,
}

impl State {
    /// A user of whom only the store knows something; `limit` peers in a table.
    pub(crate) fn new(user: UserId, node: NodeId, row: Status, limit: usize, now: UnixMillis) -> Self {
        Self {
            user,
            node,
            epoch: Epoch(now.0),
            limit,
            sessions: Attachments::default(),
            seen: Seen::new(row, now),
            peers: BTreeMap::new(),
            dirty: BTreeSet::new(),
            typed: BTreeMap::new(),
            looked: now,
            unsure_until: UnixMillis(0),
            effects: Vec::new(),
        }
    }

    /// Users have moved a moment ago: until then, who has no session may be about to attach it.
    pub(crate) fn unsure_until(&mut self, until: UnixMillis) {
        self.unsure_until = until;
    }

    /// What is to be done since this was last asked.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether nothing is going on: no session, no watcher, nothing that will change by itself.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sessions.is_empty() && self.seen.is_quiet()
    }

    /// Whether sessions may be attached, but nothing changes by itself within seconds: no table, no watcher.
    pub(crate) fn is_calm(&self) -> bool {
        self.peers.is_empty() && self.dirty.is_empty() && self.typed.is_empty() && self.seen.is_quiet()
    }

    /// One's own state as others see it.
    pub(crate) fn view(&self, now: UnixMillis) -> View {
        self.seen.view(now)
    }

    /// When the user counts as last seen once it is `invisible` or not: who hides is gone from that moment.
    pub(crate) fn seen_if(&self, invisible: bool, now: UnixMillis) -> UnixMillis {
        if invisible && !self.row().invisible && !self.sessions.is_empty() { now } else { self.row().seen }
    }

    /// What the store keeps.
    fn row(&self) -> &Status {
        self.seen.row()
    }

    /// The store has this now.
    pub(crate) fn set_row(&mut self, row: Status, now: UnixMillis) {
        self.seen.set_row(row);
        self.tell_watchers(now);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: UnixMillis) {
        if !self.sessions.expire(heard(now)).is_empty() {
            self.sessions_changed(now);
        }
        let over = |peer: &Peer| peer.typing_until != UnixMillis(0) && now >= peer.typing_until;
        for (user, peer) in self.peers.iter_mut().filter(|(_, peer)| over(peer)) {
            peer.typing_until = UnixMillis(0);
            self.dirty.insert(*user);
        }
        if let Some(at) = self.seen.tick(now) {
            self.effects.push(Effect::Seen(at));
        }
        self.tell_watchers(now);
        if now.since(self.looked) >= UPKEEP_EVERY {
            self.looked = now;
            self.look_after_peers(now);
            // What was not heard of for too long is shown as offline.
            self.dirty.extend(self.peers.keys());
        }
        self.show(now);
    }

    /// A user's node asks to be told about this one, or no more.
    pub(crate) fn subscribe(&mut self, ask: &bus::PeerSubscribe, now: UnixMillis) {
        let Ok(watcher) = UserId::from_slice(&ask.watcher) else { return };
        if !NodeId::is_valid(&ask.watcher_node) {
            return;
        }
        let node = NodeId::new(&ask.watcher_node);
        let answer = self.seen.subscribe(self.user, watcher, node.clone(), ask.lease_ms, now);
        // Who asks and hears nothing asks again.
        let is_sure = now >= self.unsure_until || !self.sessions.is_empty();
        if let Some(update) = answer.filter(|_| is_sure) {
            self.effects.push(Effect::Update(node, update));
        }
    }

    /// A peer's owner tells about it.
    pub(crate) fn update(&mut self, update: bus::PeerUpdate, now: UnixMillis) {
        let Ok(target) = UserId::from_slice(&update.target) else { return };
        let Some(peer) = self.peers.get_mut(&target) else { return };
        if update.version < peer.version {
            return;
        }
        let said = |word: u32| i32::try_from(word).unwrap_or_default();
        peer.version = update.version;
        peer.heard = now;
        peer.view = Some(View {
            availability: said(update.availability).try_into().unwrap_or_default(),
            status: update.status,
            last_seen: said(update.last_seen).try_into().unwrap_or_default(),
        });
        self.dirty.insert(target);
        self.show(now);
    }

    /// A peer types to this user.
    pub(crate) fn peer_typing(&mut self, typist: UserId, now: UnixMillis) {
        if let Some(peer) = self.peers.get_mut(&typist) {
            peer.typing_until = now.plus(TYPING_LIFE);
            self.dirty.insert(typist);
            self.show(now);
        }
    }

    /// Contacts has answered, or not.
    pub(crate) fn judged(&mut self, judged: &[Judged], now: UnixMillis) {
        for (user, said) in judged {
            let Some(peer) = self.peers.get_mut(user) else { continue };
            let before = peer.may;
            match said {
                Some(may) => (peer.may, peer.may_at) = (*may, now),
                None if now.since(peer.may_at) >= MAY_SEE_LIFE => peer.may = May::Unknown,
                None => {}
            }
            if before != peer.may && !matches!(peer.may, May::See { .. }) {
                peer.view = None;
                peer.typing_until = UnixMillis(0);
                if peer.asked != UnixMillis(0) {
                    peer.asked = UnixMillis(0);
                    self.effects.push(subscription(self.user, &self.node, *user, false));
                }
            }
            self.dirty.insert(*user);
        }
        self.look_after_peers(now);
        self.show(now);
    }

    /// Asks contacts and owners about peers, as far as it is time for it.
    fn look_after_peers(&mut self, now: UnixMillis) {
        let mut ask = Vec::new();
        for (user, peer) in &mut self.peers {
            let old = peer.may == May::Unknown || now.since(peer.may_at) >= MAY_SEE_LIFE - MAY_SEE_RETRY * 2;
            if old && now.since(peer.may_asked) >= MAY_SEE_RETRY {
                peer.may_asked = now;
                ask.push(*user);
            }
            if peer.may != May::Unknown && now.since(peer.may_at) >= MAY_SEE_LIFE {
                // Not known any more: nothing is shown until contacts answers.
                peer.may = May::Unknown;
                self.dirty.insert(*user);
            }
            let wait = if peer.view.is_some() { SUBSCRIBE_EVERY } else { SUBSCRIBE_RETRY };
            if matches!(peer.may, May::See { .. }) && now.since(peer.asked) >= wait {
                peer.asked = now;
                self.effects.push(subscription(self.user, &self.node, *user, true));
            }
        }
        if !ask.is_empty() {
            self.effects.push(Effect::AskMaySee(ask));
        }
    }

    /// The tables have changed: peers come and go.
    fn tables_changed(&mut self, now: UnixMillis) {
        let wanted: BTreeSet<UserId> =
            self.sessions.iter().flat_map(|(_, session)| session.state.peers()).collect();
        for user in &wanted {
            self.peers.entry(*user).or_insert_with(Peer::new);
        }
        for (user, peer) in self.peers.extract_if(.., |user, _| !wanted.contains(user)) {
            self.dirty.remove(&user);
            if peer.asked != UnixMillis(0) {
                self.effects.push(subscription(self.user, &self.node, user, false));
            }
        }
        self.look_after_peers(now);
        self.show(now);
    }

    /// Sessions came, went, or turned active or inactive.
    fn sessions_changed(&mut self, now: UnixMillis) {
        let active = self.sessions.iter().any(|(_, session)| session.state.active);
        if let Some(at) = self.seen.sessions(!self.sessions.is_empty(), active, now) {
            self.effects.push(Effect::Seen(at));
        }
        self.tell_watchers(now);
        self.tables_changed(now);
    }

    fn tell_watchers(&mut self, now: UnixMillis) {
        let updates = self.seen.updates(self.user, now);
        self.effects.extend(updates.into_iter().map(|(node, update)| Effect::Update(node, update)));
    }
}

/// The time that who is attached is measured by. All times of presence are the wall's: when that is set ahead everybody may
/// seem gone until the next beat, and the grace before "offline" is longer than that; set back, whoever is gone seems to be
/// there for as long.
fn heard(now: UnixMillis) -> Duration {
    Duration::from_millis(now.0)
}

fn subscription(me: UserId, node: &NodeId, target: UserId, on: bool) -> Effect {
    Effect::Subscribe(bus::PeerSubscribe {
        target: target.to_vec(),
        watcher: me.to_vec(),
        watcher_node: node.as_str().to_owned(),
        lease_ms: if on { u64::try_from(WATCH_LEASE.as_millis()).unwrap_or(u64::MAX) } else { 0 },
    })
}
