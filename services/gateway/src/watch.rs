//! The interaction table as the gateway remembers it, so that an attach to another presence node brings it along.

use std::collections::BTreeSet;

use dialtone_proto::edge::v1::Watch;
use dialtone_proto::types::v1::UserRef;

/// The peers a session watches.
#[derive(Debug, Default)]
pub(crate) struct WatchTable {
    version: u64,
    peers: BTreeSet<Vec<u8>>,
}

impl WatchTable {
    /// What the client remembers of its table when it comes back.
    pub(crate) fn resume(&mut self, version: u64) {
        self.version = version;
    }

    /// Applies a change; false if the table would be too large, and then nothing is changed.
    pub(crate) fn apply(&mut self, change: &Watch, limit: usize) -> bool {
        let mut peers = if change.is_replace { BTreeSet::new() } else { self.peers.clone() };
        for peer in change.replace.iter().chain(&change.add) {
            peers.insert(peer.id.clone());
        }
        for peer in &change.remove {
            peers.remove(&peer.id);
        }
        let fits = peers.len() <= limit;
        if fits {
            self.peers = peers;
            self.version = self.version.max(change.version);
        }
        fits
    }

    /// The whole table as one change.
    pub(crate) fn whole(&self) -> Watch {
        let replace = self.peers.iter().map(|id| UserRef { id: id.clone() }).collect();
        Watch { version: self.version, replace, is_replace: true, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs(ids: &[u8]) -> Vec<UserRef> {
        ids.iter().map(|id| UserRef { id: vec![*id; 16] }).collect()
    }

    #[test]
    fn changes_add_up_to_the_whole() {
        let mut table = WatchTable::default();
        assert!(table.apply(&Watch { version: 1, add: refs(&[1, 2]), ..Default::default() }, 3));
        assert!(
            table.apply(&Watch { version: 2, add: refs(&[3]), remove: refs(&[1]), ..Default::default() }, 3)
        );
        assert_eq!(
            table.whole(),
            Watch { version: 2, replace: refs(&[2, 3]), is_replace: true, ..Default::default() }
        );
        assert!(
            table
                .apply(&Watch { version: 3, replace: refs(&[9]), is_replace: true, ..Default::default() }, 3)
        );
        assert_eq!(table.whole().replace, refs(&[9]));
    }

    #[test]
    fn a_table_too_large_changes_nothing() {
        let mut table = WatchTable::default();
        assert!(!table.apply(&Watch { version: 1, add: refs(&[1, 2]), ..Default::default() }, 1));
        assert!(table.whole().replace.is_empty());
    }
}
