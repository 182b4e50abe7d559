//! Who sees everything: what was told, and whether what is found later agrees.
#![expect(clippy::disallowed_types, reason = "one journal for all runtimes of a simulation")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dialtone_log::limits::{BUCKET, WRITE_ENTRIES};
use dialtone_log::{Due, DueRow, Entry, Opened, Page};
use dialtone_store::Rows;
use dialtone_vocab::{Epoch, LogId, UnixMillis};

use super::actor::{ACK, SEQ, due_of, written_in};

/// What happened, counted over episodes: there must be some of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) told: u64,
    pub(super) openings: u64,
    /// Openings by another process than the one before.
    pub(super) takeovers: u64,
    /// Openings that found entries nobody had told.
    pub(super) adopted: u64,
    /// Entries that were written again by a later owner.
    pub(super) carried: u64,
    /// Rows that are not the log.
    pub(super) ghosts: u64,
    /// Writes that were answered and not settled.
    pub(super) stale: u64,
    /// Writes to the replicas whose outcome was unknown.
    pub(super) unknown: u64,
    /// Parts of them that were lost, or came after their caller had given up; reads of which the replicas differed.
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) unequal: u64,
    /// Logs that were opened when all in them was past its time.
    pub(super) expired: u64,
    pub(super) marks: u64,
    pub(super) due: u64,
    pub(super) buckets: u64,
    pub(super) kills: u64,
    pub(super) leaves: u64,
    pub(super) stood_still: u64,
    pub(super) hidden: u64,
}

impl Tally {
    fn all(&mut self) -> [(&'static str, &mut u64); 19] {
        [
            ("told", &mut self.told),
            ("openings", &mut self.openings),
            ("takeovers", &mut self.takeovers),
            ("adopted", &mut self.adopted),
            ("carried", &mut self.carried),
            ("ghosts", &mut self.ghosts),
            ("stale", &mut self.stale),
            ("unknown", &mut self.unknown),
            ("lost", &mut self.lost),
            ("late", &mut self.late),
            ("unequal", &mut self.unequal),
            ("expired", &mut self.expired),
            ("marks", &mut self.marks),
            ("due", &mut self.due),
            ("buckets", &mut self.buckets),
            ("kills", &mut self.kills),
            ("leaves", &mut self.leaves),
            ("stood still", &mut self.stood_still),
            ("hidden", &mut self.hidden),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for ((_, sum), (_, more)) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// What there was none of.
    pub(super) fn what_never_was(mut self) -> Vec<&'static str> {
        self.all().into_iter().filter(|(_, count)| **count == 0).map(|(what, _)| what).collect()
    }
}

/// What was told of one log.
#[derive(Debug, Default)]
struct Book {
    id: Option<LogId>,
    /// Content of each index, and the lowest epoch in which it was told.
    entries: BTreeMap<u64, (Bytes, Epoch)>,
    /// In each epoch: how far the log was said to go, and the marks.
    tails: BTreeMap<Epoch, u64>,
    marks: BTreeMap<(Epoch, Vec<u8>), u64>,
    /// What is due, told and not done.
    due: BTreeSet<Due>,
    /// What somebody has begun to remove.
    done: BTreeSet<Due>,
    /// Where it ended when it was first opened in an epoch, if there was an entry: it was written again, and from then on
    /// nobody replaced adds anything.
    ends: BTreeMap<Epoch, u64>,
    /// Who opened it last, and when.
    last: Option<(String, Epoch)>,
}

/// Sees everything. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    books: BTreeMap<[u8; 16], Book>,
    wrongs: Vec<String>,
    trace: Vec<String>,
    tally: Tally,
    now: u64,
    /// What processes found due, and which logs they have read.
    found: BTreeSet<(String, [u8; 16], Due)>,
    audited: BTreeSet<(String, [u8; 16])>,
}

impl Seen {
    fn trace(&mut self, line: &str) {
        self.trace.push(format!("{:>6} {line}", self.now));
    }
}

impl Journal {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn at(&self, now: u64) {
        self.seen().now = now;
    }

