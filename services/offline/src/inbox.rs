//! The actor of one inbox: owns the log, the attachments and the pushes; the rules are in `state`.

mod offers;
mod push;

pub(crate) use push::frame_of;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use dialtone_attach::{Attachments, BeatOutcome, Joined, SessionKey};
use dialtone_bus::Fan;
use dialtone_chassis::Chassis;
use dialtone_log::{Due, DueRow, Log, LogError, LogStore, Write};
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{
    self as bus, GatewayItem, OfferAnswer, Owner, RoutingItem, ToGateway, ToRouting, ToSms, routing_item,
};
use dialtone_proto::edge::v1::GoAway;
use dialtone_proto::log::v1::InboxEntry;
use dialtone_shards::{Hive, Resident, Rest, Shards};
use dialtone_vocab::{DeviceId, Epoch, LogId, Reason, UnixMillis, UserId};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::limits::{PAGE, WATERMARKS_COALESCE, WATERMARKS_EVERY};
use crate::metrics;
use crate::peers::{Epochs, NumberEpoch};
use crate::state::{Inbox, Watermark};
use crate::store::Blocks;
use offers::{ReplyTo, proto};
use push::Reader;

/// What happens to an inbox.
pub(crate) enum Message {
    Attach(bus::Attach),
    Detach(SessionKey),
    Beat(SessionKey, bus::SessionBeat),
    Ack(DeviceId, u64),
    Read(UserId, u64),
    Offer(bus::Offer),
    WatermarksTaken(bus::WatermarksTaken),
    /// A write of this opening has come back; false if nobody knows what became of it.
    Wrote(u64, Write, bool),
    /// The log has something to do: look at it.
    Wake(DueRow),
    Cursor(DeviceId, oneshot::Sender<Standing>),
}

/// Where an inbox and a device of it stand.
pub(crate) struct Standing {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) acked: u64,
    pub(crate) acked_by_any: u64,
    pub(crate) tail: u64,
}

/// What all inboxes of a process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) chassis: Chassis,
    pub(crate) logs: LogStore,
    pub(crate) blocks: Blocks,
    pub(crate) shards: Shards,
    pub(crate) epochs: Epochs,
    pub(crate) gateways: Fan<ToGateway>,
    pub(crate) routing: Fan<ToRouting>,
    pub(crate) sms: Fan<ToSms>,
    pub(crate) config: Config,
    pub(crate) sabotage: crate::Sabotage,
    /// Set once, right after the hive of these residents was made.
    pub(crate) hive: std::sync::Arc<std::sync::OnceLock<Hive<Resides>>>,
}

/// The resident of one user.
pub(crate) struct Resides {
    shared: Shared,
    user: UserId,
    /// Tells answers to this opening's writes from those of another.
    opening: u64,
    log: Log,
    state: Inbox,
    attached: Attachments<Reader>,
    replies: BTreeMap<LogId, ReplyTo>,
    epoch: Option<NumberEpoch>,
    told_watermarks: UnixMillis,
    sent_watermarks: BTreeMap<LogId, Watermark>,
    due: Option<Due>,
    /// Devices have acknowledged something that no write has taken along yet.
    acks_wait: bool,
    /// The withdrawals from this index on are known.
    stubs_from: u64,
}

/// The due row's kind: acks whose sources do not know yet.
const DUE_ACKS: u8 = 1;

impl Resident for Resides {
    type Message = Message;
    type Shared = Shared;

