//! A gateway with its surroundings.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use bytes::Bytes;
use dialtone_bus::{Bus, Subscription, subjects};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::telemetry::{self, Telemetry};
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Network, Secrets};
use dialtone_gateway::{Config, Peers};
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{self as bus, Owner, offline_item, presence_item, routing_item};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::session_client::SessionClient;
use dialtone_proto::edge::v1::{self as edge, ClientFrame, ServerFrame};
use dialtone_shards::Shards;
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UnixMillis, UserId};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request, Status, Streaming};
use tower::service_fn;

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const ANNA_NUMBER: &str = "+14155550101";
/// How long something may take that must come.
const SOON: Duration = Duration::from_secs(60);

/// A call as it arrived at a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) peer: &'static str,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) body: Bytes,
}

/// The services behind the door: they keep what they are asked, and answer with these bytes or this refusal.
#[derive(Clone, Default)]
pub(crate) struct FakePeers {
    calls: Arc<RwLock<Vec<Call>>>,
    refusal: Arc<RwLock<Option<Status>>>,
}

/// What every service answers: a message of three bytes with its head.
pub(crate) const ANSWER: &[u8] = &[0, 0, 0, 0, 3, 0x08, 0x96, 0x01];

impl FakePeers {
    pub(crate) fn refuse(&self, status: Status) {
        *self.refusal.write().expect("lock") = Some(status);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.write().expect("lock"))
    }

    fn channel(&self, peer: &'static str) -> Channel {
        Channel::Local(self.routes(peer))
    }

    pub(crate) fn routes(&self, peer: &'static str) -> LocalRoutes {
        let this = self.clone();
        let answer = move |request: http::Request<Body>| {
            let this = this.clone();
            async move { Ok::<_, dialtone_chassis::BoxError>(this.answer(peer, request).await) }
        };
        LocalRoutes::new(service_fn(answer))
    }

    pub(crate) fn channels(&self) -> Peers {
        Peers {
            identity: self.channel("identity"),
            contacts: self.channel("contacts"),
            presence: self.channel("presence"),
            routing: self.channel("routing"),
            offline: self.channel("offline"),
        }
    }

    async fn answer(&self, peer: &'static str, request: http::Request<Body>) -> http::Response<Body> {
        let (head, body) = request.into_parts();
        let token = head.headers.get("authorization").map(|value| value.to_str().expect("text").to_owned());
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        let call = Call { peer, path: head.uri.path().to_owned(), token, body };
        self.calls.write().expect("lock").push(call);
        if let Some(status) = self.refusal.read().expect("lock").clone() {
            return status.into_http();
        }
        let trailers = http::HeaderMap::from_iter([("grpc-status".parse().expect("a name"), 0.into())]);
        let frames = [Frame::data(Bytes::from_static(ANSWER)), Frame::trailers(trailers)];
        let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, Status>)));
        let response = http::Response::builder().header("content-type", "application/grpc");
        response.body(Body::new(body)).expect("a response")
    }
}

/// What an owner is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Routing(routing_item::Item),
    Offline(offline_item::Item),
    Presence(presence_item::Item),
}

/// One process with a gateway, called `test`; it owns the users, too.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) bus: Bus,
    pub(crate) peers: FakePeers,
    pub(crate) secrets: Secrets,
    pub(crate) routes: Routes,
    routing: Subscription<bus::ToRouting>,
    offline: Subscription<bus::ToOffline>,
    presence: Subscription<bus::ToPresence>,
    waiting: VecDeque<Told>,
    /// Beats since this was last emptied.
    pub(crate) beats: Vec<Told>,
}

pub(crate) async fn world() -> World {
    start(Chassis::for_tests(7)).await
}

pub(crate) async fn start(chassis: Chassis) -> World {
    start_with(chassis, true).await
}

pub(crate) async fn start_with(chassis: Chassis, reflection: bool) -> World {
    let peers = FakePeers::default();
    let channels = peers.channels();
    open(chassis, peers, channels, reflection).await
}

/// The metrics of this process, set up before anything is counted.
pub(crate) fn telemetry() -> &'static Telemetry {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    TELEMETRY.get_or_init(|| telemetry::metrics_only().expect("metrics"))
}

