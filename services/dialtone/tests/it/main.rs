//! The whole system in one test process.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the test is the world around the system: it owns the clock and collects what phones saw"
)]

mod canary;
mod cluster;
mod compose;
mod judge;
mod nats;
mod outage;
mod pipe;
mod process;
mod renewal;
mod start;
mod tour;
mod weather;
mod world;
