//! Who is alive, as heard on the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_bus::{Bus, BusError, subjects};
use dialtone_chassis::{Chassis, ReadyHandle, config};
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_vocab::{NodeId, UserId, shard_of};
use tokio::sync::watch;

use crate::{Leases, rendezvous};

/// How often a process says that it is alive.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A process not heard for this long is gone.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// The longest internal URL of a process in bytes; one that is longer is none.
pub const MAX_ADDRESS: usize = 512;
/// What is missing where two processes have one name.
const TWIN: &str = "another process has the same node.name: each must have its own";

/// Who is alive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Members {
    /// Nodes by service, in order.
    nodes: BTreeMap<String, Vec<NodeId>>,
    /// Where nodes serve other processes, if they do.
    addresses: BTreeMap<NodeId, String>,
    /// Since when each service has had these nodes.
    since: BTreeMap<String, Duration>,
}

/// Who owns which users, as far as this process has heard. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    members: watch::Receiver<Arc<Members>>,
    serves: Arc<watch::Sender<Vec<String>>>,
    leases: Option<Leases>,
}

/// A node that was heard.
struct Heard {
    services: Vec<String>,
    address: String,
    /// By a clock that nobody sets: on the wall's, a step back would keep the dead alive, one ahead bury the living.
    at: Duration,
}

impl Shards {
    /// As [`Self::start_at`], for a process that serves nothing to others.
    ///
    /// # Errors
    /// When the bus can't be subscribed to.
    pub async fn start(
        chassis: &Chassis,
        bus: &Bus,
        services: &[&str],
        needed: &'static [&'static str],
    ) -> Result<Self, BusError> {
        Self::start_at(chassis, bus, services, needed, "").await
    }

    /// Begins to tell and to hear. `services` are those that this process serves from now on, `needed` those that it calls: until
    /// each of them was heard the process is not ready. `address` is the URL by which other processes reach it.
    ///
    /// # Errors
    /// When the bus can't be subscribed to.
    pub async fn start_at(
        chassis: &Chassis,
        bus: &Bus,
        services: &[&str],
        needed: &'static [&'static str],
        address: &str,
    ) -> Result<Self, BusError> {
        let ready = chassis.ready.register("cluster");
        let (sender, members) = watch::channel(Arc::default());
        let mut heard = BTreeMap::new();
        let services: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
        let (serves, served) = watch::channel(services.clone());
        let address = address.to_owned();
        heard.insert(
            chassis.node.clone(),
            Heard { services, address: address.clone(), at: chassis.clock.boot() },
        );
        let listener = bus.subscribe(&subjects::heartbeat()).await?;
        let told = Members::default();
        let incarnation = chassis.rng.u64();
        let own_name = (chassis.node.clone(), incarnation);
        let mut book = Book { heard, told, needed, sender, ready, own: own_name, twin: None };
        book.tell(chassis.clock.boot());
        let node = chassis.node.as_str().to_owned();
        let alive = Heartbeat { node, incarnation, address, ..Heartbeat::default() };
        chassis.tasks.spawn("cluster heartbeat", beat(chassis.clone(), bus.clone(), alive, served.clone()));
        chassis.tasks.spawn("cluster membership", hear(chassis.clone(), listener, book, served));
        Ok(Self { members, serves: Arc::new(serves), leases: None })
    }

    /// Serves these too from now on.
    pub(crate) fn announce(&self, services: &[&str]) {
        self.serves.send_if_modified(|serves| {
            let fresh = services.iter().filter(|service| !serves.iter().any(|known| known == *service));
            let fresh: Vec<String> = fresh.map(|service| (*service).to_owned()).collect();
            let is_news = !fresh.is_empty();
            serves.extend(fresh);
            is_news
        });
    }

    /// As before, in a process that holds leases.
    #[must_use]
    pub fn with_leases(self, leases: Leases) -> Self {
        Self { leases: Some(leases), ..self }
    }

    /// The leases by which this process writes to a store that it shares.
    pub fn leases(&self) -> Option<Leases> {
        self.leases.clone()
    }

    /// Waits until somebody has come or gone.
    pub async fn changed(&mut self) {
        if self.members.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The node of a service that serves this user; `None` when none is alive.
    pub fn node_of(&self, service: &str, user: UserId) -> Option<NodeId> {
        let members = self.members.borrow();
        let nodes = members.nodes.get(service)?;
        match nodes.as_slice() {
            [only] => Some(only.clone()),
            several => rendezvous(shard_of(user.as_bytes()), several).cloned(),
        }
    }

    /// Since when a service has had the nodes that it has, by [`dialtone_chassis::Clock::boot`]: before that users were
    /// elsewhere. `None` when none is alive.
    pub fn since(&self, service: &str) -> Option<Duration> {
        self.members.borrow().since.get(service).copied()
    }

    /// The internal URL of a live node; `None` when it has none.
    pub fn address(&self, node: &NodeId) -> Option<String> {
        self.members.borrow().addresses.get(node).cloned()
    }

    /// The live nodes of a service, in order.
    pub fn nodes(&self, service: &str) -> Vec<NodeId> {
        self.members.borrow().nodes.get(service).cloned().unwrap_or_default()
    }
}

