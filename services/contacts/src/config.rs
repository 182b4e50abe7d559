//! The settings of contacts.

use serde::Deserialize;

/// `[contacts]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Distinct numbers, never asked before, that a user may ask about within 30 days: what keeps the match from being
    /// a telephone directory. 10,000 to begin with.
    pub new_numbers_per_30_days: u32,
}
