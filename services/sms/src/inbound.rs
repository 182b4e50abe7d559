//! SMS from phones: claimed by identity, a keyword, or a reply that finds its conversation. Answered when durable.

mod claim;

use std::collections::BTreeMap;

use claim::Claimed;
use dialtone_bus::{Bus, Fan};
use dialtone_chassis::Chassis;
use dialtone_log::{Back, Log, LogError, LogStore, Opened, Source, Write};
use dialtone_proto::bus::v1::{
    Offer, OfferAnswers, OfferEntry, OfferedMessage, OfflineItem, Owner, ToOffline, offer_entry, offline_item,
};
use dialtone_proto::log::v1::inbound_entry::Entry as Kind;
use dialtone_proto::log::v1::{InboundEntry, InboundSms};
use dialtone_proto::types::v1::Body;
use dialtone_shards::Shards;
use dialtone_vocab::{ClientSeq, DeviceId, LogId, MessageId, UserId};
use prost::Message as _;
use rusmpp::CommandStatus;
use tokio::sync::{mpsc, oneshot};

use crate::bridge::Bridge;
use crate::early::Early;
use crate::esme::Delivered;
use crate::limits::{
    DRAIN_WITHIN, EVENTS, INBOUND_EVERY, MO_PARTS, MO_PARTS_OF_ONE, MO_PARTS_WITHIN, OWNER_EVERY,
    REPEAT_EVERY, SMS_PARTS,
};
use crate::parts::{Parts, Put};
use crate::pdu::{Receipt, Short};
use crate::results::Reported;
use crate::segment::text;
use crate::store::may_pass;
use crate::{metrics, pdu};

/// Whose log the inbound log is: nobody's, the service's.
const OWNER: [u8; 16] = [0; 16];

/// Where answers of inboxes go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Answers(mpsc::Sender<OfferAnswers>);

impl Answers {
    pub(crate) async fn take(&self, answers: OfferAnswers) {
        // Closed at shutdown: the inbox is asked again after the next start.
        let _closed = self.0.send(answers).await;
    }
}

/// What came to the task from outside.
pub(crate) struct Doors {
    delivered: mpsc::Receiver<Delivered>,
    answers: mpsc::Receiver<OfferAnswers>,
}

/// The task that takes receipts, and has the inbound log whenever this process owns it: then it takes SMS too.
///
/// One process at a time takes all of these: parts of a text that came to different ones would never become whole.
pub(crate) struct Inbound {
    chassis: Chassis,
    bus: Bus,
    bridge: Bridge,
    shards: Shards,
    offline: Fan<ToOffline>,
    logs: LogStore,
    early: Early,
}

/// The inbound log while this process owns it, and all that goes with it: what is not durable by then is the
/// operator's again.
struct Owned<'a> {
    inbound: &'a mut Inbound,
    log: Log,
    sources: BTreeMap<UserId, Source>,
    open: BTreeMap<u64, InboundSms>,
    answers: BTreeMap<u64, Vec<oneshot::Sender<CommandStatus>>>,
    /// None of them is answered before its text is whole, so none is lost with this process.
    parts: Parts<oneshot::Sender<CommandStatus>>,
    writes: mpsc::Sender<Wrote>,
}

/// The inbound log as it was opened, and what of it is open.
struct Found {
    opened: Opened,
    open: Vec<(u64, InboundSms)>,
}

type Wrote = (Write, Result<(), LogError>);

impl Inbound {
    /// Begins to take what the operator delivers: at once if the log can be opened now.
    pub(crate) async fn start(
        chassis: &Chassis,
        bus: &Bus,
        bridge: Bridge,
        shards: &Shards,
        offline: Fan<ToOffline>,
        logs: LogStore,
        delivered: mpsc::Receiver<Delivered>,
    ) -> Result<Answers, LogError> {
        let inbound = Self {
            chassis: chassis.clone(),
            bus: bus.clone(),
            bridge,
            shards: shards.clone(),
            offline,
            logs,
            early: Early::default(),
        };
        let opened = inbound.open().await?;
        let (sender, answers) = mpsc::channel(EVENTS);
        let doors = Doors { delivered, answers };
        chassis.tasks.spawn("sms inbound", inbound.run(opened, doors));
        Ok(Answers(sender))
    }

    /// The log with everything since the floor that was not taken by its receiver yet; `None` while it is another's.
    async fn open(&self) -> Result<Option<Found>, LogError> {
        let opened = match self.logs.open(&OWNER, self.chassis.clock.now()).await {
            Err(LogError::NotOwner) => return Ok(None),
            opened => opened?,
        };
        let open = self.since(&opened.log, opened.marks.get("floor").max(1), |_| true).await?;
        Ok(Some(Found { opened, open }))
    }

