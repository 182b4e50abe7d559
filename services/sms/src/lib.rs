//! The old network: the SMPP bridge, and the embedded SMS centre.
//!
//! ```text
//!   routing, identity ── sms.send ──► bus ─► bridge ─► store: taken once ─► esme ══SMPP 3.4══► operator
//!        ◄── results until taken ───────────┘                               ▲                    or the embedded
//!   offline ◄── Offer ── inbound ◄── deliver_sm, answered when settled ─────┘                    centre: handsets
//!   identity ◄── "yours?" ──┘
//! ```
//!
//! An SMS is taken once per message id and never sent twice: before it may leave, that is written down. What becomes
//! of it is told until it is taken. An SMS from a phone belongs to the first that claims it: an open registration, a
//! keyword, a reply route; "the last sender wins" is a defect.

mod bridge;
mod bus;
pub mod centre;
mod codec;
mod config;
mod early;
mod esme;
mod inbound;
pub mod limits;
mod look;
mod metrics;
mod parts;
mod pdu;
mod results;
mod rpc;
pub mod segment;
mod store;

use std::sync::Arc;

use dialtone_bus::{Bus, subjects};
use dialtone_chassis::{Chassis, LocalRoutes, Secrets, server};
use dialtone_log::{LogKind, LogStore};
use dialtone_shards::Shards;
use dialtone_store::{Db, StoreError, StoreUrl};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub use config::Config;
pub use esme::{Dial, Wire};
pub use store::SCHEMA;

/// Why the SMS service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("sms")]
    Store(#[from] StoreError),
    /// Its inbound log can't be opened.
    #[error("sms")]
    Log(#[from] dialtone_log::LogError),
    /// The bus can't be used.
    #[error("sms")]
    Bus(#[from] dialtone_bus::BusError),
}

/// A running SMS service.
pub struct Sms {
    /// `sms.internal.v1`.
    pub routes: LocalRoutes,
}

/// Dials an operator over TCP.
pub fn tcp(provider: String) -> Dial {
    Arc::new(move || {
        let provider = provider.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(provider).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    })
}

/// Starts the SMS service, bound to whatever `dial` reaches.
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
    dial: Dial,
) -> Result<Sms, StartError> {
    let db = Db::open(url, SCHEMA, chassis).await?;
    let keep = dialtone_log::limits::KEEP_SOURCE;
    let logs = LogStore::new(db.clone(), LogKind::Inbound, keep, shards.leases(), chassis);
    let (delivered, delivers) = mpsc::channel(limits::WINDOW * 4);
    let esme = esme::Esme::start(chassis, dial, &config.system_id, &config.password, delivered);
    let store = store::Store::new(db);
    let key = secrets.number_key.clone();
    let bridge = bridge::Bridge::start(chassis, store, key, config, shards, bus.fan(subjects::routing), esme);
    let offline = bus.fan(subjects::offline);
    chassis.tasks.spawn("sms sweep", logs.clone().keep_swept(chassis.clone()));
    let answers =
        inbound::Inbound::start(chassis, bus, bridge.clone(), shards, offline, logs, delivers).await?;
    bus::open(chassis, bus, bridge.clone(), answers).await?;
    Ok(Sms { routes: server::layers(chassis, rpc::routes(bridge), None, &[]) })
}
