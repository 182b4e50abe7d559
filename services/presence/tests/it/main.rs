//! Presence with both doors: over a local bus, a store of memory and a graph made up here, on stopped time.

mod status;
mod watching;
mod world;
