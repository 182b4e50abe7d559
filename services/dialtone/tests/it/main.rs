//! The whole system in one test process.

mod judge;
mod weather;
mod world;