/// What was heard, and what follows from it.
struct Book {
    heard: BTreeMap<NodeId, Heard>,
    told: Members,
    needed: &'static [&'static str],
    sender: watch::Sender<Arc<Members>>,
    ready: ReadyHandle,
    /// This process's name and incarnation.
    own: (NodeId, u64),
    /// When another incarnation of this very name was heard.
    twin: Option<Duration>,
}

impl Book {
    fn take(&mut self, beat: Heartbeat, now: Duration) {
        if !NodeId::is_valid(&beat.node) {
            return;
        }
        let Heartbeat { node, services, address, incarnation } = beat;
        let node = NodeId::new(&node);
        if node != self.own.0 {
            self.heard.insert(node, Heard { services, address, at: now });
        } else if incarnation != self.own.1 && !services.is_empty() {
            // One that leaves was here before this one.
            if self.twin.replace(now).is_none() {
                tracing::error!(%node, "{TWIN}");
            }
        }
    }

    fn serves(&mut self, services: &[String]) {
        if let Some(own) = self.heard.get_mut(&self.own.0) {
            own.services = services.to_vec();
        }
    }

    /// Tells a changed membership; a process never loses sight of itself.
    fn tell(&mut self, now: Duration) {
        self.heard.retain(|node, heard| *node == self.own.0 || now.saturating_sub(heard.at) < LOST_AFTER);
        self.twin = self.twin.filter(|at| now.saturating_sub(*at) < LOST_AFTER);
        let mut members = Members::default();
        for (node, heard) in &self.heard {
            for service in &heard.services {
                members.nodes.entry(service.clone()).or_default().push(node.clone());
            }
            if is_address(&heard.address) {
                members.addresses.insert(node.clone(), heard.address.clone());
            }
        }
        for (service, nodes) in &members.nodes {
            let known = self.told.since.get(service).filter(|_| self.told.nodes.get(service) == Some(nodes));
            members.since.insert(service.clone(), known.copied().unwrap_or(now));
        }
        match self.needed.iter().find(|service| !members.nodes.contains_key(**service)) {
            _ if self.twin.is_some() => self.ready.set_missing(TWIN),
            None => self.ready.set_ready(),
            Some(missing) => self.ready.set_missing(format!("no {missing} service is alive")),
        }
        if members != self.told {
            tracing::info!(?members, "membership");
            self.told.clone_from(&members);
            self.sender.send_replace(Arc::new(members));
        }
    }
}

fn is_address(text: &str) -> bool {
    text.len() <= MAX_ADDRESS && config::is_url(text, &["http", "https"])
}

async fn beat(chassis: Chassis, bus: Bus, alive: Heartbeat, mut served: watch::Receiver<Vec<String>>) {
    let stop = chassis.tasks.stop_token();
    while !stop.is_cancelled() {
        let services = served.borrow_and_update().clone();
        // Without any it would seem to leave.
        if !services.is_empty()
            && let Err(error) =
                bus.publish(&subjects::heartbeat(), Heartbeat { services, ..alive.clone() }).await
        {
            tracing::warn!(%error, "a heartbeat was not told");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Ok(()) = served.changed() => {}
            () = chassis.clock.sleep(HEARTBEAT_EVERY) => {}
        }
    }
    // Told to stop: others need not wait until they miss it.
    let leaving = Heartbeat { services: Vec::new(), ..alive };
    if let Err(error) = bus.publish(&subjects::heartbeat(), leaving).await {
        tracing::debug!(%error, "nobody was told that this process leaves");
    }
}

