//! What is still to be done: SMS in the queue and results to tell, by hours, so that nobody reads through what is long
//! done to find it.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use dialtone_proto::bus::v1::SmsResult;
use dialtone_store::{Batch, Rows, StoreError};
use dialtone_vocab::UnixMillis;
use prost::Message;

use super::{HOURS, QUEUE, RESULT, Store};
use crate::limits::{OPEN_HOURS, OPEN_ROWS};

/// An hour.
pub(super) const HOUR_MS: u64 = 3_600_000;
/// Into so many partitions an hour is cut. Never changes.
const LANES: u8 = 16;
/// Bytes of a lane and an hour.
pub(super) const PARTITION: usize = 5;

fn hour_of(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / HOUR_MS).unwrap_or(u32::MAX - 1)
}

fn partition(lane: u8, hour: u32) -> Vec<u8> {
    [&[lane][..], &hour.to_be_bytes()].concat()
}

/// Ids are made by hashing or at random.
pub(super) fn open_key(at: UnixMillis, id: &[u8]) -> Vec<u8> {
    let lane = id.first().map_or(0, |byte| byte % LANES);
    [&partition(lane, hour_of(at))[..], id].concat()
}

/// The message id in a key of the queue.
pub(crate) fn id_of(key: &[u8]) -> &[u8] {
    key.get(PARTITION..).unwrap_or_default()
}

/// A result that is told until it is taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    key: Vec<u8>,
    pub(crate) result: SmsResult,
}

impl Told {
    /// Filed under the hour in which it is written, whatever the hour of the SMS.
    pub(crate) fn new(result: &SmsResult, now: UnixMillis) -> Self {
        let key = [&open_key(now, &result.message_id)[..], &result.kind.to_be_bytes()].concat();
        Self { key, result: result.clone() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn put(&self, batch: Batch) -> Batch {
        batch.put(RESULT, self.key.clone(), self.result.encode_to_vec())
    }
}

/// A part of what is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    hour: u32,
    lane: u8,
}

impl Store {
    /// Before anything is written into an hour: whoever looks around will look there.
    pub(super) async fn open_hour(&self, now: UnixMillis) -> Result<(), StoreError> {
        let hour = hour_of(now);
        if self.opened.load(Ordering::Relaxed) != hour {
            self.write(Batch::new().put(HOURS, hour.to_be_bytes(), Vec::new())).await?;
            self.opened.store(hour, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The hours that may have something, the oldest first.
    pub(crate) async fn hours(&self) -> Result<Vec<u32>, StoreError> {
        let rows = self.db.scan(HOURS, .., OPEN_HOURS).await?;
        Ok(rows.iter().filter_map(|(key, _)| key[..].try_into().ok().map(u32::from_be_bytes)).collect())
    }

    /// SMS with something to do, at most a page of them behind `after`: their keys, and which process is to look at
    /// each.
    pub(crate) async fn queued(
        &self,
        lane: Lane,
        after: &[u8],
    ) -> Result<Vec<(Vec<u8>, String)>, StoreError> {
        let rows = self.page(QUEUE, lane, after).await?;
        Ok(rows
            .into_iter()
            .map(|(key, node)| (key.to_vec(), String::from_utf8_lossy(&node).into_owned()))
            .collect())
    }

    /// Results that were not taken, at most a page of them behind `after`.
    pub(crate) async fn results(&self, lane: Lane, after: &[u8]) -> Result<Vec<Told>, StoreError> {
        let told = |(key, value): (bytes::Bytes, bytes::Bytes)| {
            let result = SmsResult::decode(value);
            result
                .map(|result| Told { key: key.to_vec(), result })
                .map_err(|_| StoreError::Corrupt { table: RESULT.to_owned() })
        };
        self.page(RESULT, lane, after).await?.into_iter().map(told).collect()
    }

    async fn page(&self, table: &'static str, lane: Lane, after: &[u8]) -> Result<Rows, StoreError> {
        let lower = match after {
            [] => Bound::Included(partition(lane.lane, lane.hour)),
            after => Bound::Excluded(after.to_vec()),
        };
        let upper = Bound::Excluded(partition(lane.lane, lane.hour + 1));
        self.db.scan(table, (lower, upper), OPEN_ROWS).await
    }

    /// An SMS in the queue was never taken: its row goes when whoever wrote it has taken it by now or never will.
    pub(crate) async fn drop_untaken(&self, key: &[u8], now: UnixMillis) -> Result<(), StoreError> {
        let hour = key.get(1..PARTITION).and_then(|hour| hour.try_into().ok()).map_or(0, u32::from_be_bytes);
        if is_over(hour, now) { self.write(Batch::new().delete(QUEUE, key)).await } else { Ok(()) }
    }

    /// Nothing of an hour is left, as was just seen in all its lanes.
    pub(crate) async fn close(&self, hour: u32, now: UnixMillis) -> Result<(), StoreError> {
        if is_over(hour, now) {
            self.write(Batch::new().delete(HOURS, hour.to_be_bytes())).await
        } else {
            Ok(())
        }
    }
}

impl Lane {
    /// The lanes of an hour.
    pub(crate) fn of(hour: u32) -> impl Iterator<Item = Self> {
        (0..LANES).map(move |lane| Self { hour, lane })
    }
}

/// Whether nobody writes into an hour any more: it is over for a whole other one, should clocks differ.
fn is_over(hour: u32, now: UnixMillis) -> bool {
    hour.saturating_add(2) <= hour_of(now)
}
