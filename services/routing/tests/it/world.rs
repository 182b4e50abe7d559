//! A service of routing with its surroundings.

use std::time::Duration;

use dialtone_attach::{Link, Received, SessionKey};
use dialtone_bus::{Bus, Delivery, Fan, Subscription, subjects};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Secrets, server};
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as FromOwner;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::bus::v1::offline_item;
use dialtone_proto::bus::v1::routing_item::Item;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::identity::internal::v1::directory_server::DirectoryServer;
use dialtone_proto::routing::v1::messages_client::MessagesClient;
use dialtone_proto::routing::v1::revoke_response::Outcome;
use dialtone_proto::routing::v1::{Accepted, RevokeRequest, SendRequest};
use dialtone_proto::sms::internal::v1::bridge_server::BridgeServer;
use dialtone_proto::types::v1::{
    Body, Cursor, FateKind, IfOffline, Policy, Recipient, TypedNumber, recipient::To,
};
use dialtone_routing::{Config, Peers, Sabotage};
use dialtone_shards::Shards;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{DeviceId, NodeId, PhoneNumber, Reason, SessionId, UserId};
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::fakes::{FakeBridge, FakeDirectory, FakeInbox};

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const BEN: UserId = UserId::new([2; 16]);
pub(crate) const ANNA_NUMBER: &str = "+14155550101";
pub(crate) const BEN_NUMBER: &str = "+14155550102";
pub(crate) const NOBODY: &str = "+14155550199";
pub(crate) const MOMENT: Duration = Duration::from_millis(20);

/// One process with routing, and its neighbours.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) directory: FakeDirectory,
    pub(crate) inbox: FakeInbox,
    /// What was requested of the SMS service, and whether it takes it.
    pub(crate) submitted: Vec<bus::SmsSubmit>,
    pub(crate) sms_takes: bool,
    pub(crate) taken_watermarks: Vec<bus::WatermarksTaken>,
    pub(crate) taken_results: Vec<bus::SmsResultTaken>,
    secrets: Secrets,
    routes: LocalRoutes,
    out: Fan<bus::ToRouting>,
    back: Subscription<bus::ToGateway>,
    offered: Subscription<bus::ToOffline>,
    sms: Subscription<bus::SmsSubmit>,
    sms_items: Subscription<bus::ToSms>,
    sessions: Vec<Session>,
    beaten: Instant,
}

/// A session of Anna at the gateway.
struct Session {
    device: u32,
    link: Link,
    cursor: Cursor,
    attached: Option<bus::Attached>,
    shown: Vec<Frame>,
}

pub(crate) async fn world() -> World {
    start(&MemoryDisk::new(), Sabotage::default()).await
}

/// Ben's inbox keeps everything, until it is told otherwise.
pub(crate) async fn start(disk: &MemoryDisk, sabotage: Sabotage) -> World {
    let chassis = Chassis::for_tests(7);
    let wire = Bus::local(&chassis);
    let shards = Shards::start(&chassis, &wire, &["routing", "offline", "sms"], &[]).await.expect("shards");
    let directory = FakeDirectory::default();
    for (number, user) in [(ANNA_NUMBER, ANNA), (BEN_NUMBER, BEN)] {
        directory.0.write().expect("lock").insert(number.into(), (user, 5));
    }
    let local = |routes| Channel::Local(server::layers(&chassis, routes, None, &[]));
    let peers = Peers {
        identity: local(tonic::service::Routes::new(DirectoryServer::new(directory.clone()))),
        sms: local(tonic::service::Routes::new(BridgeServer::new(FakeBridge))),
    };
    let secrets = Secrets::for_tests();
    let back = wire.subscribe(&subjects::gateway(&NodeId::new("gate"))).await.expect("subscribed");
    let offered = wire.subscribe(&subjects::offline(&chassis.node)).await.expect("subscribed");
    let sms = wire.subscribe_group(&subjects::sms_send(), "sms").await.expect("subscribed");
    let sms_items = wire.subscribe(&subjects::sms(&chassis.node)).await.expect("subscribed");
    let (url, config) = (StoreUrl::memory(disk), Config { fallback_after_ms: 20_000 });
    let routing =
        dialtone_routing::start_sabotaged(&chassis, &wire, &shards, &secrets, url, &config, peers, sabotage)
            .await
            .expect("starts");
    World {
        beaten: chassis.clock.instant(),
        out: wire.fan(subjects::routing),
        routes: routing.routes,
        inbox: FakeInbox {
            message: Some((Kind::Kept, "")),
            withdraw: Some(Kind::Withdrawn),
            ..FakeInbox::default()
        },
        submitted: Vec::new(),
        sms_takes: true,
        taken_watermarks: Vec::new(),
        taken_results: Vec::new(),
        sessions: Vec::new(),
        chassis,
        directory,
        secrets,
        back,
        offered,
        sms,
        sms_items,
    }
}

