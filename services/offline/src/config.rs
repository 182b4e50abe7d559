//! The settings of offline.

use serde::Deserialize;

/// `[offline]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Messages that may wait for one user; then offers are declined.
    pub kept_per_user: u64,
}
