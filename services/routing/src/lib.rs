//! What becomes of what I send: the outbox, the decision between data, store and SMS, receipts.
//!
//! ```text
//!   gateway ── Send ──► bus ─► hive ─► Resides (one per user) ─► decide, state (pure)
//!   client ── PlanSend, Send, Revoke ──► rpc ─► handle ─┘  │ ▲
//!                                                          │ └ settled ── log ── store (group commit)
//!      accepted, progress, receipts ◄── gateway.{node} ◄───┤
//!      Offer in order ──► offline.{node} ◄── answers ──────┤   kept, declined, withdrawn, delivered
//!      sms.send until taken ──► sms ◄── results ───────────┘
//! ```
//!
//! A message is accepted when its entry is settled, route included: no retry resolves again. The fate of a message
//! has one decider, this, and one witness, the inbox. What is told is settled.

mod bus;
mod config;
mod decide;
mod handle;
pub mod ledger;
pub mod limits;
mod metrics;
mod outbox;
mod peers;
mod rpc;
mod state;

use std::sync::{Arc, OnceLock};

use dialtone_bus::{Bus, subjects};
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Secrets, server};
use dialtone_shards::{Hive, Shards};
use dialtone_store::{Schema, StoreError, StoreUrl};

pub use config::Config;
use handle::Handle;
use outbox::{Resides, Shared};

/// What routing keeps.
pub const SCHEMA: Schema = Schema { service: "routing", tables: &dialtone_log::TABLES, version: 2 };

/// The services that routing asks.
#[derive(Clone)]
pub struct Peers {
    /// Who is behind a number.
    pub identity: Channel,
    /// What an SMS would cost.
    pub sms: Channel,
}

/// Deliberate defects, for the tests that prove that they are caught.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Sabotage {
    /// Tells ACCEPTED before the write.
    pub accepted_before_write: bool,
    /// Hands an SMS over before the decision is settled.
    pub sms_before_claim_settled: bool,
}

/// Why routing did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("routing")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("routing")]
    Bus(#[from] dialtone_bus::BusError),
}

/// A running routing.
pub struct Routing {
    /// `routing.v1`.
    pub routes: LocalRoutes,
}

/// Starts routing.
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
) -> Result<Routing, StartError> {
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
) -> Result<Routing, StartError> {
    let logs = ledger::open(url, shards.leases(), chassis).await?;
    let peers = peers::Peers::new(chassis, peers.identity, peers.sms);
    let shared = Shared {
        chassis: chassis.clone(),
        logs: logs.clone(),
        shards: shards.clone(),
        bus: bus.clone(),
        peers: peers.clone(),
        gateways: bus.fan(subjects::gateway),
        offline: bus.fan(subjects::offline),
        sms: bus.fan(subjects::sms),
        config: config.clone(),
        sabotage,
        hive: Arc::new(OnceLock::new()),
    };
    let own = shared.hive.clone();
    let hive: Hive<Resides> = Hive::start(chassis, "outbox", shared).await;
    own.get_or_init(|| hive.clone());
    let handle = Handle::new(chassis, hive, peers, config);
    bus::open(chassis, bus, handle.clone(), logs.clone()).await?;
    chassis.tasks.spawn("ledger", ledger::watch(chassis.clone(), logs));
    Ok(Routing { routes: server::layers(chassis, rpc::routes(handle), Some(secrets.verifier()), &[]) })
}
