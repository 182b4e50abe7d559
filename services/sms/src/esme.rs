//! Our side of SMPP 3.4: one bind as transceiver, rebound when it is lost, a window of submits, delivers answered when
//! their content is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_chassis::{Chassis, ReadyHandle};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use rusmpp::pdus::{DeliverSm, DeliverSmResp, SubmitSm};
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::{Command, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use crate::limits::{
    BIND_WITHIN, ENQUIRE_EVERY, REBIND_FIRST, REBIND_MAX, SILENT_MOST, SUBMIT_QUEUE, SUBMIT_WITHIN, WINDOW,
};
use crate::{metrics, pdu};

/// Bytes both ways: TCP, or a pipe in a simulation.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Makes a connection to the operator.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, std::io::Result<Box<dyn Wire>>> + Send + Sync>;

/// What became of a submit that got no message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubmitError {
    /// The operator refused it.
    Refused(CommandStatus),
    /// It may have arrived: it must not be sent again by itself.
    Unknown,
    /// It never left.
    NotSent,
}

type Answer = oneshot::Sender<Result<String, SubmitError>>;

struct Job {
    submit: SubmitSm,
    answer: Answer,
}

/// A deliver that came, and where its answer goes.
pub(crate) struct Delivered {
    pub(crate) deliver: DeliverSm,
    pub(crate) answer: oneshot::Sender<CommandStatus>,
}

/// The bind. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Esme {
    jobs: mpsc::Sender<Job>,
    bound: watch::Receiver<bool>,
}

impl Esme {
    pub(crate) fn start(
        chassis: &Chassis,
        dial: Dial,
        system_id: &str,
        password: &str,
        delivered: mpsc::Sender<Delivered>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(SUBMIT_QUEUE);
        let (bound_sender, bound) = watch::channel(false);
        let driver = Driver {
            chassis: chassis.clone(),
            dial,
            bind: (system_id.to_owned(), password.to_owned()),
            queue,
            bound: bound_sender,
            ready: chassis.ready.register("sms operator"),
            delivered,
        };
        chassis.tasks.spawn("smpp bind", driver.run());
        Self { jobs, bound }
    }

    /// Waits until there is a bind.
    pub(crate) async fn bound(&self) {
        let mut bound = self.bound.clone();
        if bound.wait_for(|bound| *bound).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Submits one part; the operator's id for it.
    pub(crate) async fn submit(&self, submit: SubmitSm) -> Result<String, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        self.jobs.send(Job { submit, answer }).await.map_err(|_| SubmitError::NotSent)?;
        outcome.await.unwrap_or(Err(SubmitError::Unknown))
    }
}

struct Driver {
    chassis: Chassis,
    dial: Dial,
    bind: (String, String),
    queue: mpsc::Receiver<Job>,
    bound: watch::Sender<bool>,
    ready: ReadyHandle,
    delivered: mpsc::Sender<Delivered>,
}

type Frames = Framed<Box<dyn Wire>, CommandCodec>;

/// One bind.
struct Session {
    frames: Frames,
    sequence: u32,
    window: BTreeMap<u32, (Answer, Instant)>,
    answers: mpsc::Receiver<(u32, CommandStatus)>,
    answered: mpsc::Sender<(u32, CommandStatus)>,
    heard: Instant,
    enquired: Instant,
}