    pub(super) fn trace(&self, line: &str) {
        self.seen().trace(line);
    }

    pub(super) fn wrong(&self, what: &str) {
        self.trace(&format!("WRONG {what}"));
        self.seen().wrongs.push(what.to_owned());
    }

    pub(super) fn count(&self, of: impl FnOnce(&mut Tally)) {
        of(&mut self.seen().tally);
    }

    pub(super) fn is_wrong(&self) -> bool {
        !self.seen().wrongs.is_empty()
    }

    pub(super) fn close(&self) -> (Vec<String>, Vec<String>, Tally) {
        let mut seen = self.seen();
        let tally = seen.tally;
        (std::mem::take(&mut seen.wrongs), std::mem::take(&mut seen.trace), tally)
    }

    /// A log was opened, and what was found is served: all that was told in earlier epochs, and earlier in this one, must
    /// be there.
    pub(super) fn opened(&self, who: &str, opened: &Opened, is_expiring: bool) {
        let (log, owner) = (&opened.log, *opened.log.owner());
        let (epoch, tail) = (log.epoch(), log.tail());
        let first = opened.entries.first().map_or(tail + 1, |entry| entry.idx);
        self.trace(&format!("{who} opened {} in {epoch:?}: {first}..={tail}", owner[0]));
        let mut wrongs = Vec::new();
        {
            let mut seen = self.seen();
            let book = seen.books.entry(owner).or_default();
            book.id = Some(log.id());
            book.check_opened(opened, is_expiring, &mut wrongs);
            if !opened.entries.is_empty() {
                book.ends.entry(epoch).or_insert(tail);
            }
            let is_other = book.last.as_ref().is_some_and(|(last, _)| last != who);
            if let Some((_, last)) = &book.last
                && *last == epoch
                && is_other
            {
                wrongs.push(format!("{who} and another have one epoch {epoch:?}"));
            }
            if book.last.as_ref().is_none_or(|(_, last)| *last < epoch) {
                book.last = Some((who.to_owned(), epoch));
            }
            let is_new = opened.entries.iter().any(|entry| !book.entries.contains_key(&entry.idx));
            let tally = &mut seen.tally;
            tally.openings += 1;
            tally.takeovers += u64::from(is_other);
            tally.adopted += u64::from(is_new);
            tally.expired += u64::from(tail > 0 && opened.entries.is_empty());
        }
        wrongs.iter().for_each(|wrong| self.wrong(&format!("{who} opened {}: {wrong}", owner[0])));
        self.told(&owner, epoch, &opened.entries);
        for name in [ACK, SEQ] {
            self.mark_told(&owner, epoch, name, opened.marks.get(name));
        }
        self.seen().books.entry(owner).or_default().tails.insert(epoch, tail);
    }

    /// These are settled, or were found at opening, and somebody was told.
    pub(super) fn told(&self, owner: &[u8; 16], epoch: Epoch, entries: &[Entry]) {
        let mut wrongs = Vec::new();
        {
            let mut seen = self.seen();
            let Seen { books, tally, .. } = &mut *seen;
            let book = books.entry(*owner).or_default();
            for entry in entries {
                let idx = entry.idx;
                match book.entries.get_mut(&idx) {
                    None => {
                        tally.told += 1;
                        tally.buckets += u64::from(idx > 1 && (idx - 1) % BUCKET == 0);
                        book.entries.insert(idx, (entry.content.clone(), epoch));
                        if let Some(due) = due_of(entry).filter(|due| !book.done.contains(due)) {
                            tally.due += 1;
                            book.due.insert(due);
                        }
                    }
                    Some((content, _)) if *content != entry.content => {
                        wrongs.push(format!("{idx} told as {content:?}, then as {:?}", entry.content));
                    }
                    Some((_, earlier)) => *earlier = epoch.min(*earlier),
                }
            }
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                let tail = book.tails.entry(epoch).or_default();
                *tail = last.idx.max(*tail);
                seen.trace(&format!("log {} told {}..={}", owner[0], first.idx, last.idx));
            }
        }
        wrongs.iter().for_each(|wrong| self.wrong(&format!("log {}: {wrong}", owner[0])));
    }

