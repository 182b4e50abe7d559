//! The settings of routing.

use std::time::Duration;

use serde::Deserialize;

use crate::limits::{FALLBACK_MAX, FALLBACK_MIN};

/// `[routing]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a device may take to acknowledge before a message with the policy `sms` goes out as SMS, in
    /// milliseconds, if the sender does not say.
    pub fallback_after_ms: u64,
}

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        match (FALLBACK_MIN..=FALLBACK_MAX).contains(&Duration::from_millis(self.fallback_after_ms)) {
            true => Ok(()),
            false => Err("routing.fallback_after_ms: 5000 to 86400000"),
        }
    }
}
