//! An SMS service with its surroundings.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use dialtone_bus::{Bus, Subscription, subjects};
use dialtone_chassis::telemetry::{self, Telemetry};
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Secrets};
use dialtone_proto::bus::v1::{
    MoClaim, MoClaimed, Offer, OfferAnswer, OfferAnswers, SmsItem, SmsResult, SmsResultTaken, SmsSubmit,
    SmsTaken, ToOffline, ToRouting, ToSms, offer_answer, offer_entry, offline_item, routing_item, sms_item,
    sms_submit,
};
use dialtone_proto::sms::internal::v1::bridge_client::BridgeClient;
use dialtone_proto::sms::internal::v1::{QuoteRequest, QuoteResponse};
use dialtone_proto::types::v1::FateKind;
use dialtone_shards::Shards;
use dialtone_sms::centre::{self, Centre};
use dialtone_sms::{Config, Dial, Wire};
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{NodeId, Reason, UserId};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::peer::{IN_VAIN, Peer};

pub(crate) const ANNA: UserId = UserId::new([1; 16]);
pub(crate) const BEN: UserId = UserId::new([2; 16]);
pub(crate) const CARLA: UserId = UserId::new([3; 16]);
pub(crate) const STRANGER: &str = "+14155550199";
pub(crate) const POOL: [&str; 2] = ["+18005550101", "+18005550102"];
/// Nothing comes for this long: longer than every limit within which it would have to come.
const QUIET: Duration = Duration::from_secs(120);
/// Octets that fit into a pipe.
const PIPE: usize = 64 * 1024;

/// A process with the SMS service.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) bus: Bus,
    pub(crate) identity: Identity,
    routes: LocalRoutes,
    connections: mpsc::Receiver<DuplexStream>,
    routing: Subscription<ToRouting>,
    results: VecDeque<SmsResult>,
    seen: BTreeSet<(Vec<u8>, i32)>,
    offline: Subscription<ToOffline>,
    /// How long something may take before it is given up.
    pub(crate) patience: Duration,
}

/// What a world is made of.
pub(crate) struct Setup {
    pub(crate) disk: MemoryDisk,
    pub(crate) config: Config,
    pub(crate) pipe: usize,
    /// Reaches the operator; without it a test takes the connections by hand.
    pub(crate) dial: Option<Dial>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { disk: MemoryDisk::new(), config: config(), pipe: PIPE, dial: None }
    }
}

pub(crate) fn config() -> Config {
    Config {
        provider: "nowhere".into(),
        system_id: "dialtone".into(),
        password: "secret".into(),
        service_numbers: POOL.map(str::to_owned).to_vec(),
        sender_id: "Dialtone".into(),
        prefix: String::new(),
        per_hour: 100_000,
        price_micros: 7_500,
        currency: "USD".into(),
    }
}

/// Identity, as far as SMS are asked about: claims what comes from some numbers.
#[derive(Clone, Default)]
pub(crate) struct Identity {
    claims: Arc<RwLock<BTreeSet<String>>>,
    away: Arc<RwLock<bool>>,
}

impl Identity {
    pub(crate) fn claim(&self, number: &str) {
        self.claims.write().expect("lock").insert(number.to_owned());
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.away.write().expect("lock") = away;
    }

    async fn start(&self, chassis: &Chassis, bus: &Bus) {
        let mut asked: Subscription<MoClaim> =
            bus.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
        let (identity, stop) = (self.clone(), chassis.tasks.stop_token());
        chassis.tasks.spawn("identity of the test", async move {
            while let Some(Some(asked)) = stop.run_until_cancelled(asked.next()).await {
                let claimed = identity.claims.read().expect("lock").contains(&asked.message.from);
                if !*identity.away.read().expect("lock") {
                    asked.reply(MoClaimed { claimed }).await;
                }
            }
        });
    }
}

pub(crate) async fn world() -> World {
    start(Setup::default()).await
}

pub(crate) async fn world_on(disk: &MemoryDisk) -> World {
    start(Setup { disk: disk.clone(), ..Setup::default() }).await
}

/// The metrics of this process, set up before anything is counted.
pub(crate) fn telemetry() -> &'static Telemetry {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    TELEMETRY.get_or_init(|| telemetry::metrics_only().expect("metrics"))
}

pub(crate) async fn start(setup: Setup) -> World {
    start_as("test", setup).await
}

/// Starts a process of some name.
pub(crate) async fn start_as(node: &str, setup: Setup) -> World {
    let chassis = Chassis { node: NodeId::new(node), ..Chassis::for_tests(1) };
    let bus = Bus::local(&chassis);
    let services = ["routing", "offline", "sms", "identity"];
    let shards = Shards::start(&chassis, &bus, &services, &[]).await.expect("shards");
    let url = StoreUrl::memory(&setup.disk);
    start_in(chassis, bus, shards, url, setup).await
}

