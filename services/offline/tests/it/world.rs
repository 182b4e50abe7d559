//! A service of offline with its surroundings: a gateway that beats, sources that offer, and identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dialtone_attach::{Link, Received, SessionKey};
use dialtone_bus::{Bus, Fan, Subscription, subjects};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Secrets, server};
use dialtone_offline::{Config, Peers, Sabotage};
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as FromOwner;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::bus::v1::offline_item::Item;
use dialtone_proto::bus::v1::{offer_entry, routing_item};
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::identity::internal::v1 as directory;
use dialtone_proto::identity::internal::v1::directory_server::{Directory, DirectoryServer};
use dialtone_proto::offline::v1::inbox_client::InboxClient;
use dialtone_proto::types::v1::{Body, Cursor};
use dialtone_shards::Shards;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{DeviceId, LogId, NodeId, PhoneNumber, SessionId, UserId};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const BEN: UserId = UserId::new([2; 16]);
/// The outbox of Anna, of Carla, and one that Ben blocks.
pub(crate) const OUTBOXES: [LogId; 3] = [LogId::new([11; 16]), LogId::new([12; 16]), LogId::new([13; 16])];
pub(crate) const SENDERS: [UserId; 3] = [ANNA, UserId::new([3; 16]), UserId::new([4; 16])];
pub(crate) const KEPT_PER_USER: u64 = 3_000;

/// Identity, as far as offline asks it: the epoch of everybody's number; 0 means that it can't be asked.
#[derive(Clone)]
pub(crate) struct FakeDirectory(pub(crate) Arc<AtomicU64>);

#[tonic::async_trait]
impl Directory for FakeDirectory {
    async fn resolve(
        &self,
        _: Request<directory::ResolveRequest>,
    ) -> Result<Response<directory::ResolveResponse>, Status> {
        unreachable!("offline resolves nothing")
    }

    async fn numbers(
        &self,
        request: Request<directory::NumbersRequest>,
    ) -> Result<Response<directory::NumbersResponse>, Status> {
        let epoch = self.0.load(Ordering::Relaxed);
        if epoch == 0 {
            return Err(Status::unavailable("down"));
        }
        let number = |_: &Vec<u8>| directory::UserNumbers { epoch, ..Default::default() };
        let answers = request.get_ref().users.iter().map(number).collect();
        Ok(Response::new(directory::NumbersResponse { answers }))
    }
}

/// One process with offline, a gateway called `gate`, and the outboxes of [`SENDERS`].
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) epoch: Arc<AtomicU64>,
    pub(crate) wire: Bus,
    secrets: Secrets,
    routes: LocalRoutes,
    out: Fan<bus::ToOffline>,
    back: Subscription<bus::ToGateway>,
    told: Subscription<bus::ToRouting>,
    /// What the sources were told since this was last asked.
    pub(crate) answers: Vec<bus::OfferAnswers>,
    pub(crate) watermarks: Vec<bus::Watermarks>,
    /// The sources take watermarks.
    pub(crate) takes: bool,
    sessions: Vec<Session>,
    beaten: Instant,
}

/// A session at the gateway, as `dialtone-gateway` keeps it.
pub(crate) struct Session {
    device: u32,
    pub(crate) link: Link,
    /// What was passed on to the device.
    pub(crate) cursor: Cursor,
    /// What the device says that it has stored: when it opened, and by its acks.
    stored: u64,
    pub(crate) acked: u64,
    beats: bool,
    opened: u64,
    loses: bool,
    pub(crate) shown: Vec<Frame>,
    pub(crate) closed: Option<String>,
}

impl Session {
    /// The gateway's cursor moves with what it passes on, whether the device gets it or not.
    fn pass_on(&mut self, frame: Frame) {
        match &frame {
            Frame::Message(message) => self.cursor.idx = message.idx.max(self.cursor.idx),
            Frame::Gone(gone) => self.cursor.idx = gone.idx.max(self.cursor.idx),
            Frame::Resync(resync) => {
                self.cursor = resync.inbox.clone().unwrap_or_default();
                self.stored = 0;
            }
            _ => {}
        }
        self.shown.push(frame);
    }
}

pub(crate) async fn world() -> World {
    let mut world = start(&MemoryDisk::new(), Sabotage::default()).await;
    world.pass(Duration::from_secs(4)).await;
    world
}

