//! What waits for me: the inbox, and the devices that listen to it.
//!
//! ```text
//!   routing, sms ── Offer ──► bus ─► hive ─► Resides (one per user) ─► state (pure)
//!        ▲                                     │  ▲
//!        └── answers, watermarks ◄─────────────┤  └── settled ── log ── store (group commit)
//!   gateway ── attach, beat, ack, read ──► bus ┤
//!        ◄── frames in order, window 256 ──────┘
//!   client ── Inbox.List, GetCursor ──► rpc ─► handle
//! ```
//!
//! Offline alone decides whether a device is attached: that is the method's "online". A message is kept when its
//! entry is settled, delivered when a device acknowledged it after its own write. Nothing unsettled is ever told.

mod bus;
mod config;
mod handle;
mod inbox;
pub mod limits;
mod metrics;
mod peers;
mod rpc;
mod state;
mod store;

use std::sync::{Arc, OnceLock};

use dialtone_bus::{Bus, subjects};
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Secrets, server};
use dialtone_log::limits::KEEP;
use dialtone_log::{LogKind, LogStore};
use dialtone_shards::{Hive, Shards};
use dialtone_store::{Db, StoreError, StoreUrl};

pub use config::Config;
use handle::Handle;
use inbox::{Resides, Shared};
pub use store::SCHEMA;

/// The services that offline asks.
#[derive(Clone)]
pub struct Peers {
    /// Epochs of numbers.
    pub identity: Channel,
}

/// Deliberate defects, for the tests that prove that they are caught.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Sabotage {
    /// Answers an offer before its entry is settled.
    pub offered_before_settled: bool,
    /// Does not repair a lost last push.
    pub push_without_repair: bool,
}

/// Why offline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("offline")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("offline")]
    Bus(#[from] dialtone_bus::BusError),
}

/// A running offline.
pub struct Offline {
    /// `offline.v1`.
    pub routes: LocalRoutes,
}

/// Starts offline.
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
) -> Result<Offline, StartError> {
    start_sabotaged(chassis, bus, shards, secrets, url, config, peers, Sabotage::default()).await
}

/// As [`start`], with deliberate defects.
///
/// # Errors
/// [`StartError`].
#[doc(hidden)]
#[expect(clippy::too_many_arguments, reason = "what every room gets, and the defects")]
pub async fn start_sabotaged(
    chassis: &Chassis,
    bus: &Bus,
    shards: &Shards,
    secrets: &Secrets,
    url: StoreUrl,
    config: &Config,
    peers: Peers,
    sabotage: Sabotage,
) -> Result<Offline, StartError> {
    let db = Db::open(url, SCHEMA, chassis).await?;
    let logs = LogStore::new(db.clone(), LogKind::Inbox, KEEP, shards.leases(), chassis);
    let blocks = store::Blocks::new(db);
    let shared = Shared {
        chassis: chassis.clone(),
        logs: logs.clone(),
        blocks: blocks.clone(),
        shards: shards.clone(),
        epochs: peers::Epochs::new(chassis, peers.identity),
        gateways: bus.fan(subjects::gateway),
        routing: bus.fan(subjects::routing),
        sms: bus.fan(subjects::sms),
        config: config.clone(),
        sabotage,
        hive: Arc::new(OnceLock::new()),
    };
    let own = shared.hive.clone();
    let hive: Hive<Resides> = Hive::start(chassis, "inbox", shared).await;
    own.get_or_init(|| hive.clone());
    let handle = Handle::new(hive, logs.clone());
    bus::open(chassis, bus, handle.clone(), blocks, logs).await?;
    let routes = rpc::routes(handle, chassis.clock.clone());
    Ok(Offline { routes: server::layers(chassis, routes, Some(secrets.verifier()), &[]) })
}
