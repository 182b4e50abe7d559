//! What presence does, in its own words.

use std::sync::Arc;
use std::time::Duration;

use dialtone_chassis::{Chassis, Error};
use dialtone_shards::Hive;
use dialtone_vocab::{Reason, UserId};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::bus::Out;
use crate::limits::{GRAPH_AT_ONCE, MAY_SEE_WITHIN, STATUS_CHARS, USER_WITHIN};
use crate::peers::Graph;
use crate::state::View;
use crate::store::Store;
use crate::user::{Answer, ToUser, User};
use crate::{error, metrics};

/// What all users' actors share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) chassis: Chassis,
    pub(crate) store: Store,
    /// Peers in a table.
    pub(crate) table: usize,
    pub(crate) asks: mpsc::Sender<Question>,
    /// Since when this process hears of sessions, by the boot clock.
    pub(crate) began: Duration,
    pub(crate) out: Out,
}

/// What may `viewer` see of these?
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) viewer: UserId,
    pub(crate) peers: Vec<UserId>,
}

/// Puts questions to contacts, so many at a time, and tells the users' actors what it said.
pub(crate) async fn judge(
    chassis: Chassis,
    graph: Graph,
    users: Hive<User>,
    mut questions: mpsc::Receiver<Question>,
) {
    let (stop, free) = (chassis.tasks.stop_token(), Arc::new(Semaphore::new(GRAPH_AT_ONCE)));
    loop {
        let question = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            question = questions.recv() => match question {
                Some(question) => question,
                None => return,
            },
        };
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let (graph, users, clock) = (graph.clone(), users.clone(), chassis.clock.clone());
        chassis.tasks.spawn("presence question", async move {
            let _held_until_answered = permit;
            let Question { viewer, peers } = question;
            let said = clock.timeout(MAY_SEE_WITHIN, graph.judge(viewer, &peers)).await;
            let judged = match said {
                Ok(Ok(said)) => {
                    metrics::judged("answered");
                    peers.into_iter().zip(said.into_iter().map(Some)).collect()
                }
                Ok(Err(_)) | Err(_) => {
                    metrics::judged("unanswered");
                    peers.into_iter().map(|peer| (peer, None)).collect()
                }
            };
            if users.send(viewer, ToUser::Judged(judged)).is_err() {
                metrics::judged("later");
            }
        });
    }
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    chassis: Chassis,
    users: Hive<User>,
}

impl Handle {
    pub(crate) fn new(chassis: &Chassis, users: Hive<User>) -> Self {
        Self { chassis: chassis.clone(), users }
    }

    async fn ask<T>(&self, user: UserId, message: impl FnOnce(Answer<T>) -> ToUser) -> Result<T, Error> {
        let (answer, outcome) = oneshot::channel();
        self.users.send(user, message(answer)).map_err(|_busy| error::busy())?;
        match self.chassis.clock.timeout(USER_WITHIN, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(error::busy()),
            Err(_elapsed) => Err(Error::new(Reason::Timeout, "no answer; the outcome is unknown")),
        }
    }

    /// Sets text and visibility; kept when this returns.
    pub(crate) async fn set_status(&self, user: UserId, text: String, invisible: bool) -> Result<(), Error> {
        if text.chars().count() > STATUS_CHARS {
            return Err(error::field("text", "at most 140 characters").with("limit", STATUS_CHARS));
        }
        self.ask(user, |answer| ToUser::SetStatus { text, invisible, answer }).await
    }

    /// One's own state as others see it.
    pub(crate) async fn get(&self, user: UserId) -> Result<View, Error> {
        self.ask(user, ToUser::Get).await
    }
}
