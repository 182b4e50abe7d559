//! A chunk of changes, as far as its answer: what the entries are, whose the numbers are, what they cost.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_chassis::Error;
use dialtone_proto::contacts::v1::{EntryVerdict, Verdict};
use dialtone_proto::identity::internal::v1::Resolved;
use dialtone_proto::types::v1::UserRef;
use dialtone_store::StoreError;
use dialtone_vocab::{NumberHash, PhoneNumber, Reason, UnixMillis};

use super::Book;
use crate::handle::{SyncAnswer, SyncAsk};
use crate::limits::{BOOK_NUMBERS, BUDGET_PERIOD, CHANGE_TRIES};
use crate::rows::{BookRow, ChunkRow, PendingEntry, PendingRow};
use crate::state::Placed;
use crate::store::{Chunk, Held, Holder, Seen};
use crate::{error, metrics, state};

/// A request, and what its entries were read as, in their order.
struct Reading {
    ask: SyncAsk,
    digest: Vec<u8>,
    verdicts: Vec<Result<(PhoneNumber, NumberHash), Verdict>>,
    numbers: BTreeMap<NumberHash, PhoneNumber>,
}

impl Book {
    fn read(&self, ask: SyncAsk) -> Reading {
        let (mut verdicts, mut numbers) = (Vec::new(), BTreeMap::new());
        for typed in &ask.added {
            let read = state::read(&typed.text, &typed.region, &ask.region);
            let read = read.map(|number| (number, self.shared.number_key.hash(number)));
            if let Ok((number, hash)) = read {
                numbers.insert(hash, number);
            }
            verdicts.push(read);
        }
        Reading { digest: self.shared.digest(&ask).to_vec(), ask, verdicts, numbers }
    }

    /// The numbers that are to leave, without those that the same chunk adds.
    fn read_removed(&self, reading: &Reading) -> Vec<NumberHash> {
        let ask = &reading.ask;
        let removed = ask.removed.iter().filter_map(|typed| {
            let number = state::read(&typed.text, &typed.region, &ask.region).ok()?;
            Some(self.shared.number_key.hash(number))
        });
        let added: BTreeSet<_> = reading.numbers.keys().copied().collect();
        state::removed_for_good(removed.collect(), &added)
    }

    pub(super) async fn sync(&self, ask: SyncAsk) -> Result<SyncAnswer, Error> {
        let reading = self.read(ask);
        for _ in 0..CHANGE_TRIES {
            let head = self.settled().await?.head;
            let is_same = |old: &&PendingRow| old.base == reading.ask.base && old.digest == reading.digest;
            if let Some(pending) = head.row.pending.as_ref().filter(is_same) {
                metrics::sync("repeated");
                let chunk = self.store().pending(self.user, &pending.chunk).await?;
                return Ok(self.answer(&reading, &head.row, &chunk));
            }
            if let Some(answer) = self.try_sync(&reading, &head).await? {
                metrics::sync("answered");
                return Ok(answer);
            }
        }
        Err(error::busy())
    }

    /// Answers a chunk over a head; `None` if that was replaced meanwhile.
    async fn try_sync(&self, reading: &Reading, head: &Seen<BookRow>) -> Result<Option<SyncAnswer>, Error> {
        let book = &head.row;
        let target = target(reading, book)?;
        let fresh = self.fresh(reading, book).await?;
        let of = Holder { user: self.user, generation: target.generation };
        // Noted before identity is asked: a number that gets a user from now on is told to this book.
        self.store().note(of, reading.numbers.keys().copied()).await?;
        let numbers: Vec<_> = reading.numbers.values().copied().collect();
        let resolved = self.shared.directory.resolve(&numbers).await?;
        let (chunk, grown) = self.chunk(reading, book, &target, resolved, &fresh).await?;

        let at = ChunkRow { over: book.version, token: self.shared.chassis.rng.bytes::<16>().to_vec() };
        self.store().put_pending(self.user, &at, &chunk).await?;
        let pending = PendingRow {
            chunk: at.clone(),
            base: reading.ask.base.clone(),
            digest: reading.digest.clone(),
            more: reading.ask.more,
            grown,
            shrunk: chunk.removed.len() as u64,
            fresh: u32::try_from(fresh.len()).unwrap_or(u32::MAX),
        };
        let row = state::answered(book, pending, self.shared.chassis.clock.now());
        match self.store().replace_book(self.user, head, row).await? {
            Some(head) => Ok(Some(self.answer(reading, &head.row, &chunk))),
            None => {
                self.give_up(&at, of, reading.numbers.keys().copied()).await?;
                Ok(None)
            }
        }
    }

    /// Takes back a chunk that came to nothing, and its notes if their generation was over before they were written.
    pub(super) async fn give_up(
        &self,
        at: &ChunkRow,
        of: Holder,
        noted: impl Iterator<Item = NumberHash>,
    ) -> Result<(), StoreError> {
        self.store().drop_pending(self.user, at).await?;
        if state::is_over(&self.store().book(self.user).await?, of.generation) {
            self.store().drop_notes(of, noted).await?;
        }
        Ok(())
    }

