//! The settings of presence.

use serde::Deserialize;

use crate::limits::TABLE_MAX;

/// `[presence]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Peers that a session may have in its interaction table, 1 to 1,024; 64 to begin with.
    pub table_peers: u32,
}

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.table_peers {
            1..=TABLE_MAX => Ok(()),
            _ => Err("presence.table_peers: 1 to 1024"),
        }
    }
}
