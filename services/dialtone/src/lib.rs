//! Dialtone: which services live in this process, and the commands around them.
//!
//! ```text
//!   dialtone               every service, one process, bus local, store embedded
//!   dialtone run X Y       some of them; the others are found by the settings of [internal] and over NATS
//!   dialtone migrate       makes a store on CQL servers
//!   dialtone nats-config   prints a nats-server's configuration: who may do what
//!   dialtone phone         a client: a phone to play with
//!   dialtone tour          a client: the story of the product, checked
//! ```

pub mod cli;
mod ground;
pub mod handsets;
mod migrate;
mod nats_config;
pub mod own;
pub mod phone;
pub mod serve;
pub mod settings;
pub mod system;
pub mod tour;
