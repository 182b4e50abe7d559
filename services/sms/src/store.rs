//! The tables of the SMS service, in domain words.
//!
//! | table | partition | key | value |
//! |---|---|---|---|
//! | `sms_taken` | row, conditional | message id | [`SmsRow`]; its text and numbers only until the operator has them |
//! | `sms_queue` | lane, hour | message id | a process, most often that which has it: something of the SMS is to be done |
//! | `sms_result` | lane, hour | message id, kind | `SmsResult`, not yet taken |
//! | `sms_hours` | one | hour | nothing: there may be rows of it in the two above |
//! | `dlr_map` | row | the operator's id of a part | when, message id |
//! | `reply_route` | phone, conditional | `n` service number | the user who is answered |
//! | | | `u` user | the service number |
//! | `opt_out` | row | number hash | nothing: STOP |
//! | `spend` | row, conditional | hour | SMS taken in it |
//!
//! The inbound log has its own: [`dialtone_log`].
//!
//! # One SMS is several rows, and only one of them decides
//!
//! What is true of an SMS stands in its row of `sms_taken`, which changes only from what was read to what follows from
//! that, so of several processes one wins each step. All other rows follow from it and are written without conditions:
//!
//! - before it is taken its row of `sms_queue` is there: a process that dies in between leaves a row of `sms_queue` that
//!   speaks of nothing, and is swept; the other way round would be an SMS that was taken and never leaves.
//! - its row of `sms_queue` says which process is to look at the row of `sms_taken`, and may name another than has it:
//!   the last of several that took it at once, or one that was gone and came back. That one looks, and names the other.
//! - after what became of the submit is decided the ids for receipts and the result are written and the row of
//!   `sms_queue` goes, in one batch. A process that dies before leaves the row of `sms_queue`: whoever finds it does the
//!   batch again, from what the row of `sms_taken` says ([`Store::follow`]).
//! - after a receipt has ended an SMS its result is written. The operator has no answer before, so it reports again,
//!   which writes the result again.

#[cfg(test)]
mod contract;
mod open;
mod routes;
mod spend;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use dialtone_proto::bus::v1::{SmsResult, SmsSubmit};
use dialtone_store::{Batch, Commit, Db, Schema, StoreError, Table};
use dialtone_vocab::{NumberHash, UnixMillis};
use prost::Message;

use crate::limits::TAKEN_KEEP;
use open::{HOUR_MS, PARTITION, open_key};
pub(crate) use open::{Lane, Told, id_of};
use spend::Reserve;

const TAKEN: &str = "sms_taken";
const QUEUE: &str = "sms_queue";
const RESULT: &str = "sms_result";
const HOURS: &str = "sms_hours";
const DLR: &str = "dlr_map";
const ROUTE: &str = "reply_route";
const OPT_OUT: &str = "opt_out";
const SPEND: &str = "spend";

/// What the SMS service keeps. Version 2: the log's keys, and who may write what at the same time.
pub const SCHEMA: Schema = Schema {
    service: "sms",
    tables: &[
        dialtone_log::TABLES[0],
        dialtone_log::TABLES[1],
        dialtone_log::TABLES[2],
        Table::of_rows(TAKEN).conditional(),
        Table::new(QUEUE, PARTITION),
        Table::new(RESULT, PARTITION),
        Table::new(HOURS, 0),
        Table::of_rows(DLR),
        Table::new(ROUTE, 16).conditional(),
        Table::of_rows(OPT_OUT),
        Table::of_rows(SPEND).conditional(),
    ],
    version: 2,
};

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
    /// The process that has it.
    #[prost(string, tag = "6")]
    pub(crate) node: String,
    /// The operator's ids of parts that it has not reported on.
    #[prost(string, repeated, tag = "7")]
    pub(crate) waiting: Vec<String>,
    /// What became of it last, if somebody waits for that.
    #[prost(message, optional, tag = "8")]
    pub(crate) result: Option<SmsResult>,
    /// The id in the receipt that ended it.
    #[prost(string, tag = "9")]
    pub(crate) ended_by: String,
}

impl SmsRow {
    pub(crate) fn is(&self, progress: Progress) -> bool {
        self.progress == progress as u32
    }
}