pub(crate) async fn open(chassis: Chassis, peers: FakePeers, channels: Peers, reflection: bool) -> World {
    telemetry();
    let bus = Bus::local(&chassis);
    let owned = &["routing", "offline", "presence"];
    let shards = Shards::start(&chassis, &bus, owned, &[]).await.expect("shards");
    let routing = bus.subscribe(&subjects::routing(&chassis.node)).await.expect("subscribed");
    let offline = bus.subscribe(&subjects::offline(&chassis.node)).await.expect("subscribed");
    let presence = bus.subscribe(&subjects::presence(&chassis.node)).await.expect("subscribed");
    let (secrets, network) = (Secrets::for_tests(), Network::new(&chassis, None));
    let config = Config { listen: ([127, 0, 0, 1], 0).into(), reflection };
    let gateway = dialtone_gateway::start(&chassis, &bus, &shards, &secrets, &config, channels, &network);
    let gateway = gateway.await.expect("starts");
    let (waiting, beats) = (VecDeque::new(), Vec::new());
    let routes = gateway.routes;
    World { chassis, bus, peers, secrets, routes, routing, offline, presence, waiting, beats }
}

pub(crate) fn reason(status: &Status) -> Reason {
    Error::from_status(status).reason
}

pub(crate) fn up(frame: Up) -> ClientFrame {
    ClientFrame { frame: Some(frame) }
}

pub(crate) fn hello() -> ClientFrame {
    up(Up::Hello(edge::Hello::default()))
}

pub(crate) fn ping(nonce: u64) -> ClientFrame {
    up(Up::Ping(edge::Ping { nonce }))
}

/// The stream of a phone.
pub(crate) struct Phone {
    pub(crate) up: mpsc::Sender<ClientFrame>,
    down: mpsc::Receiver<Result<ServerFrame, Status>>,
    chassis: Chassis,
}

/// Reads a stream as a phone's transport does, whether the phone looks or not.
async fn read(mut down: Streaming<ServerFrame>, frames: mpsc::Sender<Result<ServerFrame, Status>>) {
    while let Some(frame) = down.message().await.transpose() {
        let over = frame.is_err();
        if frames.send(frame).await.is_err() || over {
            return;
        }
    }
}

impl Phone {
    pub(crate) async fn send(&self, frame: ClientFrame) {
        self.up.send(frame).await.expect("the stream is open");
    }

