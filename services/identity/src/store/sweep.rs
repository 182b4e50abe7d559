//! What is past its time goes, page by page of a walk; several processes may do it at once.

use bytes::Bytes;
use dialtone_store::{Batch, Commit, StoreError};
use dialtone_vocab::{PhoneNumber, UnixMillis};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message;

use super::accounts::{number_key, user_of};
use super::{Seen, Store};
use crate::limits::{SMS_FORGET, SWEEP_AT_ONCE, SWEEP_ROWS, USER_LOOKED_AT, USER_PATIENCE};
use crate::rows::{BudgetRow, FlowRow, MoRow, NonceRow, NumberRow, SessionRow, UserRow, is_past};

/// What is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    Flows,
    Texts,
    Nonces,
    /// Whose refresh token has run out.
    Sessions,
    /// That pay for nothing any more.
    Budgets,
    /// Who never came to own their number.
    Users,
}

impl Sweep {
    pub(crate) const ALL: [Self; 6] =
        [Self::Flows, Self::Texts, Self::Nonces, Self::Sessions, Self::Budgets, Self::Users];

    fn table(self) -> &'static str {
        match self {
            Self::Flows => "flow",
            Self::Texts => "flow_mo",
            Self::Nonces => "nonce",
            Self::Sessions => "session",
            Self::Budgets => "sms_budget",
            Self::Users => "account",
        }
    }

    /// Whether a row's time is over.
    fn is_over(self, value: &[u8], now: UnixMillis) -> bool {
        if self == Self::Users {
            return UserRow::decode(value).is_ok_and(|row| {
                let age = now.since(UnixMillis(row.registered_ms));
                age >= USER_PATIENCE && age < USER_LOOKED_AT
            });
        }
        let until = match self {
            Self::Flows => FlowRow::decode(value).map(|row| row.expires_ms),
            Self::Texts => MoRow::decode(value).map(|row| row.expires_ms),
            Self::Nonces => NonceRow::decode(value).map(|row| row.expires_ms),
            Self::Sessions => SessionRow::decode(value).map(|row| row.refresh_expires_ms),
            Self::Budgets => BudgetRow::decode(value).map(|row| UnixMillis(row.last_ms).plus(SMS_FORGET).0),
            Self::Users => return false,
        };
        until.is_ok_and(|until| is_past(until, now))
    }
}

/// One walk after the other through what is swept: what goes on must not hide what stands behind it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    pub(super) what: Sweep,
    pub(super) after: Vec<u8>,
    /// How many rows it looks at in one step.
    pub(super) step: usize,
}

impl Sweeper {
    pub(crate) fn new(what: Sweep) -> Self {
        Self { what, after: Vec::new(), step: SWEEP_ROWS }
    }

    /// Drops what is over among the next rows; how many, and whether the walk has come to its end and begins anew.
    pub(crate) async fn next(&mut self, store: &Store, now: UnixMillis) -> Result<(usize, bool), StoreError> {
        let rows = store.db.walk(self.what.table(), &self.after, self.step).await?;
        let is_end = rows.len() < self.step;
        let last = rows.last().filter(|_| !is_end).map(|(key, _)| key.to_vec()).unwrap_or_default();
        let over = rows.into_iter().filter(|(key, value)| {
            (self.what != Sweep::Users || user_of(key).is_some()) && self.what.is_over(value, now)
        });
        let dropped = stream::iter(over).map(|(key, value)| store.sweep(self.what, key, value));
        let dropped: Vec<bool> = dropped.buffer_unordered(SWEEP_AT_ONCE).try_collect().await?;
        self.after = last;
        Ok((dropped.into_iter().filter(|dropped| *dropped).count(), is_end))
    }
}

impl Store {
    pub(super) async fn sweep(&self, what: Sweep, key: Bytes, value: Bytes) -> Result<bool, StoreError> {
        match what {
            Sweep::Texts => {
                let _always_applied: Commit = self.db.commit(Batch::new().delete("flow_mo", key)).await?;
                Ok(true)
            }
            Sweep::Users => self.sweep_user(&key, value).await,
            // If it still is what it was: somebody may just be renewing it.
            _ => self.drop_as(what.table(), key, &value).await,
        }
    }

    /// A user is forgotten if somebody else owns their number, or nobody does.
    async fn sweep_user(&self, key: &[u8], value: Bytes) -> Result<bool, StoreError> {
        let seen: Seen<UserRow> = Seen::of(Some(value));
        let number = seen.row.numbers.first().and_then(|digits| PhoneNumber::from_u64(*digits).ok());
        let (Some(user), Some(number)) = (user_of(key), number) else { return Ok(false) };
        let owner: Seen<NumberRow> = self.see_serial("number_owner", &number_key(number)).await?;
        if owner.row.owner().is_some_and(|(owner, _)| owner == user) {
            return Ok(false);
        }
        self.drop_user(user, &seen).await
    }
}