/// An SMS as it was read, or last written.
#[derive(Debug, Clone)]
pub(crate) struct Sms {
    pub(crate) id: Vec<u8>,
    pub(crate) row: SmsRow,
    seen: Bytes,
}

impl Sms {
    /// Its key in the queue.
    pub(crate) fn queue_key(&self) -> Vec<u8> {
        open_key(UnixMillis(self.row.at_ms), &self.id)
    }
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
    reserve: Reserve,
    /// The last hour that is known to be in `sms_hours`.
    opened: Arc<AtomicU32>,
}

/// Whether the same may be right a moment later: of a shared store it may, an embedded one that has failed has failed.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Unknown { .. } | StoreError::Read { .. } | StoreError::Unreachable { .. })
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, reserve: Reserve::default(), opened: Arc::default() }
    }

    async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let _always_applied: Commit = self.db.commit(batch).await?;
        Ok(())
    }

    /// Takes an SMS, once per message id; its key in the queue, or `None` if it was taken before.
    pub(crate) async fn take(
        &self,
        submit: &SmsSubmit,
        node: &str,
        now: UnixMillis,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (id, key) = (&submit.message_id, open_key(now, &submit.message_id));
        let row =
            SmsRow { submit: Some(submit.clone()), at_ms: now.0, node: node.to_owned(), ..SmsRow::default() };
        self.open_hour(now).await?;
        self.write(Batch::new().put(QUEUE, key.clone(), node)).await?;
        let is_ours = self.change(id, None, &row.encode_to_vec().into()).await?;
        Ok(is_ours.then_some(key))
    }

    /// The queue names this process from now on, which has the SMS: it is the one that is to find it. Right also when
    /// meanwhile all is done and the row was gone: whoever finds it does once more what follows, and it goes.
    pub(crate) async fn name_in_queue(&self, key: &[u8], node: &str) -> Result<(), StoreError> {
        self.write(Batch::new().put(QUEUE, key, node)).await
    }

    /// Changes a row of `sms_taken` from what was seen; false if somebody else has changed it. The same again, after
    /// an outcome that nobody knew, says what became of it.
    async fn change(&self, id: &[u8], seen: Option<&Bytes>, to: &Bytes) -> Result<bool, StoreError> {
        let batch = match seen {
            Some(seen) => Batch::new().expect_value(TAKEN, id, seen.to_vec()),
            None => Batch::new().expect_absent(TAKEN, id),
        };
        let unknown = match self.db.commit(batch.put(TAKEN, id, to.to_vec())).await {
            Ok(Commit::Applied) => return Ok(true),
            Ok(Commit::Refused) => None,
            Err(error @ StoreError::Unknown { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        let found = self.db.get_serial(TAKEN, id).await?;
        match unknown {
            _ if found.as_ref() == Some(to) => Ok(true),
            Some(error) if found.as_ref() == seen => Err(error),
            _ => Ok(false),
        }
    }

    /// An SMS that was taken.
    pub(crate) async fn sms(&self, id: &[u8]) -> Result<Option<Sms>, StoreError> {
        let Some(seen) = self.db.get(TAKEN, id).await? else { return Ok(None) };
        let row = SmsRow::decode(&seen[..]).map_err(|_| StoreError::Corrupt { table: TAKEN.to_owned() })?;
        Ok(Some(Sms { id: id.to_vec(), row, seen }))
    }

    /// Writes what is now true of an SMS; false if meanwhile something else is. May be said again after an error.
    async fn decide(&self, sms: &mut Sms, mut row: SmsRow) -> Result<bool, StoreError> {
        if let Some(submit) = row.submit.as_mut().filter(|_| row.progress >= Progress::Submitted as u32) {
            // It never leaves again: nobody needs them here.
            (submit.text, submit.to, submit.from_number) = <_>::default();
        }
        let to = Bytes::from(row.encode_to_vec());
        let is_ours = self.change(&sms.id, Some(&sms.seen), &to).await?;
        if is_ours {
            (sms.row, sms.seen) = (row, to);
        }
        Ok(is_ours)
    }

    /// It is about to leave, from this process and no other: durable before it does. False if it is no longer as it was
    /// read.
    pub(crate) async fn submitting(&self, sms: &mut Sms, node: &str) -> Result<bool, StoreError> {
        let progress = Progress::Submitting as u32;
        let row = SmsRow { progress, node: node.to_owned(), ..sms.row.clone() };
        self.decide(sms, row).await
    }

    /// It never left after all.
    pub(crate) async fn requeue(&self, sms: &mut Sms) -> Result<bool, StoreError> {
        let row = SmsRow { progress: Progress::Queued as u32, ..sms.row.clone() };
        self.decide(sms, row).await
    }

    /// The operator has it, under these ids; [`Store::follow`] is next.
    pub(crate) async fn submitted(
        &self,
        sms: &mut Sms,
        ids: &[String],
        result: Option<&SmsResult>,
    ) -> Result<bool, StoreError> {
        let row = SmsRow {
            progress: Progress::Submitted as u32,
            parts: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            // An operator that gives no id reports on nothing.
            waiting: ids.iter().filter(|id| !id.is_empty()).cloned().collect(),
            result: result.cloned(),
            ..sms.row.clone()
        };
        self.decide(sms, row).await
    }

    /// It ends without a receipt; [`Store::follow`] is next.
    pub(crate) async fn ended(&self, sms: &mut Sms, result: Option<&SmsResult>) -> Result<bool, StoreError> {
        let row = SmsRow { progress: Progress::Ended as u32, result: result.cloned(), ..sms.row.clone() };
        self.decide(sms, row).await
    }

    /// What follows from the row of an SMS that was submitted or has ended: ids for receipts, the result to tell, and
    /// that nothing more is to be done. `key` is where it was found in the queue. May be done again, at any time.
    pub(crate) async fn follow(
        &self,
        sms: &Sms,
        key: &[u8],
        now: UnixMillis,
    ) -> Result<Option<Told>, StoreError> {
        let mut batch = Batch::new().delete(QUEUE, key);
        let own = sms.queue_key();
        if own != key {
            batch = batch.delete(QUEUE, own);
        }
        let value = [&sms.row.at_ms.to_be_bytes()[..], &sms.id].concat();
        for operator_id in &sms.row.waiting {
            batch = batch.put_for(DLR, operator_id.as_bytes(), value.clone(), TAKEN_KEEP);
        }
        let told = sms.row.result.as_ref().map(|result| Told::new(result, now));
        if let Some(told) = &told {
            self.open_hour(now).await?;
            batch = told.put(batch);
        }
        self.write(batch).await?;
        Ok(told)
    }

    /// The SMS that a receipt speaks of.
    pub(crate) async fn of_receipt(&self, operator_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.db.get(DLR, operator_id.as_bytes()).await?;
        Ok(found.and_then(|value| value.get(8..).map(<[u8]>::to_vec)))
    }

    /// A part was reported on: counted once. With a result the SMS has ended, and [`Store::tell`] is next.
    pub(crate) async fn reported(
        &self,
        sms: &mut Sms,
        operator_id: &str,
        delivered: bool,
        result: Option<&SmsResult>,
    ) -> Result<bool, StoreError> {
        let mut row = sms.row.clone();
        if let Some(at) = row.waiting.iter().position(|id| id == operator_id) {
            row.waiting.remove(at);
        }
        row.delivered += u32::from(delivered);
        if let Some(result) = result {
            row.progress = Progress::Ended as u32;
            (row.result, row.ended_by) = (Some(result.clone()), operator_id.to_owned());
        }
        self.decide(sms, row).await
    }

    /// Keeps a result until it is taken.
    pub(crate) async fn tell(&self, result: &SmsResult, now: UnixMillis) -> Result<Told, StoreError> {
        let told = Told::new(result, now);
        self.open_hour(now).await?;
        self.write(told.put(Batch::new())).await?;
        Ok(told)
    }

    pub(crate) async fn result_taken(&self, told: &Told) -> Result<(), StoreError> {
        self.write(Batch::new().delete(RESULT, told.key())).await
    }

    pub(crate) async fn is_opted_out(&self, number: NumberHash) -> Result<bool, StoreError> {
        Ok(self.db.get(OPT_OUT, number.as_bytes()).await?.is_some())
    }

    pub(crate) async fn opt_out(&self, number: NumberHash, out: bool) -> Result<(), StoreError> {
        self.write(match out {
            true => Batch::new().put(OPT_OUT, *number.as_bytes(), Vec::new()),
            false => Batch::new().delete(OPT_OUT, *number.as_bytes()),
        })
        .await
    }
}
