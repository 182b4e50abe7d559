//! Calls about what is a user's reach the process that owns the user, wherever it is; others go where settings say.

use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Chassis, Network, Secrets, listen, server};
use dialtone_gateway::Config;
use dialtone_shards::Shards;
use dialtone_vocab::{DeviceId, NodeId, PhoneNumber, Reason, SessionId, UserId};
use tonic::service::Routes;

use crate::calls::{call, message};
use crate::world::{ANNA_NUMBER, Call, FakePeers, reason};

/// How long something may take that must come.
const SOON: Duration = Duration::from_secs(30);
const OWNED: [(&str, &str); 3] = [
    ("presence", "/dialtone.presence.v1.Presence/SetStatus"),
    ("routing", "/dialtone.routing.v1.Messages/PlanSend"),
    ("offline", "/dialtone.offline.v1.Inbox/GetCursor"),
];
const NAMES: [&str; 3] =
    ["dialtone.presence.v1.Presence", "dialtone.routing.v1.Messages", "dialtone.offline.v1.Inbox"];
const SERVICES: [&str; 3] = ["presence", "routing", "offline"];

/// Where an owner says that it is.
enum Says {
    TheTruth,
    This(&'static str),
}

/// A process that owns users.
struct Owner {
    chassis: Chassis,
    calls: FakePeers,
}

impl Owner {
    async fn start(bus: &Bus, node: &'static str, says: Says) -> Self {
        let (chassis, calls) = (Chassis::real(NodeId::new(node)), FakePeers::default());
        let listener = listen::bind(([127, 0, 0, 1], 0).into(), "internal.listen").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        listen::serve_internal(&chassis, listener, server::join(vec![(&NAMES, calls.routes(node))]), None);
        let told = match says {
            Says::TheTruth => url.as_str(),
            Says::This(url) => url,
        };
        Shards::start_at(&chassis, bus, &SERVICES, &[], told).await.expect("started");
        Self { chassis, calls }
    }

