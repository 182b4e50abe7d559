//! What every process stands on: clock, randomness, tasks, blocking work, readiness, errors, tokens, channels,
//! servers, configuration, telemetry.
//!
//! Nobody in the house spawns, blocks, reads the clock or rolls dice behind the chassis's back: so a test can stop
//! time, replay a seed, and end a node by dropping its runtime.

pub mod auth;
mod backoff;
mod blocking;
mod channel;
mod clock;
pub mod config;
mod error;
mod guard;
pub mod listen;
mod method;
pub mod network;
pub mod ops;
mod ready;
mod rng;
mod secrets;
pub mod server;
mod tasks;
pub mod telemetry;
pub mod tls;
mod trace;

use dialtone_vocab::NodeId;

pub use auth::bearer;
pub use backoff::Backoff;
pub use blocking::Blocking;
pub use channel::{BoxError, Channel, LocalRoutes};
pub use clock::{Clock, Elapsed, SimWall, WallError};
pub use error::{DOMAIN, Error};
pub use network::Network;
pub use ready::{Readiness, ReadyHandle};
pub use rng::Rng;
pub use secrets::{NumberKey, Secrets, SecretsError};
pub use tasks::{TaskHandle, Tasks};

/// What every part of a process needs. Cheap to clone.
#[derive(Clone)]
pub struct Chassis {
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Background tasks.
    pub tasks: Tasks,
    /// Work that blocks a thread.
    pub blocking: Blocking,
    /// This process, as the bus names it.
    pub node: NodeId,
    /// What must be there before this process takes work.
    pub ready: Readiness,
}

impl Chassis {
    /// For a real process: system clock, randomness of the operating system.
    pub fn real(node: NodeId) -> Self {
        Self::with(node, Clock::real(), Rng::from_system(), Blocking::pool())
    }

    /// For a test of a real process whose wall clock is wrong; its timers are right.
    pub fn with_wrong_wall(node: NodeId, error: WallError) -> Self {
        Self::with(node, Clock::wrong(error), Rng::from_system(), Blocking::pool())
    }

    /// For a test in one runtime: seeded randomness, a wall clock that moves with tokio's (which may be paused).
    pub fn for_tests(seed: u64) -> Self {
        Self::with(NodeId::new("test"), Clock::of_runtime(), Rng::seeded(seed), Blocking::inline())
    }

    /// For one node of several in a simulation: `wall` is the time of all of them.
    pub fn simulated(node: NodeId, seed: u64, wall: SimWall) -> Self {
        Self::with(node, Clock::simulated(wall), Rng::seeded(seed), Blocking::inline())
    }

    fn with(node: NodeId, clock: Clock, rng: Rng, blocking: Blocking) -> Self {
        Self { clock, rng, tasks: Tasks::default(), blocking, node, ready: Readiness::default() }
    }
}
