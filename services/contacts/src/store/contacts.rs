//! Numbers in books, and books by number.

use std::ops::Bound;

use bytes::Bytes;
use dialtone_store::Batch;
use dialtone_vocab::{NumberHash, UserId};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Result, Store, join};
use crate::limits::{CLEAN_STEP, HOLDER_BUCKETS, READS_AT_ONCE};
use crate::rows::PendingEntry;

/// A user's book that may hold a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) user: UserId,
    pub(crate) generation: u64,
}

/// What a generation of a book knows of a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// It was named by a chunk, acknowledged or not.
    pub(crate) is_noted: bool,
    /// It is in the book.
    pub(crate) is_in: bool,
    /// Of the number's last binding that is known; 0: none.
    pub(crate) epoch: u64,
    /// Whose it is, 16 bytes; empty: nobody's.
    pub(crate) user: Bytes,
    /// The book's owner was told that.
    pub(crate) told: bool,
}

impl Held {
    /// Whose it is, if it is in the book.
    pub(crate) fn friend(&self) -> Option<UserId> {
        UserId::from_slice(&self.user).ok().filter(|_| self.is_in)
    }

    /// Adds a row, by what follows the number in its key; they come in the order of keys.
    fn add(&mut self, rest: &[u8], value: &Bytes) {
        match rest {
            [] => {
                self.is_noted = true;
                self.is_in = value.last().is_some_and(|last| last % 2 == 1);
            }
            [epoch @ .., 1] if epoch.len() == 8 => self.told = epoch == self.epoch.to_be_bytes(),
            epoch => {
                if let Some(epoch) = epoch.first_chunk() {
                    *self =
                        Self { epoch: u64::from_be_bytes(*epoch), user: value.clone(), told: false, ..*self };
                }
            }
        }
    }
}

fn generation_key(user: UserId, generation: u64) -> Vec<u8> {
    join([user.as_bytes(), &generation.to_be_bytes()])
}

fn number_key(user: UserId, generation: u64, hash: NumberHash) -> Vec<u8> {
    join([user.as_bytes(), &generation.to_be_bytes(), hash.as_bytes()])
}

/// What stands in a number's row after a chunk: of a higher chunk it is higher; a number that was only named has what
/// chunk 0 would have left.
const fn word(chunk: u64, is_in: bool) -> u64 {
    (chunk + 1) * 2 + is_in as u64
}

/// Large numbers are in many books: their rows are spread by user.
fn bucket_of(user: UserId) -> u8 {
    user.as_bytes()[0] % HOLDER_BUCKETS
}

fn holder_key(hash: NumberHash, holder: Holder) -> Vec<u8> {
    let bucket = bucket_of(holder.user);
    join([hash.as_bytes(), &[bucket], holder.user.as_bytes(), &holder.generation.to_be_bytes()])
}

impl Store {
    /// Notes that a generation may hold numbers: whoever hears of one from now on tells that book.
    pub(crate) async fn note(
        &self,
        holder: Holder,
        hashes: impl IntoIterator<Item = NumberHash>,
    ) -> Result<()> {
        self.in_steps(hashes, |batch, hash| {
            batch.put("contact_of", holder_key(hash, holder), []).max(
                "contact",
                number_key(holder.user, holder.generation, hash),
                word(0, false),
            )
        })
        .await
    }

    /// Books that may hold a number, of one bucket, in order, behind `after`.
    pub(crate) async fn holders(
        &self,
        hash: NumberHash,
        bucket: u8,
        after: Option<Holder>,
        limit: usize,
    ) -> Result<Vec<Holder>> {
        let prefix = join([hash.as_bytes(), &[bucket]]);
        let end = Bound::Included(join([&prefix, &[0xff; 24]]));
        let start = match after {
            None => Bound::Included(prefix),
            Some(last) => Bound::Excluded(holder_key(hash, last)),
        };
        let rows = self.db.scan("contact_of", (start, end), limit).await?;
        let holder = |(key, _): &(Bytes, Bytes)| {
            let (user, generation) = key.get(17..)?.split_first_chunk::<16>()?;
            let generation = u64::from_be_bytes(*generation.first_chunk()?);
            Some(Holder { user: UserId::new(*user), generation })
        };
        Ok(rows.iter().filter_map(holder).collect())
    }

    /// Takes back notes that were written after their generation's end. What the generation itself says is no help: on a
    /// shared store a maximum that comes after its row was removed is not seen.
    pub(crate) async fn drop_notes(
        &self,
        holder: Holder,
        hashes: impl IntoIterator<Item = NumberHash>,
    ) -> Result<()> {
        self.in_steps(hashes, |batch, hash| {
            batch
                .delete("contact_of", holder_key(hash, holder))
                .delete("contact", number_key(holder.user, holder.generation, hash))
        })
        .await
    }

    /// What a generation knows of a number.
    pub(crate) async fn held(&self, user: UserId, generation: u64, hash: NumberHash) -> Result<Held> {
        let prefix = number_key(user, generation, hash);
        let mut held = Held::default();
        for (key, value) in self.db.scan_prefix("contact", &prefix, CLEAN_STEP).await? {
            held.add(key.get(prefix.len()..).unwrap_or_default(), &value);
        }
        Ok(held)
    }

