//! The sessions of this gateway: where items from the bus find them, and what their beats say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dialtone_chassis::auth::Caller;
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{GatewayItem, SessionBeat};
use dialtone_vocab::UserId;
use tokio::sync::mpsc;

use crate::limits::{BEAT_PARTS, SESSION_MAILBOX};

/// How far a session is at each owner, as its beats say: written by the stream, read by the beat.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    owners: [(AtomicU64, AtomicU64); 3],
    acked: AtomicU64,
}

impl Progress {
    /// Notes generation and received frames at an owner.
    pub(crate) fn note(&self, slot: usize, beat: &SessionBeat) {
        self.owners[slot].0.store(u64::from(beat.generation), Ordering::Relaxed);
        self.owners[slot].1.store(beat.received, Ordering::Relaxed);
    }

    /// Notes how far the device has acknowledged.
    pub(crate) fn note_ack(&self, acked: u64) {
        self.acked.store(acked, Ordering::Relaxed);
    }

    fn beat(&self, slot: usize, ticket: u64, caller: &Caller) -> Option<SessionBeat> {
        let generation = u32::try_from(self.owners[slot].0.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let received = self.owners[slot].1.load(Ordering::Relaxed);
        (generation > 0).then(|| SessionBeat {
            ticket,
            generation,
            received,
            user: caller.user.to_vec(),
            acked: self.acked.load(Ordering::Relaxed),
            device: caller.device.0,
        })
    }
}

#[derive(Clone)]
struct Entry {
    caller: Caller,
    mailbox: mpsc::Sender<GatewayItem>,
    progress: Arc<Progress>,
}

/// The part of a second in which a session is beaten, and its ticket: the sessions of a part are a range.
type Key = (u64, u64);

fn key(ticket: u64) -> Key {
    (ticket % u64::from(BEAT_PARTS), ticket)
}

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry {
    most: usize,
    sessions: Arc<RwLock<BTreeMap<Key, Entry>>>,
    last: Arc<AtomicU64>,
}

/// What a new stream gets.
pub(crate) struct Registered {
    pub(crate) ticket: u64,
    pub(crate) mailbox: mpsc::Receiver<GatewayItem>,
    pub(crate) progress: Arc<Progress>,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It waits for the stream.
    Yes,
    /// The stream is gone: nothing waits for it.
    Gone,
    /// The stream is too slow: the item is dropped, and its number will be missed.
    Full,
}

impl Registry {
    /// For at most so many sessions, with tickets from behind `last`: a number that was drawn. A process that was killed may
    /// have used those from 1 on under the same name, and owners may still speak of them: close them, above all.
    pub(crate) fn new(most: usize, last: u64) -> Self {
        Self { most, sessions: Arc::default(), last: Arc::new(AtomicU64::new(last)) }
    }

