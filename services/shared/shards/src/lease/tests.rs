//! [`rules`]: each rule by itself. [`storms`]: the simulation, whose weather breaks what is broken on purpose.

mod host;
mod referee;
mod rules;
mod store;
mod storms;
mod weather;
mod world;
