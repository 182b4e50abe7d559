//! How what [`crate::Log::next_write`] made gets to the store, and when it is settled.

#![expect(clippy::disallowed_types, reason = "which logs have a write under way: nobody waits in it")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dialtone_chassis::Backoff;
use dialtone_store::{Batch, StoreError};
use dialtone_vocab::{Epoch, LogId};
use futures::future::try_join_all;
use tokio::sync::Notify;

use crate::defect::Defect;
use crate::limits::{WRITE_RETRY, WRITE_RETRY_MOST};
use crate::owner::Owner;
use crate::{LogError, LogStore, Write, metrics};

/// Logs of a shared store with a write under way. It goes on when the log's owner has failed; whoever opens the log again
/// under the same epoch waits for it: else two contents could meet at one index of one epoch.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<InFlight>);

#[derive(Default)]
struct InFlight {
    logs: Mutex<BTreeMap<LogId, u32>>,
    landed: Notify,
}

/// Says that the write has ended.
struct Flight {
    flights: Flights,
    log: LogId,
}

impl Flights {
    fn logs(&self) -> MutexGuard<'_, BTreeMap<LogId, u32>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, log: LogId) -> Flight {
        *self.logs().entry(log).or_default() += 1;
        Flight { flights: self.clone(), log }
    }

    /// Waits until nothing of a log is under way.
    pub(crate) async fn landed(&self, log: LogId) {
        loop {
            let mut landed = pin!(self.0.landed.notified());
            // From now on nothing that lands is missed.
            landed.as_mut().enable();
            if !self.logs().contains_key(&log) {
                return;
            }
            landed.await;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Entry::Occupied(mut under_way) = self.flights.logs().entry(self.log) {
            *under_way.get_mut() -= 1;
            if *under_way.get() == 0 {
                under_way.remove();
            }
        }
        self.flights.0.landed.notify_waiters();
    }
}

impl LogStore {
    /// Writes what [`crate::Log::next_write`] made; afterwards, checks that this process still is the owner. After `Ok`
    /// hand the write to [`crate::Log::settled`].
    ///
    /// To a shared store it is written until the answer is known or the log is not ours any more.
    ///
    /// # Errors
    /// [`LogError::Store`]: nobody knows what became of it. Only the very same write may be tried again; when the
    /// store has failed for good, the owner stops, and the next process finds out. [`LogError::NotOwner`]: it is not
    /// settled, and never will be for this owner.
    pub async fn write(&self, write: &Write) -> Result<(), LogError> {
        let now = self.chassis.clock.now();
        match &self.owner {
            Owner::Lock(..) => {
                let _always_applied = self.db.commit(write.to_batch(now)).await?;
                self.owner.check(&self.db, &write.owner(), write.epoch()).await
            }
            Owner::Lease(_) => {
                let _flight = self.flights.begin(write.log());
                let steps = || {
                    let entries = vec![write.entries_batch(now)];
                    match self.sabotage.0 {
                        Some(Defect::DueAfter) => vec![write.marks(), entries, write.due()],
                        Some(Defect::DueMissing) => vec![write.marks(), entries],
                        _ => vec![write.before(), entries],
                    }
                };
                self.until_written(&write.owner(), write.epoch(), steps).await?;
                // Rows too many are harmless: whoever finds one looks, and removes it.
                for batch in write.after() {
                    if let Err(error) = self.db.commit(batch).await {
                        tracing::debug!(%error, "a due row stays");
                    }
                }
                Ok(())
            }
        }
    }

    /// As [`LogStore::write`], for actors, which do not wait: `done` is called on another thread and must be quick.
    pub fn submit(&self, write: Write, done: impl FnOnce(Write, Result<(), LogError>) + Send + 'static) {
        match &self.owner {
            Owner::Lock(..) => {
                let (db, batch) = (self.db.clone(), write.to_batch(self.chassis.clock.now()));
                self.db.submit(batch, move |outcome| {
                    let outcome = outcome.and_then(|_always_applied| db.check());
                    done(write, outcome.map_err(LogError::from));
                });
            }
            Owner::Lease(_) => {
                // From here on: its task may begin later.
                let (logs, flight) = (self.clone(), self.flights.begin(write.log()));
                self.chassis.tasks.spawn("log write", async move {
                    let outcome = logs.write(&write).await;
                    drop(flight);
                    done(write, outcome);
                });
            }
        }
    }

    /// Writes batches, step after step, all of a step at once, and the same again until every answer is known; then
    /// checks that this process still is the owner.
    pub(crate) async fn until_written(
        &self,
        owner: &[u8; 16],
        epoch: Epoch,
        steps: impl Fn() -> Vec<Vec<Batch>>,
    ) -> Result<(), LogError> {
        let mut backoff = Backoff::new(WRITE_RETRY, WRITE_RETRY_MOST);
        let mut repeats = 0_u32;
        loop {
            match self.written(steps()).await {
                Ok(()) if self.sabotage.has(Defect::NoCheck) => return Ok(()),
                Ok(()) => return self.owner.check(&self.db, owner, epoch).await,
                Err(error) if self.sabotage.has(Defect::GivesUp) => return Err(error.into()),
                Err(StoreError::Unknown { why }) => {
                    metrics::repeated(self.kind);
                    repeats = repeats.saturating_add(1);
                    if repeats.is_power_of_two() {
                        tracing::warn!(why, repeats, "a write whose outcome is unknown is repeated");
                    }
                }
                Err(error) => return Err(error.into()),
            }
            self.chassis.clock.sleep(backoff.pause(&self.chassis.rng)).await;
            if self.owner.epoch_of(&self.db, owner) != Some(epoch) {
                return Err(LogError::NotOwner);
            }
        }
    }

    /// An entry's place has one content in one epoch, marks and tails only grow, and a due row too many is looked into: a
    /// copy of any of them may come late.
    async fn written(&self, steps: Vec<Vec<Batch>>) -> Result<(), StoreError> {
        for step in steps {
            try_join_all(step.into_iter().map(|batch| self.db.commit(batch.hedged()))).await?;
        }
        Ok(())
    }
}
