//! The ledger: every accepted message ends as exactly one fate. Counted from what stands in the store, each class by
//! a rule of its own, so that a message with two fates, or with none, shows as a difference.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_chassis::Chassis;
use dialtone_log::{LogError, LogKind, LogStore, Marks};
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::log::v1::outbox_message::Route;
use dialtone_proto::log::v1::{OutboxEntry, decision};
use dialtone_shards::Leases;
use dialtone_store::{Db, StoreError, StoreUrl};
use dialtone_vocab::{LogId, UnixMillis};
use prost::Message as _;

use crate::limits::{PAGE, RECOUNT_LOGS, RECOUNT_PAGES, RECOUNT_PAUSE, RECOUNT_REST};
use crate::metrics;

/// How many messages there are of each class. Entries past their time are out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Accepted: their entries are on disk.
    pub accepted: u64,
    /// No inbox has answered for them yet, as far as marks on disk tell.
    pub waiting: u64,
    /// In the receiver's inbox, and not acknowledged.
    pub kept: u64,
    /// Acknowledged by a device of the receiver, or found so when they were to be withdrawn.
    pub delivered: u64,
    /// Sent as SMS or decided to be, whatever the operator made of it.
    pub sms: u64,
    /// Taken back by their sender in time.
    pub revoked: u64,
    /// Ended for another reason.
    pub failed: u64,
}

impl Ledger {
    /// The classes by name; their sum should be `accepted`.
    pub fn classes(&self) -> [(&'static str, u64); 6] {
        [
            ("waiting", self.waiting),
            ("kept", self.kept),
            ("delivered", self.delivered),
            ("sms", self.sms),
            ("revoked", self.revoked),
            ("failed", self.failed),
        ]
    }

    /// Accepted messages without a fate, less fates too many: 0, or there is a defect.
    pub fn difference(&self) -> i64 {
        let fates: u64 = self.classes().iter().map(|(_, count)| count).sum();
        i64::try_from(i128::from(self.accepted) - i128::from(fates)).unwrap_or(i64::MAX)
    }
}

impl std::ops::AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.waiting += other.waiting;
        self.kept += other.kept;
        self.delivered += other.delivered;
        self.sms += other.sms;
        self.revoked += other.revoked;
        self.failed += other.failed;
    }
}

/// A message that goes as data.
#[derive(Debug)]
struct Data {
    receiver: Vec<u8>,
    withdraw: Option<u64>,
}

/// Counts the entries of one outbox, given in order.
#[derive(Debug, Default)]
pub(crate) struct Count {
    ledger: Ledger,
    first: Option<u64>,
    data: BTreeMap<u64, Data>,
    /// Messages with a fate that is an entry: it counts before any watermark.
    decided: BTreeSet<u64>,
    /// Messages that are SMS by their route or by a decision, and those of which the operator said something.
    sms: BTreeSet<u64>,
    refined: BTreeSet<u64>,
}

impl Count {
    pub(crate) fn add(&mut self, idx: u64, entry: OutboxEntry) {
        let first = *self.first.get_or_insert(idx);
        match entry.entry {
            Some(Kind::Message(message)) => {
                self.ledger.accepted += 1;
                match message.route {
                    Some(Route::Data(data)) => {
                        self.data.insert(idx, Data { receiver: data.receiver, withdraw: None });
                    }
                    Some(Route::Sms(_)) => {
                        self.ledger.sms += 1;
                        self.sms.insert(idx);
                    }
                    None => {}
                }
            }
            Some(Kind::Withdraw(withdraw)) => {
                if let Some(data) = self.data.get_mut(&withdraw.of) {
                    data.withdraw.get_or_insert(idx);
                }
            }
            // What is said about a message past its time is out of it too.
            Some(Kind::Decision(decided)) if decided.of >= first => {
                self.decided.insert(decided.of);
                match decided.kind() {
                    decision::Kind::SmsClaimed => {
                        self.ledger.sms += 1;
                        self.sms.insert(decided.of);
                    }
                    decision::Kind::Revoked => self.ledger.revoked += 1,
                    decision::Kind::Failed | decision::Kind::Unspecified => self.ledger.failed += 1,
                }
            }
            Some(Kind::Sms(refined)) if refined.of >= first => {
                self.refined.insert(refined.of);
            }
            Some(Kind::Decision(_) | Kind::Sms(_)) | None => {}
        }
    }

