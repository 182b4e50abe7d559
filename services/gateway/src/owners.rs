//! The ways to the processes that own users: a channel to each that says where it is, while it is alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_chassis::{Channel, Chassis, Network};
use dialtone_shards::Shards;
use dialtone_vocab::{NodeId, UserId};
use tokio::sync::watch;

/// The services that keep what is a user's in the process that owns it.
const OWNED: [&str; 3] = ["routing", "offline", "presence"];

/// A node's URL, and the channel to it.
type Way = (String, Channel);

/// Ways to owners. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ways {
    own: NodeId,
    shards: Shards,
    ways: watch::Receiver<Arc<BTreeMap<NodeId, Way>>>,
}

impl Ways {
    /// Follows who is alive.
    pub(crate) fn start(chassis: &Chassis, shards: &Shards, network: &Network) -> Self {
        let (sender, ways) = watch::channel(Arc::default());
        let keeper =
            Keeper { own: chassis.node.clone(), shards: shards.clone(), network: network.clone(), sender };
        let stop = chassis.tasks.stop_token();
        chassis.tasks.spawn("gateway ways", async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = keeper.follow() => {}
            }
        });
        Self { own: chassis.node.clone(), shards: shards.clone(), ways }
    }

    /// To the process of a service that owns this user; `None` when it is this one, or nobody knows.
    pub(crate) fn to_owner(&self, service: &str, user: UserId) -> Option<Channel> {
        let node = self.shards.node_of(service, user).filter(|node| *node != self.own)?;
        self.ways.borrow().get(&node).map(|(_, channel)| channel.clone())
    }
}

/// Makes ways for who comes, and ends those of who goes.
struct Keeper {
    own: NodeId,
    shards: Shards,
    network: Network,
    sender: watch::Sender<Arc<BTreeMap<NodeId, Way>>>,
}

impl Keeper {
    async fn follow(mut self) {
        loop {
            let before = self.sender.borrow().clone();
            let now = self.ways(&before);
            self.sender.send_replace(Arc::new(now));
            self.shards.changed().await;
        }
    }

    fn ways(&self, before: &BTreeMap<NodeId, Way>) -> BTreeMap<NodeId, Way> {
        let nodes = OWNED.iter().flat_map(|service| self.shards.nodes(service));
        let mut ways = BTreeMap::new();
        for node in nodes.filter(|node| *node != self.own) {
            let Some(url) = self.shards.address(&node) else { continue };
            let kept =
                before.get(&node).filter(|(known, _)| *known == url).map(|(_, channel)| channel.clone());
            match kept.map_or_else(|| self.network.channel(&url), Ok) {
                Ok(channel) => drop(ways.insert(node, (url, channel))),
                Err(error) => {
                    tracing::warn!(%node, %error, "a process says that it is where it can't be reached");
                }
            }
        }
        ways
    }
}