fn key(ticket: usize) -> bus::SessionKey {
    SessionKey { gateway: NodeId::new("gate"), ticket: ticket as u64 }.to_proto()
}

pub(crate) fn reason(status: &Status) -> Reason {
    Error::from_status(status).reason
}

/// A message to a number.
pub(crate) fn request(seq: u64, to: &str) -> SendRequest {
    let number = TypedNumber { text: to.to_owned(), region: String::new() };
    SendRequest {
        client_seq: seq,
        to: Some(Recipient { to: Some(To::Number(number)) }),
        body: Some(Body { content: format!("message {seq}").into(), ..Body::default() }),
        policy: None,
    }
}

/// One to Ben that goes as SMS if he is not there, or does not take it in ten seconds.
pub(crate) fn urgent(seq: u64) -> SendRequest {
    let policy = Policy { if_offline: IfOffline::Sms.into(), fallback_after_ms: 10_000, ..Policy::default() };
    SendRequest { policy: Some(policy), ..request(seq, BEN_NUMBER) }
}

impl World {
    pub(crate) fn client(&self) -> MessagesClient<Channel> {
        MessagesClient::new(Channel::Local(self.routes.clone()))
    }

    /// A request of Anna's device.
    pub(crate) fn from<T>(&self, device: u32, message: T) -> Request<T> {
        let caller = Caller {
            user: ANNA,
            device: DeviceId(device),
            session: SessionId::new([9; 16]),
            number: PhoneNumber::parse_e164(ANNA_NUMBER).expect("a number"),
            expires: self.chassis.clock.now().plus(Duration::from_secs(60)),
        };
        let token = format!("Bearer {}", self.secrets.signer().sign(&caller));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token.parse().expect("a header"));
        request
    }

    pub(crate) async fn send_from(&self, device: u32, message: SendRequest) -> Result<Accepted, Status> {
        let answer = self.client().send(self.from(device, message)).await?;
        Ok(answer.into_inner().accepted.expect("accepted"))
    }

    /// Anna's phone sends, and everybody acts on it.
    pub(crate) async fn send(&mut self, message: SendRequest) -> Accepted {
        let accepted = self.send_from(1, message).await.expect("accepted");
        self.pass(MOMENT).await;
        accepted
    }

    /// Takes a message back, while the neighbours go on.
    pub(crate) async fn revoke(&mut self, sent_idx: u64) -> Result<Outcome, Status> {
        let (mut client, ask) = (self.client(), self.from(1, RevokeRequest { sent_idx }));
        let call = client.revoke(ask);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return Ok(answer?.into_inner().outcome.expect("an outcome")),
                () = self.pass(Duration::from_millis(1)) => {}
            }
        }
    }

    pub(crate) fn push(&self, item: Item) {
        self.out.push(&self.chassis.node, bus::RoutingItem { item: Some(item) }).expect("there is room");
    }

    /// A session of Anna's device that has seen its outbox up to a cursor; its ticket.
    pub(crate) async fn open(&mut self, device: u32, cursor: Cursor) -> usize {
        let link = Link::default();
        self.sessions.push(Session { device, link, cursor, attached: None, shown: Vec::new() });
        let ticket = self.sessions.len() - 1;
        self.attach(ticket);
        self.pass(MOMENT).await;
        ticket
    }

    fn attach(&mut self, ticket: usize) {
        let now = self.chassis.clock.now();
        let session = &mut self.sessions[ticket];
        let attach = bus::Attach {
            session: Some(key(ticket)),
            generation: session.link.begin(now),
            user: ANNA.to_vec(),
            device: session.device,
            number: ANNA_NUMBER.into(),
            cursor: Some(session.cursor.clone()),
            ..Default::default()
        };
        self.push(Item::Attach(attach));
    }

    /// What the owner said when it was attached.
    pub(crate) fn attached(&self, ticket: usize) -> &bus::Attached {
        self.sessions[ticket].attached.as_ref().expect("attached")
    }

    /// A session sends.
    pub(crate) fn session_sends(&self, ticket: usize, request: SendRequest) {
        self.push(Item::Send(bus::SessionSend {
            session: Some(key(ticket)),
            user: ANNA.to_vec(),
            device: self.sessions[ticket].device,
            number: ANNA_NUMBER.into(),
            request: Some(request),
        }));
    }

    /// Ben's inbox tells how far his devices got.
    pub(crate) fn watermarks(&self, delivered: u64, read: u64) {
        self.push(Item::Watermarks(bus::Watermarks {
            source: self.inbox.offers.last().expect("it was offered something").source.clone(),
            source_user: ANNA.to_vec(),
            receiver: BEN.to_vec(),
            delivered,
            read,
            reply_node: self.chassis.node.as_str().to_owned(),
        }));
    }

    /// The SMS service reports about what it was handed.
    pub(crate) fn sms_result(&self, nth: usize, kind: FateKind) {
        let submit = &self.submitted[nth];
        self.push(Item::SmsResult(bus::SmsResult {
            message_id: submit.message_id.clone(),
            outbox: submit.outbox.clone(),
            user: ANNA.to_vec(),
            sent_idx: submit.sent_idx,
            kind: kind.into(),
            reply_node: self.chassis.node.as_str().to_owned(),
            ..Default::default()
        }));
    }

    /// Time passes; the neighbours take what comes.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = self.chassis.clock.instant() + time;
        loop {
            let next = (self.beaten + Duration::from_secs(1)).min(until);
            let left = next.saturating_duration_since(self.chassis.clock.instant());
            let clock = self.chassis.clock.clone();
            tokio::select! {
                biased;
                batch = self.back.next() => self.take(batch.expect("the bus is open").message),
                batch = self.offered.next() => self.hear(batch.expect("the bus is open").message),
                batch = self.sms_items.next() => {
                    let items = batch.expect("the bus is open").message.items.into_iter();
                    self.taken_results.extend(items.filter_map(|item| match item.item {
                        Some(bus::sms_item::Item::ResultTaken(taken)) => Some(taken),
                        _ => None,
                    }));
                }
                submit = self.sms.next() => self.submit(submit.expect("the bus is open")).await,
                () = clock.sleep(left) => {
                    if next == until {
                        return;
                    }
                    self.beat();
                }
            }
        }
    }

    async fn submit(&mut self, asked: Delivery<bus::SmsSubmit>) {
        self.submitted.push(asked.message.clone());
        if self.sms_takes {
            asked.reply(bus::SmsTaken::default()).await;
        }
    }

    fn beat(&mut self) {
        self.beaten = self.chassis.clock.instant();
        for (ticket, session) in self.sessions.iter().enumerate() {
            let beat = session.link.beat(ticket as u64, ANNA.as_bytes());
            self.push(Item::Beat(bus::Beat { gateway: "gate".into(), sessions: vec![beat] }));
        }
    }

    fn hear(&mut self, batch: bus::ToOffline) {
        for item in batch.items {
            match item.item.expect("an item") {
                offline_item::Item::Offer(offer) => {
                    assert_eq!(offer.receiver, BEN.to_vec());
                    let answers = self.inbox.take(&offer);
                    if !answers.answers.is_empty() || answers.expected || answers.wait {
                        self.push(Item::Answers(answers));
                    }
                }
                offline_item::Item::WatermarksTaken(taken) => self.taken_watermarks.push(taken),
                other => panic!("not for an inbox: {other:?}"),
            }
        }
    }

    fn take(&mut self, batch: bus::ToGateway) {
        let now = self.chassis.clock.now();
        for item in batch.items {
            assert_eq!(item.owner(), bus::Owner::Routing);
            let ticket = usize::try_from(item.ticket).expect("small");
            let session = &mut self.sessions[ticket];
            match item.item.expect("an item") {
                FromOwner::Attached(answer) => {
                    session.link.attached(&answer);
                    session.attached = Some(answer);
                }
                FromOwner::Frames(frames) => {
                    if let Received::Next(frames) = session.link.frames(frames, now) {
                        session.shown.extend(frames.into_iter().filter_map(|frame| frame.frame));
                    }
                }
                FromOwner::Reattach(_) => self.attach(ticket),
                FromOwner::Close(why) => panic!("closed: {why:?}"),
            }
        }
    }

    /// What a session was shown since this was last asked.
    pub(crate) fn frames(&mut self, ticket: usize) -> Vec<Frame> {
        std::mem::take(&mut self.sessions[ticket].shown)
    }

    /// The fates in it: message, kind, reason and where it stands.
    pub(crate) fn fates(&mut self, ticket: usize) -> Vec<(u64, FateKind, String, u64)> {
        let fates = self.frames(ticket).into_iter().filter_map(|frame| match frame {
            Frame::Progress(progress) => {
                let fate = progress.fate.expect("a fate");
                Some((progress.sent_idx, fate.kind(), fate.reason, progress.outbox_idx))
            }
            _ => None,
        });
        fates.collect()
    }

    /// The messages that were handed to the SMS service.
    pub(crate) fn sms(&self) -> Vec<u64> {
        self.submitted.iter().map(|submit| submit.sent_idx).collect()
    }

    /// The process dies as it stands, the neighbours stay as they are.
    pub(crate) async fn crash(self, disk: &MemoryDisk, sabotage: Sabotage) -> World {
        let World { chassis, inbox, submitted, directory, sms_takes, .. } = self;
        let next = start(disk, sabotage).await;
        // Its tasks end as time passes: they can neither read nor write any more.
        chassis.tasks.shutdown(Duration::ZERO).await;
        let known = directory.0.read().expect("lock").clone();
        *next.directory.0.write().expect("lock") = known;
        World { inbox, submitted, sms_takes, ..next }
    }
}
