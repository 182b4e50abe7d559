//! What stands in identity's tables.

use dialtone_vocab::{PhoneNumber, UnixMillis, UserId};
use prost::Message;

/// A number's owner.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NumberRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) user: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
}

impl NumberRow {
    /// Who owns it, and since which epoch.
    pub(crate) fn owner(&self) -> Option<(UserId, u64)> {
        Some((UserId::from_slice(&self.user).ok()?, self.epoch))
    }
}

/// A number gets an owner: to be told if it comes to pass.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FactRow {
    /// If it has not come to pass until then, it will not.
    #[prost(uint64, tag = "1")]
    pub(crate) until_ms: u64,
}

/// A user.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserRow {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) numbers: Vec<u64>,
    #[prost(string, tag = "2")]
    pub(crate) nickname: String,
    #[prost(uint64, tag = "3")]
    pub(crate) registered_ms: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) last_device: u32,
}

impl UserRow {
    /// The first number, which is the user's own as others see it.
    pub(crate) fn primary(&self) -> Option<PhoneNumber> {
        self.numbers.first().and_then(|digits| PhoneNumber::from_u64(*digits).ok())
    }
}

/// A device.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) public_key: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// The session it began last: it has no other that goes on.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) session: Vec<u8>,
    /// The flow that it was made by: a flow makes one.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) flow: Vec<u8>,
}

/// A login.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) user: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) device: u32,
    #[prost(string, tag = "3")]
    pub(crate) device_name: String,
    #[prost(uint64, tag = "4")]
    pub(crate) created_ms: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) last_seen_ms: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) refresh: Vec<u8>,
    #[prost(uint64, tag = "7")]
    pub(crate) refresh_expires_ms: u64,
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) refresh_before: Vec<u8>,
    #[prost(uint64, tag = "9")]
    pub(crate) rotated_ms: u64,
    #[prost(bool, tag = "10")]
    pub(crate) revoked: bool,
}

/// A registration or one-time password on its way.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlowRow {
    #[prost(bool, tag = "1")]
    pub(crate) login: bool,
    /// 0: not known yet, the phone that texts is the number.
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) stage: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) code: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub(crate) code_expires_ms: u64,
    #[prost(uint32, tag = "6")]
    pub(crate) tries_left: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) expires_ms: u64,
    #[prost(string, tag = "8")]
    pub(crate) mo_token: String,
}

/// Where the text of a phone leads.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MoRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) flow: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) expires_ms: u64,
}

/// A nonce to be signed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NonceRow {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) device: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) expires_ms: u64,
}

/// SMS with codes sent to a number, or to a prefix.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BudgetRow {
    #[prost(uint64, tag = "1")]
    pub(crate) began_ms: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) last_ms: u64,
}

/// Whether a moment has come.
pub(crate) fn is_past(moment_ms: u64, now: UnixMillis) -> bool {
    now.0 >= moment_ms
}
