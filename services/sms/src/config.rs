//! The settings of the SMS service.

use std::net::SocketAddr;

use dialtone_chassis::config::is_host_port;
use dialtone_vocab::PhoneNumber;
use serde::Deserialize;

use crate::centre;

/// Octets of a `system_id` in SMPP 3.4, without its end.
const SYSTEM_ID_CHARS: usize = 15;
/// Octets of a `password` in SMPP 3.4, without its end.
const PASSWORD_CHARS: usize = 8;
/// Characters of a sender that is a name and not a number.
const SENDER_CHARS: usize = 11;
/// A million units of the currency: more is a slip of the hand.
const PRICE_MAX: u64 = 1_000_000_000_000;

/// `[sms]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the operator's SMPP server listens, `host:port`; empty: the embedded centre of this process.
    pub provider: String,
    /// The name to bind with, at most 15 characters.
    pub system_id: String,
    /// The password to bind with, at most 8 characters.
    pub password: String,
    /// Numbers that messages come from and replies go to; one reply route per number and receiver.
    pub service_numbers: Vec<String>,
    /// The sender when every service number is taken for a receiver: at most 11 characters, or a number; it can't be
    /// answered.
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

impl Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.provider.is_empty() && !is_host_port(&self.provider) {
            return Err("sms.provider: host:port, or empty for the embedded centre of this process");
        }
        if self.system_id.is_empty() || !fits(&self.system_id, SYSTEM_ID_CHARS) {
            return Err("sms.system_id: 1 to 15 characters of ASCII");
        }
        if !fits(&self.password, PASSWORD_CHARS) {
            return Err("sms.password: at most 8 characters of ASCII");
        }
        if !are_numbers(&self.service_numbers) {
            return Err("sms.service_numbers: numbers in E.164, as +18005550101");
        }
        let sender = &self.sender_id;
        let is_name = !sender.is_empty() && !sender.starts_with('+') && fits(sender, SENDER_CHARS);
        if !is_name && !is_number(sender) {
            return Err("sms.sender_id: 1 to 11 characters of ASCII, or a number in E.164");
        }
        if self.per_hour == 0 {
            return Err("sms.per_hour: at least 1");
        }
        if self.price_micros > PRICE_MAX {
            return Err("sms.price_micros: 0 to 1000000000000");
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err("sms.currency: three capital letters, as USD");
        }
        Ok(())
    }

    /// Whether the bridge of these settings binds to this centre, if it lives in the same process.
    pub fn binds_to(&self, centre: &centre::Config) -> bool {
        let listen = centre.listen;
        let provider = self.provider.replace("localhost", "127.0.0.1");
        provider.is_empty()
            || provider.parse::<SocketAddr>().is_ok_and(|provider| {
                let (to, at) = (provider.ip(), listen.ip());
                provider.port() == listen.port() && (to == at || at.is_unspecified() && to.is_loopback())
            })
    }
}

impl centre::Config {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The setting and its range.
    pub fn check(&self) -> Result<(), &'static str> {
        if !fits(&self.password, PASSWORD_CHARS) {
            return Err("centre.password: at most 8 characters of ASCII");
        }
        if !are_numbers(&self.service_numbers) {
            return Err("centre.service_numbers: numbers in E.164, as +18005550101");
        }
        Ok(())
    }
}

/// Whether a C-octet string takes it; what does not fit would be cut silently.
fn fits(text: &str, most: usize) -> bool {
    text.len() <= most && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_number(text: &str) -> bool {
    PhoneNumber::parse_e164(text).is_ok()
}

fn are_numbers(texts: &[String]) -> bool {
    texts.iter().all(|text| is_number(text))
}
