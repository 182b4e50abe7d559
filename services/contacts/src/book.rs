//! The actor of a user's book: what is synced, acknowledged, told and blocked happens one after the other.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_chassis::Error;
use dialtone_proto::contacts::v1::{EntryVerdict, Verdict};
use dialtone_proto::edge::v1::Contact;
use dialtone_proto::types::v1::UserRef;
use dialtone_shards::{Resident, Rest};
use dialtone_store::{Batch, StoreError};
use dialtone_vocab::{NumberHash, PhoneNumber, Reason, UnixMillis, UserId};
use tokio::sync::oneshot;

use crate::handle::{NewOwner, Shared, SyncAnswer, SyncAsk};
use crate::limits::{BLOCKS, BOOK_NUMBERS, BUDGET_PERIOD};
use crate::rows::{BookRow, BudgetRow, ContactRow, PendingEntry, PendingRow};
use crate::store::Store;
use crate::{error, metrics, state};

/// The way back to who asked; who has gone is not told.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What happens to a book.
pub(crate) enum ToBook {
    /// A chunk of changes.
    Sync(SyncAsk, Answer<SyncAnswer>),
    /// The client has stored the answer to a chunk. Answers the users that became friends by it.
    Acknowledge(Vec<u8>, Answer<Vec<UserId>>),
    /// Everything is to go.
    Forget(Answer<()>),
    /// A number has another owner; `mutual` if the owner has this user among its friends.
    NumberHas { owner: NewOwner, hash: NumberHash, mutual: bool, answer: Answer<()> },
    /// Somebody whose number is in this book has put this user into its own.
    Mutual { owner: NewOwner, hash: NumberHash },
    /// This user blocks another, or no more.
    Block { user: UserId, on: bool, answer: Answer<()> },
}

/// A user's book: all of its state is in the store.
pub(crate) struct Book {
    shared: Shared,
    user: UserId,
}

impl Resident for Book {
    type Message = ToBook;
    type Shared = Shared;

    async fn open(shared: &Shared, user: UserId) -> Option<Self> {
        Some(Self { shared: shared.clone(), user })
    }

    async fn handle(&mut self, message: ToBook) {
        match message {
            ToBook::Sync(ask, answer) => give(answer, self.sync(ask).await),
            ToBook::Acknowledge(token, answer) => {
                give(answer, self.acknowledge(&token).await);
                self.clean().await;
            }
            ToBook::Forget(answer) => {
                give(answer, self.forget().await);
                self.clean().await;
            }
            ToBook::NumberHas { owner, hash, mutual, answer } => {
                let outcome = self.number_has(&owner, hash, mutual).await;
                give(answer, outcome.map_err(|error| error::store(&error)));
            }
            ToBook::Mutual { owner, hash } => {
                if let Err(error) = self.mutual(&owner, hash).await {
                    tracing::warn!(%error, "a mutual contact was not told");
                }
            }
            ToBook::Block { user, on, answer } => give(answer, self.block(user, on).await),
        }
    }

    async fn tick(&mut self) -> Rest {
        Rest::MayLeave
    }
}

fn give<T>(answer: Answer<T>, outcome: Result<T, Error>) {
    let _gone = answer.send(outcome);
}

fn hashes(rows: &[Vec<u8>]) -> impl Iterator<Item = NumberHash> {
    rows.iter().filter_map(|bytes| NumberHash::from_slice(bytes).ok())
}

fn entries(pending: &PendingRow) -> impl Iterator<Item = (NumberHash, &PendingEntry)> {
    pending.added.iter().filter_map(|entry| Some((NumberHash::from_slice(&entry.hash).ok()?, entry)))
}

/// What the entries of a request were read as, in their order.
struct Reading {
    verdicts: Vec<Result<(PhoneNumber, NumberHash), Verdict>>,
    numbers: BTreeMap<NumberHash, PhoneNumber>,
}

impl Book {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn read(&self, ask: &SyncAsk) -> Reading {
        let mut reading = Reading { verdicts: Vec::new(), numbers: BTreeMap::new() };
        for typed in &ask.added {
            let read = state::read(&typed.text, &typed.region, &ask.region);
            let read = read.map(|number| (number, self.shared.number_key.hash(number)));
            if let Ok((number, hash)) = read {
                reading.numbers.insert(hash, number);
            }
            reading.verdicts.push(read);
        }
        reading
    }

