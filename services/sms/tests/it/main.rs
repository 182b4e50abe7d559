//! The SMS service with its doors: over a local bus, a store of memory, and SMPP 3.4 against an operator made up here
//! or the embedded centre.

mod binds;
mod centre;
mod garbage;
mod handsets;
mod left;
mod mo;
mod parts;
mod peer;
mod receipts;
mod routes;
mod shared;
mod submits;
mod taken;
mod world;
