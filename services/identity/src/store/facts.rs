//! What is to be told to contacts: that a number has got a user.

use std::ops::Bound;
use std::sync::Arc;

use dialtone_proto::bus::v1::NumberFact;
use dialtone_store::{Batch, Commit, Rows, StoreError};
use dialtone_vocab::{PhoneNumber, UnixMillis, UserId};
use prost::Message;
use tokio::sync::Notify;

use super::accounts::number_key;
use super::{Seen, Store};
use crate::limits::{FACT_BATCH, FACT_LOTS, FACT_PATIENCE};
use crate::rows::{FactRow, NumberRow, is_past};

/// Wakes whoever tells the facts of a lot.
#[derive(Clone)]
pub(crate) struct Pending(Arc<[Notify]>);

impl Default for Pending {
    fn default() -> Self {
        Self((0..FACT_LOTS).map(|_| Notify::new()).collect())
    }
}

impl Pending {
    pub(super) fn note(&self, number: PhoneNumber) {
        self.0[usize::from(lot_of(number))].notify_one();
    }

    /// Until this process has put down another fact of a lot; those of others are seen when one looks.
    pub(crate) async fn noted(&self, lot: u8) {
        self.0[usize::from(lot)].notified().await;
    }
}

/// The lot of a number's facts.
fn lot_of(number: PhoneNumber) -> u8 {
    (number.as_u64() % u64::from(FACT_LOTS)).to_be_bytes()[7]
}

/// Each change of a number has a key of its own: what is told of one says nothing of the next.
fn fact_key(number: PhoneNumber, change: &NumberRow) -> Vec<u8> {
    [&[lot_of(number)], &number_key(number)[..], &change.user, &change.epoch.to_be_bytes()].concat()
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

    /// What was put down in a lot behind the key `last`, at most [`FACT_BATCH`] of it.
    pub(crate) async fn facts(&self, lot: u8, last: Option<&[u8]>) -> Result<Rows, StoreError> {
        let start = Bound::Excluded(last.map_or_else(|| vec![lot], <[u8]>::to_vec));
        let end = Bound::Included([&[lot], &[0xff; 32][..]].concat());
        self.db.scan("fact", (start, end), FACT_BATCH).await
    }

    /// What is to be told by a row of [`Store::facts`]. What did not come to pass is dropped: at once if somebody else
    /// has the number, and after a while if nobody has.
    pub(crate) async fn fact(
        &self,
        key: &[u8],
        value: &[u8],
        now: UnixMillis,
    ) -> Result<Option<NumberFact>, StoreError> {
        let corrupt = || StoreError::Corrupt { table: "fact".to_owned() };
        let (number, user, epoch) = change_of(key).ok_or_else(corrupt)?;
        let fact = FactRow::decode(value).map_err(|_| corrupt())?;
        // Serially: what is not there then never comes of an attempt whose outcome nobody knows.
        let seen: Seen<NumberRow> = self.see_serial("number_owner", &number_key(number)).await?;
        if seen.row.owner() == Some((user, epoch)) {
            let nickname = self.user(user).await?.unwrap_or_default().nickname;
            let (number, user) = (number.to_string(), user.to_vec());
            return Ok(Some(NumberFact { number, user, epoch, nickname }));
        }
        if seen.row.epoch >= epoch || is_past(fact.until_ms, now) {
            self.drop_fact(key).await?;
        }
        Ok(None)
    }

    /// A fact was told, or is none.
    pub(crate) async fn drop_fact(&self, key: &[u8]) -> Result<(), StoreError> {
        let _always_applied: Commit = self.db.commit(Batch::new().delete("fact", key)).await?;
        Ok(())
    }
}