    async fn open(shared: &Shared, user: UserId) -> Option<Self> {
        let now = shared.chassis.clock.now();
        let opened = match shared.logs.open(user.as_bytes(), now).await {
            Ok(opened) => opened,
            // Whoever sent what asked for it sends it again, to the owner then.
            Err(LogError::NotOwner) => return None,
            Err(error) => {
                tracing::error!(%error, "an inbox could not be opened");
                return None;
            }
        };
        let state = Inbox::restore(&opened.marks, &opened.entries);
        let mut resides = Self {
            shared: shared.clone(),
            user,
            opening: shared.chassis.rng.u64(),
            stubs_from: state.first_in_memory().unwrap_or(opened.log.tail() + 1),
            state,
            log: opened.log,
            attached: Attachments::default(),
            replies: BTreeMap::new(),
            epoch: None,
            told_watermarks: UnixMillis(0),
            sent_watermarks: BTreeMap::new(),
            due: None,
            acks_wait: false,
        };
        for (source, position) in resides.state.taken() {
            resides.log.mark(dialtone_log::mark_name("taken/", source.as_bytes()), position);
        }
        resides.count_acked().await;
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
            Message::Ack(device, idx) => self.ack(device, idx),
            Message::Read(with, idx) => self.read(with, idx).await,
            Message::Offer(offer) => self.offered(offer).await,
            Message::WatermarksTaken(taken) => self.watermarks_taken(&taken),
            Message::Wrote(opening, write, done) if opening == self.opening => self.wrote(&write, done).await,
            Message::Wrote(..) => {}
            Message::Wake(found) => self.adopt(found),
            Message::Cursor(..) if !self.may_tell().await => {}
            Message::Cursor(device, answer) => {
                let _no_longer_waiting = answer.send(Standing {
                    log: self.log.id(),
                    epoch: self.log.epoch(),
                    acked: self.state.ack_of(device),
                    acked_by_any: self.state.acked(),
                    tail: self.log.tail(),
                });
            }
        }
        self.push().await;
        self.tell_watermarks(false);
        self.kick();
    }

    async fn tick(&mut self) -> Rest {
        for (key, _) in self.attached.expire(self.boot()) {
            tracing::debug!(ticket = key.ticket, "a session's gateway went silent");
        }
        self.write_acks();
        self.tell_watermarks(true);
        self.kick();
        match self.due.is_none() && self.log.is_idle() && self.state.is_level() {
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

    /// Starts the next write, if there is something and none is under way.
    fn kick(&mut self) {
        // In a shared store they would be a write of their own, also beside entries.
        if self.log.is_ready() && !self.shared.logs.is_shared() {
            self.write_acks();
        }
        let Some(write) = self.log.next_write(self.now()) else { return };
        let (hive, user, opening) = (self.shared.hive.clone(), self.user, self.opening);
        self.shared.logs.submit(write, move |write, outcome| {
            if let Err(error) = &outcome {
                tracing::error!(%error, "an inbox could not be written");
            }
            if let Some(hive) = hive.get() {
                hive.send_own(user, Message::Wrote(opening, write, outcome.is_ok()));
            }
        });
    }

    /// Settled: answers, marks, pushes may follow. A failed write is never settled: an embedded store refuses everything
    /// then, and the process begins anew; in a shared one the log is not ours any more, and this resident goes.
    async fn wrote(&mut self, write: &Write, done: bool) {
        if !done {
            return;
        }
        let settled = self.log.settled(write);
        for (name, value) in &settled.marks {
            if let Some(device) = name.strip_prefix(b"ack/") {
                let device = <[u8; 4]>::try_from(device).map(u32::from_be_bytes).unwrap_or_default();
                self.state.acked_by(DeviceId(device), *value);
                self.tell_acked(DeviceId(device), *value);
            }
        }
        self.count_acked().await;
        for (with, idx) in self.state.wanted() {
            self.read(with, idx).await;
        }
        let mut answers: BTreeMap<LogId, Vec<OfferAnswer>> = BTreeMap::new();
        for answered in self.state.settled(self.log.tail(), &settled.entries) {
            let name = dialtone_log::mark_name("taken/", answered.source.as_bytes());
            self.log.mark(name, answered.position);
            metrics::taken(answered.answer);
            answers.entry(answered.source).or_default().push(proto(answered.position, answered.answer));
        }
        if !self.shared.sabotage.offered_before_settled {
            for (source, answers) in answers {
                self.answer(source, answers, None, false);
            }
        }
    }

    async fn attach(&mut self, attach: &bus::Attach) {
        let Some(key) = attach.session.as_ref().and_then(SessionKey::from_proto) else { return };
        let cursor = attach.cursor.clone().unwrap_or_default();
        let (reader, resync) = Reader::begin(&cursor, self.log.id(), self.log.tail());
        self.read_stubs(reader.cursor()).await;
        // Where the log ends, and that there is nothing behind, may be said by its owner alone.
        if !self.may_tell().await {
            return;
        }
        if self.attached.attach(key.clone(), attach, self.boot(), reader) == Joined::Stale {
            return;
        }
        let attached = bus::Attached {
            generation: attach.generation,
            epoch: self.log.epoch().0,
            log_id: self.log.id().to_vec(),
            head: self.log.tail(),
            ..bus::Attached::default()
        };
        self.to_gateway(&key, Item::Attached(attached));
        if resync {
            self.resync(&key);
        } else {
            self.ack(DeviceId(attach.device), attach.acked);
        }
        for older in self.attached.older(DeviceId(attach.device), UnixMillis(attach.opened_ms), &key) {
            self.attached.detach(&older);
            let go_away = GoAway { reason: Reason::Replaced.as_str().into(), ..GoAway::default() };
            self.to_gateway(&older, Item::Close(go_away));
        }
    }

    pub(super) async fn may_tell(&self) -> bool {
        self.shared.logs.may_tell(self.user.as_bytes(), self.log.epoch()).await
    }

    fn beat(&mut self, key: &SessionKey, beat: &bus::SessionBeat) {
        // An ack that was lost on the way comes again here.
        if self.attached.get_mut(key).is_some() {
            self.ack(DeviceId(beat.device), beat.acked);
        }
        let outcome = self.attached.beat(key, beat, self.boot());
        let generation = match outcome {
            BeatOutcome::Level | BeatOutcome::Behind => return,
            BeatOutcome::Lost { .. } if self.shared.sabotage.push_without_repair => return,
            BeatOutcome::Lost { generation } | BeatOutcome::Unknown { generation } => generation,
        };
        self.to_gateway(key, Item::Reattach(bus::Reattach { generation }));
    }

    fn to_gateway(&self, key: &SessionKey, item: Item) {
        let item = GatewayItem { ticket: key.ticket, owner: Owner::Offline.into(), item: Some(item) };
        if let Err(error) = self.shared.gateways.push(&key.gateway, item) {
            // The next beat finds what is missing.
            tracing::debug!(%error, "an item for a gateway was dropped");
        }
    }

    /// An ack is written with the next write, or at the next tick: receipts may take that long. Not so if the device
    /// waits for it, or if it makes room.
    fn ack(&mut self, device: DeviceId, idx: u64) {
        if let Some(idx) = self.state.ack(device, idx, self.log.tail()) {
            self.acks_wait = true;
            if self.state.is_awaited(device, idx) || self.is_full() {
                self.write_acks();
            }
        }
    }

    fn write_acks(&mut self) {
        if !std::mem::take(&mut self.acks_wait) {
            return;
        }
        for (device, idx) in self.state.acking() {
            self.log.mark_now(dialtone_log::mark_name("ack/", &device.0.to_be_bytes()), idx);
        }
        self.must_tell();
    }

    /// Until the sources know, a restart must find this log: the row goes with the mark.
    fn must_tell(&mut self) {
        if self.due.is_none() {
            let due = Due { at: UnixMillis(0), idx: 0, kind: DUE_ACKS };
            self.log.due(due);
            self.due = Some(due);
        }
    }

    /// A row that stands: it goes when the sources know.
    fn adopt(&mut self, found: DueRow) {
        self.due = Some(found.due());
        self.log.adopt(found);
    }

    async fn read(&mut self, with: UserId, idx: u64) {
        // Somebody looks at it: the acks before it need not wait for company.
        self.write_acks();
        let Some(beyond) = self.state.read(with, idx.min(self.log.tail())) else { return };
        self.log.mark_now(dialtone_log::mark_name("read/", with.as_bytes()), self.state.read_of(with));
        self.must_tell();
        self.count(beyond).await;
    }

    /// Acknowledged messages that are not in memory raise the watermarks of their sources too.
    async fn count_acked(&mut self) {
        let Some(beyond) = self.state.uncounted() else { return };
        let last = *beyond.end();
        if self.count(beyond).await {
            self.state.counted_to(last);
        }
    }

    /// Counts what is not in memory; false if it could not be read.
    async fn count(&mut self, beyond: RangeInclusive<u64>) -> bool {
        if beyond.is_empty() {
            return true;
        }
        self.read_stubs(beyond.start() - 1).await;
        self.each(beyond, Inbox::count).await
    }

    /// Reads entries back from the store, a page at a time; false if that failed.
    async fn each(
        &mut self,
        range: RangeInclusive<u64>,
        mut look: impl FnMut(&mut Inbox, u64, &InboxEntry) + Send,
    ) -> bool {
        let (mut from, upto) = (*range.start(), (*range.end()).min(self.log.tail()));
        while from <= upto {
            let page = self.shared.logs.read(self.log.id(), from, upto, PAGE, self.now()).await;
            let page = page.inspect_err(|error| tracing::error!(%error, "an inbox could not be read"));
            let Ok(page) = page else { return false };
            for entry in &page.entries {
                if let Ok(decoded) = InboxEntry::decode(&entry.content[..]) {
                    look(&mut self.state, entry.idx, &decoded);
                }
            }
            from = page.next(from);
        }
        true
    }

    /// Tells sources how far their messages got: news almost at once, and again until they have taken it.
    fn tell_watermarks(&mut self, again: bool) {
        let now = self.now();
        let untold: Vec<_> = self.state.untold().collect();
        if untold.is_empty() {
            // A row too many is harmless: it goes when the inbox rests, so that acks that follow each other share one.
            if let Some(due) = self.due.take_if(|_| again && self.log.is_idle()) {
                self.log.mark("told", self.state.counted());
                self.log.due_done(due);
            }
            return;
        }
        let since = now.since(self.told_watermarks);
        let news = untold.iter().any(|(source, _, mark)| self.sent_watermarks.get(source) != Some(mark));
        let due = if news { since >= WATERMARKS_COALESCE } else { again && since >= WATERMARKS_EVERY };
        if !due {
            return;
        }
        self.told_watermarks = now;
        self.sent_watermarks = untold.iter().map(|(source, _, mark)| (*source, *mark)).collect();
        for (source, user, watermark) in untold {
            let Some(node) = self.shared.shards.node_of("routing", user) else { continue };
            let watermarks = bus::Watermarks {
                source: source.to_vec(),
                source_user: user.to_vec(),
                receiver: self.user.to_vec(),
                delivered: watermark.delivered,
                read: watermark.read,
                reply_node: self.shared.chassis.node.as_str().to_owned(),
            };
            let item = RoutingItem { item: Some(routing_item::Item::Watermarks(watermarks)) };
            if let Err(error) = self.shared.routing.push(&node, item) {
                tracing::debug!(%error, "watermarks will be told again");
            }
        }
    }

    fn watermarks_taken(&mut self, taken: &bus::WatermarksTaken) {
        if let Ok(source) = LogId::from_slice(&taken.source) {
            self.state.told(source, Watermark { delivered: taken.delivered, read: taken.read });
        }
    }

    /// Withdrawals that stand beyond what is in memory, for whoever begins far back. Read once.
    async fn read_stubs(&mut self, cursor: u64) {
        if cursor + 1 < self.stubs_from
            && self.each(cursor + 1..=self.stubs_from - 1, |state, _, entry| state.recall_stub(entry)).await
        {
            self.stubs_from = cursor + 1;
        }
    }
}