/// Just started: devices are still attaching.
pub(crate) async fn start(disk: &MemoryDisk, sabotage: Sabotage) -> World {
    let chassis = Chassis::for_tests(7);
    let wire = Bus::local(&chassis);
    let shards = Shards::start(&chassis, &wire, &["offline", "routing"], &[]).await.expect("shards");
    let epoch = Arc::new(AtomicU64::new(5));
    let identity = tonic::service::Routes::new(DirectoryServer::new(FakeDirectory(epoch.clone())));
    let peers = Peers { identity: Channel::Local(server::layers(&chassis, identity, None, &[])) };
    let secrets = Secrets::for_tests();
    let back = wire.subscribe(&subjects::gateway(&NodeId::new("gate"))).await.expect("subscribed");
    let told = wire.subscribe(&subjects::routing(&chassis.node)).await.expect("subscribed");
    let (url, config) = (StoreUrl::memory(disk), Config { kept_per_user: KEPT_PER_USER });
    let offline =
        dialtone_offline::start_sabotaged(&chassis, &wire, &shards, &secrets, url, &config, peers, sabotage)
            .await
            .expect("starts");
    World {
        beaten: chassis.clock.instant(),
        out: wire.fan(subjects::offline),
        routes: offline.routes,
        answers: Vec::new(),
        watermarks: Vec::new(),
        takes: true,
        sessions: Vec::new(),
        chassis,
        epoch,
        wire,
        secrets,
        back,
        told,
    }
}

fn key(ticket: usize) -> bus::SessionKey {
    SessionKey { gateway: NodeId::new("gate"), ticket: ticket as u64 }.to_proto()
}

/// A message from a sender, told by its position.
pub(crate) fn message(source: usize, position: u64) -> bus::OfferEntry {
    let message = bus::OfferedMessage {
        sender: SENDERS[source].to_vec(),
        from_number: "+14155550101".into(),
        message_id: position.to_be_bytes().repeat(2),
        body: Some(Body { content: format!("{source}/{position}").into(), ..Body::default() }),
        number_epoch: 5,
        ..Default::default()
    };
    bus::OfferEntry { position, entry: Some(offer_entry::Entry::Message(message)) }
}

/// The same, to be declined when nobody is attached.
pub(crate) fn urgent(source: usize, position: u64) -> bus::OfferEntry {
    let mut entry = message(source, position);
    if let Some(offer_entry::Entry::Message(message)) = &mut entry.entry {
        message.sms_if_offline = true;
    }
    entry
}

/// A device may show it only within a time.
pub(crate) fn limit(entry: &mut bus::OfferEntry) {
    if let Some(offer_entry::Entry::Message(message)) = &mut entry.entry {
        message.show_until_ms = u64::MAX;
    }
}

pub(crate) fn withdraw(position: u64, of: u64) -> bus::OfferEntry {
    let entry = Some(offer_entry::Entry::Withdraw(bus::OfferedWithdraw { of }));
    bus::OfferEntry { position, entry }
}

/// What a frame shows: an index, and the body or what it is instead.
pub(crate) fn told(frame: &Frame) -> (u64, String) {
    match frame {
        Frame::Message(message) => {
            let body = message.body.clone().unwrap_or_default().content;
            (message.idx, String::from_utf8(body.to_vec()).expect("text"))
        }
        Frame::Gone(gone) => (gone.idx, format!("gone {}", gone.of)),
        Frame::CaughtUp(caught) => (caught.idx, "caught up".into()),
        Frame::Acked(acked) => (acked.idx, "acked".into()),
        Frame::Resync(resync) => (resync.inbox.clone().unwrap_or_default().idx, "resync".into()),
        other => panic!("not for a device: {other:?}"),
    }
}

impl World {
    pub(crate) fn client(&self) -> InboxClient<Channel> {
        InboxClient::new(Channel::Local(self.routes.clone()))
    }

