//! Telling sessions, inboxes and the SMS service what is settled.

use dialtone_attach::{Attached, BeatOutcome, Joined, SessionKey};
use dialtone_chassis::Error;
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{
    self as bus, GatewayItem, OfflineItem, Owner, SmsItem, offline_item, sms_item,
};
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{Progress, Receipt, Refused, ServerFrame};
use dialtone_proto::log::v1::OutboxEntry;
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::routing::v1::Accepted;
use dialtone_proto::types::v1::{ConversationRef, Fate, FateKind, UserRef, conversation_ref::With};
use dialtone_vocab::{DeviceId, NodeId, UserId};
use prost::Message as _;

use super::{Asker, Resides};
use crate::limits::{FATES_STEP, PAGE, RECEIPTS};
use crate::state::fate;

/// What a session that is attached is still to be told.
#[derive(Debug)]
pub(super) struct Listener {
    /// Fates that were settled while it was away, from this entry on.
    fates_from: Option<u64>,
}

impl Resides {
    pub(super) async fn attach(&mut self, attach: &bus::Attach) {
        let Some(key) = attach.session.as_ref().and_then(SessionKey::from_proto) else { return };
        let cursor = attach.cursor.clone().unwrap_or_default();
        let known = cursor.log_id == self.log.id().as_bytes();
        let listener = Listener { fates_from: known.then_some(cursor.idx.saturating_add(1)) };
        if !self.may_tell().await {
            return;
        }
        if self.attached.attach(key.clone(), attach, self.boot(), listener) == Joined::Stale {
            return;
        }
        let attached = bus::Attached {
            generation: attach.generation,
            epoch: self.log.epoch().0,
            log_id: self.log.id().to_vec(),
            last_client_seq: self.state.last_seq(DeviceId(attach.device)),
            ..bus::Attached::default()
        };
        self.to_gateway(&key, Item::Attached(attached));
        let receivers: Vec<_> = self.state.watermarks.keys().copied().take(RECEIPTS).collect();
        let receipts = receivers.into_iter().map(|receiver| self.receipt(receiver)).collect();
        self.frames_to(&key, receipts);
        self.tell_fates(&key).await;
    }

    /// Tells a session the next of the fates that were settled while it was away: so many entries are looked at now,
    /// and the rest at the next ticks.
    async fn tell_fates(&mut self, key: &SessionKey) {
        let Some(first) = self.attached.get_mut(key).and_then(|session| session.state.fates_from) else {
            return;
        };
        let (mut from, mut frames) = (first, Vec::new());
        while from <= self.log.tail() && from - first < FATES_STEP {
            let page = self.shared.logs.read(self.log.id(), from, self.log.tail(), PAGE, self.now()).await;
            let Ok(page) = page else { break };
            for entry in &page.entries {
                let decoded = OutboxEntry::decode(&entry.content[..]).ok().and_then(|decoded| decoded.entry);
                frames.extend(decoded.and_then(|decoded| fate_of(entry.idx, decoded)));
            }
            from = page.next(from);
        }
        self.frames_to(key, frames);
        let rest = (from <= self.log.tail()).then_some(from);
        if let Some(session) = self.attached.get_mut(key) {
            session.state.fates_from = rest;
        }
    }

