//! What a decision leaves to be done.
//!
//! ```text
//!   read the head ─► owed? ─► write what is owed, sweep ─► replace the head: nothing owed
//!                     └ no ─► decide: replace the head, with what is owed now ─► write it, sweep, replace the head
//! ```
//!
//! Acknowledging, giving up a chunk and forgetting are one replacement of the head each; all rows elsewhere follow from
//! it. Who dies in between leaves a head that says what is owed: the next one pays it before it decides anything. Two
//! that pay the same write the same rows, and one that comes late changes nothing (see [`crate::store`]).

use std::collections::BTreeSet;

use dialtone_chassis::Error;
use dialtone_store::StoreError;
use dialtone_vocab::UserId;

use super::Book;
use crate::limits::CHANGE_TRIES;
use crate::rows::{BookRow, OwedRow};
use crate::store::{Chunk, Seen};
use crate::{error, metrics, state};

/// A head of which nothing is owed.
pub(super) struct Settled {
    pub(super) head: Seen<BookRow>,
    /// The chunk that was paid for it, and whom it made a friend.
    paid: Option<(Vec<u8>, Vec<UserId>)>,
}

impl Book {
    /// The head of the book, and nothing is owed.
    pub(super) async fn settled(&self) -> Result<Settled, Error> {
        let mut paid = None;
        for _ in 0..CHANGE_TRIES {
            let head = self.store().book_to_change(self.user).await?;
            let Some(owed) = &head.row.owed else { return Ok(Settled { head, paid }) };
            paid = self.pay(&head.row, owed).await?.or(paid);
            let row = state::paid(&head.row);
            if let Some(head) = self.store().replace_book(self.user, &head, row).await? {
                return Ok(Settled { head, paid });
            }
        }
        Err(error::busy())
    }

    /// Writes what is owed, then sweeps away the chunks of which nothing is owed any more.
    pub(super) async fn pay(
        &self,
        book: &BookRow,
        owed: &OwedRow,
    ) -> Result<Option<(Vec<u8>, Vec<UserId>)>, StoreError> {
        let mut paid = None;
        if let Some(at) = &owed.chunk {
            let chunk = self.store().pending(self.user, at).await?;
            if owed.generation != 0 {
                let (added, removed) = (&chunk.added, &chunk.removed);
                self.store().put_chunk(self.user, owed.generation, owed.number, added, removed).await?;
                paid = Some((at.token.clone(), self.new_friends(&chunk)));
            }
            self.store().put_asked(self.user, book.forgotten, chunk.fresh()).await?;
        } else {
            self.store().forget_asked(self.user, book.forgotten.saturating_sub(1)).await?;
        }
        for over in state::to_sweep(book) {
            self.store().drop_all_pending(self.user, over).await?;
        }
        Ok(paid)
    }

    fn new_friends(&self, chunk: &Chunk) -> Vec<UserId> {
        let new = chunk.added.iter().filter(|(_, entry)| entry.is_new);
        let friends: BTreeSet<_> =
            new.filter_map(|(_, entry)| UserId::from_slice(&entry.user).ok()).collect();
        friends.into_iter().filter(|friend| *friend != self.user).collect()
    }

    /// Puts a chunk into the book. The same again after a lost answer finds it there.
    pub(super) async fn acknowledge(&self, token: &[u8]) -> Result<Vec<UserId>, Error> {
        for _ in 0..CHANGE_TRIES {
            let Settled { head, paid } = self.settled().await?;
            let paid = paid.filter(|(of, _)| of == token).map(|(_, friends)| friends);
            let Some(pending) = head.row.pending.as_ref().filter(|pending| pending.chunk.token == token)
            else {
                let repeated = !token.is_empty() && head.row.base == token;
                return if repeated { Ok(paid.unwrap_or_default()) } else { Err(error::base_unknown()) };
            };
            let row = state::acknowledged(&head.row, pending, self.shared.chassis.clock.now());
            if self.store().replace_book(self.user, &head, row).await?.is_some() {
                metrics::sync("acknowledged");
            }
        }
        Err(error::busy())
    }

    pub(super) async fn forget(&self) -> Result<(), Error> {
        for _ in 0..CHANGE_TRIES {
            let head = self.settled().await?.head;
            let row = state::forgotten(&head.row, self.shared.chassis.clock.now());
            if self.store().replace_book(self.user, &head, row).await?.is_some() {
                return self.settled().await.map(|_settled| ());
            }
        }
        Err(error::busy())
    }

    /// Does what may be done after the answer; what fails or a crash leaves is done with the next change.
    pub(super) async fn clean(&self) {
        if let Err(error) = self.drop_generations().await {
            let reason = error.reason.as_str();
            tracing::warn!(reason, "an old book is still to be removed");
        }
    }

    /// Removes the rows of generations that count no more, then says in the head that they are gone.
    async fn drop_generations(&self) -> Result<(), Error> {
        for _ in 0..CHANGE_TRIES {
            let head = self.settled().await?.head;
            if head.row.dropping.is_empty() {
                return Ok(());
            }
            for generation in &head.row.dropping {
                self.store().drop_generation(self.user, *generation).await?;
            }
            let row = BookRow { dropping: Vec::new(), ..head.row.clone() };
            if self.store().replace_book(self.user, &head, row).await?.is_some() {
                return Ok(());
            }
        }
        Err(error::busy())
    }
}