    pub(super) fn mark_told(&self, owner: &[u8; 16], epoch: Epoch, name: &[u8], value: u64) {
        let mut seen = self.seen();
        seen.tally.marks += 1;
        let mark = seen.books.entry(*owner).or_default().marks.entry((epoch, name.to_vec())).or_default();
        *mark = value.max(*mark);
    }

    /// Somebody removes what is due.
    pub(super) fn done(&self, owner: &[u8; 16], due: Due) {
        let mut seen = self.seen();
        let book = seen.books.entry(*owner).or_default();
        book.due.remove(&due);
        book.done.insert(due);
    }

    /// Some told things that are due.
    pub(super) fn due(&self, owner: &[u8; 16]) -> Vec<Due> {
        self.seen().books.get(owner).map(|book| book.due.iter().copied().collect()).unwrap_or_default()
    }

    /// A process has found a row that says what is due.
    pub(super) fn due_found(&self, who: &str, row: &DueRow) {
        self.seen().found.insert((who.to_owned(), row.owner(), row.due()));
    }

    pub(super) fn has_found(&self, who: &str, owner: &[u8; 16], due: Due) -> bool {
        self.seen().found.contains(&(who.to_owned(), *owner, due))
    }

    /// Whether every log was opened by this process last, and read from its beginning.
    pub(super) fn all_audited_by(&self, who: &str, mut owners: impl Iterator<Item = [u8; 16]>) -> bool {
        let seen = self.seen();
        owners.all(|owner| seen.audited.contains(&(who.to_owned(), owner)))
    }

    pub(super) fn all_opened_by(&self, who: &str, mut owners: impl Iterator<Item = [u8; 16]>) -> bool {
        let seen = self.seen();
        owners.all(|owner| seen.books.get(&owner).is_some_and(|book| book.is_of(who)))
    }

    /// A log was read from its beginning, as far as it had been told.
    pub(super) fn audited(&self, who: &str, owner: &[u8; 16], told: &BTreeMap<u64, Bytes>, page: &Page) {
        self.seen().audited.insert((who.to_owned(), *owner));
        let ends = page.entries.last().map_or(page.expired_to, |last| last.idx);
        let is_all = told.last_key_value().is_none_or(|(last, _)| *last == ends);
        let is_told = page.entries.iter().all(|entry| told.get(&entry.idx) == Some(&entry.content));
        if !is_all || !is_told {
            self.wrong(&format!("log {}: read to {ends} is not what was told", owner[0]));
        }
    }

    /// All that was told of a log.
    pub(super) fn all_told(&self, owner: &[u8; 16]) -> BTreeMap<u64, Bytes> {
        let seen = self.seen();
        let entries = seen.books.get(owner).map(|book| &book.entries).into_iter().flatten();
        entries.map(|(idx, (content, _))| (*idx, content.clone())).collect()
    }

    /// The rows of all logs, read from all replicas.
    pub(super) fn check_at_all(&self, rows: &Rows) {
        let mut wrongs = Vec::new();
        {
            let mut seen = self.seen();
            let Seen { books, tally, .. } = &mut *seen;
            for (owner, book) in books {
                let Some(id) = book.id else { continue };
                let own = rows.iter().filter(|(key, _)| key[..16] == id.as_bytes()[..]);
                let found: Vec<_> = own.filter_map(|(key, value)| entry_of(key, value)).collect();
                book.check_at_all(&found, tally, &mut |wrong| {
                    wrongs.push(format!("log {} at ALL: {wrong}", owner[0]));
                });
            }
        }
        wrongs.iter().for_each(|wrong| self.wrong(wrong));
    }
}

