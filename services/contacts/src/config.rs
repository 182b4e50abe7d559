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

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.new_numbers_per_30_days {
            0 => Err("contacts.new_numbers_per_30_days: at least 1"),
            _ => Ok(()),
        }
    }
}
