//! The settings of identity.

use dialtone_vocab::PhoneNumber;
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

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        if PhoneNumber::parse_e164(&self.service_number).is_err() {
            return Err("identity.service_number: a number in E.164, as +18005550100");
        }
        if self.prefix_sms_per_hour == 0 {
            return Err("identity.prefix_sms_per_hour: at least 1");
        }
        Ok(())
    }
}
