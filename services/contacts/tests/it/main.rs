//! Contacts with both doors: over a local bus, a store of memory and a directory made up here.

mod blocks;
mod facts;
mod sync;
mod world;
