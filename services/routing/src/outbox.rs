//! The actor of one outbox: owns the log, the attachments and the offers; the rules are in `state` and `decide`.

mod answers;
mod send;
mod sms;
mod tell;

pub(crate) use send::conversation;
use tell::Listener;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dialtone_attach::{Attachments, SessionKey};
use dialtone_bus::{Bus, Fan};
use dialtone_chassis::{Chassis, Error};
use dialtone_log::{Due, DueRow, Log, LogError, LogStore, Write};
use dialtone_proto::bus::v1::{self as bus, ToGateway, ToOffline, ToSms};
use dialtone_proto::log::v1::OutboxEntry;
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::routing::v1::{Accepted, RevokeResponse, SendRequest};
use dialtone_shards::{Hive, Resident, Rest, Shards};
use dialtone_vocab::{DeviceId, NodeId, PhoneNumber, UnixMillis, UserId};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::decide::Receiver;
use crate::limits::{PAGE, REST_EVERY};
use crate::peers::Peers;
use crate::state::{Next, Outbox, about};

/// Who sends.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) device: DeviceId,
    pub(crate) number: PhoneNumber,
}

/// Who waits for an answer to a send.
pub(crate) enum Asker {
    Session(SessionKey),
    Call(oneshot::Sender<Result<Accepted, Error>>),
}

/// What happens to an outbox.
pub(crate) enum Message {
    Attach(bus::Attach),
    Detach(SessionKey),
    Beat(SessionKey, bus::SessionBeat),
    Send(Sender, Box<SendRequest>, Asker),
    Revoke(u64, oneshot::Sender<Result<RevokeResponse, Error>>),
    Answers(bus::OfferAnswers),
    Watermarks(bus::Watermarks),
    SmsResult(bus::SmsResult),
    /// A write of this opening has come back; false if nobody knows what became of it.
    Wrote(u64, Write, bool),
    /// The SMS service took a message, or refused it for this reason.
    SmsTaken(u64, u64, String),
    /// The log has something to do: look at it.
    Wake(DueRow),
}

/// What all outboxes of a process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) chassis: Chassis,
    pub(crate) logs: LogStore,
    pub(crate) shards: Shards,
    pub(crate) bus: Bus,
    pub(crate) peers: Peers,
    pub(crate) gateways: Fan<ToGateway>,
    pub(crate) offline: Fan<ToOffline>,
    pub(crate) sms: Fan<ToSms>,
    pub(crate) config: Config,
    pub(crate) sabotage: crate::Sabotage,
    /// Set once, right after the hive of these residents was made.
    pub(crate) hive: Arc<OnceLock<Hive<Resides>>>,
}

/// What identity said about a receiver, and when.
#[derive(Debug, Clone, Copy)]
struct Resolved {
    receiver: Receiver,
    at: UnixMillis,
}

/// Whoever waits until something is settled.
#[derive(Default)]
struct Waiting {
    accepted: BTreeMap<u64, Vec<Asker>>,
    revoked: BTreeMap<u64, Vec<oneshot::Sender<Result<RevokeResponse, Error>>>>,
    sms_results: BTreeMap<u64, (NodeId, bus::SmsResultTaken)>,
    /// By receiver: the newest says it all.
    watermarks: BTreeMap<UserId, (NodeId, bus::WatermarksTaken)>,
}

/// The due row's kind: offers or SMS are not settled. One row per busy spell.
const DUE_BUSY: Due = Due { at: UnixMillis(0), idx: 0, kind: 1 };

/// The resident of one user.
pub(crate) struct Resides {
    shared: Shared,
    user: UserId,
    /// Tells answers to this opening's writes from those of another.
    opening: u64,
    log: Log,
    state: Outbox,
    attached: Attachments<Listener>,
    resolved: BTreeMap<String, Resolved>,
    waiting: Waiting,
    busy: bool,
    rested: UnixMillis,
}

impl Resident for Resides {
    type Message = Message;
    type Shared = Shared;

