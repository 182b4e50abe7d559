//! Identifiers: opaque bytes and counters, each with a type of its own so that they can't be mixed up.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::WrongLength;

macro_rules! bytes16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From exactly 16 bytes.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From a slice as it came on the wire.
            ///
            /// # Errors
            /// [`WrongLength`] unless it has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, WrongLength> {
                bytes.try_into().map(Self).map_err(|_| WrongLength { expected: 16, got: bytes.len() })
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The 16 bytes as a vector, as prost fields want them.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

bytes16! {
    /// A user: random, not derived from the number, handed out only for a match, a conversation or oneself.
    UserId
}
bytes16! {
    /// A login of a device; what access and refresh tokens belong to.
    SessionId
}
bytes16! {
    /// A message, the same on every retry and everywhere; see [`MessageId::compute`].
    MessageId
}
bytes16! {
    /// A log (outbox, inbox, inbound SMS); a cursor names the log it belongs to.
    LogId
}
bytes16! {
    /// A number as services other than identity keep it: a keyed hash.
    NumberHash
}

/// Fixed keys: the same message has the same id in every process and version.
const MESSAGE_ID_KEYS: (u64, u64) = (0x6469_616c_746f_6e65, 0x6d65_7373_6167_6531);

impl MessageId {
    /// The id of the message that `device` of `user` sent as its `seq`-th.
    pub fn compute(user: UserId, device: DeviceId, seq: ClientSeq) -> Self {
        let mut hasher = SipHasher13::new_with_keys(MESSAGE_ID_KEYS.0, MESSAGE_ID_KEYS.1);
        hasher.write(user.as_bytes());
        hasher.write(&device.0.to_be_bytes());
        hasher.write(&seq.0.to_be_bytes());
        Self(hasher.finish128().as_bytes())
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A device within a user; 1 is the first, numbers are never reused.
    DeviceId, u32
}
counter! {
    /// A device's own count of its messages, from 1, +1 per message.
    ClientSeq, u64
}
counter! {
    /// Which opening of a log or store; grows with every change of owner and never goes down along a log.
    Epoch, u64
}
counter! {
    /// Server time in unix milliseconds: for display and deadlines, never for order.
    UnixMillis, u64
}

impl UnixMillis {
    /// This moment plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A process of the cluster, as bus subjects name it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Characters a name may have, so that it is one token of a bus subject: `a-z`, `0-9`, `-`.
    pub fn is_valid(name: &str) -> bool {
        (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }

    /// The node called `name`; see [`NodeId::is_valid`] for what configuration must check first.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_id_is_pinned() {
        let id = MessageId::compute(UserId::new([7; 16]), DeviceId(1), ClientSeq(42));
        assert_eq!(id, MessageId::compute(UserId::new([7; 16]), DeviceId(1), ClientSeq(42)));
        assert_ne!(id, MessageId::compute(UserId::new([7; 16]), DeviceId(2), ClientSeq(42)));
        assert_ne!(id, MessageId::compute(UserId::new([7; 16]), DeviceId(1), ClientSeq(43)));
        assert_eq!(id.to_string(), "cc7ead1c27890e769eb67f67d533e455");
    }

    #[test]
    fn wrong_length_says_both_lengths() {
        assert_eq!(UserId::from_slice(&[0; 3]), Err(WrongLength { expected: 16, got: 3 }));
        assert!(UserId::from_slice(&[0; 16]).is_ok());
    }

    #[test]
    fn node_names_are_one_subject_token() {
        assert!(NodeId::is_valid("node-1"));
        for bad in ["", "a.b", "a b", "A", "*", ">", &"x".repeat(64)] {
            assert!(!NodeId::is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn time_saturates() {
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
        assert_eq!(UnixMillis(u64::MAX).plus(Duration::from_secs(1)), UnixMillis(u64::MAX));
    }
}
