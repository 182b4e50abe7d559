//! Who is there: the dynamic interaction table.
//!
//! ```text
//!   gateway ── Attach, Beat, Watch, Typing, State ──► bus ─► hive ─► user: one actor while something is going on
//!   client ── SetStatus, Get ──────────────────────► rpc ─► handle ─┘  │ state (pure): sessions, table, watchers
//!                                                                      ├─► gateway.{node}: snapshots and changes
//!      the watcher's user ── PeerSubscribe (leased) ──► the target's   ├─► presence.{node of the peer}
//!                         ◄── PeerUpdate, PeerTyping ── user           ├─► contacts.internal: who may see it
//!                                                                      └─► store: status text, visibility, last seen
//! ```
//!
//! Soft state: told by gateways, repaired by leases, never asked on the way of a message. Watcher and target meet over
//! the bus even when they live in the same process, so there is one way and not two.

mod bus;
mod config;
mod error;
mod handle;
pub mod limits;
mod metrics;
mod peers;
mod rpc;
mod state;
mod store;
mod user;

use dialtone_bus::Bus;
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Secrets, server};
use dialtone_shards::{Hive, Shards};
use dialtone_store::{Db, StoreError, StoreUrl};

pub use config::Config;
use handle::{Handle, Shared};
pub use store::SCHEMA;
use store::Store;

/// Why presence did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("presence")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("presence")]
    Bus(#[from] dialtone_bus::BusError),
}

/// Whom presence calls.
#[derive(Clone)]
pub struct Peers {
    /// Who may see whom.
    pub contacts: Channel,
}

/// Running presence.
pub struct Presence {
    /// `presence.v1`.
    pub routes: LocalRoutes,
}

/// Starts presence.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    chassis: &Chassis,
    bus: &Bus,
    shards: &Shards,
    secrets: &Secrets,
    url: StoreUrl,
    config: &Config,
    peers: Peers,
) -> Result<Presence, StartError> {
    let store = Store::new(Db::open(url, SCHEMA, chassis).await?);
    let (asks, questions) = tokio::sync::mpsc::channel(limits::GRAPH_QUEUE);
    let shared = Shared {
        chassis: chassis.clone(),
        store,
        table: config.table_peers.clamp(1, limits::TABLE_MAX) as usize,
        asks,
        began: chassis.clock.boot(),
        out: bus::Out::new(bus, shards),
    };
    let hive = Hive::start(chassis, "presence", shared).await;
    bus::open(chassis, bus, hive.clone()).await?;
    let graph = peers::Graph::new(peers.contacts);
    chassis.tasks.spawn("presence graph", handle::judge(chassis.clone(), graph, hive.clone(), questions));
    let handle = Handle::new(chassis, hive);
    let routes = server::layers(chassis, rpc::routes(handle), Some(secrets.verifier()), &[]);
    Ok(Presence { routes })
}