    async fn sync(&self, ask: SyncAsk) -> Result<SyncAnswer, Error> {
        let fail = |error| error::store(&error);
        let book = self.store().book(self.user).map_err(fail)?;
        let old = self.store().pending(self.user).map_err(fail)?;
        let now = self.shared.chassis.clock.now();
        let digest = self.shared.digest(&ask).to_vec();
        let reading = self.read(&ask);
        if let Some(pending) = old.as_ref().filter(|old| old.base == ask.base && old.digest == digest) {
            metrics::sync("repeated");
            return self.answer(&reading, pending, now).map_err(fail);
        }
        if !ask.base.is_empty() && ask.base != book.base {
            return Err(error::base_unknown());
        }
        let target = state::place(&book, ask.base.is_empty(), ask.more);
        let size = if target.generation == book.generation { book.size } else { target.book.building_size };
        if size + reading.numbers.len() as u64 > BOOK_NUMBERS {
            return Err(error::too_large("the book has too many numbers", BOOK_NUMBERS));
        }
        let charge = old.as_ref().map(|old| old.fresh.clone()).unwrap_or_default();
        let fresh = self.fresh(&reading, &charge, now).map_err(fail)??;

        let pending = self.prepare(ask, digest, &reading, fresh).await?;
        self.replace_pending(&book, old, &pending, now).await.map_err(fail)?;
        metrics::sync("answered");
        self.answer(&reading, &pending, now).map_err(fail)
    }

    /// What the chunk comes to, once it is acknowledged.
    async fn prepare(
        &self,
        ask: SyncAsk,
        digest: Vec<u8>,
        reading: &Reading,
        fresh: Vec<NumberHash>,
    ) -> Result<PendingRow, Error> {
        // Noted before identity is asked: a number that gets a user from now on is told to this book.
        let noted = reading
            .numbers
            .keys()
            .fold(Batch::new(), |batch, hash| Store::note_holder(batch, *hash, self.user));
        self.store().commit(noted).await.map_err(|error| error::store(&error))?;
        let numbers: Vec<_> = reading.numbers.values().copied().collect();
        let resolved = self.shared.directory.resolve(&numbers).await?;
        let added = reading.numbers.keys().zip(resolved).map(|(hash, resolved)| {
            let told = !resolved.user.is_empty();
            let contact = ContactRow { user: resolved.user, epoch: resolved.epoch, told };
            PendingEntry { hash: hash.to_vec(), contact: Some(contact), nickname: resolved.nickname }
        });
        let removed = ask.removed.iter().filter_map(|typed| {
            let number = state::read(&typed.text, &typed.region, &ask.region).ok()?;
            Some(self.shared.number_key.hash(number))
        });
        let in_it: BTreeSet<_> = reading.numbers.keys().copied().collect();
        let removed = state::removed_for_good(removed.collect(), &in_it);
        Ok(PendingRow {
            token: self.shared.chassis.rng.bytes::<16>().to_vec(),
            digest,
            more: ask.more,
            added: added.collect(),
            removed: removed.into_iter().map(NumberHash::to_vec).collect(),
            fresh: fresh.into_iter().map(NumberHash::to_vec).collect(),
            base: ask.base,
        })
    }

    /// Numbers never asked about before, if the budget allows them. `charge` are those of a chunk that was answered,
    /// never acknowledged and is given up now: they were answered, so they count.
    fn fresh(
        &self,
        reading: &Reading,
        charge: &[Vec<u8>],
        now: UnixMillis,
    ) -> Result<Result<Vec<NumberHash>, Error>, StoreError> {
        let charge: BTreeSet<_> = hashes(charge).collect();
        let mut fresh = Vec::new();
        for hash in reading.numbers.keys().filter(|hash| !charge.contains(hash)) {
            if !self.store().was_asked(self.user, *hash)? {
                fresh.push(*hash);
            }
        }
        let row = self.store().budget(self.user)?;
        let asked = state::used(&row, now) as usize + charge.len() + fresh.len();
        if asked > self.shared.budget as usize && !fresh.is_empty() {
            metrics::sync("refused");
            let wait = UnixMillis(row.from_ms).plus(BUDGET_PERIOD).since(now).min(BUDGET_PERIOD);
            let error =
                Error::new(Reason::ContactBudget, "too many numbers that were never asked about before");
            return Ok(Err(error.retry_after(wait)));
        }
        Ok(Ok(fresh))
    }

    async fn replace_pending(
        &self,
        book: &BookRow,
        old: Option<PendingRow>,
        new: &PendingRow,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        if let Some(old) = old {
            batch = self.charge(batch, &old, now)?;
            let kept: BTreeSet<_> = entries(new).map(|(hash, _)| hash).collect();
            for (hash, _) in entries(&old).filter(|(hash, _)| !kept.contains(hash)) {
                batch = self.drop_holder_unless_held(batch, book, hash)?;
            }
        }
        self.store().commit(Store::put_pending(batch, self.user, new)).await
    }

