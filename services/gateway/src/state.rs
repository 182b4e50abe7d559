//! One session as a pure state machine: frames of the client and items of the bus go in, frames for the client and
//! items for the owners come out. No I/O, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use dialtone_attach::{Link, Received, SessionKey};
use dialtone_chassis::Error;
use dialtone_chassis::auth::Caller;
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{self as bus, Owner};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::{self as edge, ClientFrame, ServerFrame};
use dialtone_proto::types::v1::{Cursor, UserRef};
use dialtone_vocab::{Reason, UnixMillis, UserId};

use crate::limits::{ATTACH_WITHIN, HELLO_WITHIN, MAX_FRAME_BYTES, MAX_UNANSWERED_SENDS, WATCH_TABLE};
use crate::watch::WatchTable;

/// The owners a session attaches to, in the order of [`Session::links`].
pub(crate) const OWNERS: [Owner; 3] = [Owner::Routing, Owner::Offline, Owner::Presence];

/// What a session wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// For the owner of the user's outbox.
    Routing(bus::routing_item::Item),
    /// For the owner of the user's inbox.
    Offline(bus::offline_item::Item),
    /// For the owner of the user's presence.
    Presence(bus::presence_item::Item),
}

/// How a stream ends.
#[derive(Debug)]
pub(crate) enum End {
    /// After the frames made so far, without an error.
    Clean,
    /// After the frames made so far, with this error.
    Failed(Error),
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// Waiting for `Hello` since then.
    Opened,
    /// Waiting for the owners' answers since then.
    Attaching(UnixMillis),
    /// `Welcome` was told.
    Open,
}

/// One session.
pub(crate) struct Session {
    key: SessionKey,
    caller: Caller,
    opened: UnixMillis,
    phase: Phase,
    links: [Link; 3],
    answers: [Option<bus::Attached>; 2],
    cursors: [Cursor; 2],
    watch: WatchTable,
    client_state: edge::ClientState,
    acked: u64,
    /// How far the device has stored, by Hello or by acks, in the log of the inbox's cursor.
    stored: u64,
    out: VecDeque<ServerFrame>,
    /// What is to be done, in order.
    pub(crate) effects: Vec<Effect>,
    /// Set once: how the stream ends.
    pub(crate) end: Option<End>,
    /// Frames of kinds we do not know, to be counted.
    pub(crate) unknown_frames: u64,
}

const ROUTING: usize = 0;
const OFFLINE: usize = 1;
const PRESENCE: usize = 2;

fn slot(owner: Owner) -> Option<usize> {
    OWNERS.iter().position(|known| *known == owner)
}

impl Session {
    pub(crate) fn new(key: SessionKey, caller: Caller, now: UnixMillis) -> Self {
        Self {
            key,
            caller,
            opened: now,
            phase: Phase::Opened,
            links: Default::default(),
            answers: Default::default(),
            cursors: Default::default(),
            watch: WatchTable::default(),
            client_state: edge::ClientState::Active,
            acked: 0,
            stored: 0,
            out: VecDeque::new(),
            effects: Vec::new(),
            end: None,
            unknown_frames: 0,
        }
    }

    /// How far the device has acknowledged, as far as this stream knows: repeated by beats.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Whose session it is.
    pub(crate) fn user(&self) -> UserId {
        self.caller.user
    }

    /// The link to an owner, by its place in [`OWNERS`].
    pub(crate) fn link(&self, slot: usize) -> &Link {
        &self.links[slot]
    }

    /// Whether the links need no looking after.
    pub(crate) fn is_level(&self) -> bool {
        self.phase == Phase::Open && self.links.iter().all(Link::is_level)
    }

    /// The next frame for the client; none before `Welcome`.
    pub(crate) fn pop(&mut self) -> Option<ServerFrame> {
        let may = self.phase == Phase::Open || self.end.is_some();
        if may { self.out.pop_front() } else { None }
    }