    /// What a generation knows of each of these numbers, in their order.
    pub(crate) async fn all_held(
        &self,
        user: UserId,
        generation: u64,
        hashes: impl IntoIterator<Item = NumberHash>,
    ) -> Result<Vec<Held>> {
        let reads = hashes.into_iter().map(|hash| self.held(user, generation, hash));
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    /// Puts an acknowledged chunk into a generation: numbers with whose they are, and numbers that leave.
    pub(crate) async fn put_chunk(
        &self,
        user: UserId,
        generation: u64,
        chunk: u64,
        added: &[(NumberHash, PendingEntry)],
        removed: &[NumberHash],
    ) -> Result<()> {
        self.in_steps(added, |batch, (hash, entry)| {
            let key = number_key(user, generation, *hash);
            let batch = batch.max("contact", key.clone(), word(chunk, true));
            if entry.epoch == 0 {
                return batch;
            }
            let key = join([&key, &entry.epoch.to_be_bytes()]);
            let batch = batch.put("contact", key.clone(), entry.user.clone());
            // The answer to the chunk has told it.
            if entry.user.is_empty() { batch } else { batch.put("contact", join([&key, &[1]]), []) }
        })
        .await?;
        self.in_steps(removed, |batch, hash| {
            batch.max("contact", number_key(user, generation, *hash), word(chunk, false))
        })
        .await
    }

    /// Puts down whose a number is since `epoch`, which is later than what was known.
    pub(crate) async fn put_owner(
        &self,
        of: Holder,
        hash: NumberHash,
        known: &Held,
        epoch: u64,
        user: Option<UserId>,
        told: bool,
    ) -> Result<()> {
        let number = number_key(of.user, of.generation, hash);
        let key = |epoch: u64| join([&number, &epoch.to_be_bytes()]);
        let told_key = |epoch: u64| join([&number, &epoch.to_be_bytes(), &[1]]);
        let mut batch = Batch::new().put("contact", key(epoch), user.map(UserId::to_vec).unwrap_or_default());
        if told {
            batch = batch.put("contact", told_key(epoch), []);
        }
        if known.epoch != 0 {
            batch = batch.delete("contact", key(known.epoch)).delete("contact", told_key(known.epoch));
        }
        self.db.commit(batch).await.map(|_applied| ())
    }

    /// The book's owner is told whose a number is since `epoch`.
    pub(crate) async fn put_told(
        &self,
        user: UserId,
        generation: u64,
        hash: NumberHash,
        epoch: u64,
    ) -> Result<()> {
        let key = join([&number_key(user, generation, hash), &epoch.to_be_bytes(), &[1]]);
        self.db.commit(Batch::new().put("contact", key, [])).await.map(|_applied| ())
    }

    /// At most `limit` friends behind the number `last`, in the order of their numbers' hashes.
    pub(crate) async fn friends(
        &self,
        user: UserId,
        generation: u64,
        last: Option<NumberHash>,
        limit: usize,
    ) -> Result<Vec<(NumberHash, UserId)>> {
        let prefix = generation_key(user, generation);
        let end = Bound::Included(join([&prefix, &[0xff; 25]]));
        let mut start = Bound::Excluded(match last {
            None => prefix.clone(),
            // Behind everything that is known of it.
            Some(last) => join([&prefix, last.as_bytes(), &[0xff; 9]]),
        });
        let mut friends = Vec::new();
        let mut now: Option<(NumberHash, Held)> = None;
        loop {
            let rows = self.db.scan("contact", (start, end.clone()), CLEAN_STEP).await?;
            for (key, value) in &rows {
                let Some((hash, rest)) = key.get(24..).and_then(|key| key.split_first_chunk()) else {
                    continue;
                };
                let hash = NumberHash::new(*hash);
                if now.as_ref().is_none_or(|(number, _)| *number != hash) {
                    friends
                        .extend(now.replace((hash, Held::default())).and_then(|done| befriended(user, done)));
                }
                if friends.len() >= limit {
                    return Ok(friends);
                }
                if let Some((_, held)) = &mut now {
                    held.add(rest, value);
                }
            }
            match rows.last() {
                Some((key, _)) if rows.len() == CLEAN_STEP => start = Bound::Excluded(key.to_vec()),
                _ => break,
            }
        }
        friends.extend(now.and_then(|done| befriended(user, done)));
        Ok(friends)
    }

    /// Removes all of a generation that counts no more. What is noted of its numbers elsewhere goes first: whoever dies
    /// in between finds the same again.
    pub(crate) async fn drop_generation(&self, user: UserId, generation: u64) -> Result<()> {
        let prefix = generation_key(user, generation);
        let end = Bound::Included(join([&prefix, &[0xff; 25]]));
        let holder = Holder { user, generation };
        let mut start = Bound::Included(prefix);
        loop {
            let rows = self.db.scan("contact", (start, end.clone()), CLEAN_STEP).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            start = Bound::Excluded(last.to_vec());
            let numbers = rows.iter().filter(|(key, _)| key.len() == 40);
            let hash = |(key, _): &(Bytes, Bytes)| Some(NumberHash::new(*key.last_chunk()?));
            let numbers: Vec<_> = numbers.filter_map(hash).collect();
            self.in_steps(numbers, |batch, hash| batch.delete("contact_of", holder_key(hash, holder)))
                .await?;
            self.in_steps(rows, |batch, (key, _)| batch.delete("contact", key.to_vec())).await?;
        }
    }
}

/// A number and whose it is, if that is somebody else's and in the book.
fn befriended(user: UserId, (hash, held): (NumberHash, Held)) -> Option<(NumberHash, UserId)> {
    held.friend().filter(|friend| *friend != user).map(|friend| (hash, friend))
}
