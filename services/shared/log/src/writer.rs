//! How a log is appended to: a queue, one write in flight, and what is settled. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dialtone_store::Batch;
use dialtone_vocab::{Epoch, LogId, UnixMillis};

use crate::limits::{KEEP_ROWS, MARKS_EVERY, QUEUE, WRITE_BYTES, WRITE_ENTRIES};
use crate::rows::{DUE, Due, DueRow, LOG, MARK, Row, bucket_of, mark_key, tail_key};

/// The mark that says which bucket was begun last.
pub(crate) const BUCKET_MARK: &[u8] = b"bucket";

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place: 1 is the first, without gaps.
    pub idx: u64,
    /// In the service's own words.
    pub kind: u8,
    /// In the service's own encoding.
    pub content: Bytes,
}

/// What one write appends and changes: made once, written as it is, and repeated as it is when nobody knows what
/// became of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Write(std::sync::Arc<Content>);

#[derive(Debug)]
struct Content {
    log: LogId,
    owner: [u8; 16],
    epoch: Epoch,
    number: u64,
    rows: Vec<Row>,
    begins: Option<u32>,
    marks: Vec<(Vec<u8>, u64)>,
    due: Vec<DueRow>,
    done: Vec<DueRow>,
}

impl Write {
    /// The entries it appends.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.0.rows.iter().map(|row| Entry { idx: row.idx, kind: row.kind, content: row.content.clone() })
    }

    /// The log it is for.
    pub fn log(&self) -> LogId {
        self.0.log
    }

    /// What must be there before the entries, if it is not written together with them: marks that an older bucket
    /// moved, the mark of the bucket, and due rows. A row too many, or a mark too early, is harmless.
    pub(crate) fn before(&self) -> Vec<Batch> {
        [self.marks(), self.due()].concat()
    }

    pub(crate) fn marks(&self) -> Vec<Batch> {
        let log = self.0.log;
        let mut marks = Batch::new();
        for (name, value) in &self.0.marks {
            marks = marks.max(MARK, mark_key(log, name), *value);
        }
        if let Some(bucket) = self.0.begins {
            marks = marks.max(MARK, mark_key(log, BUCKET_MARK), bucket.into());
        }
        if marks.is_empty() { Vec::new() } else { vec![marks] }
    }

    pub(crate) fn due(&self) -> Vec<Batch> {
        self.0.due.iter().map(|row| Batch::new().put(DUE, row.key(), row.owner)).collect()
    }

    /// The entries and the tail: one partition. They need not be kept longer than they are read, and a day more.
    pub(crate) fn entries_batch(&self, now: UnixMillis) -> Batch {
        put_rows(Batch::new(), self.0.log, &self.0.rows, now)
    }

    /// What may go when the entries are there.
    pub(crate) fn after(&self) -> Vec<Batch> {
        self.0.done.iter().map(|row| Batch::new().delete(DUE, row.key())).collect()
    }

    /// All of it as one transaction.
    pub(crate) fn to_batch(&self, now: UnixMillis) -> Batch {
        let all = self.before().into_iter().chain([self.entries_batch(now)]).chain(self.after());
        all.fold(Batch::new(), Batch::and)
    }

    pub(crate) fn owner(&self) -> [u8; 16] {
        self.0.owner
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.0.epoch
    }
}

/// Entries of one bucket and the tail that they move.
pub(crate) fn put_rows(mut batch: Batch, log: LogId, rows: &[Row], now: UnixMillis) -> Batch {
    for row in rows {
        let keep = row.keep_until.since(now) + KEEP_ROWS;
        batch = batch.put_for(LOG, row.key(log), row.value(), keep);
    }
    match rows.last() {
        Some(last) => batch.max(LOG, tail_key(log, bucket_of(last.idx)), last.idx),
        None => batch,
    }
}