    /// Numbers never asked about before, if the budget allows them. Those of a chunk that was answered, never
    /// acknowledged and is given up now were answered, so they count.
    async fn fresh(&self, reading: &Reading, book: &BookRow) -> Result<BTreeSet<NumberHash>, Error> {
        let given_up: BTreeSet<_> = match &book.pending {
            Some(old) if old.fresh > 0 => {
                self.store().pending(self.user, &old.chunk).await?.fresh().collect()
            }
            _ => BTreeSet::new(),
        };
        let mut fresh: BTreeSet<_> = reading.numbers.keys().copied().collect();
        fresh.retain(|hash| !given_up.contains(hash));
        let asked = self.store().were_asked(self.user, book.forgotten, fresh.iter().copied()).await?;
        for hash in asked {
            fresh.remove(&hash);
        }
        let (budget, now) = (book.budget.unwrap_or_default(), self.shared.chassis.clock.now());
        let used = state::used(&budget, now) as usize + given_up.len() + fresh.len();
        if used <= self.shared.budget as usize || fresh.is_empty() {
            return Ok(fresh);
        }
        metrics::sync("refused");
        let wait = UnixMillis(budget.from_ms).plus(BUDGET_PERIOD).since(now).min(BUDGET_PERIOD);
        let error = Error::new(Reason::ContactBudget, "too many numbers that were never asked about before");
        Err(error.retry_after(wait))
    }

    /// What the chunk comes to once it is acknowledged, and how many numbers are new by it. Until then nothing changes
    /// which numbers are in the generation: that would need another head.
    async fn chunk(
        &self,
        reading: &Reading,
        book: &BookRow,
        target: &Placed,
        resolved: Vec<Resolved>,
        fresh: &BTreeSet<NumberHash>,
    ) -> Result<(Chunk, u64), StoreError> {
        let hashes = || reading.numbers.keys().copied();
        let shown = self.held_in(book.generation, hashes()).await?;
        let there = match target.generation {
            same if same == book.generation => shown.clone(),
            new if new > book.last_generation => vec![Held::default(); shown.len()],
            building => self.held_in(building, hashes()).await?,
        };
        let grown = there.iter().filter(|held| !held.is_in).count() as u64;
        let entry = |((hash, resolved), held): ((NumberHash, Resolved), Held)| {
            let Resolved { user, epoch, nickname } = resolved;
            let was_friend = held.is_in && held.user == user;
            let is_new = !user.is_empty() && !was_friend;
            (hash, PendingEntry { user, epoch, nickname, is_fresh: fresh.contains(&hash), is_new })
        };
        let added = hashes().zip(resolved).zip(shown).map(entry).collect();
        let removed = self.read_removed(reading);
        let held = self.held_in(target.generation, removed.iter().copied()).await?;
        let removed =
            removed.into_iter().zip(held).filter(|(_, held)| held.is_in).map(|(hash, _)| hash).collect();
        Ok((Chunk { added, removed }, grown))
    }

    async fn held_in(
        &self,
        generation: u64,
        hashes: impl Iterator<Item = NumberHash>,
    ) -> Result<Vec<Held>, StoreError> {
        if generation == 0 {
            return Ok(hashes.map(|_| Held::default()).collect());
        }
        self.store().all_held(self.user, generation, hashes).await
    }

    fn answer(&self, reading: &Reading, book: &BookRow, chunk: &Chunk) -> SyncAnswer {
        let matches: BTreeMap<_, _> = chunk.added.iter().map(|(hash, entry)| (hash, entry)).collect();
        let verdict = |read: &Result<(PhoneNumber, NumberHash), Verdict>| {
            let (number, hash) = match read {
                Ok(read) => read,
                Err(verdict) => return EntryVerdict { verdict: (*verdict).into(), ..Default::default() },
            };
            let number = number.to_string();
            match matches.get(hash).filter(|entry| !entry.user.is_empty()) {
                Some(entry) => EntryVerdict {
                    verdict: Verdict::Matched.into(),
                    number,
                    user: Some(UserRef { id: entry.user.clone() }),
                    nickname: entry.nickname.clone(),
                },
                None => EntryVerdict { verdict: Verdict::NotUser.into(), number, ..Default::default() },
            }
        };
        let verdicts: Vec<_> = reading.verdicts.iter().map(verdict).collect();
        for verdict in &verdicts {
            metrics::verdict(verdict.verdict().as_str_name());
        }
        let now = self.shared.chassis.clock.now();
        let pending = book.pending.clone().unwrap_or_default();
        let used = state::used(&book.budget.unwrap_or_default(), now).saturating_add(pending.fresh);
        let budget_left = self.shared.budget.saturating_sub(used);
        SyncAnswer { verdicts, next_token: pending.chunk.token, budget_left }
    }
}

/// Where a chunk goes, if the book is what it was made from and has room.
fn target(reading: &Reading, book: &BookRow) -> Result<Placed, Error> {
    let ask = &reading.ask;
    // What was removed still has its rows: only a whole book leaves them behind.
    if !ask.base.is_empty() && (ask.base != book.base || book.removed >= BOOK_NUMBERS) {
        return Err(error::base_unknown());
    }
    let target = state::place(book, ask.base.is_empty(), ask.more);
    let size = if target.generation == book.generation { book.size } else { building_size(book, &target) };
    if size + reading.numbers.len() as u64 > BOOK_NUMBERS {
        return Err(error::too_large("the book has too many numbers", BOOK_NUMBERS));
    }
    Ok(target)
}

/// Numbers of the generation that is being sent, before this chunk.
fn building_size(book: &BookRow, target: &Placed) -> u64 {
    if target.generation == book.building { book.building_size } else { 0 }
}
