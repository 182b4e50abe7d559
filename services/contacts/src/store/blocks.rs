//! Blocks, and the facts that tell them.
//!
//! That a version of somebody's blocks is to be told is noted before that version is decided, so no death in between
//! leaves a block untold. The note says no more than that: whoever tells reads what the block is by then. A note whose
//! version was never decided is waited for; an old one is decided by taking its version for nothing, and whoever was
//! about to use it is refused.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use dialtone_proto::bus::v1::BlockFact;
use dialtone_store::Batch;
use dialtone_vocab::UserId;

use super::{Result, Seen, Store, join};
use crate::limits::{FACT_BATCH, FACT_HOURS, FACT_SCAN, FACT_SETTLED_HOURS};
use crate::rows::BlockHead;

const HOUR_MS: u64 = 3_600_000;

fn pair(by: UserId, user: UserId) -> Vec<u8> {
    join([by.as_bytes(), user.as_bytes()])
}

impl Store {
    pub(crate) async fn blocks(&self, by: UserId, user: UserId) -> Result<bool> {
        Ok(self.db.get("block", &pair(by, user)).await?.is_some())
    }

    pub(crate) async fn block_head(&self, by: UserId) -> Result<Seen<BlockHead>> {
        Self::seen("block", self.db.get_serial("block", by.as_bytes()).await?)
    }

    fn hour(&self) -> u32 {
        u32::try_from(self.clock.now().0 / HOUR_MS).unwrap_or(u32::MAX)
    }

    /// Notes that a version of `by`'s blocks is to be told, of which `user` is concerned.
    pub(crate) async fn note_fact(&self, by: UserId, user: UserId, version: u64) -> Result<()> {
        let key = join([&self.hour().to_be_bytes(), by.as_bytes(), user.as_bytes(), &version.to_be_bytes()]);
        self.db.commit(Batch::new().put("fact", key, [])).await.map(|_applied| ())
    }

    /// A block or its end; false if the head is no longer what was seen.
    pub(crate) async fn put_block(
        &self,
        seen: &Seen<BlockHead>,
        head: &BlockHead,
        by: UserId,
        user: UserId,
        on: bool,
    ) -> Result<bool> {
        let key = pair(by, user);
        let with = if on { Batch::new().put("block", key, []) } else { Batch::new().delete("block", key) };
        self.replace("block", by.as_bytes(), seen, head, with).await
    }

    /// Facts that nobody has taken yet, by their keys.
    pub(crate) async fn facts(&self) -> Result<Vec<(Bytes, BlockFact)>> {
        let now = self.hour();
        let from = self.oldest.load(Ordering::Relaxed).max(now.saturating_sub(FACT_HOURS));
        let (mut facts, mut is_first) = (Vec::new(), true);
        // Others may be ahead by a clock's error.
        for hour in from..=now.saturating_add(1) {
            let rows = self.db.scan_prefix("fact", &hour.to_be_bytes(), FACT_SCAN).await?;
            is_first = is_first && rows.is_empty() && hour.saturating_add(FACT_SETTLED_HOURS) < now;
            if is_first {
                self.oldest.fetch_max(hour + 1, Ordering::Relaxed);
            }
            for (key, _) in rows {
                let is_old = hour.saturating_add(FACT_SETTLED_HOURS) < now;
                if let Some(fact) = self.fact(&key, is_old).await? {
                    facts.push((key, fact));
                }
                if facts.len() >= FACT_BATCH {
                    return Ok(facts);
                }
            }
        }
        Ok(facts)
    }

    /// What a note tells, once its version is decided.
    async fn fact(&self, key: &[u8], is_old: bool) -> Result<Option<BlockFact>> {
        let Some((by, rest)) = key.get(4..).and_then(|key| key.split_first_chunk()) else { return Ok(None) };
        let Some((user, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let (by, user) = (UserId::new(*by), UserId::new(*user));
        let version = rest.first_chunk().copied().map_or(0, u64::from_be_bytes);
        // First the version, then the block: a change in between is told by its own note.
        let seen = self.block_head(by).await?;
        if seen.row.version < version {
            if is_old {
                let head = BlockHead { version, ..seen.row };
                let _else_it_was_decided =
                    self.replace("block", by.as_bytes(), &seen, &head, Batch::new()).await?;
            }
            return Ok(None);
        }
        let on = self.blocks(by, user).await?;
        Ok(Some(BlockFact { by: by.to_vec(), user: user.to_vec(), on, version: seen.row.version }))
    }

    /// A fact was taken.
    pub(crate) async fn drop_fact(&self, key: &[u8]) -> Result<()> {
        self.db.commit(Batch::new().delete("fact", key)).await.map(|_applied| ())
    }
}