    async fn next(&mut self) -> Result<Option<ServerFrame>, Status> {
        let next = self.chassis.clock.timeout(SOON, self.down.recv()).await;
        next.expect("something comes").transpose()
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Down {
        self.next().await.expect("no error").expect("the stream goes on").frame.expect("a frame")
    }

    /// The stream ends without an error.
    pub(crate) async fn ends(&mut self) {
        assert_eq!(self.next().await.expect("no error"), None, "the stream ends");
    }

    /// The stream ends with this error.
    pub(crate) async fn fails(&mut self) -> Error {
        Error::from_status(&self.next().await.expect_err("the stream is refused"))
    }

    /// The stream is open and answers.
    pub(crate) async fn answers(&mut self) {
        self.send(ping(77)).await;
        let frame = self.frame().await;
        assert!(matches!(frame, Down::Pong(edge::Pong { nonce: 77, .. })), "{frame:?}");
    }

    /// Nothing comes within a while.
    pub(crate) async fn hears_nothing(&mut self, within: Duration) {
        let waited = self.chassis.clock.timeout(within, self.down.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    pub(crate) async fn go_away(&mut self) -> edge::GoAway {
        match self.frame().await {
            Down::GoAway(go_away) => go_away,
            other => panic!("not GoAway: {other:?}"),
        }
    }
}

/// A log's answer to an attach.
pub(crate) fn attached(generation: u32) -> Item {
    let (log_id, last_client_seq) = (vec![9; 16], 41);
    Item::Attached(bus::Attached { generation, epoch: 3, log_id, last_client_seq, ..Default::default() })
}

impl World {
    pub(crate) fn caller(&self, session: u8, life: Duration) -> Caller {
        Caller {
            user: ANNA,
            device: DeviceId(1),
            session: SessionId::new([session; 16]),
            number: PhoneNumber::parse_e164(ANNA_NUMBER).expect("a number"),
            expires: self.chassis.clock.now().plus(life),
        }
    }

    /// A token of one of Anna's sessions, for 15 minutes.
    pub(crate) fn token(&self, session: u8) -> String {
        self.secrets.signer().sign(&self.caller(session, Duration::from_secs(900)))
    }

    /// A stream that is read only when the test reads it.
    pub(crate) async fn open_stream(
        &self,
        token: &str,
    ) -> Result<(mpsc::Sender<ClientFrame>, Streaming<ServerFrame>), Status> {
        let (up, frames) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(frames));
        let bearer = format!("Bearer {token}");
        request.metadata_mut().insert("authorization", bearer.parse().expect("a header"));
        Ok((up, SessionClient::new(self.routes.clone()).connect(request).await?.into_inner()))
    }

    pub(crate) async fn connect(&self, token: &str) -> Result<Phone, Status> {
        let (up, down) = self.open_stream(token).await?;
        let (frames, read_frames) = mpsc::channel(1_024);
        self.chassis.tasks.spawn("phone", read(down, frames));
        Ok(Phone { up, down: read_frames, chassis: self.chassis.clone() })
    }

    /// A stream that has been welcomed, and its attach at offline.
    pub(crate) async fn welcomed(&mut self, token: &str) -> (Phone, bus::Attach) {
        let mut phone = self.connect(token).await.expect("opens");
        phone.send(hello()).await;
        let attach = self.attach_all().await;
        let welcome = phone.frame().await;
        assert!(matches!(welcome, Down::Welcome(_)), "{welcome:?}");
        (phone, attach)
    }

    /// Every owner takes the attach that comes next.
    pub(crate) async fn attach_all(&mut self) -> bus::Attach {
        let mut at_offline = None;
        for _ in 0..3 {
            let (owner, attach) = match self.told().await {
                Told::Routing(routing_item::Item::Attach(attach)) => (Owner::Routing, attach),
                Told::Offline(offline_item::Item::Attach(attach)) => (Owner::Offline, attach),
                Told::Presence(presence_item::Item::Attach(attach)) => (Owner::Presence, attach),
                other => panic!("not an attach: {other:?}"),
            };
            let ticket = attach.session.as_ref().expect("a session").ticket;
            self.say(owner, ticket, attached(attach.generation)).await;
            if owner == Owner::Offline {
                at_offline = Some(attach);
            }
        }
        at_offline.expect("offline was asked")
    }

    /// An owner says something to a session.
    pub(crate) async fn say(&self, owner: Owner, ticket: u64, item: Item) {
        let item = bus::GatewayItem { ticket, owner: owner.into(), item: Some(item) };
        let batch = bus::ToGateway { items: vec![item] };
        self.bus.publish(&subjects::gateway(&self.chassis.node), batch).await.expect("published");
    }

    /// What an owner is told next, beats aside.
    pub(crate) async fn told(&mut self) -> Told {
        let clock = self.chassis.clock.clone();
        let next = async {
            while self.waiting.is_empty() {
                self.take_in().await;
            }
            self.waiting.pop_front()
        };
        clock.timeout(SOON, next).await.ok().flatten().expect("an owner is told something")
    }

    /// Time passes; owners hear what they are told.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let (clock, until) = (self.chassis.clock.clone(), self.chassis.clock.now().plus(time));
        while clock.timeout(until.since(clock.now()), self.take_in()).await.is_ok() {}
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.chassis.clock.now()
    }

    async fn take_in(&mut self) {
        let told: Vec<Told> = tokio::select! {
            biased;
            batch = self.routing.next() => {
                let items = batch.expect("open").message.items.into_iter();
                items.filter_map(|item| item.item).map(Told::Routing).collect()
            }
            batch = self.offline.next() => {
                let items = batch.expect("open").message.items.into_iter();
                items.filter_map(|item| item.item).map(Told::Offline).collect()
            }
            batch = self.presence.next() => {
                let items = batch.expect("open").message.items.into_iter();
                items.filter_map(|item| item.item).map(Told::Presence).collect()
            }
        };
        for item in told {
            match item {
                Told::Routing(routing_item::Item::Beat(_))
                | Told::Offline(offline_item::Item::Beat(_))
                | Told::Presence(presence_item::Item::Beat(_)) => self.beats.push(item),
                other => self.waiting.push_back(other),
            }
        }
    }
}
