//! The settings of presence.

use serde::Deserialize;

/// `[presence]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Peers that a session may have in its interaction table, 1 to 1,024; 64 to begin with.
    pub table_peers: u32,
}
