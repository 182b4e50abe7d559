//! What every owner of logs does beside its work: waking those with something to do, dropping what is past its time.

use std::collections::BTreeSet;
use std::ops::Bound;

use dialtone_chassis::Chassis;
use dialtone_vocab::{SHARDS, ShardId};

use crate::limits::{PAGE_ROWS, SWEEP_BUCKETS, SWEEP_EVERY};
use crate::rows::{DUE, DueRow, due_prefix};
use crate::store::after;
use crate::{LogError, LogStore};

impl LogStore {
    /// Every restart is a take-over: the owners of all logs with something to do, to be opened at once. A shard that
    /// can't be read is reported and left out.
    pub fn wake(&self, mut owner: impl FnMut([u8; 16])) {
        for shard in 0..SHARDS {
            match self.owners_due(ShardId(shard)) {
                Ok(owners) => owners.into_iter().for_each(&mut owner),
                Err(error) => tracing::error!(%error, "due rows could not be read"),
            }
        }
    }

    fn owners_due(&self, shard: ShardId) -> Result<BTreeSet<[u8; 16]>, LogError> {
        let mut owners = BTreeSet::new();
        let (prefix, end) = (due_prefix(shard), after(due_prefix(shard)));
        let mut lower = Bound::Included(prefix);
        loop {
            let page = self.db().scan(DUE, (lower, end.clone()), PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { return Ok(owners) };
            lower = Bound::Excluded(last.to_vec());
            for (key, value) in &page {
                owners.insert(DueRow::parse(key, value)?.owner);
            }
        }
    }

    /// Drops whole buckets that are past their time, a few at a time, until the process is to stop.
    pub async fn keep_swept(self, chassis: Chassis) {
        let stop = chassis.tasks.stop_token();
        let mut cursor = Vec::new();
        while stop.run_until_cancelled(chassis.clock.sleep(SWEEP_EVERY)).await.is_some() {
            match self.sweep(std::mem::take(&mut cursor), SWEEP_BUCKETS, chassis.clock.now()).await {
                Ok(next) => cursor = next,
                Err(error) => tracing::warn!(%error, "the sweep will be tried again"),
            }
        }
    }
}
