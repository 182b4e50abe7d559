//! What contacts does, in its own words.

use std::collections::BTreeSet;
use std::sync::Arc;

use dialtone_chassis::{Chassis, Error, NumberKey};
use dialtone_proto::contacts::v1::{EntryVerdict, Friend};
use dialtone_proto::types::v1::{TypedNumber, UserRef};
use dialtone_shards::Hive;
use dialtone_store::StoreError;
use dialtone_vocab::{NumberHash, PhoneNumber, Reason, UserId};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, oneshot};

use crate::book::{Answer, Book, ToBook};
use crate::bus::Teller;
use crate::error;
use crate::limits::{BOOK_WITHIN, CLEAN_STEP, FACT_FAN, FACT_SWEEP, HOLDER_BUCKETS, READS_AT_ONCE};
use crate::peers::Directory;
use crate::store::{Holder, Store};

/// What all books share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) chassis: Chassis,
    pub(crate) store: Store,
    pub(crate) number_key: NumberKey,
    pub(crate) budget: u32,
    pub(crate) directory: Directory,
    pub(crate) teller: Teller,
}

/// A chunk of changes of an address book.
#[derive(Debug, Clone)]
pub(crate) struct SyncAsk {
    pub(crate) base: Vec<u8>,
    pub(crate) added: Vec<TypedNumber>,
    pub(crate) removed: Vec<TypedNumber>,
    pub(crate) region: String,
    pub(crate) more: bool,
}

/// What the server says to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SyncAnswer {
    pub(crate) verdicts: Vec<EntryVerdict>,
    pub(crate) next_token: Vec<u8>,
    pub(crate) budget_left: u32,
}

/// Whose a number is now.
#[derive(Debug, Clone)]
pub(crate) struct NewOwner {
    pub(crate) number: PhoneNumber,
    pub(crate) user: Option<UserId>,
    pub(crate) epoch: u64,
    pub(crate) nickname: String,
}

impl Shared {
    /// A keyed hash of what a chunk says: lengths first, so that no two chunks are written alike.
    pub(crate) fn digest(&self, ask: &SyncAsk) -> [u8; 16] {
        let mut bytes = Vec::new();
        let mut say = |text: &[u8]| {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text);
        };
        say(&[u8::from(ask.more)]);
        say(ask.region.as_bytes());
        say(&(ask.added.len() as u64).to_be_bytes());
        for typed in ask.added.iter().chain(&ask.removed) {
            say(typed.text.as_bytes());
            say(typed.region.as_bytes());
        }
        self.number_key.mac(b"contacts sync", &bytes)
    }
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Shared,
    books: Hive<Book>,
    blocked: Arc<Notify>,
}

impl Handle {
    pub(crate) fn new(shared: Shared, books: Hive<Book>) -> Self {
        Self { shared, books, blocked: Arc::new(Notify::new()) }
    }

    /// Something was blocked or unblocked since this was last awaited, or may have been in a process that died then.
    pub(crate) async fn new_block(&self) {
        let _by_itself = self.shared.chassis.clock.timeout(FACT_SWEEP, self.blocked.notified()).await;
    }

    async fn ask<T>(&self, user: UserId, message: impl FnOnce(Answer<T>) -> ToBook) -> Result<T, Error> {
        let (answer, outcome) = oneshot::channel();
        self.books.send(user, message(answer)).map_err(|_busy| error::busy())?;
        match self.shared.chassis.clock.timeout(BOOK_WITHIN, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(error::busy()),
            Err(_elapsed) => {
                Err(Error::new(Reason::Timeout, "the book did not answer; the outcome is unknown"))
            }
        }
    }

    pub(crate) async fn sync(&self, user: UserId, ask: SyncAsk) -> Result<SyncAnswer, Error> {
        self.ask(user, |answer| ToBook::Sync(ask, answer)).await
    }

    /// `number` is the user's own: those who have it and whom the user has now are told.
    pub(crate) async fn acknowledge(
        &self,
        user: UserId,
        number: PhoneNumber,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        let friends = self.ask(user, |answer| ToBook::Acknowledge(token, answer)).await?;
        if !friends.is_empty() {
            let this = self.clone();
            self.shared
                .chassis
                .tasks
                .spawn("contacts mutual", async move { this.tell_mutual(user, number, friends).await });
        }
        Ok(())
    }