    async fn open(shared: &Shared, user: UserId) -> Option<Self> {
        let opened = match shared.logs.open(user.as_bytes(), shared.chassis.clock.now()).await {
            Ok(opened) => opened,
            // Whoever sent what asked for it sends it again, to the owner then.
            Err(LogError::NotOwner) => return None,
            Err(error) => {
                tracing::error!(%error, "an outbox could not be opened");
                return None;
            }
        };
        let mut resides = Self {
            shared: shared.clone(),
            user,
            opening: shared.chassis.rng.u64(),
            state: Outbox::of_marks(&opened.marks),
            log: opened.log,
            attached: Attachments::default(),
            resolved: BTreeMap::new(),
            waiting: Waiting::default(),
            busy: false,
            rested: UnixMillis(0),
        };
        let first = opened.entries.first().map_or(resides.log.tail() + 1, |entry| entry.idx);
        let floor = opened.marks.get("floor").clamp(1, first);
        let next = resides.restore(floor, first, &opened.entries).await?;
        resides.state.finished_below(opened.marks.get("floor"));
        for (device, seq) in resides.state.last_seqs() {
            resides.log.mark(dialtone_log::mark_name("seq/", &device.0.to_be_bytes()), seq);
        }
        for next in next {
            if let Next::Submit(idx) = next {
                resides.submit(idx);
            }
        }
        resides.go_on();
        Some(resides)
    }

    fn is_current(&self) -> bool {
        self.shared.logs.owns(&self.log)
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Attach(attach) => self.attach(&attach).await,
            Message::Detach(key) => drop(self.attached.detach(&key)),
            Message::Beat(key, beat) => self.beat(&key, &beat),
            Message::Send(sender, request, asker) => self.send(sender, *request, asker).await,
            Message::Revoke(idx, answer) => self.revoke(idx, answer).await,
            Message::Answers(answers) => self.answers(answers).await,
            Message::Watermarks(watermarks) => self.watermarks(&watermarks),
            Message::SmsResult(result) => self.sms_result(result),
            Message::Wrote(opening, write, done) if opening == self.opening => self.wrote(&write, done),
            Message::SmsTaken(opening, idx, refused) if opening == self.opening => {
                self.sms_taken(idx, refused);
            }
            Message::Wrote(..) | Message::SmsTaken(..) => {}
            // A row that stands: it goes at the end of this busy spell.
            Message::Wake(found) => {
                self.busy = true;
                self.log.adopt(found);
            }
        }
        self.go_on();
    }

    async fn tick(&mut self) -> Rest {
        let now = self.now();
        self.attached.expire(self.boot());
        for idx in self.state.fallbacks(now) {
            self.withdraw(idx, dialtone_proto::log::v1::withdraw::Why::Fallback);
        }
        self.go_on();
        self.rest();
        let telling = self.tell_more_fates().await;
        match !self.busy && !telling && self.is_level() {
            true if self.attached.is_empty() => Rest::MayLeave,
            true => Rest::Calm,
            false => Rest::Restless,
        }
    }
}

impl Resides {
    /// The time that who is attached is measured by.
    fn boot(&self) -> Duration {
        self.shared.chassis.clock.boot()
    }

    fn now(&self) -> UnixMillis {
        self.shared.chassis.clock.now()
    }

    /// Rebuilds the state from everything since the floor; what is still to be handed to the SMS service.
    async fn restore(
        &mut self,
        floor: u64,
        first: u64,
        entries: &[dialtone_log::Entry],
    ) -> Option<Vec<Next>> {
        let (mut next, mut old) = (Vec::new(), BTreeSet::new());
        let mut one = |state: &mut Outbox, idx: u64, entry: &OutboxEntry| {
            next.extend(state.restore(idx, entry));
            old.extend(state.is_unanswered(idx, entry));
        };
        self.each(floor, first - 1, &mut one).await.ok()?;
        for entry in entries {
            if let Ok(decoded) = OutboxEntry::decode(&entry.content[..]) {
                one(&mut self.state, entry.idx, &decoded);
            }
        }
        for of in old {
            self.recall(of).await.ok()?;
        }
        self.state.restored();
        Some(next)
    }

    /// Reads a message that is no longer in memory back, with what stands behind it.
    async fn recall(&mut self, of: u64) -> Result<(), LogError> {
        let tail = self.log.tail();
        self.each(of, tail, &mut |state, idx, entry| {
            if about(idx, entry) == Some(of) {
                state.recall(idx, entry);
            }
        })
        .await
    }

