//! Whom you know: the numbers of the address book, never the names.
//!
//! ```text
//!   client ── Sync, AckToken, ListFriends, Block … ──► rpc ─► handle ─► book: one actor per user that syncs
//!   services ── Graph.MaySee, Blocks ────────────────► rpc ─► handle ─► store
//!   identity ── contacts.fact: a number has a user ──► bus ─► handle ─► the books that hold the number
//!                                                             │
//!        identity.internal: whose are these numbers? ◄────────┤
//!        presence.{node}: a contact became a user    ◄────────┤
//!        offline.fact: a blocks b, until answered    ◄────────┘
//! ```
//!
//! At rest there are keyed hashes of numbers and nothing else of them. What becomes of a book is decided by replacing its
//! head in the store; the actor of its user is there so that a process does not stand in its own way. What was synced
//! counts when the client has acknowledged that it stored the answer.

mod book;
mod bus;
mod config;
mod error;
mod handle;
pub mod limits;
mod metrics;
mod peers;
mod rows;
mod rpc;
mod state;
mod store;
#[cfg(test)]
mod testing;

use dialtone_bus::Bus;
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Secrets, server};
use dialtone_shards::{Hive, Shards};
use dialtone_store::{Db, StoreError, StoreUrl};

pub use config::Config;
use handle::{Handle, Shared};
pub use store::SCHEMA;
use store::Store;

/// Why contacts did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store can't be used.
    #[error("contacts")]
    Store(#[from] StoreError),
    /// The bus can't be used.
    #[error("contacts")]
    Bus(#[from] dialtone_bus::BusError),
}

/// Whom contacts calls.
#[derive(Clone)]
pub struct Peers {
    /// Whose number is it.
    pub identity: Channel,
}

/// Running contacts.
pub struct Contacts {
    /// `contacts.v1` and `contacts.internal.v1`.
    pub routes: LocalRoutes,
}

/// Starts contacts.
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
) -> Result<Contacts, StartError> {
    let store = Store::new(Db::open(url, SCHEMA, chassis).await?, chassis.clock.clone());
    let shared = Shared {
        chassis: chassis.clone(),
        store: store.clone(),
        number_key: secrets.number_key.clone(),
        budget: config.new_numbers_per_30_days,
        directory: peers::Directory::new(peers.identity),
        teller: bus::Teller::new(bus, shards),
    };
    let hive = Hive::start(chassis, "contacts", shared.clone()).await;
    let handle = Handle::new(shared, hive);
    bus::open(bus, &handle).await?;
    let routes = server::layers(chassis, rpc::routes(handle), Some(secrets.verifier()), &[]);
    Ok(Contacts { routes })
}