    fn charge(&self, batch: Batch, pending: &PendingRow, now: UnixMillis) -> Result<Batch, StoreError> {
        if pending.fresh.is_empty() {
            return Ok(batch);
        }
        let more = u32::try_from(pending.fresh.len()).unwrap_or(u32::MAX);
        let row: BudgetRow = state::charged(&self.store().budget(self.user)?, more, now);
        Ok(Store::charge(batch, self.user, hashes(&pending.fresh), &row))
    }

    fn drop_holder_unless_held(
        &self,
        batch: Batch,
        book: &BookRow,
        hash: NumberHash,
    ) -> Result<Batch, StoreError> {
        for generation in state::live(book) {
            if self.store().contact(self.user, generation, hash)?.is_some() {
                return Ok(batch);
            }
        }
        Ok(Store::drop_holder(batch, hash, self.user))
    }

    fn answer(
        &self,
        reading: &Reading,
        pending: &PendingRow,
        now: UnixMillis,
    ) -> Result<SyncAnswer, StoreError> {
        let matches: BTreeMap<_, _> = entries(pending).collect();
        let verdict = |read: &Result<(PhoneNumber, NumberHash), Verdict>| {
            let (number, hash) = match read {
                Ok(read) => read,
                Err(verdict) => return EntryVerdict { verdict: (*verdict).into(), ..Default::default() },
            };
            let found = matches.get(hash).and_then(|entry| Some((entry, entry.contact.as_ref()?)));
            let number = number.to_string();
            match found.filter(|(_, contact)| !contact.user.is_empty()) {
                Some((entry, contact)) => EntryVerdict {
                    verdict: Verdict::Matched.into(),
                    number,
                    user: Some(UserRef { id: contact.user.clone() }),
                    nickname: entry.nickname.clone(),
                },
                None => EntryVerdict { verdict: Verdict::NotUser.into(), number, ..Default::default() },
            }
        };
        let verdicts: Vec<_> = reading.verdicts.iter().map(verdict).collect();
        for verdict in &verdicts {
            metrics::verdict(verdict.verdict().as_str_name());
        }
        let used = state::used(&self.store().budget(self.user)?, now) as usize + pending.fresh.len();
        let budget_left = self.shared.budget.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        Ok(SyncAnswer { verdicts, next_token: pending.token.clone(), budget_left })
    }

    async fn acknowledge(&self, token: &[u8]) -> Result<Vec<UserId>, Error> {
        let fail = |error| error::store(&error);
        let book = self.store().book(self.user).map_err(fail)?;
        let pending = self.store().pending(self.user).map_err(fail)?;
        let Some(pending) = pending.filter(|pending| pending.token == token) else {
            let repeated = !token.is_empty() && book.base == token;
            return if repeated { Ok(Vec::new()) } else { Err(error::base_unknown()) };
        };
        let outcome = self.apply(&book, &pending).await.map_err(fail)?;
        metrics::sync("acknowledged");
        Ok(outcome)
    }

    /// Puts an acknowledged chunk into the book.
    async fn apply(&self, book: &BookRow, pending: &PendingRow) -> Result<Vec<UserId>, StoreError> {
        let placed = state::place(book, pending.base.is_empty(), pending.more);
        let generation = placed.generation;
        let mut after = placed.book;
        let (mut grown, mut shrunk) = (0, 0);
        let mut friends = BTreeSet::new();
        let mut batch = self.charge(Batch::new(), pending, self.shared.chassis.clock.now())?;
        for (hash, entry) in entries(pending) {
            let row = entry.contact.clone().unwrap_or_default();
            grown += u64::from(self.store().contact(self.user, generation, hash)?.is_none());
            let before = self.store().contact(self.user, book.generation, hash)?;
            if let Ok(friend) = UserId::from_slice(&row.user)
                && friend != self.user
                && before.is_none_or(|before| before.user != row.user)
            {
                friends.insert(friend);
            }
            batch = Store::put_contact(batch, self.user, generation, hash, &row);
        }
        for hash in hashes(&pending.removed) {
            if self.store().contact(self.user, generation, hash)?.is_some() {
                shrunk += 1;
                batch = Store::drop_contact(batch, self.user, generation, hash);
                let others = BookRow {
                    generation: if book.generation == generation { 0 } else { book.generation },
                    ..BookRow::default()
                };
                batch = self.drop_holder_unless_held(batch, &others, hash)?;
            }
        }
        let size = if after.generation == generation { &mut after.size } else { &mut after.building_size };
        *size = (*size + grown).saturating_sub(shrunk);
        after.base.clone_from(&pending.token);
        let batch = Store::drop_pending(Store::put_book(batch, self.user, &after), self.user);
        self.store().commit(batch).await?;
        Ok(friends.into_iter().collect())
    }