    /// The settled SMS from an entry on that are wanted.
    async fn since(
        &self,
        log: &Log,
        mut from: u64,
        wanted: impl Fn(&InboundSms) -> bool,
    ) -> Result<Vec<(u64, InboundSms)>, LogError> {
        let now = self.chassis.clock.now();
        let mut found = Vec::new();
        while from <= log.tail() {
            let page = self.logs.read(log.id(), from, log.tail(), EVENTS, now).await?;
            for entry in &page.entries {
                if let Ok(InboundEntry { entry: Some(Kind::Sms(sms)) }) =
                    InboundEntry::decode(&entry.content[..])
                    && wanted(&sms)
                {
                    found.push((entry.idx, sms));
                }
            }
            from = page.next(from);
        }
        Ok(found)
    }

    async fn run(mut self, mut opened: Option<Found>, mut doors: Doors) {
        loop {
            let found = match opened.take() {
                Some(found) => found,
                None => match self.until_owner(&mut doors).await {
                    Some(found) => found,
                    None => return,
                },
            };
            let (owned, writes) = Owned::restored(&mut self, found);
            if owned.run(&mut doors, writes).await.is_none() {
                return;
            }
            tracing::info!("the inbound log is let go");
        }
    }

    /// Until the log is ours; `None` when the process stops. SMS that are delivered meanwhile the operator delivers
    /// again, and what inboxes answer they answer whoever has the log.
    async fn until_owner(&mut self, doors: &mut Doors) -> Option<Found> {
        let (stop, clock) = (self.chassis.tasks.stop_token(), self.chassis.clock.clone());
        let mut again_at = clock.instant() + OWNER_EVERY;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = clock.sleep_until(again_at) => {
                    let pause = match self.open().await {
                        Ok(Some(found)) => return Some(found),
                        Ok(None) => OWNER_EVERY,
                        Err(error) => {
                            tracing::error!(%error, "the inbound log can't be opened now");
                            REPEAT_EVERY
                        }
                    };
                    again_at = clock.instant() + pause;
                }
                deliver = doors.delivered.recv() => if let Some((_, answer)) = self.needs_log(deliver?).await {
                    say(answer, CommandStatus::EsmeRxTAppn);
                },
                answers = doors.answers.recv() => drop(answers?),
            }
        }
    }

    /// Answers a receipt, and what can't be read: whoever has the log. An SMS is left.
    async fn needs_log(
        &mut self,
        Delivered { deliver, answer }: Delivered,
    ) -> Option<(Short, oneshot::Sender<CommandStatus>)> {
        match pdu::read_deliver(&deliver) {
            Ok(short) => return Some((short, answer)),
            Err(Some(receipt)) => say(answer, self.receipt(&receipt).await),
            Err(None) => {
                metrics::mo("garbled");
                say(answer, CommandStatus::EsmeRxPAppn);
            }
        }
        None
    }

    async fn receipt(&mut self, receipt: &Receipt) -> CommandStatus {
        let now = self.chassis.clock.instant();
        match self.bridge.receipt(receipt).await {
            Ok(Reported::Unknown) if self.early.may_come(&receipt.id, now) => CommandStatus::EsmeRxTAppn,
            Ok(Reported::Unknown) => CommandStatus::EsmeRok,
            Ok(Reported::Done) => {
                self.early.came(&receipt.id);
                CommandStatus::EsmeRok
            }
            Err(_) => CommandStatus::EsmeRxTAppn,
        }
    }
}

impl<'a> Owned<'a> {
    fn restored(inbound: &'a mut Inbound, found: Found) -> (Self, mpsc::Receiver<Wrote>) {
        let (writes, wrote) = mpsc::channel(EVENTS);
        let Found { opened, open } = found;
        let mut owned = Self {
            inbound,
            log: opened.log,
            sources: BTreeMap::new(),
            open: BTreeMap::new(),
            answers: BTreeMap::new(),
            parts: Parts::new(MO_PARTS, MO_PARTS_OF_ONE, MO_PARTS_WITHIN),
            writes,
        };
        for (receiver, settled) in opened.marks.of("settled/") {
            if let Ok(receiver) = UserId::from_slice(receiver) {
                owned.sources.insert(receiver, Source::new(settled));
            }
        }
        open.into_iter().for_each(|(idx, sms)| owned.opened(idx, sms));
        (owned, wrote)
    }

    fn opened(&mut self, idx: u64, sms: InboundSms) {
        let Ok(receiver) = UserId::from_slice(&sms.receiver) else { return };
        let source = self.sources.entry(receiver).or_insert_with(|| Source::new(0));
        if idx > source.settled() {
            source.add(idx);
            self.open.insert(idx, sms);
        }
    }