    /// Adds a session; `None` when there are too many.
    pub(crate) fn add(&self, caller: Caller) -> Option<Registered> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= self.most {
            return None;
        }
        let ticket = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, mailbox) = mpsc::channel(SESSION_MAILBOX);
        let progress = Arc::new(Progress::default());
        sessions.insert(key(ticket), Entry { caller, mailbox: sender, progress: progress.clone() });
        Some(Registered { ticket, mailbox, progress })
    }

    /// Forgets a session.
    pub(crate) fn remove(&self, ticket: u64) {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).remove(&key(ticket));
    }

    /// Hands items to their sessions. One that is told to go is forgotten, whether its stream is read or not: there
    /// are no more beats of it, and its mailbox ends behind what it was handed.
    pub(crate) fn hand(&self, items: Vec<GatewayItem>, outcome: impl FnMut(Handed)) {
        let is_close = |item: &&GatewayItem| matches!(item.item, Some(Item::Close(_)));
        let closed: Vec<u64> = items.iter().filter(is_close).map(|item| item.ticket).collect();
        self.pass(items, outcome);
        closed.into_iter().for_each(|ticket| self.remove(ticket));
    }

    fn pass(&self, items: Vec<GatewayItem>, mut outcome: impl FnMut(Handed)) {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            outcome(match sessions.get(&key(item.ticket)).map(|entry| entry.mailbox.try_send(item)) {
                Some(Ok(())) => Handed::Yes,
                Some(Err(mpsc::error::TrySendError::Full(_))) => Handed::Full,
                Some(Err(mpsc::error::TrySendError::Closed(_))) | None => Handed::Gone,
            });
        }
    }

    /// The beats of a part of the sessions at an owner, by user.
    pub(crate) fn beats(&self, slot: usize, part: u32) -> Vec<(UserId, SessionBeat)> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let beat = |((_, ticket), entry): (&Key, &Entry)| {
            let user = entry.caller.user;
            entry.progress.beat(slot, *ticket, &entry.caller).map(|beat| (user, beat))
        };
        let part = u64::from(part);
        sessions.range((part, 0)..(part + 1, 0)).filter_map(beat).collect()
    }

    /// The tickets of the sessions for which `which` holds.
    pub(crate) fn tickets(&self, which: impl Fn(&Caller) -> bool) -> Vec<u64> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().filter(|(_, entry)| which(&entry.caller)).map(|((_, ticket), _)| *ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use dialtone_vocab::{DeviceId, PhoneNumber, SessionId, UnixMillis};

    use super::*;

    fn caller() -> Caller {
        Caller {
            user: UserId::new([1; 16]),
            device: DeviceId(1),
            session: SessionId::new([2; 16]),
            number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
            expires: UnixMillis(0),
        }
    }

    fn item(ticket: u64) -> GatewayItem {
        GatewayItem { ticket, ..Default::default() }
    }

    #[test]
    fn items_find_their_session_until_it_is_full_or_gone() {
        let registry = Registry::new(9, 0);
        let mut one = registry.add(caller()).expect("room");
        let mut outcomes = Vec::new();
        registry.hand(vec![item(one.ticket), item(99)], |outcome| outcomes.push(outcome));
        assert_eq!(outcomes, [Handed::Yes, Handed::Gone]);
        assert_eq!(one.mailbox.try_recv().map(|item| item.ticket), Ok(one.ticket));
        outcomes.clear();
        registry.hand(vec![item(one.ticket); SESSION_MAILBOX + 1], |outcome| outcomes.push(outcome));
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Handed::Full).count(), 1);
        registry.remove(one.ticket);
        assert!(registry.tickets(|_| true).is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_again_when_one_has_gone() {
        let registry = Registry::new(2, 0);
        let one = registry.add(caller()).expect("room");
        let two = registry.add(caller()).expect("room");
        assert!(registry.add(caller()).is_none());
        registry.remove(one.ticket);
        let three = registry.add(caller()).expect("room again");
        assert!(three.ticket > two.ticket, "tickets are never used again");
    }

    #[test]
    fn a_session_that_never_attached_has_no_beat() {
        let registry = Registry::new(9, 0);
        let one = registry.add(caller()).expect("room");
        let beats = |slot| (0..BEAT_PARTS).flat_map(|part| registry.beats(slot, part)).collect::<Vec<_>>();
        assert!(beats(0).is_empty());
        one.progress.note(0, &SessionBeat { generation: 2, received: 5, ..Default::default() });
        let told = beats(0);
        assert_eq!((told[0].1.ticket, told[0].1.generation, told[0].1.received), (one.ticket, 2, 5));
        assert!(told.len() == 1 && beats(1).is_empty());
    }

    #[test]
    fn every_session_is_beaten_in_one_part_and_parts_are_of_a_size() {
        let registry = Registry::new(99, 0);
        let opened: Vec<_> = (0..25).map(|_| registry.add(caller()).expect("room")).collect();
        for one in &opened {
            one.progress.note(1, &SessionBeat { generation: 1, ..Default::default() });
        }
        let parts: Vec<_> = (0..BEAT_PARTS).map(|part| registry.beats(1, part)).collect();
        assert!(parts.iter().all(|beats| matches!(beats.len(), 2 | 3)));
        let mut beaten: Vec<_> = parts.iter().flatten().map(|(_, beat)| beat.ticket).collect();
        beaten.sort_unstable();
        assert!(beaten.into_iter().eq(opened.iter().map(|one| one.ticket)));
    }
}
