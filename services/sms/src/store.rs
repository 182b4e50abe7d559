//! The tables of the SMS service, in domain words.
//!
//! | table | key | value |
//! |---|---|---|
//! | `sms_taken` | message id | [`SmsRow`]; its text and numbers only until the operator has them |
//! | `sms_queue` | message id | nothing: not submitted yet |
//! | `dlr_map` | the operator's id of a part | message id |
//! | `sms_result` | message id, kind | `SmsResult`, not yet taken |
//! | `reply_route` | number hash of a phone, service number | the user who is answered |
//! | `reply_number` | number hash of a phone, user | the service number |
//! | `opt_out` | number hash | nothing: STOP |
//! | `spend` | hour | SMS taken in it |
//!
//! The inbound log has its own: [`dialtone_log`].

#[cfg(test)]
mod contract;
mod sweep;

use dialtone_proto::bus::v1::{SmsResult, SmsSubmit};
use dialtone_store::{Batch, Commit, Db, StoreError};
use dialtone_vocab::{NumberHash, UnixMillis, UserId};
use prost::Message;

use crate::limits::RESULTS;

/// Every table.
pub(crate) const TABLES: &[&str] = &[
    dialtone_log::LOG,
    dialtone_log::TAIL,
    dialtone_log::MARK,
    dialtone_log::DUE,
    "sms_taken",
    "sms_queue",
    "dlr_map",
    "sms_result",
    "reply_route",
    "reply_number",
    "opt_out",
    "spend",
];
/// The meaning of the tables.
pub(crate) const SCHEMA: u32 = 1;
/// An hour, for the spend cap.
const HOUR_MS: u64 = 3_600_000;

/// How far an SMS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Queued = 0,
    /// From here on it may have left: it is never sent again by itself.
    Submitting = 1,
    Submitted = 2,
    Ended = 3,
}

/// An SMS that was taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SmsRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) submit: Option<SmsSubmit>,
    #[prost(uint32, tag = "2")]
    pub(crate) progress: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) parts: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) delivered: u32,
    /// When it was taken.
    #[prost(uint64, tag = "5")]
    pub(crate) at_ms: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
}

/// A reply route's key: who answers, at which service number.
fn route_key(from: NumberHash, service: &str) -> Vec<u8> {
    [&from.as_bytes()[..], service.as_bytes()].concat()
}