    /// Takes and offers until the log is to be let go; `None` when the process stops.
    async fn run(mut self, doors: &mut Doors, mut writes: mpsc::Receiver<Wrote>) -> Option<()> {
        let stop = self.inbound.chassis.tasks.stop_token();
        let clock = self.inbound.chassis.clock.clone();
        while self.inbound.logs.owns(&self.log) {
            self.offer();
            self.kick();
            self.expire_parts();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.drain(&mut writes).await;
                    return None;
                }
                wrote = writes.recv() => {
                    let (write, outcome) = wrote?;
                    if self.wrote(&write, outcome) == Err(LogError::NotOwner) {
                        return Some(());
                    }
                }
                answers = doors.answers.recv() => self.answered(answers?).await,
                deliver = doors.delivered.recv() => self.take(deliver?).await,
                () = clock.sleep(INBOUND_EVERY) => {}
            }
        }
        Some(())
    }

    /// Nothing more is taken, but replies that are on their way to the disk are answered when they are there: else the
    /// operator would deliver them again.
    async fn drain(&mut self, writes: &mut mpsc::Receiver<Wrote>) {
        let clock = self.inbound.chassis.clock.clone();
        let written = async {
            while !self.answers.is_empty() {
                self.kick();
                if let Some((write, outcome)) = writes.recv().await
                    && self.wrote(&write, outcome).is_err()
                {
                    return;
                }
            }
        };
        if clock.timeout(DRAIN_WITHIN, written).await.is_err() {
            tracing::warn!("replies were not on disk in time: the operator delivers them again");
        }
    }

    async fn take(&mut self, delivered: Delivered) {
        let Some((short, answer)) = self.inbound.needs_log(delivered).await else { return };
        let (from, to) = (short.from.clone(), short.to.clone());
        let Some(place) = short.part else {
            let content = text(short.encoding, &short.octets);
            return self.whole(&from, &to, content, vec![answer]).await;
        };
        if usize::from(place.1) > SMS_PARTS {
            metrics::mo("garbled");
            return say(answer, CommandStatus::EsmeRxPAppn);
        }
        match self.parts.put(short, place, answer, self.inbound.chassis.clock.instant()) {
            Put::Waits => {}
            Put::Whole(content, answers) => self.whole(&from, &to, content, answers).await,
            Put::Full(answer) => {
                metrics::mo("busy");
                say(answer, CommandStatus::EsmeRxTAppn);
            }
        }
    }

    /// The operator delivers the parts of a text that does not become whole again, or gives up too.
    fn expire_parts(&mut self) {
        for answers in self.parts.expire(self.inbound.chassis.clock.instant()) {
            metrics::mo("incomplete");
            answers.into_iter().for_each(|answer| say(answer, CommandStatus::EsmeRxTAppn));
        }
    }

    /// A whole text: who claims it first?
    async fn whole(
        &mut self,
        from: &str,
        to: &str,
        content: String,
        answers: Vec<oneshot::Sender<CommandStatus>>,
    ) {
        let outcome = self.inbound.claim(from, to, &content).await;
        match outcome {
            Claimed::Done(event) => {
                metrics::mo(event);
                answers.into_iter().for_each(|answer| say(answer, CommandStatus::EsmeRok));
            }
            Claimed::Later => answers.into_iter().for_each(|answer| say(answer, CommandStatus::EsmeRxTAppn)),
            Claimed::Routed(receiver) => {
                metrics::mo("routed");
                let next = self.log.last() + 1;
                let id =
                    MessageId::compute(UserId::new(*self.log.id().as_bytes()), DeviceId(0), ClientSeq(next));
                let sms = InboundSms {
                    from: from.to_owned(),
                    to: to.to_owned(),
                    text: content,
                    at_ms: self.inbound.chassis.clock.now().0,
                    receiver: receiver.to_vec(),
                    message_id: id.to_vec(),
                };
                let entry = InboundEntry { entry: Some(Kind::Sms(sms)) };
                let idx = self.log.push(1, entry.encode_to_vec());
                self.answers.insert(idx, answers);
            }
        }
    }

    fn kick(&mut self) {
        let Some(write) = self.log.next_write(self.inbound.chassis.clock.now()) else { return };
        let (logs, writes, chassis) =
            (self.inbound.logs.clone(), self.writes.clone(), self.inbound.chassis.clone());
        self.inbound.chassis.tasks.spawn("sms inbound write", async move {
            let outcome = loop {
                match logs.write(&write).await {
                    // Only the very same may be written next.
                    Err(LogError::Store(error)) if may_pass(&error) => {
                        tracing::warn!(%error, "the inbound log could not be written, and will be");
                        chassis.clock.sleep(REPEAT_EVERY).await;
                    }
                    outcome => break outcome,
                }
            };
            let _let_go = writes.send((write, outcome)).await;
        });
    }

    fn wrote(&mut self, write: &Write, outcome: Result<(), LogError>) -> Result<(), LogError> {
        if let Err(error) = outcome {
            tracing::error!(%error, "the inbound log could not be written");
            return Err(error);
        }
        let settled = self.log.settled(write);
        for entry in &settled.entries {
            for answer in self.answers.remove(&entry.idx).unwrap_or_default() {
                say(answer, CommandStatus::EsmeRok);
            }
            if let Ok(InboundEntry { entry: Some(Kind::Sms(sms)) }) = InboundEntry::decode(&entry.content[..])
            {
                self.opened(entry.idx, sms);
            }
        }
        for (name, value) in &settled.marks {
            let receiver = name.strip_prefix(b"settled/").and_then(|bytes| UserId::from_slice(bytes).ok());
            if let Some(source) = receiver.and_then(|receiver| self.sources.get_mut(&receiver)) {
                source.mark_written(*value);
            }
        }
        Ok(())
    }

    fn offer(&mut self) {
        let now = self.inbound.chassis.clock.boot();
        for (receiver, source) in &mut self.sources {
            let Some(node) = self.inbound.shards.node_of("offline", *receiver) else { continue };
            let Some(due) = source.poll(&node, now) else { continue };
            let entries = due
                .positions
                .iter()
                .filter_map(|position| Some(offered(*position, self.open.get(position)?)));
            let offer = Offer {
                source: self.log.id().to_vec(),
                source_epoch: self.log.epoch().0,
                reply_owner: Owner::Unspecified.into(),
                reply_node: self.inbound.chassis.node.as_str().to_owned(),
                source_user: Vec::new(),
                receiver: receiver.to_vec(),
                settled: due.settled,
                prev: due.prev,
                entries: entries.collect(),
            };
            let item = OfflineItem { item: Some(offline_item::Item::Offer(offer)) };
            if let Err(error) = self.inbound.offline.push(&node, item) {
                tracing::debug!(%error, "it will be offered again");
            }
        }
    }

    /// Nothing follows from an answer but that it is done: whoever texted can't be told more.
    async fn answered(&mut self, answers: OfferAnswers) {
        let Ok(receiver) = UserId::from_slice(&answers.receiver) else { return };
        let Some(source) = self.sources.get_mut(&receiver) else { return };
        if LogId::from_slice(&answers.source) != Ok(self.log.id()) {
            return;
        }
        if answers.wait {
            return source.has_begun(self.inbound.chassis.clock.boot());
        }
        if answers.expected
            && let Back::Below { taken } = source.expected(answers.taken)
        {
            return self.lost(receiver, taken).await;
        }
        for answer in answers.answers {
            if source.answered(answer.position)
                && let Some(settled) = source.done(answer.position)
            {
                self.open.remove(&answer.position);
                self.log.mark(dialtone_log::mark_name("settled/", receiver.as_bytes()), settled);
            }
        }
        let floor = self.open.first_key_value().map_or(self.log.tail() + 1, |(idx, _)| *idx);
        self.log.mark("floor", floor);
        self.log.flush_marks();
    }

    /// A receiver has only what is up to `taken`, though it had answered for more: the rest is offered again.
    async fn lost(&mut self, receiver: UserId, taken: u64) {
        tracing::error!("a receiver lost what it had taken: a defect; it is offered again");
        metrics::receiver_lost();
        let hers = |sms: &InboundSms| sms.receiver == receiver.as_bytes();
        match self.inbound.since(&self.log, taken + 1, hers).await {
            Ok(again) => {
                self.sources.insert(receiver, Source::new(taken));
                again.into_iter().for_each(|(idx, sms)| self.opened(idx, sms));
            }
            // The offer that it refused goes out again, and so this does.
            Err(error) => tracing::error!(%error, "the inbound log could not be read"),
        }
    }
}

fn say(answer: oneshot::Sender<CommandStatus>, status: CommandStatus) {
    let _bind_lost = answer.send(status);
}

fn offered(position: u64, sms: &InboundSms) -> OfferEntry {
    let message = OfferedMessage {
        from_number: sms.from.clone(),
        message_id: sms.message_id.clone(),
        body: Some(Body { content: sms.text.clone().into_bytes().into(), ..Body::default() }),
        sent_ms: sms.at_ms,
        ..OfferedMessage::default()
    };
    OfferEntry { position, entry: Some(offer_entry::Entry::Message(message)) }
}