    async fn forget(&self) -> Result<(), Error> {
        let fail = |error| error::store(&error);
        let book = self.store().book(self.user).map_err(fail)?;
        let pending = self.store().pending(self.user).map_err(fail)?;
        let after = state::forgotten(&book);
        let mut batch = Store::put_book(Batch::new(), self.user, &after);
        if let Some(pending) = pending {
            batch = self.charge(batch, &pending, self.shared.chassis.clock.now()).map_err(fail)?;
            for (hash, _) in entries(&pending) {
                batch = self.drop_holder_unless_held(batch, &book, hash).map_err(fail)?;
            }
            batch = Store::drop_pending(batch, self.user);
        }
        self.store().commit(batch).await.map_err(fail)?;
        self.store().forget_asked(self.user).await.map_err(fail)
    }

    /// Removes the rows of generations that count no more; what a crash leaves is removed after the next change.
    async fn clean(&self) {
        if let Err(error) = self.drop_generations().await {
            tracing::warn!(%error, "an old book is still to be removed");
        }
    }

    async fn drop_generations(&self) -> Result<(), StoreError> {
        let mut book = self.store().book(self.user)?;
        while let Some(generation) = book.dropping.first().copied() {
            let held = self.store().numbers(self.user, generation)?;
            let mut batch = Batch::new();
            if held.is_empty() {
                book.dropping.remove(0);
                batch = Store::put_book(batch, self.user, &book);
            }
            for hash in held {
                batch = Store::drop_contact(batch, self.user, generation, hash);
                batch = self.drop_holder_unless_held(batch, &book, hash)?;
            }
            self.store().commit(batch).await?;
        }
        Ok(())
    }

    async fn number_has(&self, owner: &NewOwner, hash: NumberHash, mutual: bool) -> Result<(), StoreError> {
        let book = self.store().book(self.user)?;
        let user = owner.user.map(UserId::to_vec).unwrap_or_default();
        let mut batch = Batch::new();
        let (mut tell, mut tell_gone) = (false, false);
        for generation in state::live(&book) {
            let Some(before) = self.store().contact(self.user, generation, hash)? else { continue };
            if owner.epoch <= before.epoch {
                continue;
            }
            if generation == book.generation {
                tell = mutual;
                tell_gone = before.told && !before.user.is_empty() && before.user != user;
            }
            let row = ContactRow { user: user.clone(), epoch: owner.epoch, told: mutual };
            batch = Store::put_contact(batch, self.user, generation, hash, &row);
        }
        if let Some(mut pending) = self.store().pending(self.user)? {
            for entry in pending.added.iter_mut().filter(|entry| entry.hash == hash.as_bytes()) {
                let contact = entry.contact.get_or_insert_default();
                if owner.epoch > contact.epoch {
                    *contact = ContactRow { user: user.clone(), epoch: owner.epoch, told: false };
                    entry.nickname.clone_from(&owner.nickname);
                }
            }
            batch = Store::put_pending(batch, self.user, &pending);
        }
        self.store().commit(batch).await?;
        if tell || tell_gone {
            self.tell(owner, tell);
        }
        Ok(())
    }

    async fn mutual(&self, owner: &NewOwner, hash: NumberHash) -> Result<(), StoreError> {
        let book = self.store().book(self.user)?;
        let Some(mut row) = self.store().contact(self.user, book.generation, hash)? else { return Ok(()) };
        if row.told || owner.user.is_none_or(|user| row.user != user.as_bytes()) {
            return Ok(());
        }
        row.told = true;
        let batch = Store::put_contact(Batch::new(), self.user, book.generation, hash, &row);
        self.store().commit(batch).await?;
        self.tell(owner, true);
        Ok(())
    }

    fn tell(&self, owner: &NewOwner, is_user: bool) {
        let contact = Contact {
            number: owner.number.to_string(),
            user: owner.user.filter(|_| is_user).map(|user| UserRef { id: user.to_vec() }),
            nickname: if is_user { owner.nickname.clone() } else { String::new() },
        };
        self.shared.teller.tell(self.user, contact);
    }

    async fn block(&self, user: UserId, on: bool) -> Result<(), Error> {
        let fail = |error| error::store(&error);
        if self.store().blocks(self.user, user).map_err(fail)? == on {
            return Ok(());
        }
        let mut head = self.store().block_head(self.user).map_err(fail)?;
        if on && head.count >= BLOCKS {
            return Err(error::too_large("too many users are blocked", BLOCKS));
        }
        head.version += 1;
        head.count = if on { head.count + 1 } else { head.count.saturating_sub(1) };
        self.store().commit(Store::put_block(&head, self.user, user, on)).await.map_err(fail)
    }
}
