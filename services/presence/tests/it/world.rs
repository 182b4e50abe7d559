//! A service of presence with its surroundings: a gateway that beats, and contacts.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dialtone_attach::{Link, Received, SessionKey};
use dialtone_bus::{Bus, Fan, Subscription, subjects};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Secrets, server};
use dialtone_presence::{Config, Peers};
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as FromOwner;
use dialtone_proto::bus::v1::presence_item::Item;
use dialtone_proto::contacts::internal::v1 as graph;
use dialtone_proto::contacts::internal::v1::graph_server::{Graph, GraphServer};
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{Presence, Watch};
use dialtone_proto::presence::v1::presence_client::PresenceClient;
use dialtone_proto::presence::v1::{PeerState, SetStatusRequest};
use dialtone_proto::types::v1::UserRef;
use dialtone_shards::Shards;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{DeviceId, NodeId, PhoneNumber, Reason, SessionId, UserId};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const BEN: UserId = UserId::new([2; 16]);
pub(crate) const CARLA: UserId = UserId::new([3; 16]);

/// Contacts, as far as presence asks it.
#[derive(Clone, Default)]
pub(crate) struct FakeGraph {
    blocks: Arc<RwLock<BTreeSet<(UserId, UserId)>>>,
    down: Arc<RwLock<bool>>,
}

impl FakeGraph {
    pub(crate) fn block(&self, by: UserId, user: UserId) {
        self.blocks.write().expect("lock").insert((by, user));
    }

    pub(crate) fn set_down(&self, down: bool) {
        *self.down.write().expect("lock") = down;
    }

    fn has(&self, by: &[u8], user: &[u8]) -> Result<bool, Status> {
        if *self.down.read().expect("lock") {
            return Err(Error::new(Reason::StoreUnavailable, "down").into());
        }
        let id = |bytes: &[u8]| UserId::from_slice(bytes).expect("16 bytes");
        Ok(self.blocks.read().expect("lock").contains(&(id(by), id(user))))
    }
}

#[tonic::async_trait]
impl Graph for FakeGraph {
    async fn may_see(
        &self,
        request: Request<graph::MaySeeRequest>,
    ) -> Result<Response<graph::MaySeeResponse>, Status> {
        let ask = request.into_inner();
        let may = ask.subjects.iter().map(|subject| self.has(subject, &ask.viewer).map(|blocks| !blocks));
        Ok(Response::new(graph::MaySeeResponse { may: may.collect::<Result<_, _>>()? }))
    }

    async fn blocks(
        &self,
        request: Request<graph::BlocksRequest>,
    ) -> Result<Response<graph::BlocksResponse>, Status> {
        let blocked = request.get_ref().pairs.iter().map(|pair| self.has(&pair.by, &pair.user));
        Ok(Response::new(graph::BlocksResponse { blocked: blocked.collect::<Result<_, _>>()? }))
    }
}

/// One process with presence, and a gateway called `gate`.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) graph: FakeGraph,
    secrets: Secrets,
    routes: LocalRoutes,
    out: Fan<bus::ToPresence>,
    wire: Bus,
    shards: Shards,
    back: Subscription<bus::ToGateway>,
    sessions: Vec<Session>,
    beaten: Instant,
}

/// A session at the gateway, as `dialtone-gateway` keeps it.
struct Session {
    user: UserId,
    link: Link,
    watch: Watch,
    beats: bool,
    opened: u64,
    loses: bool,
    shown: Vec<Frame>,
}

pub(crate) async fn world() -> World {
    start(&MemoryDisk::new()).await
}

pub(crate) async fn start(disk: &MemoryDisk) -> World {
    let chassis = Chassis::for_tests(7);
    let wire = Bus::local(&chassis);
    let shards = Shards::start(&chassis, &wire, &["contacts", "presence"], &[]).await.expect("shards");
    let graph = FakeGraph::default();
    let contacts = tonic::service::Routes::new(GraphServer::new(graph.clone()));
    let peers = Peers { contacts: Channel::Local(server::layers(&chassis, contacts, None, &[])) };
    let secrets = Secrets::for_tests();
    let (url, config) = (StoreUrl::memory(disk), Config { table_peers: 4 });
    let presence = dialtone_presence::start(&chassis, &wire, &shards, &secrets, url, &config, peers)
        .await
        .expect("starts");
    let back = wire.subscribe(&subjects::gateway(&NodeId::new("gate"))).await.expect("subscribed");
    let beaten = chassis.clock.instant();
    let out = wire.fan(subjects::presence);
    let routes = presence.routes;
    World { chassis, graph, secrets, routes, out, wire, shards, back, sessions: Vec::new(), beaten }
}

