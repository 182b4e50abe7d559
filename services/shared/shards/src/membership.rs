//! Who is alive, as heard on the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_bus::{Bus, BusError, subjects};
use dialtone_chassis::{Chassis, ReadyHandle};
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_vocab::{NodeId, UnixMillis, UserId, shard_of};
use tokio::sync::watch;

use crate::{Leases, rendezvous};

/// How often a process says that it is alive.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A process not heard for this long is gone.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// Live nodes by service, in order.
type Members = BTreeMap<String, Vec<NodeId>>;

/// Who owns which users, as far as this process has heard. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    members: watch::Receiver<Arc<Members>>,
    leases: Option<Leases>,
}

/// A node that was heard.
struct Heard {
    services: Vec<String>,
    at: UnixMillis,
}

impl Shards {
    /// Begins to tell and to hear. `services` are those that live in this process, `needed` those that it calls: until
    /// each of them was heard the process is not ready.
    ///
    /// # Errors
    /// When the bus can't be subscribed to.
    pub async fn start(
        chassis: &Chassis,
        bus: &Bus,
        services: &[&str],
        needed: &'static [&'static str],
    ) -> Result<Self, BusError> {
        let ready = chassis.ready.register("cluster");
        let (sender, members) = watch::channel(Arc::default());
        let mut heard = BTreeMap::new();
        let own: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
        heard.insert(chassis.node.clone(), Heard { services: own.clone(), at: chassis.clock.now() });
        let listener = bus.subscribe(&subjects::heartbeat()).await?;
        let told = Members::default();
        let mut book = Book { heard, told, needed, sender, ready, own: chassis.node.clone() };
        book.tell(chassis.clock.now());
        let incarnation = chassis.rng.u64();
        chassis.tasks.spawn("cluster heartbeat", beat(chassis.clone(), bus.clone(), own, incarnation));
        chassis.tasks.spawn("cluster membership", hear(chassis.clone(), listener, book));
        Ok(Self { members, leases: None })
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
    pub(crate) async fn changed(&mut self) {
        if self.members.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The node of a service that serves this user; `None` when none is alive.
    pub fn node_of(&self, service: &str, user: UserId) -> Option<NodeId> {
        let members = self.members.borrow();
        let nodes = members.get(service)?;
        match nodes.as_slice() {
            [only] => Some(only.clone()),
            several => rendezvous(shard_of(user.as_bytes()), several).cloned(),
        }
    }

    /// The live nodes of a service, in order.
    pub fn nodes(&self, service: &str) -> Vec<NodeId> {
        self.members.borrow().get(service).cloned().unwrap_or_default()
    }
}

/// What was heard, and what follows from it.
struct Book {
    heard: BTreeMap<NodeId, Heard>,
    told: Members,
    needed: &'static [&'static str],
    sender: watch::Sender<Arc<Members>>,
    ready: ReadyHandle,
    own: NodeId,
}

impl Book {
    fn take(&mut self, beat: Heartbeat, now: UnixMillis) {
        if NodeId::is_valid(&beat.node) {
            self.heard.insert(NodeId::new(&beat.node), Heard { services: beat.services, at: now });
        }
    }

    /// Tells a changed membership; a process never loses sight of itself.
    fn tell(&mut self, now: UnixMillis) {
        self.heard.retain(|node, heard| *node == self.own || now.since(heard.at) < LOST_AFTER);
        let mut members = Members::new();
        for (node, heard) in &self.heard {
            for service in &heard.services {
                members.entry(service.clone()).or_default().push(node.clone());
            }
        }
        match self.needed.iter().find(|service| !members.contains_key(**service)) {
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

async fn beat(chassis: Chassis, bus: Bus, services: Vec<String>, incarnation: u64) {
    let stop = chassis.tasks.stop_token();
    let node = chassis.node.as_str().to_owned();
    while !stop.is_cancelled() {
        let beat = Heartbeat { node: node.clone(), services: services.clone(), incarnation };
        if let Err(error) = bus.publish(&subjects::heartbeat(), beat).await {
            tracing::warn!(%error, "a heartbeat was not told");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = chassis.clock.sleep(HEARTBEAT_EVERY) => {}
        }
    }
    // Told to stop: others need not wait until they miss it.
    let leaving = Heartbeat { node, services: Vec::new(), incarnation };
    if let Err(error) = bus.publish(&subjects::heartbeat(), leaving).await {
        tracing::debug!(%error, "nobody was told that this process leaves");
    }
}

async fn hear(chassis: Chassis, mut listener: dialtone_bus::Subscription<Heartbeat>, mut book: Book) {
    let stop = chassis.tasks.stop_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            beat = listener.next() => match beat {
                Some(beat) => book.take(beat.message, chassis.clock.now()),
                None => return,
            },
            () = chassis.clock.sleep(HEARTBEAT_EVERY) => {}
        }
        book.tell(chassis.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: &str, service: &str) -> Heartbeat {
        Heartbeat { node: node.into(), services: vec![service.into()], incarnation: 1 }
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
}
