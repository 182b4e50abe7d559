//! Logs in a database.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Chassis;
use dialtone_shards::Leases;
use dialtone_store::{Batch, Db};
use dialtone_vocab::{Epoch, LogId, UnixMillis};

use crate::append::Flights;
use crate::defect::{Defect, Sabotage};
use crate::limits::{BUCKET, BUCKET_ROWS, KEEP_ROWS, MARKS_AGAIN, WRITE_ENTRIES};
use crate::open::{Walk, walk, walk_sabotaged};
use crate::owner::Owner;
use crate::rows::{self, LOG, MARK, Row, bucket_of, entry_key, last_of, mark_key, tail_key};
use crate::writer::{BUCKET_MARK, End, put_rows};
use crate::{Entry, Log, LogError, LogKind, metrics};

/// No mark's name is as long.
const MARK_NAME: usize = 64;

/// All logs of one kind in a service's database. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    pub(crate) db: Db,
    pub(crate) kind: LogKind,
    keep: Duration,
    pub(crate) owner: Owner,
    pub(crate) chassis: Chassis,
    pub(crate) flights: Flights,
    pub(crate) sabotage: Sabotage,
}

/// A log that was opened, with what its owner rebuilds its state from.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// All marks, by name.
    pub marks: Marks,
    /// The live entries of the last bucket begun, and the end of the one before, up to the tail without a gap:
    /// together with the marks they give the state. Earlier ones: [`LogStore::read`].
    pub entries: Vec<Entry>,
}

/// Marks by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<Vec<u8>, u64>);

impl Marks {
    /// The value of a mark; 0 if it was never set.
    pub fn get(&self, name: impl AsRef<[u8]>) -> u64 {
        self.0.get(name.as_ref()).copied().unwrap_or(0)
    }

    /// The marks whose names begin with `prefix`: the rest of the name, and the value.
    pub fn of(&self, prefix: &str) -> impl Iterator<Item = (&[u8], u64)> {
        let from = self.0.range(prefix.as_bytes().to_vec()..);
        from.map_while(move |(name, value)| Some((name.strip_prefix(prefix.as_bytes())?, *value)))
    }
}

impl FromIterator<(Vec<u8>, u64)> for Marks {
    /// Merged by maximum, as everywhere.
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, u64)>>(marks: I) -> Self {
        let mut merged = BTreeMap::<Vec<u8>, u64>::new();
        for (name, value) in marks {
            let mark = merged.entry(name).or_default();
            *mark = value.max(*mark);
        }
        Self(merged)
    }
}

/// Entries read from the middle of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries in order, without a gap.
    pub entries: Vec<Entry>,
    /// Everything up to here, from where the read began, is past its time and gone; 0 if nothing is.
    pub expired_to: u64,
}

impl Page {
    /// Where to read on after a read from `from`.
    pub fn next(&self, from: u64) -> u64 {
        self.entries.last().map_or(self.expired_to, |last| last.idx).max(from) + 1
    }
}

impl LogStore {
    /// Logs of `kind` in `db`, whose tables must include [`crate::TABLES`]; their entries are kept for `keep`. Without
    /// leases whoever has the database open owns all of them, under the epoch of the opening.
    ///
    /// # Panics
    /// If processes share the database and there are no leases: a defect of the wiring.
    pub fn new(db: Db, kind: LogKind, keep: Duration, leases: Option<Leases>, chassis: &Chassis) -> Self {
        let owner = Owner::new(&db, leases, chassis);
        let (chassis, flights, sabotage) = (chassis.clone(), Flights::default(), Sabotage::default());
        Self { db, kind, keep, owner, chassis, flights, sabotage }
    }

