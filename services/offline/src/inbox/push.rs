//! Pushing entries to attached devices, in order, as far as their window reaches.

use std::collections::VecDeque;

use dialtone_attach::SessionKey;
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{Acked, CaughtUp, Resync, ServerFrame};
use dialtone_proto::log::v1::inbox_entry::Entry as Kind;
use dialtone_proto::log::v1::{InboxEntry, InboxMessage, Withdrawal};
use dialtone_proto::offline::v1::{Gone, Message};
use dialtone_proto::types::v1::conversation_ref::With;
use dialtone_proto::types::v1::{ConversationRef, Cursor, UserRef};
use dialtone_vocab::{DeviceId, LogId};
use prost::Message as _;

use super::Resides;
use crate::limits::{PAGE, PUSH_BATCH, WINDOW_BYTES, WINDOW_MESSAGES};
use crate::metrics;

/// A device that reads: what it was pushed, and what of it is not acknowledged.
#[derive(Debug)]
pub(crate) struct Reader {
    cursor: u64,
    began: u64,
    unacked: VecDeque<(u64, usize)>,
    bytes: usize,
    caught_up: Option<u64>,
}

impl Reader {
    /// Begins after a cursor; whether the device must be told that its cursor is not of this log.
    pub(crate) fn begin(cursor: &Cursor, log: LogId, tail: u64) -> (Self, bool) {
        let foreign = !cursor.log_id.is_empty() && cursor.log_id != log.as_bytes();
        let beyond = cursor.idx > tail;
        let at = match (foreign, beyond) {
            (true, _) => 0,
            (false, true) => tail,
            (false, false) => cursor.idx,
        };
        let reader = Self { cursor: at, began: at, unacked: VecDeque::new(), bytes: 0, caught_up: None };
        (reader, foreign || beyond)
    }

    /// What was pushed, or need not be.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    fn acked(&mut self, upto: u64) {
        while let Some((_, bytes)) = self.unacked.pop_front_if(|(idx, _)| *idx <= upto) {
            self.bytes -= bytes;
        }
    }

    fn has_room(&self, acked: u64) -> bool {
        self.cursor.saturating_sub(acked.max(self.began)) < WINDOW_MESSAGES && self.bytes < WINDOW_BYTES
    }
}

/// A message as its receiver sees it. One that a device has acknowledged before may be shown by all for ever.
pub(crate) fn message_of(idx: u64, message: &InboxMessage, delivered: bool) -> Message {
    let by_sms = message.sender.is_empty();
    let with = if by_sms {
        With::Number(message.from_number.clone())
    } else {
        With::User(UserRef { id: message.sender.clone() })
    };
    Message {
        idx,
        conversation: Some(ConversationRef { with: Some(with) }),
        from_number: message.from_number.clone(),
        message_id: message.message_id.clone(),
        body: message.body.clone(),
        sent_ms: message.sent_ms,
        show_until_ms: if delivered { 0 } else { message.show_until_ms },
        by_sms,
    }
}

/// An entry as its receiver sees it.
pub(crate) fn frame_of(idx: u64, entry: &InboxEntry, stubbed: bool, delivered: bool) -> Frame {
    match &entry.entry {
        Some(Kind::Message(message)) if !stubbed => Frame::Message(message_of(idx, message, delivered)),
        Some(Kind::Withdrawn(Withdrawal { of })) => Frame::Gone(Gone { idx, of: *of }),
        Some(Kind::WasDelivered(_)) => Frame::Gone(Gone { idx, of: 0 }),
        _ => Frame::Gone(Gone { idx, of: idx }),
    }
}

impl Resides {
    /// Tells a device where the log stands.
    pub(super) fn resync(&mut self, key: &SessionKey) {
        let (log_id, epoch) = (self.log.id().to_vec(), self.log.epoch());
        let Some(session) = self.attached.get_mut(key) else { return };
        let cursor = Cursor { log_id, idx: session.state.cursor };
        let frame = ServerFrame { frame: Some(Frame::Resync(Resync { inbox: Some(cursor) })) };
        let frames = session.number(epoch, vec![frame]);
        self.to_gateway(key, Item::Frames(frames));
    }

