//! Blocks, as contacts told them: durable here, because the inbox's owner decides by them.

use dialtone_store::{Batch, Commit, Db, Schema, StoreError, Table};
use dialtone_vocab::UserId;

#[cfg(test)]
mod contract;

/// What offline keeps.
pub const SCHEMA: Schema = Schema {
    service: "offline",
    tables: &{
        let [log, mark, due] = dialtone_log::TABLES;
        [log, mark, due, Table::new(BLOCK, 16).conditional()]
    },
    version: 2,
};
/// Pairs: who blocks ‖ who is blocked → version, on.
const BLOCK: &str = "block";

/// Who blocks whom. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blocks {
    db: Db,
}

fn key(by: UserId, user: UserId) -> Vec<u8> {
    [&by.as_bytes()[..], user.as_bytes()].concat()
}

impl Blocks {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Whether `by` blocks `user`.
    pub(crate) async fn is_blocked(&self, by: UserId, user: UserId) -> Result<bool, StoreError> {
        let read = self.db.get(BLOCK, &key(by, user)).await?;
        Ok(read.is_some_and(|value| value.get(8) == Some(&1)))
    }

    /// Takes a fact; one that is older than what is known changes nothing.
    pub(crate) async fn set(
        &self,
        by: UserId,
        user: UserId,
        on: bool,
        version: u64,
    ) -> Result<(), StoreError> {
        let key = key(by, user);
        loop {
            let seen = self.db.get(BLOCK, &key).await?;
            let known =
                seen.as_ref().and_then(|value| value.get(..8)?.try_into().ok()).map_or(0, u64::from_be_bytes);
            if seen.is_some() && known >= version {
                return Ok(());
            }
            let value = [&version.to_be_bytes()[..], &[u8::from(on)]].concat();
            let batch = match seen {
                Some(seen) => Batch::new().expect_value(BLOCK, key.clone(), seen.to_vec()),
                None => Batch::new().expect_absent(BLOCK, key.clone()),
            };
            if self.db.commit(batch.put(BLOCK, key.clone(), value)).await? == Commit::Applied {
                return Ok(());
            }
        }
    }
}