    /// Goes on with the fates of those who were away; whether there are more.
    pub(super) async fn tell_more_fates(&mut self) -> bool {
        let behind = |(_, session): &(&SessionKey, &Attached<Listener>)| session.state.fates_from.is_some();
        let keys: Vec<_> = self.attached.iter().filter(behind).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.tell_fates(key).await;
        }
        self.attached.iter().any(|session| behind(&session))
    }

    pub(super) fn beat(&mut self, key: &SessionKey, beat: &bus::SessionBeat) {
        match self.attached.beat(key, beat, self.boot()) {
            BeatOutcome::Level | BeatOutcome::Behind => {}
            BeatOutcome::Lost { generation } | BeatOutcome::Unknown { generation } => {
                self.to_gateway(key, Item::Reattach(bus::Reattach { generation }));
            }
        }
    }

    fn to_gateway(&self, key: &SessionKey, item: Item) {
        let item = GatewayItem { ticket: key.ticket, owner: Owner::Routing.into(), item: Some(item) };
        if let Err(error) = self.shared.gateways.push(&key.gateway, item) {
            // The next beat finds what is missing.
            tracing::debug!(%error, "an item for a gateway was dropped");
        }
    }

    fn frames_to(&mut self, key: &SessionKey, frames: Vec<Frame>) {
        let epoch = self.log.epoch();
        let Some(session) = self.attached.get_mut(key).filter(|_| !frames.is_empty()) else { return };
        let frames = frames.into_iter().map(|frame| ServerFrame { frame: Some(frame) }).collect();
        let frames = session.number(epoch, frames);
        self.to_gateway(key, Item::Frames(frames));
    }

    fn tell_all(&mut self, frame: &Frame) {
        let keys: Vec<_> = self.attached.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.frames_to(&key, vec![frame.clone()]);
        }
    }

    pub(super) fn answer_send(&mut self, asker: Asker, seq: u64, outcome: Result<Accepted, Error>) {
        match (asker, outcome) {
            (Asker::Call(answer), outcome) => {
                let _no_longer_waiting = answer.send(outcome);
            }
            (Asker::Session(key), Ok(accepted)) => self.frames_to(&key, vec![Frame::Accepted(accepted)]),
            (Asker::Session(key), Err(error)) => {
                self.frames_to(&key, vec![Frame::Refused(refused(seq, &error))]);
            }
        }
    }

    pub(super) fn fate(&mut self, of: u64, idx: u64, kind: FateKind, reason: String) {
        let fate = Some(Fate { kind: kind.into(), reason, at_ms: self.now().0 });
        let frame = Frame::Progress(Progress { sent_idx: of, fate, outbox_idx: idx });
        // Whoever still hears of older ones hears of this after them: its cursor must not pass what it was not told.
        let level = |(_, session): &(&SessionKey, &Attached<Listener>)| session.state.fates_from.is_none();
        let keys: Vec<_> = self.attached.iter().filter(level).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.frames_to(&key, vec![frame.clone()]);
        }
    }

    fn receipt(&self, receiver: UserId) -> Frame {
        let marks = self.state.watermarks.get(&receiver).copied().unwrap_or_default();
        let with = With::User(UserRef { id: receiver.to_vec() });
        Frame::Receipt(Receipt {
            conversation: Some(ConversationRef { with: Some(with) }),
            delivered_sent_idx: marks.delivered,
            read_sent_idx: marks.read,
        })
    }

    pub(super) fn tell_receipt(&mut self, receiver: UserId) {
        let receipt = self.receipt(receiver);
        self.tell_all(&receipt);
        let revoked: Vec<_> = self.waiting.revoked.keys().copied().collect();
        for idx in revoked {
            self.answer_revocation(idx);
        }
    }

    pub(super) fn tell_offline(&self, node: &NodeId, taken: bus::WatermarksTaken) {
        let item = OfflineItem { item: Some(offline_item::Item::WatermarksTaken(taken)) };
        if let Err(error) = self.shared.offline.push(node, item) {
            tracing::debug!(%error, "it will be told again");
        }
    }

    pub(super) fn tell_sms(&self, node: &NodeId, taken: bus::SmsResultTaken) {
        let item = SmsItem { item: Some(sms_item::Item::ResultTaken(taken)) };
        if let Err(error) = self.shared.sms.push(node, item) {
            tracing::debug!(%error, "it will be told again");
        }
    }
}

/// A refusal as a frame.
fn refused(seq: u64, error: &Error) -> Refused {
    let expected = error.details.iter().find(|(key, _)| key == "expected_client_seq");
    Refused {
        client_seq: seq,
        reason: error.reason.as_str().to_owned(),
        message: error.message.clone(),
        expected_client_seq: expected.and_then(|(_, value)| value.parse().ok()).unwrap_or(0),
        retry_after_ms: error
            .retry_after
            .map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// The fate that an entry tells, if it tells one.
fn fate_of(idx: u64, entry: Kind) -> Option<Frame> {
    let (of, kind, reason, at_ms) = match entry {
        Kind::Decision(decided) => (decided.of, fate(decided.kind()), decided.reason, decided.at_ms),
        Kind::Sms(refined) => (refined.of, refined.kind(), refined.reason, refined.at_ms),
        Kind::Message(_) | Kind::Withdraw(_) => return None,
    };
    let fate = Some(Fate { kind: kind.into(), reason, at_ms });
    Some(Frame::Progress(Progress { sent_idx: of, fate, outbox_idx: idx }))
}
