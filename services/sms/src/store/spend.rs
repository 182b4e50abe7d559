//! How many SMS an hour has: taken from the store several at a time, so that processes do not stand in line for one row.
#![expect(clippy::disallowed_types, reason = "two numbers that change together, for a moment each")]

use std::sync::{Arc, Mutex, PoisonError};

use dialtone_store::{Batch, StoreError};
use dialtone_vocab::UnixMillis;

use super::{HOUR_MS, SPEND, Store};
use crate::limits::{SPEND_AT_ONCE, SPEND_PORTIONS};

/// What this process has taken of an hour and not spent: the hour, and how many. What a process leaves is lost to the
/// hour.
#[derive(Debug, Clone, Default)]
pub(super) struct Reserve(Arc<Mutex<(u64, u32)>>);

impl Reserve {
    fn spend(&self, hour: u64) -> bool {
        let mut reserve = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_some = reserve.0 == hour && reserve.1 > 0;
        if has_some {
            reserve.1 -= 1;
        }
        has_some
    }

    fn add(&self, hour: u64, more: u32) {
        let mut reserve = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = if reserve.0 == hour { reserve.1 } else { 0 };
        *reserve = (hour, left + more);
    }
}

/// SMS that a process takes of an hour at once.
fn portion(per_hour: u32) -> u32 {
    (per_hour / SPEND_PORTIONS).clamp(1, SPEND_AT_ONCE)
}

impl Store {
    /// Takes one of the hour's SMS; how long to wait if there is none left.
    pub(crate) async fn spend(&self, per_hour: u32, now: UnixMillis) -> Result<Option<u64>, StoreError> {
        let hour = now.0 / HOUR_MS;
        if self.reserve.spend(hour) {
            return Ok(None);
        }
        let key = hour.to_be_bytes();
        loop {
            let seen = self.db.get(SPEND, &key).await?;
            let spent =
                seen.as_ref().and_then(|value| value[..].try_into().ok()).map_or(0, u32::from_be_bytes);
            if spent >= per_hour {
                return Ok(Some(HOUR_MS - now.0 % HOUR_MS));
            }
            let more = portion(per_hour).min(per_hour - spent);
            let batch = match &seen {
                Some(seen) => Batch::new().expect_value(SPEND, key, seen.to_vec()),
                None => Batch::new().expect_absent(SPEND, key),
            };
            // One whose outcome is unknown may have been taken: the hour has fewer then, never more.
            if self.db.commit(batch.put(SPEND, key, (spent + more).to_be_bytes())).await?.is_applied() {
                self.reserve.add(hour, more - 1);
                return Ok(None);
            }
        }
    }
}
