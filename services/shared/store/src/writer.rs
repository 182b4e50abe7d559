//! The one writer of a database: takes all that is waiting, commits it as one, answers all.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dialtone_chassis::Chassis;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::limits::{GROUP_BATCHES, GROUP_BYTES, PACE, STOP_IDLE};
use crate::memory::Delay;
use crate::metrics::Counters;
use crate::plan::{Maxima, commit_group};
use crate::{Batch, Commit, StoreError};

/// What is done with an outcome, on the writer's thread: it must be quick.
pub(crate) type Answer = Box<dyn FnOnce(Result<Commit, StoreError>) + Send>;

/// A commit on its way to the writer.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    pub(crate) answer: Answer,
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
    pub(crate) delay: Option<Delay>,
    pub(crate) chassis: Chassis,
}

/// Who waits for a commit, and what it is told.
type Told = (Answer, Result<Commit, StoreError>);

impl Writer {
    /// Until nobody can commit any more; when the process is to stop, until nobody has for a moment.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Request>) {
        let this = Arc::new(self);
        let mut maxima = Maxima::default();
        while let Some(first) = this.next(&mut queue).await {
            let writer = this.clone();
            if let Some(delay) = &this.delay {
                this.settle_slowly(delay, gather(first, &mut queue), &mut maxima).await;
                continue;
            }
            let working = this.chassis.blocking.run(move || {
                writer.work(first, &mut queue, &mut maxima);
                (queue, maxima)
            });
            (queue, maxima) = working.await;
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

    /// Commits group after group until nothing waits. Under load the thread is not given up in between, and groups
    /// begin no faster than [`PACE`]: each costs a sync, however small it is.
    fn work(&self, first: Request, queue: &mut mpsc::Receiver<Request>, maxima: &mut Maxima) {
        let mut next = Some(first);
        while let Some(first) = next {
            let began = self.chassis.clock.instant();
            tell(self.settle(gather(first, queue), maxima));
            next = queue.try_recv().ok();
            if next.is_some() {
                let took = self.chassis.clock.instant().duration_since(began);
                self.chassis.blocking.rest(PACE.saturating_sub(took));
            }
        }
    }

    /// As a disk of memory does it, which takes its time before and after the moment at which the commit is applied.
    async fn settle_slowly(&self, delay: &Delay, group: Vec<Request>, maxima: &mut Maxima) {
        if group.iter().all(|request| request.batch.is_empty()) {
            return tell(self.settle(group, maxima));
        }
        let total = delay.draw(&self.chassis.rng);
        let before = self.chassis.rng.jitter(total);
        self.wait(before).await;
        let told = self.settle(group, maxima);
        self.wait(total.saturating_sub(before)).await;
        tell(told);
    }

    fn settle(&self, group: Vec<Request>, maxima: &mut Maxima) -> Vec<Told> {
        let (batches, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|request| (request.batch, request.answer)).unzip();
        let began = self.chassis.clock.instant();
        let count = batches.len();
        let outcomes = match self.poison.check() {
            Ok(()) => commit_group(&*self.engine, &self.tables, maxima, batches).map_err(|error| {
                tracing::error!(service = self.service, %error, "a write failed: the store takes nothing more");
                self.poison.set(error)
            }),
            Err(poisoned) => Err(poisoned),
        };
        self.counters.group(self.service, count, self.chassis.clock.instant().duration_since(began));
        let outcomes = outcomes.unwrap_or_else(|error| vec![Err(error); count]);
        answers.into_iter().zip(outcomes).collect()
    }

    async fn wait(&self, delay: Duration) {
        if !delay.is_zero() {
            self.chassis.clock.sleep(delay).await;
        }
    }
}

fn tell(told: Vec<Told>) {
    for (answer, outcome) in told {
        answer(outcome);
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