    async fn tell_mutual(&self, user: UserId, number: PhoneNumber, friends: Vec<UserId>) {
        let hash = self.shared.number_key.hash(number);
        let knows = |friend: UserId| async move {
            let book = self.shared.store.book(friend).await?;
            let held = self.shared.store.held(friend, book.generation, hash).await?;
            Ok::<_, StoreError>(held.is_in.then_some(friend))
        };
        let known = stream::iter(friends.into_iter().map(knows)).buffered(READS_AT_ONCE);
        let friends: Vec<_> = known.filter_map(|known| async { known.ok().flatten() }).collect().await;
        if friends.is_empty() {
            return;
        }
        let nickname = match self.shared.directory.numbers(&[user]).await {
            Ok(answers) => answers.into_iter().next().map(|answer| answer.nickname).unwrap_or_default(),
            Err(_) => String::new(),
        };
        let owner = NewOwner { number, user: Some(user), epoch: 0, nickname };
        for friend in friends {
            let message = ToBook::Mutual { owner: owner.clone(), hash };
            if self.books.send(friend, message).is_err() {
                tracing::warn!("a mutual contact was not told: too much is waiting");
            }
        }
    }

    pub(crate) async fn forget(&self, user: UserId) -> Result<(), Error> {
        self.ask(user, ToBook::Forget).await
    }

    /// A page of friends, and where the next one begins; `None`: the end.
    pub(crate) async fn friends(
        &self,
        user: UserId,
        last: Option<NumberHash>,
        limit: usize,
    ) -> Result<(Vec<Friend>, Option<NumberHash>), Error> {
        let book = self.shared.store.book(user).await?;
        if book.owed.is_some() {
            self.ask(user, ToBook::Settle).await?;
        }
        let rows = self.shared.store.friends(user, book.generation, last, limit).await?;
        let next = rows.last().map(|(hash, _)| *hash).filter(|_| rows.len() == limit);
        let users: Vec<_> = rows.iter().map(|(_, friend)| *friend).collect();
        if users.is_empty() {
            return Ok((Vec::new(), None));
        }
        let answers = self.shared.directory.numbers(&users).await?;
        let friend = |((hash, user), answer): (&(NumberHash, UserId), _)| {
            let dialtone_proto::identity::internal::v1::UserNumbers { primary, nickname, .. } = answer;
            // Shown only if it is the number that the book has: another one of the same person is not given away.
            let in_book = PhoneNumber::parse_e164(&primary)
                .is_ok_and(|number| self.shared.number_key.hash(number) == *hash);
            let number = if in_book { primary } else { String::new() };
            Friend { user: Some(UserRef { id: user.to_vec() }), number, nickname }
        };
        Ok((rows.iter().zip(answers).map(friend).collect(), next))
    }

    pub(crate) async fn block(&self, by: UserId, user: UserId, on: bool) -> Result<(), Error> {
        if by == user {
            return Err(error::field("user", "somebody else"));
        }
        self.ask(by, |answer| ToBook::Block { user, on, answer }).await?;
        self.blocked.notify_one();
        Ok(())
    }

    /// Whether of each pair the first blocks the second.
    pub(crate) async fn blocks(&self, pairs: Vec<(UserId, UserId)>) -> Result<Vec<bool>, Error> {
        let reads = pairs.into_iter().map(|(by, user)| self.shared.store.blocks(by, user));
        Ok(stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?)
    }

    /// A number has another owner: every book that holds it is told, durably, before this returns.
    pub(crate) async fn number_has(&self, owner: NewOwner) -> Result<(), Error> {
        let hash = self.shared.number_key.hash(owner.number);
        let known = match owner.user {
            Some(user) => self.all_friends(user).await?,
            None => BTreeSet::new(),
        };
        for bucket in 0..HOLDER_BUCKETS {
            let mut last: Option<Holder> = None;
            loop {
                let holders = self.shared.store.holders(hash, bucket, last, FACT_FAN).await?;
                let Some(end) = holders.last() else { break };
                last = Some(*end);
                let told = holders.into_iter().map(|Holder { user, generation }| {
                    let (owner, mutual) = (owner.clone(), known.contains(&user));
                    self.ask(user, move |answer| ToBook::NumberHas {
                        owner,
                        hash,
                        generation,
                        mutual,
                        answer,
                    })
                });
                join_all(told).await.into_iter().collect::<Result<Vec<()>, _>>()?;
            }
        }
        Ok(())
    }

    /// Whom a user has among its friends.
    async fn all_friends(&self, user: UserId) -> Result<BTreeSet<UserId>, StoreError> {
        let book = self.shared.store.book(user).await?;
        let (mut all, mut last) = (BTreeSet::new(), None);
        loop {
            let page = self.shared.store.friends(user, book.generation, last, CLEAN_STEP).await?;
            let Some((end, _)) = page.last() else { return Ok(all) };
            last = Some(*end);
            all.extend(page.iter().map(|(_, friend)| *friend));
        }
    }
}