    /// A request of Ben's device.
    pub(crate) fn from<T>(&self, device: u32, message: T) -> Request<T> {
        let caller = Caller {
            user: BEN,
            device: DeviceId(device),
            session: SessionId::new([9; 16]),
            number: PhoneNumber::parse_e164("+14155550102").expect("a number"),
            expires: self.chassis.clock.now().plus(Duration::from_secs(60)),
        };
        let token = format!("Bearer {}", self.secrets.signer().sign(&caller));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token.parse().expect("a header"));
        request
    }

    fn push(&self, item: Item) {
        self.out.push(&self.chassis.node, bus::OfflineItem { item: Some(item) }).expect("there is room");
    }

    /// An outbox offers to Ben.
    pub(crate) fn offer(&self, source: usize, settled: u64, prev: u64, entries: Vec<bus::OfferEntry>) {
        self.push(Item::Offer(bus::Offer {
            source: OUTBOXES[source].to_vec(),
            source_epoch: 1,
            reply_owner: bus::Owner::Routing.into(),
            reply_node: self.chassis.node.as_str().to_owned(),
            source_user: SENDERS[source].to_vec(),
            receiver: BEN.to_vec(),
            settled,
            prev,
            entries,
        }));
    }

    /// The same, and what it is answered: positions and kinds.
    pub(crate) async fn offered(
        &mut self,
        source: usize,
        prev: u64,
        entries: Vec<bus::OfferEntry>,
    ) -> Vec<(u64, Kind)> {
        self.answers.clear();
        self.offer(source, 0, prev, entries);
        self.pass(Duration::from_millis(20)).await;
        let answers = self.answers.drain(..).flat_map(|answers| answers.answers);
        answers.map(|answer| (answer.position, answer.kind())).collect()
    }

    /// Anna's messages `from` to `upto` are kept.
    pub(crate) async fn keeps(&mut self, from: u64, upto: u64) {
        let positions: Vec<_> = (from..=upto).collect();
        for some in positions.chunks(64) {
            let entries = some.iter().map(|position| message(0, *position)).collect();
            let answers = self.offered(0, some[0] - 1, entries).await;
            assert_eq!(answers, some.iter().map(|it| (*it, Kind::Kept)).collect::<Vec<_>>());
        }
    }

    /// A device's session begins after what it has stored; its ticket.
    pub(crate) async fn open(&mut self, device: u32, cursor: Cursor) -> usize {
        let opened = self.chassis.clock.now().0;
        let (link, stored) = (Link::default(), cursor.idx);
        let session = Session {
            device,
            link,
            cursor,
            stored,
            acked: 0,
            beats: true,
            opened,
            loses: false,
            shown: Vec::new(),
            closed: None,
        };
        self.sessions.push(session);
        let ticket = self.sessions.len() - 1;
        self.attach(ticket);
        self.pass(Duration::from_millis(20)).await;
        ticket
    }

    fn attach(&mut self, ticket: usize) {
        let now = self.chassis.clock.now();
        let session = &mut self.sessions[ticket];
        let attach = bus::Attach {
            session: Some(key(ticket)),
            generation: session.link.begin(now),
            user: BEN.to_vec(),
            device: session.device,
            cursor: Some(session.cursor.clone()),
            acked: session.stored,
            opened_ms: session.opened,
            ..Default::default()
        };
        self.push(Item::Attach(attach));
    }

    pub(crate) fn session(&mut self, ticket: usize) -> &mut Session {
        &mut self.sessions[ticket]
    }

    /// The device says that it stored everything up to `idx`.
    pub(crate) fn ack(&mut self, ticket: usize, idx: u64) {
        let session = &mut self.sessions[ticket];
        (session.stored, session.acked) = (idx, idx);
        let device = session.device;
        self.push(Item::Ack(bus::SessionAck { session: Some(key(ticket)), user: BEN.to_vec(), device, idx }));
    }

    pub(crate) fn read(&self, ticket: usize, with: UserId, idx: u64) {
        use dialtone_proto::types::v1::{ConversationRef, UserRef, conversation_ref::With};
        let with = With::User(UserRef { id: with.to_vec() });
        self.push(Item::Read(bus::SessionRead {
            session: Some(key(ticket)),
            user: BEN.to_vec(),
            device: self.sessions[ticket].device,
            conversation: Some(ConversationRef { with: Some(with) }),
            idx,
        }));
    }

    pub(crate) fn close(&mut self, ticket: usize) {
        self.sessions[ticket].beats = false;
        self.push(Item::Detach(bus::Detach { session: Some(key(ticket)), user: BEN.to_vec() }));
    }

    /// The gateway falls silent about a session.
    pub(crate) fn silence(&mut self, ticket: usize) {
        self.sessions[ticket].beats = false;
    }

    /// The next frames of a session get lost on their way.
    pub(crate) fn lose_next(&mut self, ticket: usize) {
        self.sessions[ticket].loses = true;
    }

    /// Time passes; the gateway beats and takes what comes, and so do the sources.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = self.chassis.clock.instant() + time;
        loop {
            let next = (self.beaten + Duration::from_secs(1)).min(until);
            let left = next.saturating_duration_since(self.chassis.clock.instant());
            let clock = self.chassis.clock.clone();
            tokio::select! {
                biased;
                batch = self.back.next() => self.take(batch.expect("the bus is open").message),
                batch = self.told.next() => self.hear(batch.expect("the bus is open").message),
                () = clock.sleep(left) => {
                    if next == until {
                        return;
                    }
                    self.beat();
                }
            }
        }
    }

    fn beat(&mut self) {
        self.beaten = self.chassis.clock.instant();
        for (ticket, session) in self.sessions.iter().enumerate().filter(|(_, session)| session.beats) {
            let mut beat = session.link.beat(ticket as u64, BEN.as_bytes());
            (beat.acked, beat.device) = (session.acked, session.device);
            self.push(Item::Beat(bus::Beat { gateway: "gate".into(), sessions: vec![beat] }));
        }
    }

    fn take(&mut self, batch: bus::ToGateway) {
        let now = self.chassis.clock.now();
        for item in batch.items {
            assert_eq!(item.owner(), bus::Owner::Offline);
            let ticket = usize::try_from(item.ticket).expect("small");
            let session = &mut self.sessions[ticket];
            match item.item.expect("an item") {
                FromOwner::Attached(answer) => {
                    session.link.attached(&answer);
                    if session.cursor.log_id.is_empty() {
                        session.cursor.log_id = answer.log_id;
                    }
                }
                FromOwner::Frames(_) if session.loses => session.loses = false,
                FromOwner::Frames(frames) => {
                    if let Received::Next(frames) = session.link.frames(frames, now) {
                        for frame in frames.into_iter().filter_map(|frame| frame.frame) {
                            session.pass_on(frame);
                        }
                    }
                }
                FromOwner::Reattach(again) => {
                    if session.link.is_current(again.generation) {
                        self.attach(ticket);
                    }
                }
                FromOwner::Close(why) => {
                    session.closed = Some(why.reason);
                    session.beats = false;
                }
            }
        }
    }

    fn hear(&mut self, batch: bus::ToRouting) {
        for item in batch.items {
            match item.item.expect("an item") {
                routing_item::Item::Answers(answers) => self.answers.push(answers),
                routing_item::Item::Watermarks(marks) => {
                    if self.takes {
                        self.push(Item::WatermarksTaken(bus::WatermarksTaken {
                            source: marks.source.clone(),
                            receiver: marks.receiver.clone(),
                            delivered: marks.delivered,
                            read: marks.read,
                        }));
                    }
                    self.watermarks.push(marks);
                }
                other => panic!("not for an outbox: {other:?}"),
            }
        }
    }

    /// What a device was shown since this was last asked.
    pub(crate) fn shown(&mut self, ticket: usize) -> Vec<(u64, String)> {
        std::mem::take(&mut self.sessions[ticket].shown).iter().map(told).collect()
    }

    /// Only the entries of it: no "caught up", no "acked".
    pub(crate) fn entries(&mut self, ticket: usize) -> Vec<(u64, String)> {
        let mut shown = self.shown(ticket);
        shown.retain(|(_, what)| what != "caught up" && what != "acked");
        shown
    }

    /// How far each source knows its messages delivered and read.
    pub(crate) fn watermark(&self, source: usize) -> (u64, u64) {
        let mine = self.watermarks.iter().filter(|marks| marks.source == OUTBOXES[source].as_bytes());
        mine.fold((0, 0), |(delivered, read), marks| (marks.delivered.max(delivered), marks.read.max(read)))
    }

    /// The process dies as it stands. What it had begun to write may or may not be on disk.
    pub(crate) async fn crash(self, disk: &MemoryDisk, sabotage: Sabotage) -> World {
        let tasks = self.chassis.tasks.clone();
        drop(self);
        let next = start(disk, sabotage).await;
        // Its tasks end as time passes: they can neither read nor write any more.
        tasks.shutdown(Duration::ZERO).await;
        next
    }
}
