//! Identity with both doors: over a local bus, a store of memory and an SMS service made up here.

mod directory;
mod login;
mod lost;
mod registration;
mod shared;
mod sms;
mod tokens;
mod world;
