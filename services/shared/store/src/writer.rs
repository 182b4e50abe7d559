//! The one writer of a database: takes all that is waiting, commits it as one, answers all.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dialtone_chassis::Chassis;
use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::limits::{GROUP_BATCHES, GROUP_BYTES, STOP_IDLE};
use crate::metrics::Counters;
use crate::plan::{Maxima, Outcomes, commit_group};
use crate::{Batch, Commit, StoreError};

/// A commit on its way to the writer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    pub(crate) answer: oneshot::Sender<Result<Commit, StoreError>>,
}

/// Set by the first failed write and never cleared: what is on disk is unknown from then on.
#[derive(Default)]
pub(crate) struct Poison(OnceLock<StoreError>);

impl Poison {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn set(&self, error: StoreError) -> StoreError {
        let error = match error {
            poisoned @ StoreError::Poisoned { .. } => poisoned,
            other => StoreError::Poisoned { why: other.to_string().into() },
        };
        self.0.get_or_init(|| error).clone()
    }
}

pub(crate) struct Writer {
    pub(crate) service: &'static str,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) tables: Arc<[&'static str]>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) delay: Option<RangeInclusive<Duration>>,
    pub(crate) chassis: Chassis,
}

impl Writer {
    /// Until nobody can commit any more; when the process is to stop, until nobody has for a moment.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Request>) {
        let mut maxima = Maxima::default();
        while let Some(first) = self.next(&mut queue).await {
            let group = gather(first, &mut queue);
            self.settle(group, &mut maxima).await;
        }
    }

    async fn next(&self, queue: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let stop = self.chassis.tasks.stop_token();
        tokio::select! {
            biased;
            request = queue.recv() => return request,
            () = stop.cancelled() => {}
        }
        self.chassis.clock.timeout(STOP_IDLE, queue.recv()).await.ok().flatten()
    }

    async fn settle(&self, group: Vec<Request>, maxima: &mut Maxima) {
        let (batches, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|request| (request.batch, request.answer)).unzip();
        let began = self.chassis.clock.instant();
        let count = batches.len();
        let outcomes = match self.poison.check() {
            Ok(()) => self.commit(batches, maxima).await.map_err(|error| {
                tracing::error!(service = self.service, %error, "a write failed: the store takes nothing more");
                self.poison.set(error)
            }),
            Err(poisoned) => Err(poisoned),
        };
        self.counters.group(self.service, count, self.chassis.clock.instant().duration_since(began));
        let outcomes = outcomes.unwrap_or_else(|error| vec![Err(error); count]);
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A caller that went away has no use for the outcome.
            drop(answer.send(outcome));
        }
    }

    async fn commit(&self, batches: Vec<Batch>, maxima: &mut Maxima) -> Result<Outcomes, StoreError> {
        let (before, after) = self.delays();
        self.wait(before).await;
        let (engine, tables) = (self.engine.clone(), self.tables.clone());
        let mut known = std::mem::take(maxima);
        let committing = self.chassis.blocking.run(move || {
            let outcomes = commit_group(&*engine, &tables, &mut known, batches);
            (outcomes, known)
        });
        let (outcomes, known) = committing.await;
        // After a failure nothing is written any more, so what they stand at does not matter.
        *maxima = known;
        let outcomes = outcomes?;
        self.wait(after).await;
        Ok(outcomes)
    }

    /// How long a disk of memory takes before and after the moment at which the commit is applied.
    fn delays(&self) -> (Duration, Duration) {
        let Some(range) = &self.delay else { return (Duration::ZERO, Duration::ZERO) };
        let total = *range.start() + self.chassis.rng.jitter(range.end().saturating_sub(*range.start()));
        let before = self.chassis.rng.jitter(total);
        (before, total.saturating_sub(before))
    }

    async fn wait(&self, delay: Duration) {
        if !delay.is_zero() {
            self.chassis.clock.sleep(delay).await;
        }
    }
}

/// Everything that is waiting, up to the limits of a group.
fn gather(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.batch.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
        let Ok(request) = queue.try_recv() else { break };
        bytes += request.batch.bytes();
        group.push(request);
    }
    group
}
