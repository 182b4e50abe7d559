//! The settings of the SMS service.

use serde::Deserialize;

/// `[sms]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the operator's SMPP server listens.
    pub provider: String,
    /// The name to bind with, at most 15 characters.
    pub system_id: String,
    /// The password to bind with, at most 8 characters.
    pub password: String,
    /// Numbers that messages come from and replies go to; one reply route per number and receiver.
    pub service_numbers: Vec<String>,
    /// The sender when every service number is taken for a receiver: letters, can't be answered.
    pub sender_id: String,
    /// What stands before a user's text; `{number}` is the user's number.
    pub prefix: String,
    /// SMS within an hour, of all kinds; more wait.
    pub per_hour: u32,
    /// Estimated price of a segment, in millionths of the currency.
    pub price_micros: u64,
    /// ISO 4217.
    pub currency: String,
}
