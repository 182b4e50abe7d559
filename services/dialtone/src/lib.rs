//! Dialtone: which services live in this process, and the commands around them.
//!
//! ```text
//!   dialtone               every service, one process, bus local, store embedded
//!   dialtone run X Y       some of them; the others are found by the settings of [internal] and over NATS
//!   dialtone phone         a client: a phone to play with
//!   dialtone tour          a client: the story of the product, checked
//! ```

pub mod cli;
pub mod handsets;
pub mod own;
pub mod phone;
pub mod serve;
pub mod settings;
pub mod system;
pub mod tour;