    /// Frames made for the client and not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len()
    }

    /// A frame of the client.
    pub(crate) fn client(&mut self, frame: ClientFrame, now: UnixMillis) {
        let Some(frame) = frame.frame else {
            self.unknown_frames += 1;
            return;
        };
        match (frame, &self.phase) {
            (Up::Hello(hello), Phase::Opened) => self.hello(hello, now),
            (_, Phase::Opened) => {
                self.fail(Error::new(Reason::HelloExpected, "the first frame must be Hello"));
            }
            (Up::Hello(_), _) => {
                self.fail(Error::new(Reason::FieldInvalid, "Hello came twice").with("field", "hello"));
            }
            (Up::Ping(ping), _) => self.pong(ping.nonce, now),
            (frame, _) => self.forward(frame),
        }
    }

    fn hello(&mut self, hello: edge::Hello, now: UnixMillis) {
        let cursors = [hello.outbox.unwrap_or_default(), hello.inbox.unwrap_or_default()];
        if cursors.iter().any(|cursor| !matches!(cursor.log_id.len(), 0 | 16)) {
            return self
                .fail(Error::new(Reason::FieldInvalid, "a log id has 16 bytes").with("field", "log_id"));
        }
        let Ok(state) = edge::ClientState::try_from(hello.client_state) else {
            return self.fail(
                Error::new(Reason::FieldInvalid, "unknown client state").with("field", "client_state"),
            );
        };
        self.stored = cursors[OFFLINE].idx;
        self.cursors = cursors;
        self.client_state = state;
        self.watch.resume(hello.watch_version);
        self.phase = Phase::Attaching(now);
        for slot in [ROUTING, OFFLINE, PRESENCE] {
            self.attach(slot, now);
        }
    }

    /// Begins a new generation of a link.
    fn attach(&mut self, slot: usize, now: UnixMillis) {
        let attach = bus::Attach {
            session: Some(self.key.to_proto()),
            generation: self.links[slot].begin(now),
            user: self.caller.user.to_vec(),
            device: self.caller.device.0,
            number: self.caller.number.to_string(),
            session_id: self.caller.session.to_vec(),
            cursor: self.cursors.get(slot).cloned(),
            acked: if slot == OFFLINE { self.stored } else { 0 },
            client_state: self.client_state.into(),
            watch: (slot == PRESENCE).then(|| self.watch.whole()),
            opened_ms: self.opened.0,
        };
        self.effects.push(match slot {
            ROUTING => Effect::Routing(bus::routing_item::Item::Attach(attach)),
            OFFLINE => Effect::Offline(bus::offline_item::Item::Attach(attach)),
            _ => Effect::Presence(bus::presence_item::Item::Attach(attach)),
        });
    }

    fn forward(&mut self, frame: Up) {
        let (session, user) = (Some(self.key.to_proto()), self.caller.user.to_vec());
        let device = self.caller.device.0;
        let effect = match frame {
            Up::Send(request) => {
                let number = self.caller.number.to_string();
                let send = bus::SessionSend { session, user, device, number, request: Some(request) };
                Effect::Routing(bus::routing_item::Item::Send(send))
            }
            Up::Ack(ack) => {
                self.acked = self.acked.max(ack.idx);
                self.stored = self.stored.max(ack.idx);
                Effect::Offline(bus::offline_item::Item::Ack(bus::SessionAck {
                    session,
                    user,
                    device,
                    idx: ack.idx,
                }))
            }
            Up::Read(edge::Read { conversation, idx }) => {
                let read = bus::SessionRead { session, user, device, conversation, idx };
                Effect::Offline(bus::offline_item::Item::Read(read))
            }
            Up::Watch(watch) => {
                if !self.watch.apply(&watch, WATCH_TABLE) {
                    return self
                        .fail(Error::new(Reason::TooLarge, "too many peers in the interaction table"));
                }
                let watch = Some(watch);
                Effect::Presence(bus::presence_item::Item::Watch(bus::SessionWatch { session, user, watch }))
            }
            Up::Typing(typing) => {
                let to = typing.to.map(|to| to.id).unwrap_or_default();
                Effect::Presence(bus::presence_item::Item::Typing(bus::SessionTyping { session, user, to }))
            }
            Up::State(edge::State { state }) => {
                let Ok(known) = edge::ClientState::try_from(state) else {
                    return self.fail(
                        Error::new(Reason::FieldInvalid, "unknown client state").with("field", "state"),
                    );
                };
                self.client_state = known;
                Effect::Presence(bus::presence_item::Item::State(bus::SessionState { session, user, state }))
            }
            Up::Hello(_) | Up::Ping(_) => return,
        };
        self.effects.push(effect);
    }

    fn pong(&mut self, nonce: u64, now: UnixMillis) {
        self.push(Down::Pong(edge::Pong { nonce, server_time_ms: now.0 }));
    }

    /// An item from an owner.
    pub(crate) fn owner(&mut self, item: bus::GatewayItem, now: UnixMillis) {
        let Some(slot) = slot(item.owner()) else { return };
        match item.item {
            Some(Item::Attached(answer)) => self.attached(slot, answer, now),
            Some(Item::Frames(frames)) => {
                let received = self.links[slot].frames(frames, now);
                self.received(slot, received, now);
            }
            Some(Item::Reattach(ask)) if self.links[slot].is_current(ask.generation) => {
                self.attach(slot, now);
            }
            Some(Item::Close(go_away)) => self.go_away(go_away),
            Some(Item::Reattach(_)) | None => {}
        }
    }

    fn attached(&mut self, slot: usize, answer: bus::Attached, now: UnixMillis) {
        if !self.links[slot].attached(&answer) {
            return;
        }
        if let Some(reason) = Reason::ALL.iter().find(|reason| reason.as_str() == answer.refused) {
            return self.fail(Error::new(*reason, "the session was refused"));
        }
        if let Some(place) = self.answers.get_mut(slot) {
            *place = Some(answer);
        }
        self.welcome(now);
        let early = self.links[slot].release(now);
        self.received(slot, early, now);
    }

    /// `Welcome`, once both logs have answered; frames that came before it stand behind it.
    fn welcome(&mut self, now: UnixMillis) {
        let (Phase::Attaching(_), [Some(routing), Some(offline)]) = (&self.phase, &self.answers) else {
            return;
        };
        let welcome = edge::Welcome {
            session_id: self.caller.session.to_vec(),
            user: Some(UserRef { id: self.caller.user.to_vec() }),
            device: self.caller.device.0,
            last_client_seq: routing.last_client_seq,
            inbox_log_id: offline.log_id.clone(),
            outbox_log_id: routing.log_id.clone(),
            server_time_ms: now.0,
            limits: Some(edge::Limits {
                max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
                max_unanswered_sends: MAX_UNANSWERED_SENDS,
                watch_table: u32::try_from(WATCH_TABLE).unwrap_or(u32::MAX),
            }),
        };
        for (cursor, answer) in self.cursors.iter_mut().zip([routing, offline]) {
            if cursor.log_id.is_empty() {
                cursor.log_id.clone_from(&answer.log_id);
            }
        }
        self.out.push_front(ServerFrame { frame: Some(Down::Welcome(welcome)) });
        self.phase = Phase::Open;
    }

    fn received(&mut self, slot: usize, received: Received, now: UnixMillis) {
        match received {
            Received::Next(frames) => {
                for frame in frames {
                    self.note_cursor(slot, &frame);
                    self.out.push_back(frame);
                }
            }
            Received::AttachAgain => self.attach(slot, now),
            Received::Nothing => {}
        }
    }

    /// How far the client will be once it has the frame: where a new generation begins.
    fn note_cursor(&mut self, slot: usize, frame: &ServerFrame) {
        let idx = match &frame.frame {
            Some(Down::Message(message)) if slot == OFFLINE => message.idx,
            Some(Down::Gone(gone)) if slot == OFFLINE => gone.idx,
            Some(Down::Progress(progress)) if slot == ROUTING => progress.outbox_idx,
            Some(Down::Resync(resync)) if slot == OFFLINE => {
                self.cursors[slot] = resync.inbox.clone().unwrap_or_default();
                // What Hello said was about another log, or about what this one lost.
                self.stored = 0;
                return;
            }
            _ => return,
        };
        self.cursors[slot].idx = self.cursors[slot].idx.max(idx);
    }

    /// Looks after what is overdue.
    pub(crate) fn tick(&mut self, now: UnixMillis) {
        match self.phase {
            Phase::Opened if now.since(self.opened) >= HELLO_WITHIN => {
                self.fail(Error::new(Reason::HelloExpected, "no Hello came in time"));
            }
            Phase::Attaching(since) if now.since(since) >= ATTACH_WITHIN => {
                let missing = if self.answers[ROUTING].is_none() { "routing" } else { "offline" };
                let error = Error::new(Reason::PeerUnavailable, format!("{missing} did not answer"));
                self.fail(error.retry_after(Duration::from_secs(1)));
            }
            _ => {}
        }
        if self.phase != Phase::Opened && self.end.is_none() {
            for slot in [ROUTING, OFFLINE, PRESENCE] {
                if self.links[slot].is_overdue(now) {
                    self.attach(slot, now);
                }
            }
        }
    }

    /// Tells the client to go, and ends the stream.
    pub(crate) fn go_away(&mut self, go_away: edge::GoAway) {
        if self.end.is_some() {
            return;
        }
        self.push(Down::GoAway(go_away));
        self.end = Some(End::Clean);
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        self.end.get_or_insert(End::Failed(error));
    }

    /// What the owners are told when the stream is gone.
    pub(crate) fn detach(&self) -> Vec<Effect> {
        if self.phase == Phase::Opened {
            return Vec::new();
        }
        let detach = || bus::Detach { session: Some(self.key.to_proto()), user: self.caller.user.to_vec() };
        let (session, user, device) =
            (Some(self.key.to_proto()), self.caller.user.to_vec(), self.caller.device.0);
        let ack = bus::SessionAck { session, user, device, idx: self.acked };
        vec![
            // Beats end here: an ack that was lost on the way gets a last chance.
            Effect::Offline(bus::offline_item::Item::Ack(ack)),
            Effect::Routing(bus::routing_item::Item::Detach(detach())),
            Effect::Offline(bus::offline_item::Item::Detach(detach())),
            Effect::Presence(bus::presence_item::Item::Detach(detach())),
        ]
    }

    fn push(&mut self, frame: Down) {
        self.out.push_back(ServerFrame { frame: Some(frame) });
    }
}

#[cfg(test)]
mod tests;