async fn hear(
    chassis: Chassis,
    mut listener: dialtone_bus::Subscription<Heartbeat>,
    mut book: Book,
    mut served: watch::Receiver<Vec<String>>,
) {
    let stop = chassis.tasks.stop_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            beat = listener.next() => match beat {
                Some(beat) => book.take(beat.message, chassis.clock.boot()),
                None => return,
            },
            Ok(()) = served.changed() => book.serves(&served.borrow_and_update()),
            () = chassis.clock.sleep(HEARTBEAT_EVERY) => {}
        }
        book.tell(chassis.clock.boot());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use dialtone_chassis::WallError;

    use super::*;

    fn beat(node: &str, service: &str) -> Heartbeat {
        let services = vec![service.into()];
        Heartbeat { node: node.into(), services, incarnation: 1, ..Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_come_and_go() {
        let chassis = Chassis::for_tests(1);
        let bus = Bus::local(&chassis);
        let shards = Shards::start(&chassis, &bus, &["gateway"], &["routing"]).await.expect("started");
        assert!(!chassis.ready.is_ready());
        assert_eq!(shards.nodes("gateway"), std::slice::from_ref(&chassis.node));
        bus.publish(&subjects::heartbeat(), beat("other", "routing")).await.expect("published");
        chassis.clock.sleep(Duration::from_millis(10)).await;
        assert!(chassis.ready.is_ready());
        assert_eq!(shards.node_of("routing", UserId::new([1; 16])), Some(NodeId::new("other")));
        chassis.clock.sleep(LOST_AFTER + HEARTBEAT_EVERY).await;
        assert_eq!(shards.node_of("routing", UserId::new([1; 16])), None);
        assert!(!chassis.ready.is_ready());
        assert_eq!(shards.nodes("gateway"), std::slice::from_ref(&chassis.node));
    }

    #[tokio::test]
    async fn a_wall_clock_that_is_set_makes_nobody_come_or_go() {
        const HOUR: i64 = 3_600_000;
        let error = WallError::default();
        let chassis = Chassis::with_wrong_wall(NodeId::new("test"), error.clone());
        let bus = Bus::local(&chassis);
        let mut shards = Shards::start(&chassis, &bus, &["gateway"], &[]).await.expect("started");
        bus.publish(&subjects::heartbeat(), beat("other", "routing")).await.expect("published");
        while shards.nodes("routing").is_empty() {
            shards.changed().await;
        }
        // Ahead: who goes on to be heard stays, at every look, which a beat of our own brings.
        error.store(HOUR, Ordering::Relaxed);
        let mut own = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
        for _ in 0..2 {
            while own.next().await.expect("a beat").message.node != "test" {}
            bus.publish(&subjects::heartbeat(), beat("other", "routing")).await.expect("published");
        }
        assert_eq!(shards.members.has_changed().ok(), Some(false), "somebody went, if only for a moment");
        // Back: who is not heard any more goes all the same.
        error.store(0, Ordering::Relaxed);
        let gone = async {
            while !shards.nodes("routing").is_empty() {
                shards.changed().await;
            }
        };
        chassis.clock.timeout(3 * LOST_AFTER, gone).await.expect("it goes");
    }

    #[tokio::test(start_paused = true)]
    async fn two_processes_of_one_name_are_not_ready_until_one_has_gone() {
        let chassis = Chassis::for_tests(1);
        let bus = Bus::local(&chassis);
        let shards = Shards::start(&chassis, &bus, &["gateway"], &[]).await.expect("started");
        chassis.clock.sleep(2 * HEARTBEAT_EVERY).await;
        assert!(chassis.ready.is_ready(), "it hears itself");
        let leaving = Heartbeat { services: Vec::new(), ..beat(chassis.node.as_str(), "") };
        bus.publish(&subjects::heartbeat(), leaving).await.expect("published");
        chassis.clock.sleep(Duration::from_millis(10)).await;
        assert!(chassis.ready.is_ready(), "who was here before has gone");

        let twin = beat(chassis.node.as_str(), "routing");
        bus.publish(&subjects::heartbeat(), twin).await.expect("published");
        chassis.clock.sleep(Duration::from_millis(10)).await;
        let report = chassis.ready.report();
        assert!(report[0].1.as_deref().is_some_and(|why| why.contains("node.name")), "{report:?}");
        assert_eq!(shards.nodes("routing"), [], "what lives there does not live here");
        assert_eq!(shards.nodes("gateway"), std::slice::from_ref(&chassis.node));
        chassis.clock.sleep(LOST_AFTER + HEARTBEAT_EVERY).await;
        assert!(chassis.ready.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_of_an_owner_is_known_while_it_is_alive() {
        let chassis = Chassis::for_tests(1);
        let bus = Bus::local(&chassis);
        let own = "http://127.0.0.1:9100";
        let shards = Shards::start_at(&chassis, &bus, &["offline"], &[], own).await.expect("started");
        let user = UserId::new([1; 16]);
        assert_eq!(shards.address(&chassis.node).as_deref(), Some(own));
        let mut listener = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
        chassis.clock.sleep(HEARTBEAT_EVERY).await;
        assert_eq!(listener.next().await.expect("a beat").message.address, own, "others are told");

        let there = "https://[::1]:9101";
        for (told, known) in
            [(there, Some(there)), ("", None), ("not a url", None), (&"x".repeat(9_999), None)]
        {
            let beat = Heartbeat { address: told.into(), ..beat("other", "routing") };
            bus.publish(&subjects::heartbeat(), beat).await.expect("published");
            chassis.clock.sleep(Duration::from_millis(10)).await;
            assert_eq!(shards.node_of("routing", user), Some(NodeId::new("other")));
            assert_eq!(shards.address(&NodeId::new("other")).as_deref(), known, "{told}");
        }
        chassis.clock.sleep(LOST_AFTER + HEARTBEAT_EVERY).await;
        assert_eq!(shards.address(&NodeId::new("other")), None);
    }
}