    /// Reads entries from the store, a page at a time.
    async fn each(
        &mut self,
        mut from: u64,
        upto: u64,
        look: &mut (impl FnMut(&mut Outbox, u64, &OutboxEntry) + Send),
    ) -> Result<(), LogError> {
        while from <= upto {
            let page = self.shared.logs.read(self.log.id(), from, upto, PAGE, self.now()).await;
            let page = page.inspect_err(|error| tracing::error!(%error, "an outbox could not be read"))?;
            for entry in &page.entries {
                if let Ok(decoded) = OutboxEntry::decode(&entry.content[..]) {
                    look(&mut self.state, entry.idx, &decoded);
                }
            }
            from = page.next(from);
        }
        Ok(())
    }

    /// Appends an entry; its index.
    fn append(&mut self, entry: Kind) -> u64 {
        let entry = OutboxEntry { entry: Some(entry) };
        let idx = self.log.push(1, entry.encode_to_vec());
        self.state.pushed(idx, &entry);
        idx
    }

    /// Whatever can be done now: offers, and the next write.
    fn go_on(&mut self) {
        self.offer();
        let floor = self.state.floor();
        if floor > 0 {
            self.log.mark("floor", floor);
        }
        if !self.busy && !self.is_level() {
            self.busy = true;
            self.log.due(DUE_BUSY);
        }
        self.kick();
    }

    fn is_level(&self) -> bool {
        self.state.is_level() && self.log.is_idle()
    }

    /// The end of a busy spell. A row too many is harmless, so it stays for a while, and the marks that are told only
    /// when they are on disk go together.
    fn rest(&mut self) {
        let now = self.now();
        if now.since(self.rested) < REST_EVERY {
            return;
        }
        if !self.waiting.watermarks.is_empty() {
            self.rested = now;
            self.log.flush_marks();
        } else if self.busy && self.is_level() {
            self.rested = now;
            self.busy = false;
            // The marks go along: whoever comes next, or only counts, finds how far the answers were settled.
            self.log.flush_marks();
            self.log.due_done(DUE_BUSY);
        }
        self.kick();
    }

    /// Starts the next write, if there is something and none is under way.
    fn kick(&mut self) {
        let Some(write) = self.log.next_write(self.now()) else { return };
        let (hive, user, opening) = (self.shared.hive.clone(), self.user, self.opening);
        self.shared.logs.submit(write, move |write, outcome| {
            if let Err(error) = &outcome {
                tracing::error!(%error, "an outbox could not be written");
            }
            if let Some(hive) = hive.get() {
                hive.send_own(user, Message::Wrote(opening, write, outcome.is_ok()));
            }
        });
    }

    /// Settled: told, offered, submitted. A failed write is never settled: an embedded store refuses everything then, and
    /// the process begins anew; in a shared one the log is not ours any more, and this resident goes.
    fn wrote(&mut self, write: &Write, done: bool) {
        if !done {
            return;
        }
        let settled = self.log.settled(write);
        for entry in &settled.entries {
            let Ok(decoded) = OutboxEntry::decode(&entry.content[..]) else { continue };
            for next in self.state.settle(entry.idx, &decoded) {
                self.follow(next);
            }
            if let Some((node, taken)) = self.waiting.sms_results.remove(&entry.idx) {
                self.tell_sms(&node, taken);
            }
        }
        for (name, value) in &settled.marks {
            if let Some(receiver) =
                name.strip_prefix(b"settled/").and_then(|bytes| UserId::from_slice(bytes).ok())
                && let Some(source) = self.state.sources.get_mut(&receiver)
            {
                source.mark_written(*value);
            }
        }
        self.watermarks_written(&settled.marks);
    }

    /// Does what follows from a settled entry.
    fn follow(&mut self, next: Next) {
        match next {
            Next::Accepted(idx) => self.accepted(idx),
            Next::Submit(idx) => self.submit(idx),
            Next::Fate { of, idx, kind, reason } => self.fate(of, idx, kind, reason),
            Next::Settled { receiver, upto } => {
                self.log.mark(dialtone_log::mark_name("settled/", receiver.as_bytes()), upto);
            }
            Next::Revocation(of) => self.answer_revocation(of),
        }
    }
}
