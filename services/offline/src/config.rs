//! The settings of offline.

use serde::Deserialize;

/// `[offline]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Messages that may wait for one user; then offers are declined.
    pub kept_per_user: u64,
}

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.kept_per_user {
            0 => Err("offline.kept_per_user: at least 1"),
            _ => Ok(()),
        }
    }
}
