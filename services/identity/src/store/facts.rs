//! What is to be told to contacts: that a number has got a user.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_proto::bus::v1::NumberFact;
use dialtone_store::{Batch, Commit, StoreError};
use dialtone_vocab::{PhoneNumber, UnixMillis, UserId};
use prost::Message;
use tokio::sync::Notify;

use super::accounts::number_key;
use super::{Seen, Store};
use crate::limits::{FACT_BATCH, FACT_LOTS, FACT_PATIENCE};
use crate::rows::{FactRow, NumberRow, is_past};

/// Wakes whoever tells facts.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Notify>);

impl Pending {
    pub(super) fn note(&self) {
        self.0.notify_one();
    }

    /// Until this process has put down another fact; those of others are seen when one looks.
    pub(crate) async fn noted(&self) {
        self.0.notified().await;
    }
}

/// Each change of a number has a key of its own: what is told of one says nothing of the next.
fn fact_key(number: PhoneNumber, change: &NumberRow) -> Vec<u8> {
    let lot = (number.as_u64() % u64::from(FACT_LOTS)).to_be_bytes();
    [&lot[7..], &number_key(number), &change.user, &change.epoch.to_be_bytes()].concat()
}

/// The number of a key, its user and the epoch.
fn change_of(key: &[u8]) -> Option<(PhoneNumber, UserId, u64)> {
    let (number, rest) = key.get(1..)?.split_at_checked(8)?;
    let (user, epoch) = rest.split_at_checked(16)?;
    let number = PhoneNumber::from_u64(u64::from_be_bytes(number.try_into().ok()?)).ok()?;
    Some((number, UserId::from_slice(user).ok()?, u64::from_be_bytes(epoch.try_into().ok()?)))
}

impl Store {
    pub(crate) fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Puts down that a number is about to get an owner, before it does: so nobody can act on what is never told. What
    /// is told is what the number's row says then; if it never says so, nothing is.
    pub(super) async fn add_fact(
        &self,
        number: PhoneNumber,
        row: &NumberRow,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let fact = FactRow { until_ms: now.plus(FACT_PATIENCE).0 };
        let batch = Batch::new().put("fact", fact_key(number, row), fact.encode_to_vec());
        let _always_applied: Commit = self.db.commit(batch).await?;
        Ok(())
    }

    /// Facts of a lot that were not told yet, with their keys. What did not come to pass is dropped: at once if somebody
    /// else has the number, and after a while if nobody has.
    pub(crate) async fn facts(
        &self,
        lot: u8,
        now: UnixMillis,
    ) -> Result<Vec<(Bytes, NumberFact)>, StoreError> {
        let mut facts = Vec::new();
        for (key, value) in self.db.scan_prefix("fact", &[lot], FACT_BATCH).await? {
            let Some((number, user, epoch)) = change_of(&key) else { continue };
            let Ok(fact) = FactRow::decode(value) else { continue };
            // Serially: what is not there then never comes of an attempt whose outcome nobody knows.
            let seen: Seen<NumberRow> = self.see_serial("number_owner", &number_key(number)).await?;
            let has_come = seen.row.owner() == Some((user, epoch));
            if has_come {
                let nickname = self.user(user).await?.unwrap_or_default().nickname;
                let (number, user) = (number.to_string(), user.to_vec());
                facts.push((key, NumberFact { number, user, epoch, nickname }));
            } else if seen.row.epoch >= epoch || is_past(fact.until_ms, now) {
                self.drop_fact(&key).await?;
            }
        }
        Ok(facts)
    }

    /// A fact was told, or is none.
    pub(crate) async fn drop_fact(&self, key: &[u8]) -> Result<(), StoreError> {
        let _always_applied: Commit = self.db.commit(Batch::new().delete("fact", key)).await?;
        Ok(())
    }
}