/// Starts the service in a process that is there already, over any store.
pub(crate) async fn start_in(
    chassis: Chassis,
    bus: Bus,
    shards: Shards,
    url: StoreUrl,
    setup: Setup,
) -> World {
    telemetry();
    let routing = bus.subscribe(&subjects::routing(&chassis.node)).await.expect("subscribed");
    let offline = bus.subscribe(&subjects::offline(&chassis.node)).await.expect("subscribed");
    let identity = Identity::default();
    identity.start(&chassis, &bus).await;
    let (sender, connections) = mpsc::channel(64);
    let by_hand: Dial = Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(setup.pipe);
        let taken = sender.try_send(theirs);
        Box::pin(async move {
            taken.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours) as Box<dyn Wire>)
        })
    });
    let dial = setup.dial.unwrap_or(by_hand);
    let secrets = Secrets::for_tests();
    let sms = dialtone_sms::start(&chassis, &bus, &shards, &secrets, url, &setup.config, dial).await;
    World {
        routes: sms.expect("starts").routes,
        chassis,
        bus,
        identity,
        connections,
        routing,
        results: VecDeque::new(),
        seen: BTreeSet::new(),
        offline,
        patience: IN_VAIN,
    }
}

/// A centre, and the way to it.
pub(crate) fn centre(chassis: &Chassis) -> (Centre, Dial) {
    let config = centre::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        service_numbers: POOL.map(str::to_owned).to_vec(),
        password: "secret".into(),
    };
    let centre = Centre::new(chassis, &config);
    let serving = centre.clone();
    let dial: Dial = Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        serving.serve(theirs);
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Wire>) })
    });
    (centre, dial)
}

/// The n-th message, of Anna to the stranger.
pub(crate) fn message(n: u8, text: &str) -> SmsSubmit {
    SmsSubmit {
        message_id: vec![n; 16],
        to: STRANGER.into(),
        text: text.into(),
        kind: sms_submit::Kind::Message.into(),
        from_user: ANNA.to_vec(),
        from_number: "+14155550101".into(),
        outbox: vec![9; 16],
        sent_idx: u64::from(n),
    }
}

pub(crate) fn by(user: UserId, submit: SmsSubmit) -> SmsSubmit {
    SmsSubmit { from_user: user.to_vec(), ..submit }
}

impl World {
    /// The next connection that is dialled.
    pub(crate) async fn connection(&mut self) -> Peer {
        let dialled = self.chassis.clock.timeout(self.patience, self.connections.recv()).await;
        Peer::new(dialled.expect("a connection is dialled").expect("the bridge runs"))
    }

    /// The next connection, bound.
    pub(crate) async fn operator(&mut self) -> Peer {
        let mut peer = self.connection().await;
        peer.bound().await;
        peer
    }

    pub(crate) async fn send(&self, submit: SmsSubmit) -> SmsTaken {
        let within = Duration::from_secs(60);
        self.bus.request(&subjects::sms_send(), submit, within).await.expect("answered")
    }

    /// Takes these, none refused.
    pub(crate) async fn sends(&self, submits: impl IntoIterator<Item = SmsSubmit>) {
        for submit in submits {
            assert_eq!(self.send(submit).await, SmsTaken::default(), "taken");
        }
    }

    pub(crate) async fn quote(&self, user: UserId, text: &str) -> Result<QuoteResponse, Reason> {
        let ask = QuoteRequest {
            to: STRANGER.into(),
            text: text.into(),
            from_number: "+14155550101".into(),
            from_user: user.to_vec(),
        };
        self.quoted(ask).await
    }