    /// The watermarks of the same outbox, read no earlier than the entries.
    pub(crate) fn finish(mut self, marks: &Marks) -> Ledger {
        // An operator that speaks of a message which nobody decided to send as SMS.
        self.ledger.sms += self.refined.difference(&self.sms).count() as u64;
        for (idx, data) in self.data.iter().filter(|(idx, _)| !self.decided.contains(idx)) {
            let mark = |name| marks.get(dialtone_log::mark_name(name, &data.receiver));
            let settled = mark("settled/");
            // Watermarks pass over what was withdrawn: of such a message only the answer to that tells.
            let delivered = match data.withdraw {
                Some(withdraw) => withdraw <= settled,
                None => *idx <= mark("delivered/"),
            };
            if delivered {
                self.ledger.delivered += 1;
            } else if *idx <= settled {
                self.ledger.kept += 1;
            } else {
                self.ledger.waiting += 1;
            }
        }
        self.ledger
    }
}

/// One outbox, counted a page at a time.
struct Outbox<'a> {
    logs: &'a LogStore,
    log: LogId,
    count: Count,
    from: u64,
    tail: u64,
}

impl<'a> Outbox<'a> {
    async fn begin(logs: &'a LogStore, log: LogId, now: UnixMillis) -> Result<Self, LogError> {
        let tail = logs.tail_on_disk(log, now).await?;
        Ok(Self { logs, log, count: Count::default(), from: 1, tail })
    }

    /// Reads the next page; false when there is none.
    async fn page(&mut self, now: UnixMillis) -> Result<bool, LogError> {
        if self.from > self.tail {
            return Ok(false);
        }
        let page = self.logs.read(self.log, self.from, self.tail, PAGE, now).await?;
        for entry in &page.entries {
            if let Ok(decoded) = OutboxEntry::decode(&entry.content[..]) {
                self.count.add(entry.idx, decoded);
            }
        }
        self.from = page.next(self.from);
        Ok(true)
    }

    async fn finish(self) -> Result<Ledger, LogError> {
        Ok(self.count.finish(&self.logs.marks(self.log).await?))
    }
}

/// Opens routing's store, to serve it or to count it. Whoever had an embedded one open before can neither read nor write
/// it any more.
///
/// # Errors
/// [`StoreError`].
pub async fn open(url: StoreUrl, leases: Option<Leases>, chassis: &Chassis) -> Result<LogStore, StoreError> {
    let db = Db::open(url, crate::SCHEMA, chassis).await?;
    Ok(LogStore::new(db, LogKind::Outbox, dialtone_log::limits::KEEP_SOURCE, leases, chassis))
}

/// Recounts for ever, in the background and paced, and exports what it finds.
pub(crate) async fn watch(chassis: Chassis, logs: LogStore) {
    let stop = chassis.tasks.stop_token();
    loop {
        let pass = async {
            // Of processes that share a store one counts, or sums over all of them would say it several times.
            if logs.is_first() {
                match recount(&logs, &chassis).await {
                    Ok(ledger) => metrics::ledger(&ledger),
                    Err(error) => tracing::warn!(%error, "the ledger will be counted again"),
                }
            }
            chassis.clock.sleep(RECOUNT_REST).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pass => {}
        }
    }
}

/// Recounts all outboxes of a store, as they are on disk, with a pause after every so many pages and logs. One that
/// can't be read is reported and left out: the others still count.
///
/// # Errors
/// [`LogError`], when nobody knows which outboxes there are.
pub async fn recount(logs: &LogStore, chassis: &Chassis) -> Result<Ledger, LogError> {
    let mut all = Ledger::default();
    let mut after = None;
    loop {
        let found = logs.logs(after, RECOUNT_LOGS).await?;
        let Some(last) = found.last() else { return Ok(all) };
        after = Some(*last);
        let mut pages = 0;
        for log in found {
            match recount_log(logs, log, chassis, &mut pages).await {
                Ok(ledger) => {
                    if ledger.difference() != 0 {
                        tracing::error!(
                            difference = ledger.difference(),
                            "an outbox does not add up: a message has two fates or none"
                        );
                    }
                    all += ledger;
                }
                Err(error) => tracing::error!(%error, "an outbox could not be counted"),
            }
        }
        chassis.clock.sleep(RECOUNT_PAUSE).await;
    }
}

async fn recount_log(
    logs: &LogStore,
    log: LogId,
    chassis: &Chassis,
    pages: &mut usize,
) -> Result<Ledger, LogError> {
    let mut outbox = Outbox::begin(logs, log, chassis.clock.now()).await?;
    while outbox.page(chassis.clock.now()).await? {
        *pages += 1;
        if pages.is_multiple_of(RECOUNT_PAGES) {
            chassis.clock.sleep(RECOUNT_PAUSE).await;
        }
    }
    outbox.finish().await
}

#[cfg(test)]
mod tests;