    /// Tells a device that its ack is durable.
    pub(super) fn tell_acked(&mut self, device: DeviceId, idx: u64) {
        let epoch = self.log.epoch();
        let keys: Vec<_> = self
            .attached
            .iter()
            .filter(|(_, session)| session.device == device)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(session) = self.attached.get_mut(&key) else { continue };
            let frame = ServerFrame { frame: Some(Frame::Acked(Acked { idx })) };
            let frames = session.number(epoch, vec![frame]);
            self.to_gateway(&key, Item::Frames(frames));
        }
    }

    /// Pushes what is settled to every device that has room for it.
    pub(super) async fn push(&mut self) {
        let keys: Vec<_> = self.attached.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.push_to(&key).await;
        }
    }

    async fn push_to(&mut self, key: &SessionKey) {
        loop {
            let Some(session) = self.attached.get_mut(key) else { return };
            let acked = self.state.ack_of(session.device);
            session.state.acked(acked);
            let (cursor, caught_up) = (session.state.cursor, session.state.caught_up);
            let tail = self.log.tail();
            let frames = if cursor < tail { self.frames_after(key, acked).await } else { Vec::new() };
            let level = frames.is_empty() && cursor >= tail && caught_up != Some(tail);
            let frames = if level {
                vec![ServerFrame { frame: Some(Frame::CaughtUp(CaughtUp { idx: tail })) }]
            } else {
                frames
            };
            if frames.is_empty() || level && !self.may_tell().await {
                return;
            }
            let epoch = self.log.epoch();
            let Some(session) = self.attached.get_mut(key) else { return };
            if level {
                session.state.caught_up = Some(tail);
            }
            let frames = session.number(epoch, frames);
            self.to_gateway(key, Item::Frames(frames));
        }
    }

    /// The next frames for a device, within its window; its cursor moves with them.
    async fn frames_after(&mut self, key: &SessionKey, acked: u64) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        let mut page = VecDeque::new();
        while frames.len() < PUSH_BATCH {
            let Some(session) = self.attached.get_mut(key) else { break };
            let next = session.state.cursor + 1;
            if next > self.log.tail() || !session.state.has_room(acked) || self.state.is_being_withdrawn(next)
            {
                break;
            }
            let Some((idx, frame, bytes)) = self.frame_at(next, &mut page).await else { break };
            let Some(session) = self.attached.get_mut(key) else { break };
            session.state.cursor = idx;
            session.state.unacked.push_back((idx, bytes));
            session.state.bytes += bytes;
            session.state.caught_up = None;
            metrics::pushed();
            frames.push(ServerFrame { frame: Some(frame) });
        }
        frames
    }

    /// The frame at an index: from memory, or from a page of the store. What is past its time is a stub.
    async fn frame_at(
        &self,
        idx: u64,
        page: &mut VecDeque<(u64, InboxEntry)>,
    ) -> Option<(u64, Frame, usize)> {
        let delivered = idx <= self.state.acked();
        if let Some(entry) = self.state.entry(idx) {
            let frame = frame_of(idx, entry, self.state.is_stubbed(idx), delivered);
            return Some((idx, frame, entry.encoded_len()));
        }
        if page.front().is_none_or(|(first, _)| *first != idx) {
            let read = self.shared.logs.read(self.log.id(), idx, self.log.tail(), PAGE, self.now()).await;
            let read =
                read.inspect_err(|error| tracing::error!(%error, "an inbox could not be read")).ok()?;
            if read.expired_to >= idx {
                return Some((idx, Frame::Gone(Gone { idx, of: idx }), 0));
            }
            let decode =
                |entry: dialtone_log::Entry| Some((entry.idx, InboxEntry::decode(&entry.content[..]).ok()?));
            page.clear();
            page.extend(read.entries.into_iter().filter_map(decode));
        }
        let (at, entry) = page.pop_front()?;
        let frame = frame_of(at, &entry, self.state.is_stubbed(at), delivered);
        Some((at, frame, entry.encoded_len()))
    }
}
