//! How a user is seen: availability with grace, and who is told.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_proto::bus::v1::PeerUpdate;
use dialtone_proto::presence::v1::{Availability, LastSeen};
use dialtone_vocab::{NodeId, UnixMillis, UserId};

use super::view::{View, last_seen};
use crate::limits::{OFFLINE_GRACE, SEEN_EVERY, UPDATE_EVERY, WATCHERS};
use crate::store::Status;

#[derive(Debug)]
struct Watcher {
    node: NodeId,
    until: UnixMillis,
}

/// The side of a user that others see.
#[derive(Debug)]
pub(super) struct Seen {
    row: Status,
    /// Without the grace and whether it is invisible.
    attached: bool,
    shown: Availability,
    /// Since when there is no session, while it is not told.
    gone: Option<UnixMillis>,
    watchers: BTreeMap<UserId, Watcher>,
    told: View,
    told_at: UnixMillis,
    version: u64,
}

impl Seen {
    pub(super) fn new(row: Status, now: UnixMillis) -> Self {
        let mut seen = Self {
            row,
            attached: false,
            shown: Availability::Offline,
            gone: None,
            watchers: BTreeMap::new(),
            told: View::nothing(),
            told_at: UnixMillis(0),
            version: now.0,
        };
        seen.told = seen.view(now);
        seen
    }

    pub(super) fn row(&self) -> &Status {
        &self.row
    }

    pub(super) fn set_row(&mut self, row: Status) {
        self.row = row;
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.watchers.is_empty() && self.gone.is_none()
    }

    pub(super) fn view(&self, now: UnixMillis) -> View {
        let availability = if self.row.invisible { Availability::Offline } else { self.shown };
        let last_seen = match availability {
            Availability::Offline => last_seen(self.row.seen, now),
            _ => LastSeen::Unspecified,
        };
        View { availability, status: self.row.text.clone(), last_seen }
    }

    /// Sessions have changed; when the user was there, if the store is to keep that.
    pub(super) fn sessions(&mut self, attached: bool, active: bool, now: UnixMillis) -> Option<UnixMillis> {
        if attached {
            self.gone = None;
            self.shown = if active { Availability::Online } else { Availability::Away };
        } else if self.attached {
            self.gone = Some(now);
        }
        self.attached = attached;
        let noted = now.since(self.row.seen) < SEEN_EVERY;
        (attached && !noted).then(|| self.note_seen(now)).flatten()
    }

    /// An invisible user is not seen.
    fn note_seen(&mut self, at: UnixMillis) -> Option<UnixMillis> {
        if self.row.invisible {
            return None;
        }
        self.row.seen = at;
        Some(at)
    }

    /// Time has passed; when the user was there, if the store is to keep that.
    pub(super) fn tick(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        self.watchers.retain(|_, watcher| now < watcher.until);
        let gone = self.gone.filter(|gone| now.since(*gone) >= OFFLINE_GRACE)?;
        self.gone = None;
        self.shown = Availability::Offline;
        self.note_seen(gone)
    }

    /// Takes a subscription; what it is answered.
    pub(super) fn subscribe(
        &mut self,
        me: UserId,
        watcher: UserId,
        node: NodeId,
        lease_ms: u64,
        now: UnixMillis,
    ) -> Option<PeerUpdate> {
        if lease_ms == 0 {
            self.watchers.remove(&watcher);
            return None;
        }
        if self.watchers.len() >= WATCHERS && !self.watchers.contains_key(&watcher) {
            return None;
        }
        self.watchers.insert(watcher, Watcher { node, until: now.plus(Duration::from_millis(lease_ms)) });
        Some(self.said(me, watcher))
    }

    /// What watchers were told last: a change within the second is for all of them at its end.
    fn said(&self, me: UserId, watcher: UserId) -> PeerUpdate {
        let word = |word: i32| u32::try_from(word).unwrap_or_default();
        PeerUpdate {
            watcher: watcher.to_vec(),
            target: me.to_vec(),
            version: self.version,
            availability: word(self.told.availability.into()),
            status: self.told.status.clone(),
            last_seen: word(self.told.last_seen.into()),
        }
    }

    /// What watchers are to be told now: the latest value, at most once a second.
    pub(super) fn updates(&mut self, me: UserId, now: UnixMillis) -> Vec<(NodeId, PeerUpdate)> {
        let view = self.view(now);
        if view == self.told || now.since(self.told_at) < UPDATE_EVERY {
            return Vec::new();
        }
        self.told = view;
        self.told_at = now;
        // Grows over the lifetimes of owners too, as long as their clocks agree to a millisecond per change.
        self.version = now.0.max(self.version + 1);
        self.watchers.iter().map(|(watcher, at)| (at.node.clone(), self.said(me, *watcher))).collect()
    }
}