/// What a write settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// The entries, in order: from now on they may be told, and acted on.
    pub entries: Vec<Entry>,
    /// The marks that are on disk now, names and values.
    pub marks: Vec<(Vec<u8>, u64)>,
}

/// An open log: where it ends, what waits, and the write that is under way.
///
/// Its owner calls, in this order: [`Log::push`] and the like whenever there is something; [`Log::next_write`] when
/// it has looked at everything that waits; [`crate::LogStore::write`] with what that returned, off the actor;
/// [`Log::settled`] when the answer has come back; then tells what is settled, moves its marks, and goes on with
/// [`Log::next_write`].
#[derive(Debug)]
pub struct Log {
    id: LogId,
    /// Which opening this is: drawn at random, for a resident that comes back does so under the same epoch.
    opening: u64,
    owner: [u8; 16],
    epoch: Epoch,
    keep: Duration,
    keep_until: UnixMillis,
    settled: u64,
    last: u64,
    bucket: Option<u32>,
    queue: VecDeque<(u8, Bytes)>,
    flight: Option<Write>,
    writes: u64,
    marks: BTreeMap<Vec<u8>, u64>,
    urgent: bool,
    since_marks: u64,
    due: Vec<Due>,
    done: Vec<Due>,
    /// Due rows of this log that are on disk, or on their way.
    standing: BTreeSet<DueRow>,
}

impl Log {
    pub(crate) fn new(
        id: LogId,
        owner: [u8; 16],
        (epoch, opening): (Epoch, u64),
        keep: Duration,
        end: End,
    ) -> Self {
        Self {
            id,
            opening,
            owner,
            epoch,
            keep,
            keep_until: end.keep_until,
            settled: end.tail,
            last: end.tail,
            bucket: end.bucket,
            queue: VecDeque::new(),
            flight: None,
            writes: 0,
            marks: BTreeMap::new(),
            urgent: false,
            since_marks: 0,
            due: Vec::new(),
            done: Vec::new(),
            standing: BTreeSet::new(),
        }
    }

    /// The log's id.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Whose log it is.
    pub fn owner(&self) -> &[u8; 16] {
        &self.owner
    }

    /// The epoch under which this owner writes.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last settled index; 0 if there is none. Only what is settled may be told.
    pub fn tail(&self) -> u64 {
        self.settled
    }

