//! Offline through both its doors, with fakes for its neighbours on the bus.

mod acking;
mod attaching;
mod far;
mod history;
mod sabotage;
mod taking;
mod withdrawing;
mod world;
