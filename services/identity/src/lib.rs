//! Who you are: register by number, verify, log in.
//!
//! ```text
//!   client ── Registration, Login, Account ──► rpc ─► handle ─► state (pure) ─► store (compare-and-set)
//!   sms ──── identity.mo: "is this text yours?" ─► bus ─┘   │
//!   services ── Directory.Resolve, Numbers ──► rpc          ├─► sms.send: the code
//!                                                           ├─► contacts.fact: a number has a user
//!                                                           └─► gateway.fact: a session has ended
//! ```
//!
//! A source address is only a claim: the code that went there, returned on the flow that asked, is the proof. Tries
//! are consumed durably before anything is compared; budgets before anything is sent.

mod bus;
mod config;
mod error;
mod handle;
pub mod limits;
mod metrics;
mod rows;
mod rpc;
mod state;
mod store;

use dialtone_bus::Bus;
use dialtone_chassis::{Chassis, LocalRoutes, Secrets, server};
use dialtone_store::{Db, StoreError, StoreUrl};

pub use config::Config;
use handle::Handle;
pub use store::SCHEMA;
use store::Store;

/// Why identity did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("identity")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("identity")]
    Bus(#[from] dialtone_bus::BusError),
}

/// A running identity.
pub struct Identity {
    /// `identity.v1` and `identity.internal.v1`.
    pub routes: LocalRoutes,
}

/// Starts identity.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    chassis: &Chassis,
    bus: &Bus,
    secrets: &Secrets,
    url: StoreUrl,
    config: &Config,
) -> Result<Identity, StartError> {
    let store = Store::new(Db::open(url, SCHEMA, chassis).await?);
    let codes = bus::CodeSender::new(chassis, bus);
    let ended = bus::SessionsEnded::new(chassis, bus);
    let handle = Handle::new(chassis, store.clone(), config, secrets, codes, ended);
    bus::open(bus, handle.clone(), store).await?;
    let routes = server::layers(chassis, rpc::routes(handle), Some(secrets.verifier()), rpc::STREAMS);
    Ok(Identity { routes })
}