    /// The last index given out by [`Log::push`].
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether so much waits that the caller should answer "busy" instead of pushing.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE
    }

    /// Whether nothing waits and nothing is under way: then the owner may forget the log and open it again later.
    /// Lazy marks that were not written don't count.
    pub fn is_idle(&self) -> bool {
        self.flight.is_none()
            && self.queue.is_empty()
            && !self.urgent
            && self.due.is_empty()
            && self.done.is_empty()
    }

    /// Whether [`Log::next_write`] would return something: what can wait may go along with it.
    pub fn is_ready(&self) -> bool {
        self.flight.is_none() && !self.is_idle()
    }

    /// Queues an entry and returns the index that it will have. It is not settled before [`Log::settled`] says so.
    pub fn push(&mut self, kind: u8, content: impl Into<Bytes>) -> u64 {
        self.queue.push_back((kind, content.into()));
        self.last += 1;
        self.last
    }

    /// Raises a mark, lazily: it goes along with some later write, at the latest with the one that begins the next
    /// bucket. It must follow from settled entries only, and be what a walk over the last bucket would find again.
    pub fn mark(&mut self, name: impl Into<Vec<u8>>, value: u64) {
        let mark = self.marks.entry(name.into()).or_default();
        *mark = value.max(*mark);
    }

    /// Raises a mark with the next write, also if that has no entry: for what nothing else in the log tells, like
    /// acks. It may be told when [`Settled::marks`] has it.
    pub fn mark_now(&mut self, name: impl Into<Vec<u8>>, value: u64) {
        self.mark(name, value);
        self.urgent = true;
    }

    /// Writes the lazy marks with the next write, also if that has no entry: before a planned stop.
    pub fn flush_marks(&mut self) {
        self.urgent |= !self.marks.is_empty();
    }

    /// Puts a due row with the next write. For an entry's own timer call it before [`Log::next_write`] takes the
    /// entry, so that both are in one transaction.
    pub fn due(&mut self, due: Due) {
        self.due.push(due);
    }

    /// A due row of this log was found, which may be a former owner's: [`Log::due_done`] removes it too.
    pub fn adopt(&mut self, found: DueRow) {
        if found.log == self.id {
            self.standing.insert(found);
        }
    }

    /// Removes every row about this with the next write.
    pub fn due_done(&mut self, due: Due) {
        self.done.push(due);
    }

    /// What is to be written next: nothing while a write is under way, or when nothing waits.
    ///
    /// `now` only says how long the entries are kept.
    pub fn next_write(&mut self, now: UnixMillis) -> Option<Write> {
        if !self.is_ready() {
            return None;
        }
        let rows = self.take_rows(now);
        let bucket = rows.first().map(|row| bucket_of(row.idx));
        let begins = bucket.filter(|bucket| self.bucket.is_none_or(|begun| begun < *bucket));
        self.since_marks += rows.len() as u64;
        let marks = if begins.is_some() || self.urgent || self.since_marks >= MARKS_EVERY {
            self.urgent = false;
            self.since_marks = 0;
            std::mem::take(&mut self.marks).into_iter().collect()
        } else {
            Vec::new()
        };
        let (id, owner, epoch) = (self.id, self.owner, self.epoch);
        self.writes += 1;
        let put = (self.opening, self.writes);
        let due: Vec<_> = std::mem::take(&mut self.due)
            .into_iter()
            .map(|due| DueRow { owner, log: id, due, put })
            .collect();
        self.standing.extend(due.iter().copied());
        // A row that is put by this very write and done already is deleted after it.
        let of = std::mem::take(&mut self.done);
        let done: Vec<_> = self.standing.iter().filter(|row| of.contains(&row.due)).copied().collect();
        self.standing.retain(|row| !of.contains(&row.due));
        let write = Write(std::sync::Arc::new(Content {
            log: id,
            owner,
            epoch,
            number: self.writes,
            rows,
            begins,
            marks,
            due,
            done,
        }));
        self.flight = Some(write.clone());
        Some(write)
    }

    /// The entries of the next write: one bucket, within the limits of a write.
    fn take_rows(&mut self, now: UnixMillis) -> Vec<Row> {
        let first = self.settled + 1;
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while rows.len() < WRITE_ENTRIES && bytes < WRITE_BYTES {
            let idx = first + rows.len() as u64;
            if bucket_of(idx) != bucket_of(first) {
                break;
            }
            let Some((kind, content)) = self.queue.pop_front() else { break };
            bytes += content.len();
            // Never down along a log, whatever the clock says.
            self.keep_until = self.keep_until.max(now.plus(self.keep));
            rows.push(Row { idx, epoch: self.epoch, first, keep_until: self.keep_until, kind, content });
        }
        rows
    }

    /// The write is on disk, and [`crate::LogStore::write`] has checked afterwards that this owner still is the
    /// owner: everything in it is settled. A write that is not the one under way settles nothing.
    pub fn settled(&mut self, write: &Write) -> Settled {
        if self
            .flight
            .as_ref()
            .is_none_or(|flight| flight.0.number != write.0.number || write.0.log != self.id)
        {
            return Settled::default();
        }
        self.flight = None;
        if let Some(last) = write.0.rows.last() {
            self.settled = last.idx;
        }
        self.bucket = write.0.begins.or(self.bucket);
        Settled { entries: write.entries().collect(), marks: write.0.marks.clone() }
    }
}

/// Where an opened log ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) tail: u64,
    pub(crate) bucket: Option<u32>,
    pub(crate) keep_until: UnixMillis,
}

#[cfg(test)]
mod tests;
