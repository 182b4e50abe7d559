//! What is past its time goes, a bounded step at a time. Several processes may sweep the same.

use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Rows, StoreError};
use dialtone_vocab::UnixMillis;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message;

use super::{DLR, HOUR_MS, Progress, SPEND, SmsRow, Store, TAKEN};
use crate::limits::{SPEND_KEEP, SWEEP_AT_ONCE, SWEEP_BATCH, SWEEP_EVERY, SWEEP_ROWS, TAKEN_KEEP};

/// Behind which key the next step begins: rows that stay must not hide what stands behind them.
#[derive(Default)]
pub(super) struct Cursors {
    taken: Vec<u8>,
    receipts: Vec<u8>,
    spend: Vec<u8>,
}

impl Store {
    /// Sweeps until the process is to stop.
    pub(crate) async fn keep_swept(self, chassis: Chassis) {
        let stop = chassis.tasks.stop_token();
        let mut cursors = Cursors::default();
        while stop.run_until_cancelled(chassis.clock.sleep(SWEEP_EVERY)).await.is_some() {
            if let Err(error) = self.sweep(&mut cursors, chassis.clock.now()).await {
                tracing::warn!(%error, "the sweep will be tried again");
            }
        }
    }

    /// One step in each table; how many rows went.
    pub(super) async fn sweep(&self, cursors: &mut Cursors, now: UnixMillis) -> Result<usize, StoreError> {
        let taken = self.next(TAKEN, &mut cursors.taken, |_, row| is_past(row, now)).await?;
        let receipts = self.next(DLR, &mut cursors.receipts, |_, row| is_past_receipt(row, now)).await?;
        let hours = self.next(SPEND, &mut cursors.spend, |hour, _| is_past_hour(hour, now)).await?;
        let swept = taken.len() + receipts.len() + hours.len();
        for receipts in receipts.chunks(SWEEP_BATCH) {
            let delete = |batch: Batch, (key, _): &(bytes::Bytes, _)| batch.delete(DLR, key.to_vec());
            self.write(receipts.iter().fold(Batch::new(), delete)).await?;
        }
        self.delete_as_seen(TAKEN, taken).await?;
        self.delete_as_seen(SPEND, hours).await?;
        Ok(swept)
    }

    /// Those of the next rows that are past their time; moves the cursor on.
    async fn next(
        &self,
        table: &'static str,
        after: &mut Vec<u8>,
        is_past: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<Rows, StoreError> {
        let rows = self.db.walk(table, after, SWEEP_ROWS).await?;
        let end = rows.len() < SWEEP_ROWS;
        *after = rows.last().filter(|_| !end).map(|(key, _)| key.to_vec()).unwrap_or_default();
        Ok(rows.into_iter().filter(|(key, value)| is_past(key, value)).collect())
    }

    /// Deletes rows that are still as they were seen.
    async fn delete_as_seen(&self, table: &'static str, rows: Rows) -> Result<(), StoreError> {
        let delete = async |(key, value): (bytes::Bytes, bytes::Bytes)| {
            let batch = Batch::new().expect_value(table, key.to_vec(), value.to_vec());
            // It may just be written anew: then it stays.
            self.db.commit(batch.delete(table, key.to_vec())).await.map(drop)
        };
        stream::iter(rows).map(delete).buffer_unordered(SWEEP_AT_ONCE).try_collect().await
    }
}

fn is_old(at_ms: u64, now: UnixMillis) -> bool {
    now.0.saturating_sub(at_ms) >= TAKEN_KEEP.as_millis() as u64
}

/// Whether nobody asks about an SMS any more. One that has not left yet stays, as does one of unknown age.
fn is_past(row: &[u8], now: UnixMillis) -> bool {
    SmsRow::decode(row).is_ok_and(|row| {
        row.progress >= Progress::Submitted as u32 && row.at_ms > 0 && is_old(row.at_ms, now)
    })
}

/// The operator's ids of an SMS go when it goes itself.
fn is_past_receipt(row: &[u8], now: UnixMillis) -> bool {
    row.get(..8).and_then(|at| at.try_into().ok()).is_none_or(|at| is_old(u64::from_be_bytes(at), now))
}

fn is_past_hour(hour: &[u8], now: UnixMillis) -> bool {
    let first_kept = now.0.saturating_sub(SPEND_KEEP.as_millis() as u64) / HOUR_MS;
    hour.try_into().is_ok_and(|hour| u64::from_be_bytes(hour) < first_kept)
}