    async fn stop(self) {
        assert!(self.chassis.tasks.shutdown(SOON).await);
    }
}

/// A gateway whose settings name one process for everything.
struct Door {
    chassis: Chassis,
    bus: Bus,
    shards: Shards,
    secrets: Secrets,
    configured: FakePeers,
    routes: Routes,
}

impl Door {
    /// With these services in its own process, too.
    async fn open(own: &[&str]) -> Self {
        let chassis = Chassis::real(NodeId::new("test"));
        let (bus, configured) = (Bus::local(&chassis), FakePeers::default());
        // A listener that is its own, and that nobody needs.
        let shards = Shards::start_at(&chassis, &bus, own, &[], "http://127.0.0.1:1").await.expect("started");
        let (secrets, network) = (Secrets::for_tests(), Network::new(&chassis, None));
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), reflection: false };
        let peers = configured.channels();
        let gateway = dialtone_gateway::start(&chassis, &bus, &shards, &secrets, &config, peers, &network);
        let routes = gateway.await.expect("starts").routes;
        Self { chassis, bus, shards, secrets, configured, routes }
    }

    fn token(&self, user: UserId) -> String {
        self.secrets.signer().sign(&Caller {
            user,
            device: DeviceId(1),
            session: SessionId::new([1; 16]),
            number: PhoneNumber::parse_e164(ANNA_NUMBER).expect("a number"),
            expires: self.chassis.clock.now().plus(Duration::from_secs(900)),
        })
    }

    async fn call(&self, path: &str, user: UserId) -> Result<(), Reason> {
        let answer = call(&self.routes, path, Some(&self.token(user)), message(b"")).await;
        answer.map(drop).map_err(|status| reason(&status))
    }

    /// Until so many processes have each of the services.
    async fn knows(&self, processes: usize) {
        let waiting = async {
            while SERVICES.iter().any(|service| self.shards.nodes(service).len() != processes) {
                self.chassis.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        self.chassis.clock.timeout(SOON, waiting).await.expect("they are heard");
    }

    /// Until the calls of this user go to one of these.
    async fn reaches(&self, user: UserId, owners: &[&Owner]) {
        let waiting = async {
            loop {
                let outcome = self.call(OWNED[0].1, user).await;
                if outcome.is_ok() && owners.iter().any(|owner| !owner.calls.calls().is_empty()) {
                    return;
                }
                self.chassis.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        self.chassis.clock.timeout(SOON, waiting).await.expect("an owner is reached");
        for calls in owners.iter().map(|owner| &owner.calls).chain([&self.configured]) {
            calls.calls();
        }
    }
}

fn users() -> impl Iterator<Item = UserId> {
    (1..=24).map(|n| UserId::new([n; 16]))
}

/// Who was called by which path since this was last asked.
fn seen(calls: &FakePeers) -> Vec<(&'static str, String)> {
    calls.calls().into_iter().map(|Call { peer, path, .. }| (peer, path)).collect()
}

#[tokio::test]
async fn what_is_a_users_is_asked_of_its_owner() {
    let door = Door::open(&[]).await;
    let (a, b) = (
        Owner::start(&door.bus, "a", Says::TheTruth).await,
        Owner::start(&door.bus, "b", Says::TheTruth).await,
    );
    door.knows(2).await;
    for user in users() {
        door.reaches(user, &[&a, &b]).await;
    }
    let mut owned = [0, 0];
    for user in users() {
        for (service, path) in OWNED {
            door.call(path, user).await.expect("answered");
            let owner = door.shards.node_of(service, user).expect("an owner");
            let (yes, no) = if owner.as_str() == "a" { (&a, &b) } else { (&b, &a) };
            assert_eq!(seen(&yes.calls), [(if owner.as_str() == "a" { "a" } else { "b" }, path.to_owned())]);
            assert_eq!(seen(&no.calls), []);
            owned[usize::from(owner.as_str() == "b")] += 1;
        }
        for path in ["/dialtone.contacts.v1.Contacts/Sync", "/dialtone.identity.v1.Account/Get"] {
            door.call(path, user).await.expect("answered");
        }
        assert_eq!(seen(&door.configured).len(), 2, "anybody knows this");
    }
    assert!(owned.iter().all(|calls| *calls > 0), "{owned:?}");

    a.stop().await;
    door.knows(1).await;
    for user in users() {
        door.call(OWNED[1].1, user).await.expect("answered");
    }
    assert_eq!((seen(&b.calls).len(), seen(&door.configured).len()), (24, 0), "b has all of them now");
}

#[tokio::test]
async fn an_owner_that_can_not_be_reached_is_missed_and_nobody_else_asked() {
    let door = Door::open(&[]).await;
    let _there = Owner::start(&door.bus, "a", Says::This("http://127.0.0.1:1")).await;
    door.knows(1).await;
    let missed = async {
        while door.call(OWNED[1].1, UserId::new([1; 16])).await != Err(Reason::PeerUnavailable) {
            door.chassis.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    door.chassis.clock.timeout(SOON, missed).await.expect("it is missed");
    door.configured.calls();
    assert_eq!(door.call(OWNED[2].1, UserId::new([1; 16])).await, Err(Reason::PeerUnavailable));
    assert_eq!(seen(&door.configured), []);
}

#[tokio::test]
async fn without_an_owner_that_says_where_it_is_settings_are_followed() {
    let door = Door::open(&[]).await;
    let calls_go_where_settings_say = async |when: &str| {
        for user in users() {
            for (service, path) in OWNED {
                door.call(path, user).await.expect("answered");
                assert_eq!(seen(&door.configured), [(service, path.to_owned())], "{when}");
            }
        }
    };
    calls_go_where_settings_say("nobody was heard").await;
    // Without TLS nobody is called with it.
    for says in ["", "no url", "https://127.0.0.1:1"] {
        let owner = Owner::start(&door.bus, "a", Says::This(says)).await;
        door.knows(1).await;
        calls_go_where_settings_say(says).await;
        assert_eq!(seen(&owner.calls), []);
        owner.stop().await;
        door.knows(0).await;
    }
}

#[tokio::test]
async fn what_lives_in_the_same_process_is_not_asked_over_the_network() {
    let door = Door::open(&SERVICES).await;
    let other = Owner::start(&door.bus, "b", Says::TheTruth).await;
    door.knows(2).await;
    let others = users().find(|user| door.shards.node_of("presence", *user) == Some(NodeId::new("b")));
    door.reaches(others.expect("b has some"), &[&other]).await;
    for user in users() {
        let is_here = door.shards.node_of("routing", user) == Some(NodeId::new("test"));
        door.call(OWNED[1].1, user).await.expect("answered");
        let (here, there) = (seen(&door.configured).len(), seen(&other.calls).len());
        assert_eq!((here, there), if is_here { (1, 0) } else { (0, 1) });
    }
}
