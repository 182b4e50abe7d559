//! Routing through both its doors, with fakes for its neighbours on the bus.

mod deciding;
mod fakes;
mod restarting;
mod revoking;
mod sabotage;
mod sending;
mod telling;
mod world;
