//! The door: gRPC, gRPC-Web, authentication, client sessions.
//!
//! ```text
//!   client ──unary──► Forward ──bytes untouched──► identity · contacts · presence · routing · offline
//!          ══stream═► SessionStream (one task: frames in, items in, frames out)
//!                        │ Session: pure                 ▲ Registry: ticket → mailbox
//!                        ▼                               │
//!                  routing.{node} offline.{node} …   gateway.{node}
//! ```
//!
//! The gateway owns sockets and nothing else: no message, no receipt, no presence is kept here.

mod bus;
mod config;
mod ended;
mod forward;
mod handle;
pub mod limits;
mod metrics;
mod outer;
mod owners;
mod registry;
mod rpc;
mod state;
mod stream;
mod unreadable;
mod watch;

use dialtone_bus::{Bus, BusError};
use dialtone_chassis::{Channel, Chassis, Network, Secrets, server};
use dialtone_shards::Shards;
use tonic::service::Routes;

pub use config::Config;
use ended::Ended;
use forward::{Door, Forward};
use handle::Handle;
use owners::Ways;
use registry::Registry;

/// The services behind the door.
#[derive(Clone)]
pub struct Peers {
    /// Registration, login, account.
    pub identity: Channel,
    /// The address book.
    pub contacts: Channel,
    /// Status and presence.
    pub presence: Channel,
    /// Sending.
    pub routing: Channel,
    /// Receiving.
    pub offline: Channel,
}

/// A running gateway.
pub struct Gateway {
    /// What is served to clients.
    pub routes: Routes,
}

/// Starts the gateway; the caller serves [`Gateway::routes`]. What a service keeps by user is asked of the process that
/// owns the caller, over `network`; of `peers` where that is not known.
///
/// # Errors
/// When the bus can't be subscribed to.
pub async fn start(
    chassis: &Chassis,
    bus: &Bus,
    shards: &Shards,
    secrets: &Secrets,
    config: &Config,
    peers: Peers,
    network: &Network,
) -> Result<Gateway, BusError> {
    let ways = Ways::start(chassis, shards, network);
    let (registry, ended) = (Registry::new(limits::MAX_SESSIONS, chassis.rng.u64() >> 1), Ended::default());
    let owners = bus::owners(bus);
    bus::open(chassis, bus, shards, &registry, &ended, &owners).await?;
    let handle = Handle::new(chassis, shards, registry, ended.clone(), owners);
    let session = Routes::new(rpc::Door::service(handle));
    let session = server::layers(chassis, session, Some(secrets.verifier()), rpc::STREAMS);
    let forward = Forward::new(
        [
            ("dialtone.identity.v1.Registration", peers.identity.clone(), Door::Open),
            ("dialtone.identity.v1.Login", peers.identity.clone(), Door::Open),
            ("dialtone.identity.v1.Account", peers.identity, Door::Token),
            ("dialtone.contacts.v1.Contacts", peers.contacts, Door::Token),
            ("dialtone.presence.v1.Presence", peers.presence, Door::Owner("presence")),
            ("dialtone.routing.v1.Messages", peers.routing, Door::Owner("routing")),
            ("dialtone.offline.v1.Inbox", peers.offline, Door::Owner("offline")),
            ("dialtone.edge.v1.Session", Channel::Local(session), Door::Stream),
        ],
        secrets.verifier(),
        ended,
        chassis.clock.clone(),
        ways,
    );
    Ok(Gateway { routes: outer::routes(forward, config).await })
}
