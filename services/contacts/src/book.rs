//! The actor of a user's book: what is synced, acknowledged, told and blocked happens one after the other in a process.
//!
//! Another process may have an actor of the same user. So nothing is kept between messages, and whatever is decided is
//! decided by replacing the head of the book as it was read: who comes second reads again.

#[cfg(test)]
mod contract;
mod settle;
mod sync;

use dialtone_chassis::Error;
use dialtone_proto::edge::v1::Contact;
use dialtone_proto::types::v1::UserRef;
use dialtone_shards::{Resident, Rest};
use dialtone_store::StoreError;
use dialtone_vocab::{NumberHash, UserId};
use tokio::sync::oneshot;

use crate::handle::{NewOwner, Shared, SyncAnswer, SyncAsk};
use crate::limits::{BLOCKS, CHANGE_TRIES};
use crate::rows::BlockHead;
use crate::store::{Holder, Store};
use crate::{error, state};

/// The way back to who asked; who has gone is not told.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What happens to a book.
pub(crate) enum ToBook {
    /// A chunk of changes.
    Sync(SyncAsk, Answer<SyncAnswer>),
    /// The client has stored the answer to a chunk. Answers the users that became friends by it.
    Acknowledge(Vec<u8>, Answer<Vec<UserId>>),
    /// What was acknowledged is to stand in the book.
    Settle(Answer<()>),
    /// Everything is to go.
    Forget(Answer<()>),
    /// A number that this generation may hold has another owner; `mutual` if the owner has this user among its friends.
    NumberHas { owner: NewOwner, hash: NumberHash, generation: u64, mutual: bool, answer: Answer<()> },
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
            ToBook::Sync(ask, answer) => {
                give(answer, self.sync(ask).await);
                self.clean().await;
            }
            ToBook::Acknowledge(token, answer) => {
                give(answer, self.acknowledge(&token).await);
                self.clean().await;
            }
            ToBook::Settle(answer) => give(answer, self.settled().await.map(|_settled| ())),
            ToBook::Forget(answer) => {
                give(answer, self.forget().await);
                self.clean().await;
            }
            ToBook::NumberHas { owner, hash, generation, mutual, answer } => {
                let outcome = self.number_has(&owner, hash, generation, mutual).await;
                give(answer, outcome.map_err(Error::from));
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

impl Book {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    /// A number has another owner. A chunk on its way into the generation has noted the number before it asked whose it
    /// is: so either that owner was answered, or this is told of the number and puts the later owner beside it.
    async fn number_has(
        &self,
        owner: &NewOwner,
        hash: NumberHash,
        generation: u64,
        mutual: bool,
    ) -> Result<(), StoreError> {
        let book = self.store().book(self.user).await?;
        let of = Holder { user: self.user, generation };
        if state::is_over(&book, generation) {
            return self.store().drop_notes(of, [hash]).await;
        }
        let held = self.store().held(self.user, generation, hash).await?;
        if !held.is_noted || owner.epoch <= held.epoch {
            return Ok(());
        }
        let is_shown = generation == book.generation && held.is_in;
        let tell = is_shown && mutual;
        let was_told = is_shown && held.told && !held.user.is_empty();
        let is_another = owner.user.is_none_or(|user| held.user != user.as_bytes()[..]);
        self.store().put_owner(of, hash, &held, owner.epoch, owner.user, tell).await?;
        if tell || (was_told && is_another) {
            self.tell(owner, tell);
        }
        Ok(())
    }

    async fn mutual(&self, owner: &NewOwner, hash: NumberHash) -> Result<(), StoreError> {
        let book = self.store().book(self.user).await?;
        let held = self.store().held(self.user, book.generation, hash).await?;
        if held.told || owner.user.is_none() || held.friend() != owner.user {
            return Ok(());
        }
        self.store().put_told(self.user, book.generation, hash, held.epoch).await?;
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
        for _ in 0..CHANGE_TRIES {
            let seen = self.store().block_head(self.user).await?;
            if self.store().blocks(self.user, user).await? == on {
                return Ok(());
            }
            let BlockHead { version, count } = seen.row;
            if on && count >= BLOCKS {
                return Err(error::too_large("too many users are blocked", BLOCKS));
            }
            let count = if on { count + 1 } else { count.saturating_sub(1) };
            let head = BlockHead { version: version + 1, count };
            self.store().note_fact(self.user, user, head.version).await?;
            if self.store().put_block(&seen, &head, self.user, user, on).await? {
                return Ok(());
            }
        }
        Err(error::busy())
    }
}
