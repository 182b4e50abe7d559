//! What every owner of logs does beside its work: waking those with something to do, dropping what is past its time.

use std::ops::Bound;

use dialtone_chassis::Chassis;
use dialtone_store::Batch;
use dialtone_vocab::{Epoch, LogId, SHARDS, ShardId, UnixMillis};
use futures::{StreamExt as _, stream};

use crate::limits::{LOOK_AGAIN, SWEEP_BUCKETS, SWEEP_EVERY, WAKE_AT_ONCE};
use crate::owner::Owner;
use crate::rows::{
    self, DUE, DueRow, LOG, MARK, bucket_key, bucket_of, due_prefix, entry_key, last_of, mark_key, tail_key,
};
use crate::writer::BUCKET_MARK;
use crate::{LogError, LogStore, metrics};

impl LogStore {
    /// Finds all logs with something to do, to be opened at once: in an embedded database now, every restart being a
    /// take-over; in a shared one whenever a shard becomes this process's, and now and then. A shard that can't be read
    /// is reported and left out until then.
    pub async fn keep_awake(self, mut found: impl FnMut(DueRow) + Send) {
        let Owner::Lease(leases) = &self.owner else {
            return self.wake((0..SHARDS).map(ShardId).collect(), &mut found).await;
        };
        let stop = self.chassis.tasks.stop_token();
        let mut opened = leases.opened(self.db.service());
        let clock = &self.chassis.clock;
        let mut look_again = clock.instant() + LOOK_AGAIN;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                shards = opened.next() => match shards {
                    Some(shards) => self.wake(shards, &mut found).await,
                    None => return,
                },
                () = clock.sleep_until(look_again) => {
                    self.wake(leases.all_held(self.db.service()), &mut found).await;
                    look_again = clock.instant() + LOOK_AGAIN;
                }
            }
        }
    }

    async fn wake(&self, shards: Vec<ShardId>, found: &mut (impl FnMut(DueRow) + Send)) {
        let mut read = stream::iter(shards).map(|shard| self.due_of(shard)).buffer_unordered(WAKE_AT_ONCE);
        while let Some(rows) = read.next().await {
            match rows {
                Ok(rows) => rows.into_iter().for_each(&mut *found),
                Err(error) => tracing::error!(%error, "due rows could not be read"),
            }
        }
    }

    async fn due_of(&self, shard: ShardId) -> Result<Vec<DueRow>, LogError> {
        let rows = self.db.all_of(DUE, &due_prefix(shard)).await?;
        rows.iter().map(|(key, value)| DueRow::parse(key, value)).collect()
    }

    /// Drops whole buckets that are past their time, a few at a time, until the process is to stop. A shared store drops
    /// them by itself.
    pub async fn keep_swept(self, chassis: Chassis) {
        if let Owner::Lease(_) = self.owner {
            return;
        }
        let stop = chassis.tasks.stop_token();
        let mut cursor = Vec::new();
        while stop.run_until_cancelled(chassis.clock.sleep(SWEEP_EVERY)).await.is_some() {
            match self.sweep(std::mem::take(&mut cursor), SWEEP_BUCKETS, chassis.clock.now()).await {
                Ok(next) => cursor = next,
                Err(error) => tracing::warn!(%error, "the sweep will be tried again"),
            }
        }
    }

    /// Drops buckets all of whose entries are past their time, looking at no more than `limit` buckets after `cursor`.
    /// Returns where to go on; empty when all have been seen.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn sweep(
        &self,
        mut cursor: Vec<u8>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Vec<u8>, LogError> {
        for _ in 0..limit {
            // The first row of a bucket is its tail.
            let found = self.db.walk(LOG, &cursor, 1).await?;
            let Some((key, tail)) = found.first() else { return Ok(Vec::new()) };
            let (Some(tail), Ok(log)) = (rows::u64_at(tail, 0), LogId::from_slice(&key[..16])) else {
                return Err(LogError::Malformed { table: LOG });
            };
            let bucket = bucket_of(tail);
            cursor = [&bucket_key(log, bucket)[..], &[u8::MAX; 16]].concat();
            // `keep_until` never goes down along a log: when the last entry's time is over, so is everybody's.
            if !self.is_live(log, tail, now).await? {
                self.drop_bucket(log, bucket).await?;
            }
        }
        Ok(cursor)
    }

    /// The tail goes only when a later bucket has one: an index is never used twice.
    async fn drop_bucket(&self, log: LogId, bucket: u32) -> Result<(), LogError> {
        let behind = entry_key(log, last_of(bucket), Epoch(u64::MAX));
        let entries = (Bound::Excluded(tail_key(log, bucket)), Bound::Included(behind));
        let dropped = self.db.delete_range(LOG, entries).await?;
        metrics::swept(self.kind, dropped);
        let newest = self.db.get_u64(MARK, &mark_key(log, BUCKET_MARK)).await?;
        if newest.is_some_and(|newest| newest > bucket.into()) {
            let _always_applied = self.db.commit(Batch::new().delete(LOG, tail_key(log, bucket))).await?;
        }
        Ok(())
    }
}