fn number_key(to: NumberHash, user: UserId) -> Vec<u8> {
    [&to.as_bytes()[..], user.as_bytes()].concat()
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Takes an SMS, once per message id; false if it was taken before.
    pub(crate) async fn take(&self, submit: &SmsSubmit, now: UnixMillis) -> Result<bool, StoreError> {
        let id = submit.message_id.clone();
        let row = SmsRow { submit: Some(submit.clone()), at_ms: now.0, ..SmsRow::default() };
        let batch = Batch::new()
            .expect_absent("sms_taken", id.clone())
            .put("sms_taken", id.clone(), row.encode_to_vec())
            .put("sms_queue", id, Vec::new());
        Ok(self.db.commit(batch).await?.is_applied())
    }

    pub(crate) fn row(&self, id: &[u8]) -> Result<Option<SmsRow>, StoreError> {
        Ok(self.db.get("sms_taken", id)?.and_then(|value| SmsRow::decode(value).ok()))
    }

    /// Those that are not submitted yet.
    pub(crate) fn queued(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.db.scan("sms_queue", .., usize::MAX)?.into_iter().map(|(key, _)| key.to_vec()).collect())
    }

    /// It is about to leave: durable before it does.
    pub(crate) async fn submitting(&self, id: &[u8], row: &SmsRow) -> Result<(), StoreError> {
        self.write(id, row, Progress::Submitting, Batch::new()).await
    }

    /// It never left after all.
    pub(crate) async fn requeue(&self, id: &[u8], row: &SmsRow) -> Result<(), StoreError> {
        self.write(id, row, Progress::Queued, Batch::new()).await
    }

    /// What became of the submit; with the ids under which receipts will come, and a result to tell.
    pub(crate) async fn submitted(
        &self,
        id: &[u8],
        row: &SmsRow,
        ids: &[String],
        result: Option<&SmsResult>,
        ended: bool,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new().delete("sms_queue", id);
        // An operator that gives no id reports on nothing.
        for operator_id in ids.iter().filter(|id| !id.is_empty()) {
            batch = batch.put("dlr_map", operator_id.as_bytes(), id);
        }
        batch = with_result(batch, result);
        self.write(id, row, if ended { Progress::Ended } else { Progress::Submitted }, batch).await
    }

    async fn write(
        &self,
        id: &[u8],
        row: &SmsRow,
        progress: Progress,
        batch: Batch,
    ) -> Result<(), StoreError> {
        let mut row = SmsRow { progress: progress as u32, ..row.clone() };
        if let Some(submit) = row.submit.as_mut().filter(|_| row.progress >= Progress::Submitted as u32) {
            // It never leaves again: nobody needs them here.
            (submit.text, submit.to, submit.from_number) = <_>::default();
        }
        let _always_applied: Commit = self.db.commit(batch.put("sms_taken", id, row.encode_to_vec())).await?;
        Ok(())
    }

    /// The SMS that a receipt speaks of.
    pub(crate) fn of_receipt(&self, operator_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get("dlr_map", operator_id.as_bytes())?.map(|id| id.to_vec()))
    }

    /// A part was reported on.
    pub(crate) async fn reported(
        &self,
        operator_id: &str,
        id: &[u8],
        row: &SmsRow,
        result: Option<&SmsResult>,
    ) -> Result<(), StoreError> {
        let batch = with_result(Batch::new().delete("dlr_map", operator_id.as_bytes()), result);
        let progress = if result.is_some() { Progress::Ended } else { Progress::Submitted };
        self.write(id, row, progress, batch).await
    }

    /// Results that were not taken yet.
    pub(crate) fn results(&self) -> Result<Vec<SmsResult>, StoreError> {
        let rows = self.db.scan("sms_result", .., RESULTS)?;
        Ok(rows.into_iter().filter_map(|(_, value)| SmsResult::decode(value).ok()).collect())
    }

    pub(crate) async fn result_taken(&self, id: &[u8], kind: i32) -> Result<(), StoreError> {
        let _always_applied: Commit =
            self.db.commit(Batch::new().delete("sms_result", result_key(id, kind))).await?;
        Ok(())
    }

    /// The user whom an SMS from this number to this service number answers.
    pub(crate) fn route(&self, from: NumberHash, service: &str) -> Result<Option<UserId>, StoreError> {
        let user = self.db.get("reply_route", &route_key(from, service))?;
        Ok(user.and_then(|user| UserId::from_slice(&user).ok()))
    }

    /// The service number under which a user writes to a number, if there is one yet.
    pub(crate) fn number_of(&self, to: NumberHash, user: UserId) -> Result<Option<String>, StoreError> {
        let number = self.db.get("reply_number", &number_key(to, user))?;
        Ok(number.and_then(|number| String::from_utf8(number.to_vec()).ok()))
    }

    /// Gives a user a service number for a receiver that nobody else writes to it from; `None` when all are taken.
    pub(crate) async fn assign(
        &self,
        to: NumberHash,
        user: UserId,
        pool: &[String],
    ) -> Result<Option<String>, StoreError> {
        if let Some(known) = self.number_of(to, user)? {
            return Ok(Some(known));
        }
        for number in pool {
            let batch = Batch::new()
                .expect_absent("reply_route", route_key(to, number))
                .expect_absent("reply_number", number_key(to, user))
                .put("reply_route", route_key(to, number), user.to_vec())
                .put("reply_number", number_key(to, user), number.as_bytes());
            match self.db.commit(batch).await? {
                Commit::Applied => return Ok(Some(number.clone())),
                Commit::Refused { index: 1 } => return self.number_of(to, user),
                Commit::Refused { .. } => {}
            }
        }
        Ok(None)
    }

    /// Whether a service number would be free for this user and receiver.
    pub(crate) fn could_assign(
        &self,
        to: NumberHash,
        user: UserId,
        pool: &[String],
    ) -> Result<bool, StoreError> {
        if self.number_of(to, user)?.is_some() {
            return Ok(true);
        }
        for number in pool {
            if self.route(to, number)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn is_opted_out(&self, number: NumberHash) -> Result<bool, StoreError> {
        Ok(self.db.get("opt_out", number.as_bytes())?.is_some())
    }

    pub(crate) async fn opt_out(&self, number: NumberHash, out: bool) -> Result<(), StoreError> {
        let batch = match out {
            true => Batch::new().put("opt_out", *number.as_bytes(), Vec::new()),
            false => Batch::new().delete("opt_out", *number.as_bytes()),
        };
        let _always_applied: Commit = self.db.commit(batch).await?;
        Ok(())
    }

    /// Takes one of the hour's SMS; how long to wait if there is none left.
    pub(crate) async fn spend(&self, per_hour: u32, now: UnixMillis) -> Result<Option<u64>, StoreError> {
        let key = (now.0 / HOUR_MS).to_be_bytes();
        loop {
            let seen = self.db.get("spend", &key)?;
            let spent =
                seen.as_ref().and_then(|value| value[..].try_into().ok()).map_or(0, u32::from_be_bytes);
            if spent >= per_hour {
                return Ok(Some(HOUR_MS - now.0 % HOUR_MS));
            }
            let batch = match &seen {
                Some(seen) => Batch::new().expect_value("spend", key, seen.to_vec()),
                None => Batch::new().expect_absent("spend", key),
            };
            if self.db.commit(batch.put("spend", key, (spent + 1).to_be_bytes())).await? == Commit::Applied {
                return Ok(None);
            }
        }
    }
}

fn result_key(id: &[u8], kind: i32) -> Vec<u8> {
    [id, &kind.to_be_bytes()].concat()
}

fn with_result(batch: Batch, result: Option<&SmsResult>) -> Batch {
    match result {
        Some(result) => {
            batch.put("sms_result", result_key(&result.message_id, result.kind), result.encode_to_vec())
        }
        None => batch,
    }
}
