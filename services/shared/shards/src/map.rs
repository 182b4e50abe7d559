//! Which of several nodes gets a shard. Pure.

use std::hash::Hasher;

use dialtone_vocab::{NodeId, ShardId};
use siphasher::sip::SipHasher13;

const KEYS: (u64, u64) = (0x6469_616c_746f_6e65, 0x7265_6e64_657a_3131);

fn weight(node: &NodeId, shard: ShardId) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
    hasher.write(&shard.0.to_be_bytes());
    hasher.write(node.as_str().as_bytes());
    hasher.finish()
}

/// The node of a shard by rendezvous hashing: when a node comes or goes, only the shards it gets or had move.
pub fn rendezvous<'a>(shard: ShardId, nodes: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    nodes.into_iter().max_by_key(|node| (weight(node, shard), node.as_str()))
}

#[cfg(test)]
mod tests {
    use dialtone_vocab::SHARDS;
    use proptest::prelude::*;

    use super::*;

    fn nodes(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| NodeId::new(name)).collect()
    }

    #[test]
    fn placement_is_pinned() {
        let three = nodes(&["a", "b", "c"]);
        let placed: Vec<_> =
            (0..8).filter_map(|n| rendezvous(ShardId(n), &three)).map(NodeId::as_str).collect();
        assert_eq!(placed.concat(), "aacbbacb");
        assert_eq!(rendezvous(ShardId(0), &[]), None);
    }

    #[test]
    fn shares_are_even() {
        let three = nodes(&["a", "b", "c"]);
        for node in &three {
            let share = (0..SHARDS).filter(|n| rendezvous(ShardId(*n), &three) == Some(node)).count();
            assert!((270..410).contains(&share), "{node}: {share}");
        }
    }

    proptest! {
        /// A node that leaves moves its own shards and no other.
        #[test]
        fn only_the_leavers_shards_move(shard in 0..SHARDS, gone in 0usize..5) {
            let five = nodes(&["a", "b", "c", "d", "e"]);
            let left: Vec<_> = five.iter().filter(|node| **node != five[gone]).cloned().collect();
            let before = rendezvous(ShardId(shard), &five).expect("some");
            let after = rendezvous(ShardId(shard), &left).expect("some");
            prop_assert!(before == &five[gone] || before == after);
        }
    }
}
