//! The gateway with both doors: over a local bus, owners and services made up here.

mod calls;
mod ends;
mod reflection;
mod session;
mod web;
mod world;
