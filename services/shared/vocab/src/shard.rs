//! Which shard a user belongs to: a constant of the deployment, never a setting.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// How many virtual shards there are. It never changes: stores remember it and refuse another.
pub const SHARDS: u16 = 1024;

const SHARD_KEYS: (u64, u64) = (0x6469_616c_746f_6e65, 0x7368_6172_6473_2131);

/// A virtual shard, 0 to [`SHARDS`] − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The shard of an id: SipHash-1-3 under a fixed key, modulo [`SHARDS`].
pub fn shard_of(id: &[u8; 16]) -> ShardId {
    let mut hasher = SipHasher13::new_with_keys(SHARD_KEYS.0, SHARD_KEYS.1);
    hasher.write(id);
    let shard = hasher.finish() % u64::from(SHARDS);
    ShardId(u16::try_from(shard).expect("a remainder of 1024 fits 16 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden values: if they change, every stored shard is somebody else's.
    #[test]
    fn shard_function_is_pinned() {
        assert_eq!([shard_of(&[0; 16]).0, shard_of(&[1; 16]).0, shard_of(&[0xff; 16]).0], [27, 217, 858]);
    }
}
