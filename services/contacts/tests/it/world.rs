//! A service of contacts with its surroundings.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dialtone_bus::{Bus, Subscription, subjects};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Secrets, server};
use dialtone_contacts::{Config, Peers};
use dialtone_proto::bus::v1::{ContactEvent, FactTaken, NumberFact, ToPresence, presence_item};
use dialtone_proto::contacts::internal::v1::graph_client::GraphClient;
use dialtone_proto::contacts::v1 as proto;
use dialtone_proto::contacts::v1::contacts_client::ContactsClient;
use dialtone_proto::identity::internal::v1 as directory;
use dialtone_proto::identity::internal::v1::directory_server::{Directory, DirectoryServer};
use dialtone_proto::types::v1::TypedNumber;
use dialtone_shards::Shards;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UserId};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const BEN: UserId = UserId::new([2; 16]);
pub(crate) const CARLA: UserId = UserId::new([3; 16]);
pub(crate) const ANNA_NUMBER: &str = "+14155550101";
pub(crate) const BEN_NUMBER: &str = "+14155550102";
pub(crate) const CARLA_NUMBER: &str = "+14155550103";
pub(crate) const NOBODY: &str = "+14155550199";

/// Whose numbers are whose: user, epoch, nickname.
type Numbers = BTreeMap<String, (UserId, u64, String)>;

/// Identity, as far as contacts asks it.
#[derive(Clone, Default)]
pub(crate) struct FakeDirectory {
    numbers: Arc<RwLock<Numbers>>,
    down: Arc<RwLock<bool>>,
    slow: Arc<watch::Sender<Pace>>,
}

/// How quick identity is.
#[derive(Default)]
struct Pace {
    /// It answers nothing while it is slow.
    slow: bool,
    /// Somebody has asked meanwhile.
    asked: bool,
}

impl FakeDirectory {
    pub(crate) fn put(&self, number: &str, user: UserId, epoch: u64, nickname: &str) {
        let row = (user, epoch, nickname.to_owned());
        self.numbers.write().expect("lock").insert(number.to_owned(), row);
    }

    pub(crate) fn remove(&self, number: &str) {
        self.numbers.write().expect("lock").remove(number);
    }

    pub(crate) fn set_down(&self, down: bool) {
        *self.down.write().expect("lock") = down;
    }

    pub(crate) fn be_slow(&self, slow: bool) {
        self.slow.send_replace(Pace { slow, asked: false });
    }

    /// Until somebody waits for an answer.
    pub(crate) async fn asked(&self) {
        self.slow.subscribe().wait_for(|pace| pace.asked).await.expect("it is there");
    }

    async fn answer_in_time(&self) {
        self.slow.send_modify(|pace| pace.asked = true);
        self.slow.subscribe().wait_for(|pace| !pace.slow).await.expect("it is there");
    }