impl Driver {
    async fn run(mut self) {
        let stop = self.chassis.tasks.stop_token();
        let mut pause = REBIND_FIRST;
        loop {
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                outcome = self.once() => outcome,
            };
            self.bound.send_replace(false);
            match outcome {
                Ok(()) => pause = REBIND_FIRST,
                Err(why) => tracing::debug!(why, "the bind could not be made"),
            }
            self.ready.set_missing("not bound to the operator");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.chassis.clock.sleep(self.chassis.rng.jitter(pause)) => {}
            }
            pause = (pause * 2).min(REBIND_MAX);
        }
    }

    /// Binds and serves until the bind is lost; an error if it was never made.
    async fn once(&mut self) -> Result<(), &'static str> {
        let clock = self.chassis.clock.clone();
        let wire = clock.timeout(BIND_WITHIN, (self.dial)()).await.map_err(|_| "no connection in time")?;
        let wire = wire.map_err(|_| "no connection")?;
        let mut frames = Framed::new(wire, CommandCodec::new());
        let request = Command::new(CommandStatus::EsmeRok, 1, pdu::bind(&self.bind.0, &self.bind.1));
        frames.send(request).await.map_err(|_| "connection lost")?;
        let answer = clock.timeout(BIND_WITHIN, frames.next()).await.map_err(|_| "no answer to the bind")?;
        match answer {
            Some(Ok(answer))
                if answer.status() == CommandStatus::EsmeRok
                    && matches!(answer.pdu(), Some(Pdu::BindTransceiverResp(_))) => {}
            _ => return Err("the bind was refused"),
        }
        metrics::bind("bound");
        self.bound.send_replace(true);
        self.ready.set_ready();
        let (answered, answers) = mpsc::channel(WINDOW * 4);
        let now = clock.instant();
        let mut session = Session {
            frames,
            sequence: 1,
            window: BTreeMap::new(),
            answers,
            answered,
            heard: now,
            enquired: now,
        };
        let why = self.serve(&mut session).await;
        tracing::info!(why, "the bind is lost");
        metrics::bind("lost");
        for (_, (answer, _)) in session.window {
            let _no_longer_waiting = answer.send(Err(SubmitError::Unknown));
        }
        Ok(())
    }

    async fn serve(&mut self, session: &mut Session) -> &'static str {
        let clock = self.chassis.clock.clone();
        loop {
            let room = session.window.len() < WINDOW;
            tokio::select! {
                biased;
                frame = session.frames.next() => match frame {
                    Some(Ok(command)) => {
                        session.heard = clock.instant();
                        if let Some(why) = self.frame(session, command).await {
                            return why;
                        }
                    }
                    Some(Err(_)) => return "garbage",
                    None => return "closed",
                },
                answer = session.answers.recv() => if let Some((sequence, status)) = answer {
                    let response = Command::new(status, sequence, DeliverSmResp::default());
                    if session.frames.send(response).await.is_err() {
                        return "connection lost";
                    }
                },
                job = self.queue.recv(), if room => {
                    let Some(job) = job else { return "stopped" };
                    if let Some(why) = session.submit(job, clock.instant()).await {
                        return why;
                    }
                }
                () = clock.sleep(Duration::from_secs(1)) => if let Some(why) = session.look_after(clock.instant()).await {
                    return why;
                },
            }
        }
    }

    async fn frame(&mut self, session: &mut Session, command: Command) -> Option<&'static str> {
        let (sequence, status) = (command.sequence_number(), command.status());
        let answer = match command.pdu() {
            Some(Pdu::SubmitSmResp(response)) => {
                let outcome = match status {
                    CommandStatus::EsmeRok => Ok(response.message_id().as_str().to_owned()),
                    refused => Err(SubmitError::Refused(refused)),
                };
                session.answered_submit(sequence, outcome);
                return None;
            }
            Some(Pdu::GenericNack) => {
                session.answered_submit(sequence, Err(SubmitError::Refused(status)));
                return None;
            }
            Some(Pdu::DeliverSm(deliver)) => {
                self.take(session, sequence, deliver.clone());
                return None;
            }
            Some(Pdu::EnquireLink) => Command::new(CommandStatus::EsmeRok, sequence, Pdu::EnquireLinkResp),
            Some(Pdu::EnquireLinkResp) => return None,
            Some(Pdu::Unbind) => return Some("unbound by the operator"),
            Some(_) | None if status != CommandStatus::EsmeRok => {
                session.answered_submit(sequence, Err(SubmitError::Refused(status)));
                return None;
            }
            Some(_) | None => Command::new(CommandStatus::EsmeRinvcmdid, sequence, Pdu::GenericNack),
        };
        session.frames.send(answer).await.is_err().then_some("connection lost")
    }

    /// Hands a deliver on; its answer goes out when whoever takes it says so. Too much at once is refused for now.
    fn take(&self, session: &Session, sequence: u32, deliver: DeliverSm) {
        let (answer, outcome) = oneshot::channel();
        let answered = session.answered.clone();
        if self.delivered.try_send(Delivered { deliver, answer }).is_err() {
            metrics::mo("busy");
            let _queue_of_answers_full = answered.try_send((sequence, CommandStatus::EsmeRxTAppn));
            return;
        }
        self.chassis.tasks.spawn("smpp answer", async move {
            let status = outcome.await.unwrap_or(CommandStatus::EsmeRxTAppn);
            let _bind_lost = answered.send((sequence, status)).await;
        });
    }
}

impl Session {
    fn next_sequence(&mut self) -> u32 {
        // SMPP 3.4: 1 to 0x7fffffff.
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        self.sequence
    }

    async fn submit(&mut self, job: Job, now: Instant) -> Option<&'static str> {
        let sequence = self.next_sequence();
        let command = Command::new(CommandStatus::EsmeRok, sequence, job.submit);
        self.window.insert(sequence, (job.answer, now));
        self.frames.send(command).await.is_err().then_some("connection lost")
    }

    fn answered_submit(&mut self, sequence: u32, outcome: Result<String, SubmitError>) {
        if let Some((answer, _)) = self.window.remove(&sequence) {
            let _no_longer_waiting = answer.send(outcome);
        }
    }

    /// Signs of life, and submits that were never answered.
    async fn look_after(&mut self, now: Instant) -> Option<&'static str> {
        if now - self.heard >= SILENT_MOST {
            return Some("silent");
        }
        let late: Vec<u32> = self
            .window
            .iter()
            .filter(|(_, (_, since))| now - *since >= SUBMIT_WITHIN)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in late {
            self.answered_submit(sequence, Err(SubmitError::Unknown));
        }
        if now - self.heard.max(self.enquired) >= ENQUIRE_EVERY {
            self.enquired = now;
            let sequence = self.next_sequence();
            let enquire = Command::new(CommandStatus::EsmeRok, sequence, Pdu::EnquireLink);
            return self.frames.send(enquire).await.is_err().then_some("connection lost");
        }
        None
    }
}