pub(crate) fn refs(users: &[UserId]) -> Vec<UserRef> {
    users.iter().map(|user| UserRef { id: user.to_vec() }).collect()
}

fn key(ticket: usize) -> bus::SessionKey {
    SessionKey { gateway: NodeId::new("gate"), ticket: ticket as u64 }.to_proto()
}

impl World {
    pub(crate) fn client(&self) -> PresenceClient<Channel> {
        PresenceClient::new(Channel::Local(self.routes.clone()))
    }

    pub(crate) fn from<T>(&self, user: UserId, message: T) -> Request<T> {
        let caller = Caller {
            user,
            device: DeviceId(1),
            session: SessionId::new([9; 16]),
            number: PhoneNumber::parse_e164("+14155550101").expect("a number"),
            expires: self.chassis.clock.now().plus(Duration::from_secs(60)),
        };
        let token = format!("Bearer {}", self.secrets.signer().sign(&caller));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token.parse().expect("a header"));
        request
    }

    pub(crate) async fn set_status(&self, user: UserId, text: &str, invisible: bool) -> Result<(), Status> {
        let ask = SetStatusRequest { text: text.to_owned(), invisible };
        self.client().set_status(self.from(user, ask)).await.map(|_empty| ())
    }

    /// A second process with presence: about half of the users move to it.
    pub(crate) async fn add_node(&mut self, name: &str) -> Chassis {
        let mut chassis = Chassis::for_tests(8);
        chassis.node = NodeId::new(name);
        let shards = Shards::start(&chassis, &self.wire, &["presence"], &[]).await.expect("shards");
        let contacts = tonic::service::Routes::new(GraphServer::new(self.graph.clone()));
        let peers = Peers { contacts: Channel::Local(server::layers(&chassis, contacts, None, &[])) };
        let (url, config) = (StoreUrl::memory(&MemoryDisk::new()), Config { table_peers: 4 });
        dialtone_presence::start(&chassis, &self.wire, &shards, &self.secrets, url, &config, peers)
            .await
            .expect("starts");
        chassis
    }

    /// The node that owns a user.
    pub(crate) fn node_of(&self, user: UserId) -> NodeId {
        self.shards.node_of("presence", user).expect("a node is alive")
    }

    pub(crate) fn push(&self, user: UserId, item: Item) {
        let item = bus::PresenceItem { item: Some(item) };
        self.out.push(&self.node_of(user), item).expect("there is room");
    }

    /// A session of a user; its ticket.
    pub(crate) async fn open(&mut self, user: UserId) -> usize {
        let opened = self.chassis.clock.now().0;
        let (link, watch, shown) = (Link::default(), Watch::default(), Vec::new());
        self.sessions.push(Session { user, link, watch, beats: true, opened, loses: false, shown });
        let ticket = self.sessions.len() - 1;
        self.attach(ticket);
        self.pass(Duration::from_millis(10)).await;
        assert!(self.sessions[ticket].link.is_level(), "attached");
        ticket
    }

    fn attach(&mut self, ticket: usize) {
        let now = self.chassis.clock.now();
        let session = &mut self.sessions[ticket];
        let attach = bus::Attach {
            session: Some(key(ticket)),
            generation: session.link.begin(now),
            user: session.user.to_vec(),
            device: 1,
            watch: Some(session.watch.clone()),
            opened_ms: session.opened,
            ..Default::default()
        };
        let user = session.user;
        self.push(user, Item::Attach(attach));
    }

    /// The phone's whole table.
    pub(crate) fn watch(&mut self, ticket: usize, version: u64, peers: &[UserId]) {
        let watch = Watch { version, replace: refs(peers), is_replace: true, ..Default::default() };
        let session = &mut self.sessions[ticket];
        session.watch = watch.clone();
        let user = session.user;
        let change =
            bus::SessionWatch { session: Some(key(ticket)), user: user.to_vec(), watch: Some(watch) };
        self.push(user, Item::Watch(change));
    }

    pub(crate) fn client_state(&self, ticket: usize, state: i32) {
        let owner = self.sessions[ticket].user;
        let user = owner.to_vec();
        self.push(owner, Item::State(bus::SessionState { session: Some(key(ticket)), user, state }));
    }

    pub(crate) fn typing(&self, ticket: usize, to: UserId) {
        let owner = self.sessions[ticket].user;
        let user = owner.to_vec();
        self.push(
            owner,
            Item::Typing(bus::SessionTyping { session: Some(key(ticket)), user, to: to.to_vec() }),
        );
    }

    pub(crate) fn close(&mut self, ticket: usize) {
        self.sessions[ticket].beats = false;
        let owner = self.sessions[ticket].user;
        let user = owner.to_vec();
        self.push(owner, Item::Detach(bus::Detach { session: Some(key(ticket)), user }));
    }

    /// The gateway falls silent about a session.
    pub(crate) fn silence(&mut self, ticket: usize) {
        self.sessions[ticket].beats = false;
    }

    /// The next frames of a session get lost on their way.
    pub(crate) fn lose_next(&mut self, ticket: usize) {
        self.sessions[ticket].loses = true;
    }

    /// Time passes; the gateway beats and takes what comes.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = self.chassis.clock.instant() + time;
        loop {
            let next = (self.beaten + Duration::from_secs(1)).min(until);
            let left = next.saturating_duration_since(self.chassis.clock.instant());
            match self.chassis.clock.timeout(left, self.back.next()).await {
                Ok(batch) => self.take(batch.expect("the bus is open").message),
                Err(_elapsed) if next == until => return,
                Err(_elapsed) => self.beat(),
            }
        }
    }

    fn beat(&mut self) {
        self.beaten = self.chassis.clock.instant();
        for (ticket, session) in self.sessions.iter().enumerate().filter(|(_, session)| session.beats) {
            let beat = session.link.beat(ticket as u64, session.user.as_bytes());
            let beat = bus::Beat { gateway: "gate".into(), sessions: vec![beat] };
            self.push(session.user, Item::Beat(beat));
        }
    }

    fn take(&mut self, batch: bus::ToGateway) {
        let now = self.chassis.clock.now();
        for item in batch.items {
            assert_eq!(item.owner(), bus::Owner::Presence);
            let ticket = usize::try_from(item.ticket).expect("small");
            let session = &mut self.sessions[ticket];
            match item.item.expect("an item") {
                FromOwner::Attached(answer) => {
                    assert_eq!(answer.refused, "");
                    session.link.attached(&answer);
                }
                FromOwner::Frames(_) if session.loses => session.loses = false,
                FromOwner::Frames(frames) => match session.link.frames(frames, now) {
                    Received::Next(frames) => {
                        session.shown.extend(frames.into_iter().filter_map(|frame| frame.frame));
                    }
                    other => panic!("frames out of order: {other:?}"),
                },
                FromOwner::Reattach(again) => {
                    if session.link.is_current(again.generation) {
                        self.attach(ticket);
                    }
                }
                FromOwner::Close(reason) => panic!("closed: {reason:?}"),
            }
        }
    }

    /// What a session was shown since this was last asked.
    pub(crate) fn frames(&mut self, ticket: usize) -> Vec<Frame> {
        std::mem::take(&mut self.sessions[ticket].shown)
    }

    pub(crate) fn presence(&mut self, ticket: usize) -> Vec<Presence> {
        let frames = self.frames(ticket).into_iter();
        frames
            .filter_map(|frame| match frame {
                Frame::Presence(presence) => Some(presence),
                _ => None,
            })
            .collect()
    }

    /// All changes that a session was shown since this was last asked, in order.
    pub(crate) fn changes(&mut self, ticket: usize) -> Vec<PeerState> {
        self.presence(ticket).into_iter().flat_map(|presence| presence.changes).collect()
    }
}
