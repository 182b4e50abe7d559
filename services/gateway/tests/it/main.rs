//! The gateway with both doors: over a local bus, owners and services made up here.

mod calls;
mod ends;
mod owners;
mod reflection;
mod session;
mod web;
mod world;