    pub(crate) async fn quoted(&self, ask: QuoteRequest) -> Result<QuoteResponse, Reason> {
        let answer = BridgeClient::new(Channel::Local(self.routes.clone())).quote(ask).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status).reason)
    }

    async fn tell(&self, item: sms_item::Item) {
        self.tell_to(&self.chassis.node, item).await;
    }

    async fn tell_to(&self, node: &NodeId, item: sms_item::Item) {
        let items = vec![SmsItem { item: Some(item) }];
        self.bus.publish(&subjects::sms(node), ToSms { items }).await.expect("published");
    }

    /// The next result that is told, taken or not; also what was told before.
    pub(crate) async fn told(&mut self) -> SmsResult {
        loop {
            if let Some(result) = self.results.pop_front() {
                return result;
            }
            let told = self.chassis.clock.timeout(self.patience, self.routing.next()).await;
            let batch = told.expect("something is told").expect("the bus is open").message;
            self.results.extend(batch.items.into_iter().filter_map(|item| match item.item {
                Some(routing_item::Item::SmsResult(result)) => Some(result),
                _ => None,
            }));
        }
    }

    /// Takes a result, as whoever told it is to hear.
    pub(crate) async fn take_result(&self, result: &SmsResult) {
        let taken = SmsResultTaken { message_id: result.message_id.clone(), kind: result.kind };
        self.tell_to(&NodeId::new(&result.reply_node), sms_item::Item::ResultTaken(taken)).await;
    }

    /// The next result that was not told before, as (n-th message, kind, reason); it is taken.
    pub(crate) async fn result(&mut self) -> (u8, FateKind, String) {
        let until = self.chassis.clock.instant() + self.patience;
        loop {
            let result = self.told().await;
            self.take_result(&result).await;
            assert!(self.chassis.clock.instant() < until, "nothing new is told");
            if self.seen.insert((result.message_id.clone(), result.kind)) {
                return (result.message_id[0], result.kind(), result.reason);
            }
        }
    }

    /// Nothing is told that was not told before, though the operator is there.
    pub(crate) async fn no_result(&mut self, peer: &mut Peer) {
        let clock = self.chassis.clock.clone();
        tokio::select! {
            biased;
            result = self.result() => panic!("a result was told: {result:?}"),
            () = peer.idle() => unreachable!("without end"),
            () = clock.sleep(QUIET) => {}
        }
    }

    /// The next offer to an inbox.
    pub(crate) async fn offer(&mut self) -> Offer {
        let offered = self.chassis.clock.timeout(self.patience, self.offline.next()).await;
        let batch = offered.expect("something is offered").expect("the bus is open").message;
        match batch.items.into_iter().next().and_then(|item| item.item) {
            Some(offline_item::Item::Offer(offer)) => offer,
            other => panic!("not an offer: {other:?}"),
        }
    }

    /// What is offered next, as (receiver, from, text) of each entry; kept there.
    pub(crate) async fn offered(&mut self) -> Vec<(UserId, String, String)> {
        let offer = self.offer().await;
        self.keep(&offer).await;
        let receiver = UserId::from_slice(&offer.receiver).expect("a user");
        let shown = offer.entries.into_iter().map(|entry| match entry.entry {
            Some(offer_entry::Entry::Message(message)) => {
                let body = message.body.expect("a body");
                let text = String::from_utf8(body.content.to_vec()).expect("text");
                (receiver, message.from_number, text)
            }
            other => panic!("not a message: {other:?}"),
        });
        shown.collect()
    }

    /// The inbox has them.
    pub(crate) async fn keep(&self, offer: &Offer) {
        let kept =
            |position| OfferAnswer { position, kind: offer_answer::Kind::Kept.into(), why: String::new() };
        let answers = OfferAnswers {
            source: offer.source.clone(),
            receiver: offer.receiver.clone(),
            answers: offer.entries.iter().map(|entry| kept(entry.position)).collect(),
            ..OfferAnswers::default()
        };
        self.tell(sms_item::Item::Answers(answers)).await;
    }

    /// The inbox says that it has only what is up to `taken`.
    pub(crate) async fn expects(&self, offer: &Offer, taken: u64) {
        let answers = OfferAnswers {
            source: offer.source.clone(),
            receiver: offer.receiver.clone(),
            expected: true,
            taken,
            ..OfferAnswers::default()
        };
        self.tell(sms_item::Item::Answers(answers)).await;
    }

    /// Nothing is offered, though the operator is there.
    pub(crate) async fn no_offer(&mut self, peer: &mut Peer) {
        let clock = self.chassis.clock.clone();
        tokio::select! {
            biased;
            offer = self.offline.next() => panic!("offered: {:?}", offer.map(|offer| offer.message)),
            () = peer.idle() => unreachable!("without end"),
            () = clock.sleep(QUIET) => {}
        }
    }

    /// Lets so much time pass, with an operator that is there.
    pub(crate) async fn pass(&self, peer: &mut Peer, time: Duration) {
        let clock = self.chassis.clock.clone();
        assert!(clock.timeout(time, peer.idle()).await.is_err(), "without end");
    }

    /// Why the operator is not there, as `/readyz` says it.
    pub(crate) fn missing(&self) -> Option<String> {
        let report = self.chassis.ready.report();
        report.into_iter().find(|(name, _)| *name == "sms operator").expect("registered").1
    }

    /// Ends the process in order.
    pub(crate) async fn stop(self) {
        let tasks = self.chassis.tasks.clone();
        // What was just told to it arrives.
        self.chassis.clock.sleep(Duration::from_millis(1)).await;
        drop(self);
        assert!(tasks.shutdown(Duration::from_secs(10)).await, "every task ends");
    }
}

/// No submit comes.
pub(crate) async fn no_submit(world: &World, peer: &mut Peer) {
    assert!(world.chassis.clock.timeout(QUIET, peer.submit()).await.is_err(), "something was submitted");
}
