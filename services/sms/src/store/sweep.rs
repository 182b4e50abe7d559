//! What is past its time goes, a bounded step at a time.

use std::ops::Bound;

use dialtone_chassis::Chassis;
use dialtone_store::{Batch, StoreError};
use dialtone_vocab::UnixMillis;
use prost::Message;

use super::{HOUR_MS, Progress, SmsRow, Store};
use crate::limits::{SPEND_KEEP, SWEEP_EVERY, SWEEP_ROWS, TAKEN_KEEP};

/// Behind which key the next step begins: rows that stay must not hide what stands behind them.
#[derive(Default)]
pub(super) struct Cursors {
    taken: Vec<u8>,
    receipts: Vec<u8>,
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
        let taken = self.step("sms_taken", &mut cursors.taken, |row| Ok(is_past(row, now))).await?;
        // The operator's ids of an SMS go when it has gone itself.
        let is_gone = |id: &[u8]| Ok(self.db.get("sms_taken", id)?.is_none());
        let receipts = self.step("dlr_map", &mut cursors.receipts, is_gone).await?;
        Ok(taken + receipts + self.sweep_spend(now).await?)
    }

    /// Deletes those of the next rows whose value is past its time, and moves the cursor on.
    async fn step(
        &self,
        table: &'static str,
        after: &mut Vec<u8>,
        is_past: impl Fn(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<usize, StoreError> {
        let rows = self.db.scan(table, (Bound::Excluded(after.clone()), Bound::Unbounded), SWEEP_ROWS)?;
        let (mut batch, mut swept) = (Batch::new(), 0);
        for (key, value) in &rows {
            if is_past(value)? {
                swept += 1;
                // It may just be written anew: then nothing goes, and the step is done once more.
                batch = batch.expect_value(table, key.to_vec(), value.to_vec()).delete(table, key.to_vec());
            }
        }
        if swept > 0 && !self.db.commit(batch).await?.is_applied() {
            return Ok(0);
        }
        let end = rows.len() < SWEEP_ROWS;
        *after = rows.last().filter(|_| !end).map(|(key, _)| key.to_vec()).unwrap_or_default();
        Ok(swept)
    }

    /// Hours stand in order: those that are past come first.
    async fn sweep_spend(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let first_kept = (now.0.saturating_sub(SPEND_KEEP.as_millis() as u64) / HOUR_MS).to_be_bytes();
        let rows = self.db.scan("spend", ..first_kept.to_vec(), SWEEP_ROWS)?;
        let swept = rows.len();
        if swept > 0 {
            let delete = |batch: Batch, (key, _): (_, _)| batch.delete("spend", key);
            let _always_applied = self.db.commit(rows.into_iter().fold(Batch::new(), delete)).await?;
        }
        Ok(swept)
    }
}

/// Whether nobody asks about an SMS any more. One that has not left yet stays, as does one of unknown age.
fn is_past(row: &[u8], now: UnixMillis) -> bool {
    SmsRow::decode(row).is_ok_and(|row| {
        row.progress >= Progress::Submitted as u32
            && row.at_ms > 0
            && now.0.saturating_sub(row.at_ms) >= TAKEN_KEEP.as_millis() as u64
    })
}