    fn check(&self) -> Result<(), Status> {
        let down = *self.down.read().expect("lock");
        if down { Err(Error::new(Reason::StoreUnavailable, "down").into()) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl Directory for FakeDirectory {
    async fn resolve(
        &self,
        request: Request<directory::ResolveRequest>,
    ) -> Result<Response<directory::ResolveResponse>, Status> {
        self.check()?;
        self.answer_in_time().await;
        let numbers = self.numbers.read().expect("lock");
        let answer = |number: &String| match numbers.get(number) {
            Some((user, epoch, nickname)) => {
                directory::Resolved { user: user.to_vec(), epoch: *epoch, nickname: nickname.clone() }
            }
            None => directory::Resolved::default(),
        };
        let answers = request.get_ref().numbers.iter().map(answer).collect();
        Ok(Response::new(directory::ResolveResponse { answers }))
    }

    async fn numbers(
        &self,
        request: Request<directory::NumbersRequest>,
    ) -> Result<Response<directory::NumbersResponse>, Status> {
        self.check()?;
        let numbers = self.numbers.read().expect("lock");
        let answer = |user: &Vec<u8>| {
            let found = numbers.iter().find(|(_, (owner, _, _))| owner.as_bytes() == user.as_slice());
            found.map_or_else(directory::UserNumbers::default, |(number, (_, epoch, nickname))| {
                directory::UserNumbers { primary: number.clone(), epoch: *epoch, nickname: nickname.clone() }
            })
        };
        let answers = request.get_ref().users.iter().map(answer).collect();
        Ok(Response::new(directory::NumbersResponse { answers }))
    }
}

/// One process with contacts.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) bus: Bus,
    pub(crate) directory: FakeDirectory,
    secrets: Secrets,
    routes: LocalRoutes,
    events: Subscription<ToPresence>,
}

pub(crate) async fn world() -> World {
    start(StoreUrl::memory(&MemoryDisk::new()), 10_000).await
}

/// Anna, Ben and Carla are users; `budget` new numbers may be asked about.
pub(crate) async fn start(url: StoreUrl, budget: u32) -> World {
    let chassis = Chassis::for_tests(7);
    let bus = Bus::local(&chassis);
    let shards = Shards::start(&chassis, &bus, &["contacts", "presence"], &[]).await.expect("shards");
    let directory = FakeDirectory::default();
    for (number, user, nickname) in
        [(ANNA_NUMBER, ANNA, "Anna"), (BEN_NUMBER, BEN, "Ben"), (CARLA_NUMBER, CARLA, "")]
    {
        directory.put(number, user, 1, nickname);
    }
    let routes = tonic::service::Routes::new(DirectoryServer::new(directory.clone()));
    let peers = Peers { identity: Channel::Local(server::layers(&chassis, routes, None, &[])) };
    let events = bus.subscribe(&subjects::presence(&chassis.node)).await.expect("subscribed");
    let secrets = Secrets::for_tests();
    let config = Config { new_numbers_per_30_days: budget };
    let contacts = dialtone_contacts::start(&chassis, &bus, &shards, &secrets, url, &config, peers)
        .await
        .expect("starts");
    World { routes: contacts.routes, chassis, bus, directory, secrets, events }
}

pub(crate) fn typed(texts: &[&str]) -> Vec<TypedNumber> {
    texts.iter().map(|text| TypedNumber { text: (*text).to_owned(), region: String::new() }).collect()
}

pub(crate) fn reason(status: &Status) -> Reason {
    Error::from_status(status).reason
}

impl World {
    pub(crate) fn contacts(&self) -> ContactsClient<Channel> {
        ContactsClient::new(Channel::Local(self.routes.clone()))
    }

    pub(crate) fn graph(&self) -> GraphClient<Channel> {
        GraphClient::new(Channel::Local(self.routes.clone()))
    }

    /// A request of a user with its number.
    pub(crate) fn from<T>(&self, user: UserId, message: T) -> Request<T> {
        let number = match user {
            ANNA => ANNA_NUMBER,
            BEN => BEN_NUMBER,
            _ => CARLA_NUMBER,
        };
        let caller = Caller {
            user,
            device: DeviceId(1),
            session: SessionId::new([9; 16]),
            number: PhoneNumber::parse_e164(number).expect("a number"),
            expires: self.chassis.clock.now().plus(Duration::from_secs(60)),
        };
        let token = format!("Bearer {}", self.secrets.signer().sign(&caller));
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token.parse().expect("a header"));
        request
    }

    pub(crate) async fn sync(
        &self,
        user: UserId,
        base: &[u8],
        added: &[&str],
        removed: &[&str],
        more: bool,
    ) -> Result<proto::SyncResponse, Status> {
        let ask = proto::SyncRequest {
            base_token: base.to_vec(),
            added: typed(added),
            removed: typed(removed),
            region: "US".into(),
            more,
        };
        Ok(self.contacts().sync(self.from(user, ask)).await?.into_inner())
    }

    pub(crate) async fn acknowledge(&self, user: UserId, token: &[u8]) -> Result<(), Status> {
        let ask = proto::AckTokenRequest { token: token.to_vec() };
        self.contacts().ack_token(self.from(user, ask)).await.map(|_empty| ())
    }

    /// A chunk, answered and acknowledged; its token.
    pub(crate) async fn synced(&self, user: UserId, base: &[u8], added: &[&str]) -> Vec<u8> {
        let answer = self.sync(user, base, added, &[], false).await.expect("synced");
        self.acknowledge(user, &answer.next_token).await.expect("acknowledged");
        answer.next_token
    }

    /// The friends' numbers, in order.
    pub(crate) async fn friends(&self, user: UserId) -> Vec<String> {
        let answer = self.contacts().list_friends(self.from(user, <_>::default())).await.expect("listed");
        let mut numbers: Vec<_> = answer.into_inner().friends.into_iter().map(|f| f.number).collect();
        numbers.sort();
        numbers
    }

    /// Identity's fact, until it is taken.
    pub(crate) async fn tell(&self, number: &str, user: Option<UserId>, epoch: u64) {
        let fact = NumberFact {
            number: number.to_owned(),
            user: user.map(UserId::to_vec).unwrap_or_default(),
            epoch,
            nickname: "New".into(),
        };
        let within = Duration::from_secs(2);
        self.bus
            .request::<_, FactTaken>(&subjects::contacts_fact(), fact, within)
            .await
            .expect("the fact is taken");
    }

    /// The next event for a phone.
    pub(crate) async fn event(&mut self) -> ContactEvent {
        let batch = self.events.next().await.expect("the bus is open").message;
        assert_eq!(batch.items.len(), 1);
        match batch.items.into_iter().next().and_then(|item| item.item) {
            Some(presence_item::Item::Contact(event)) => event,
            other => panic!("not a contact event: {other:?}"),
        }
    }

    /// Nothing is told within ten seconds of the stopped clock.
    pub(crate) async fn no_event(&mut self) {
        let waited = self.chassis.clock.timeout(Duration::from_secs(10), self.events.next()).await;
        assert!(waited.is_err(), "something was told");
    }
}