    /// The same with a deliberate defect.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(self, defect: Option<Defect>) -> Self {
        Self { sabotage: Sabotage(defect), ..self }
    }

    /// The database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Whether a log is still this process's to write, as far as can be said without asking anybody: whoever holds one
    /// that is not lets it go.
    pub fn owns(&self, log: &Log) -> bool {
        self.owner.epoch_of(&self.db, log.owner()) == Some(log.epoch())
    }

    /// Whether processes share the store: then marks are another partition's than entries, and a write of their own.
    pub fn is_shared(&self) -> bool {
        matches!(self.owner, Owner::Lease(_))
    }

    /// Whether this process is the one, of all that share the store, to do what one alone should do.
    pub fn is_first(&self) -> bool {
        self.owner.is_first(&self.db)
    }

    /// Whether what was read of a log may be told as all there is: that something is not there, or that nothing is behind
    /// it. To be asked after the reading.
    pub async fn may_tell(&self, owner: &[u8; 16], epoch: Epoch) -> bool {
        self.owner.check(&self.db, owner, epoch).await.is_ok()
    }

    /// How long a log has been this process's to write, whether it was open or not.
    pub fn owned_for(&self, log: &Log) -> Duration {
        self.owner.owned_for(&self.db, log.owner(), &self.chassis)
    }

    /// The id of the log of `owner`.
    pub fn log_id(&self, owner: &[u8; 16]) -> LogId {
        rows::log_id(&self.db.store_id(), self.kind, owner)
    }

    /// Opens the log of `owner`, which may be one that nobody ever wrote to. Nothing of it may be served, answered
    /// or appended before this returns. An owner opens a log once, and keeps or forgets it as a whole.
    ///
    /// # Errors
    /// [`LogError`]; the log is not open then.
    pub async fn open(&self, owner: &[u8; 16], now: UnixMillis) -> Result<Opened, LogError> {
        let id = self.log_id(owner);
        let epoch = self.owner.epoch_of(&self.db, owner).ok_or(LogError::NotOwner)?;
        // A former opening in this process, which failed, may have left a write in the store's queue: what follows it is
        // read. (Unless that queue was full just then: the store promises no order to what overflowed.)
        let _always_applied = self.db.commit(Batch::new()).await?;
        self.flights.landed(id).await;
        let marks = self.marks(id).await?;
        let bucket = marks.0.get(BUCKET_MARK).map(|bucket| u32::try_from(*bucket).unwrap_or(u32::MAX));
        let walked = self.end_of(id, bucket.unwrap_or(0), now).await?;
        metrics::opened(self.kind, walked.ghosts);
        let carried = self.carried(&walked, id, epoch, now);
        let first: Vec<_> = self.marks_again(id, &marks).into_iter().chain([carried]).collect();
        self.until_written(owner, epoch, || vec![first.clone()]).await?;
        let last = walked.rows.last().filter(|_| !self.sabotage.has(Defect::KeepGoesDown));
        let keep_until = last.map_or(UnixMillis(0), |row| row.keep_until);
        let end = End { tail: walked.tail, bucket, keep_until };
        let log = Log::new(id, *owner, (epoch, self.chassis.rng.u64()), self.keep, end);
        Ok(Opened { log, marks, entries: walked.rows.into_iter().map(entry).collect() })
    }

    /// The last write found, as it is written once more; with nothing alive the tail, which may be what a write left on a few
    /// replicas.
    fn carried(&self, walked: &Walk, id: LogId, epoch: Epoch, now: UnixMillis) -> Batch {
        let rows = walked.carry(epoch);
        match self.sabotage.0 {
            Some(Defect::NoCarry) => Batch::new(),
            Some(Defect::TailNotCarried) => rows
                .iter()
                .fold(Batch::new(), |batch, row| batch.put_for(LOG, row.key(id), row.value(), KEEP_ROWS)),
            _ if rows.is_empty() && walked.tail > 0 => {
                Batch::new().max(LOG, tail_key(id, bucket_of(walked.tail)), walked.tail)
            }
            _ => put_rows(Batch::new(), id, &rows, now),
        }
    }

    /// Marks as they were found, to be written once more before anybody is told of them: in a shared store one may be what
    /// a write left on a few replicas that was never answered, and the next owner would not find it. What an embedded one
    /// shows is on disk.
    fn marks_again(&self, id: LogId, marks: &Marks) -> Vec<Batch> {
        if matches!(self.owner, Owner::Lock(..)) || self.sabotage.has(Defect::MarksNotAgain) {
            return Vec::new();
        }
        let all: Vec<_> = marks.0.iter().collect();
        let batch = |some: &[(&Vec<u8>, &u64)]| {
            some.iter()
                .fold(Batch::new(), |batch, (name, value)| batch.max(MARK, mark_key(id, name), **value))
        };
        all.chunks(MARKS_AGAIN).map(batch).collect()
    }

    /// The logs behind `after` that were ever written to, at most `limit`, in an order of the store's own. Nothing is
    /// opened.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn logs(&self, after: Option<LogId>, limit: usize) -> Result<Vec<LogId>, LogError> {
        let mut logs: Vec<LogId> = Vec::new();
        let mut last = after;
        while logs.len() < limit {
            // Behind every mark of the last one.
            let cursor = last.map_or_else(Vec::new, |log| mark_key(log, &[u8::MAX; MARK_NAME]));
            let found = self.db.walk(MARK, &cursor, 1).await?;
            let Some((key, _)) = found.first() else { break };
            let log = key.get(..16).and_then(|id| LogId::from_slice(id).ok());
            let log = log.ok_or(LogError::Malformed { table: MARK })?;
            logs.push(log);
            last = Some(log);
        }
        Ok(logs)
    }

    /// Where a log ends on disk, for whoever only counts: its owner may not have settled the end of it yet.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn tail_on_disk(&self, log: LogId, now: UnixMillis) -> Result<u64, LogError> {
        match self.db.get_u64(MARK, &mark_key(log, BUCKET_MARK)).await? {
            Some(bucket) => Ok(self.end_of(log, u32::try_from(bucket).unwrap_or(u32::MAX), now).await?.tail),
            None => Ok(0),
        }
    }

    /// The marks of a log that are on disk.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn marks(&self, id: LogId) -> Result<Marks, LogError> {
        let rows = self.db.all_of(MARK, id.as_bytes()).await?;
        let mark = |(key, value): &(Bytes, Bytes)| {
            let number = rows::u64_at(value, 0).ok_or(LogError::Malformed { table: MARK })?;
            Ok((key[16..].to_vec(), number))
        };
        rows.iter().map(mark).collect()
    }

    /// Reads the last bucket and the end of the one before it, as far back as a write can reach.
    async fn end_of(&self, id: LogId, bucket: u32, now: UnixMillis) -> Result<Walk, LogError> {
        let mut rows = match bucket.checked_sub(1).map(last_of) {
            Some(before) => self.rows(id, before - WRITE_ENTRIES as u64 + 1, before).await?,
            None => Vec::new(),
        };
        let (own, tail_row) = self.bucket(id, bucket).await?;
        rows.extend(own);
        let tail_row = match tail_row {
            Some(tail) => tail,
            // Nothing was written to it yet. The one before was full.
            None => self.tail_row(id, bucket.checked_sub(1)).await?,
        };
        let walked = walk_sabotaged(rows, tail_row, now, self.sabotage);
        // Of the one writer of an embedded store nothing comes late, and nothing comes in part.
        if matches!(self.owner, Owner::Lock(..)) && walked.tail < tail_row {
            return Err(LogError::Hole { idx: walked.tail + 1 });
        }
        Ok(walked)
    }

    /// A whole bucket with its tail, in one query: each replica shows a write with the tail that it moves, or neither. Of
    /// two queries one could see the tail alone, and the write, which nobody had settled, would turn up later.
    /// (A bucket of more rows than one query brings, carried over and over, is read in pages: there it may.)
    async fn bucket(&self, id: LogId, bucket: u32) -> Result<(Vec<Row>, Option<u64>), LogError> {
        let upper = Bound::Included(entry_key(id, last_of(bucket), Epoch(u64::MAX)));
        let lower = Bound::Included(tail_key(id, bucket));
        let mut found = self.db.scan(LOG, (lower, upper.clone()), BUCKET_ROWS).await?;
        if let Some((last, _)) = found.last().filter(|_| found.len() == BUCKET_ROWS) {
            let rest = (Bound::Excluded(last.to_vec()), upper);
            found.extend(self.db.all(LOG, rest).await?);
        }
        let tail = match found.first() {
            Some((key, value)) if **key == *tail_key(id, bucket) => {
                Some(rows::u64_at(value, 0).ok_or(LogError::Malformed { table: LOG })?)
            }
            _ => None,
        };
        let entries = found.iter().skip(usize::from(tail.is_some()));
        let rows: Result<_, _> = entries.map(|(key, value)| Row::parse(key, value)).collect();
        Ok((rows?, tail))
    }

    async fn tail_row(&self, id: LogId, bucket: Option<u32>) -> Result<u64, LogError> {
        let Some(bucket) = bucket else { return Ok(0) };
        Ok(self.db.get_u64(LOG, &tail_key(id, bucket)).await?.unwrap_or(0))
    }

    /// All rows from index `first` to `last`.
    async fn rows(&self, id: LogId, first: u64, last: u64) -> Result<Vec<Row>, LogError> {
        let mut rows = Vec::new();
        for bucket in bucket_of(first)..=bucket_of(last) {
            let upto = last.min(last_of(bucket));
            let upper = Bound::Included(entry_key(id, upto, Epoch(u64::MAX)));
            let from = first.max(u64::from(bucket) * BUCKET + 1);
            let lower = Bound::Included(entry_key(id, from, Epoch(0)));
            for (key, value) in &self.db.all(LOG, (lower, upper)).await? {
                rows.push(Row::parse(key, value)?);
            }
        }
        Ok(rows)
    }

    /// Reads entries `from` to at most `upto`, which must be settled, at most `limit` of them.
    ///
    /// # Errors
    /// [`LogError::Hole`] if an entry is missing that is not past its time.
    pub async fn read(
        &self,
        log: LogId,
        from: u64,
        upto: u64,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Page, LogError> {
        let from = from.max(1);
        let mut page = Page::default();
        let mut next = from;
        while next <= upto && page.entries.len() < limit {
            let step = ((limit - page.entries.len()) as u64).min(WRITE_ENTRIES as u64);
            let end = upto.min(next.saturating_add(step - 1));
            let mut found = walk(self.rows(log, next, end).await?, 0, now).rows;
            if page.entries.is_empty() && found.is_empty() {
                next = self.skip_expired(log, next, upto, now).await?;
                page.expired_to = next - 1;
                if next > upto {
                    break;
                }
                continue;
            }
            let begins = found.first().map_or(next, |row| row.idx);
            if begins > next {
                if !page.entries.is_empty() || self.is_live(log, next - 1, now).await? {
                    return Err(LogError::Hole { idx: next });
                }
                page.expired_to = begins - 1;
            }
            let last = found.last().map_or(next - 1, |row| row.idx);
            if last < end {
                return Err(LogError::Hole { idx: last + 1 });
            }
            next = last + 1;
            page.entries.extend(found.drain(..).map(entry));
        }
        Ok(page)
    }

    /// The first live index from `from` on, where nothing was found; `upto` + 1 if there is none.
    async fn skip_expired(
        &self,
        log: LogId,
        mut from: u64,
        upto: u64,
        now: UnixMillis,
    ) -> Result<u64, LogError> {
        if self.is_live(log, from - 1, now).await? {
            return Err(LogError::Hole { idx: from });
        }
        while from <= upto {
            let end = upto.min(last_of(bucket_of(from)));
            let found = self.rows(log, from, end).await?;
            if let Some(live) = found.iter().find(|row| row.keep_until > now) {
                return Ok(live.idx);
            }
            from = end + 1;
        }
        Ok(upto + 1)
    }

    pub(crate) async fn is_live(&self, log: LogId, idx: u64, now: UnixMillis) -> Result<bool, LogError> {
        if idx == 0 {
            return Ok(false);
        }
        Ok(self.rows(log, idx, idx).await?.iter().any(|row| row.keep_until > now))
    }
}

fn entry(row: Row) -> Entry {
    Entry { idx: row.idx, kind: row.kind, content: row.content }
}
