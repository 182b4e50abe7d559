//! The settings of identity.

use serde::Deserialize;

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number that phones text to register, in E.164.
    pub service_number: String,
    /// SMS with codes that may go to numbers of one prefix (4 digits) within an hour.
    pub prefix_sms_per_hour: u32,
}