impl Book {
    fn is_of(&self, who: &str) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| last == who)
    }

    fn check_opened(&self, opened: &Opened, is_expiring: bool, wrongs: &mut Vec<String>) {
        let (epoch, tail) = (opened.log.epoch(), opened.log.tail());
        let told_tail = self.tails.range(..=epoch).map(|(_, tail)| *tail).max().unwrap_or(0);
        if tail < told_tail {
            wrongs.push(format!("ends at {tail}, {told_tail} was told"));
        }
        let first = opened.entries.first().map_or(tail + 1, |entry| entry.idx);
        let is_gapless = opened.entries.iter().zip(first..).all(|(entry, idx)| entry.idx == idx);
        let ends = opened.entries.last().map_or(tail, |entry| entry.idx);
        if !is_gapless || ends != tail {
            wrongs.push("what was found is no log".to_owned());
        }
        if !is_expiring && first > tail.saturating_sub(WRITE_ENTRIES as u64 - 1).max(1) {
            wrongs.push(format!("begins with {first}"));
        }
        for entry in &opened.entries {
            match self.entries.get(&entry.idx) {
                Some((content, told)) if *told <= epoch && *content != entry.content => {
                    wrongs.push(format!("{} is {:?}, told was {content:?}", entry.idx, entry.content));
                }
                _ => {}
            }
        }
        for entry in &opened.entries {
            let by = written_in(&entry.content).unwrap_or_default();
            let mut later = self.ends.range(..=epoch).filter(|(opened, _)| by < **opened);
            if let Some((opened, end)) = later.find(|(_, end)| entry.idx > **end) {
                wrongs.push(format!("{} is by {by:?}, in {opened:?} it ended at {end}", entry.idx));
            }
        }
        for ((told, name), value) in &self.marks {
            let found = opened.marks.get(name);
            if *told <= epoch && found < *value {
                wrongs.push(format!("mark {} is {found}, told was {value}", name.escape_ascii()));
            }
        }
        // What earlier buckets moved was on disk before this one began.
        let bucket = tail.saturating_sub(1) / BUCKET;
        if opened.marks.get(SEQ) < bucket * BUCKET {
            wrongs.push(format!("the lazy mark is {} at {tail}", opened.marks.get(SEQ)));
        }
    }

    fn check_at_all(&self, found: &[(u64, Epoch, Bytes)], tally: &mut Tally, wrong: &mut impl FnMut(String)) {
        let mut best: BTreeMap<u64, (Epoch, &Bytes)> = BTreeMap::new();
        for (idx, epoch, content) in found {
            let kept = best.entry(*idx).or_insert((*epoch, content));
            if *epoch > kept.0 {
                *kept = (*epoch, content);
            }
        }
        let mut before = Epoch(0);
        for (idx, (content, _)) in &self.entries {
            match best.get(idx) {
                None => wrong(format!("{idx} is missing, told was {content:?}")),
                Some((_, found)) if **found != *content => {
                    wrong(format!("{idx} is {found:?}, told was {content:?}"));
                }
                Some((epoch, _)) if *epoch < before => wrong(format!("at {idx} epochs go down")),
                Some((epoch, _)) => before = *epoch,
            }
        }
        for (idx, epoch, content) in found {
            match self.entries.get(idx) {
                Some((told, _)) if told == content => {
                    tally.carried += u64::from(best.get(idx).is_some_and(|(newest, _)| newest != epoch));
                }
                _ => tally.ghosts += 1,
            }
        }
    }
}

/// A row of the table of entries: index, epoch and content; none for a tail.
fn entry_of(key: &[u8], value: &Bytes) -> Option<(u64, Epoch, Bytes)> {
    let number = |at: usize| key.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let idx = number(20).filter(|idx| *idx > 0)?;
    Some((idx, Epoch(number(28)?), value.slice(17..)))
}

/// What is about an entry is due when it has this time.
pub(super) fn due_at(idx: u64) -> Due {
    Due { at: UnixMillis(idx), idx, kind: 1 }
}
