//! The settings of routing.

use serde::Deserialize;

/// `[routing]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a device may take to acknowledge before a message with the policy `sms` goes out as SMS, in
    /// milliseconds, if the sender does not say.
    pub fallback_after_ms: u64,
}
