//! Our side of SMPP 3.4: one bind as transceiver, rebound when it is lost, a window of submits, delivers answered when
//! their content is durable.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use dialtone_chassis::{Chassis, Clock, ReadyHandle};
use futures::StreamExt;
use futures::future::BoxFuture;
use rusmpp::pdus::{DeliverSm, DeliverSmResp, SubmitSm};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use crate::codec::{Codec, Frame, say};
use crate::limits::{
    BIND_WITHIN, DRAIN_WITHIN, ENQUIRE_EVERY, LOOK_EVERY, REBIND_FIRST, REBIND_MAX, SILENT_MOST,
    SUBMIT_QUEUE, SUBMIT_WITHIN, WINDOW,
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

type Frames = Framed<Box<dyn Wire>, Codec>;

/// One bind.
struct Session {
    clock: Clock,
    frames: Frames,
    sequence: u32,
    window: BTreeMap<u32, (Answer, Instant)>,
    answers: mpsc::Receiver<(u32, CommandStatus)>,
    answered: mpsc::Sender<(u32, CommandStatus)>,
    /// Delivers without an answer.
    unanswered: usize,
    heard: Instant,
    enquired: Instant,
}

impl Driver {
    async fn run(mut self) {
        let stop = self.chassis.tasks.stop_token();
        let (mut pause, mut said) = (REBIND_FIRST, String::new());
        loop {
            let bound = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                bound = self.bind() => bound,
            };
            match bound {
                Ok(frames) => {
                    said.clear();
                    let began = self.chassis.clock.instant();
                    self.serve(frames).await;
                    if self.chassis.clock.instant() - began >= REBIND_MAX {
                        pause = REBIND_FIRST;
                    }
                    self.ready.set_missing("not bound to the operator");
                }
                Err(why) => {
                    self.ready.set_missing(format!("not bound to the operator: {why}"));
                    // Once, not at every try.
                    if why != said {
                        tracing::warn!(why, "not bound to the operator");
                        said = why;
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.chassis.clock.sleep(self.chassis.rng.jitter(pause)) => {}
            }
            pause = (pause * 2).min(REBIND_MAX);
        }
        // What waits here has not left, and says so.
        self.queue.close();
        while let Some(job) = self.queue.recv().await {
            let _no_longer_waiting = job.answer.send(Err(SubmitError::NotSent));
        }
    }

    /// A bind; or why there is none.
    async fn bind(&mut self) -> Result<Frames, String> {
        let clock = self.chassis.clock.clone();
        let wire = clock.timeout(BIND_WITHIN, (self.dial)()).await.map_err(|_| "no connection in time")?;
        let wire = wire.map_err(|error| format!("no connection ({})", error.kind()))?;
        let mut frames = Framed::new(wire, Codec::default());
        let request = Command::new(CommandStatus::EsmeRok, 1, pdu::bind(&self.bind.0, &self.bind.1));
        say(&clock, &mut frames, request).await?;
        let answer = clock.timeout(BIND_WITHIN, frames.next()).await.map_err(|_| "no answer to the bind")?;
        match answer {
            Some(Ok(Frame::Command(answer))) => match (answer.id(), answer.status()) {
                (CommandId::BindTransceiverResp, CommandStatus::EsmeRok) => Ok(frames),
                (_, CommandStatus::EsmeRok) => Err("something else than an answer to the bind".to_owned()),
                (_, status) => Err(refusal(status)),
            },
            Some(_) => Err("garbage instead of an answer to the bind".to_owned()),
            None => Err("closed without an answer to the bind".to_owned()),
        }
    }

    /// Serves a bind until it is lost.
    async fn serve(&mut self, frames: Frames) {
        metrics::bind("bound");
        self.bound.send_replace(true);
        self.ready.set_ready();
        let (answered, answers) = mpsc::channel(WINDOW * 4);
        let clock = self.chassis.clock.clone();
        let now = clock.instant();
        let mut session = Session {
            clock,
            frames,
            sequence: 1,
            window: BTreeMap::new(),
            answers,
            answered,
            unanswered: 0,
            heard: now,
            enquired: now,
        };
        let Err(why) = self.take_turns(&mut session).await;
        self.bound.send_replace(false);
        tracing::info!(why, "the bind is lost");
        metrics::bind("lost");
        for (_, (answer, _)) in session.window {
            let _no_longer_waiting = answer.send(Err(SubmitError::Unknown));
        }
    }

    /// Until something ends it. A stop leaves a little time for texts that have begun to leave and for replies that
    /// are being written.
    async fn take_turns(&mut self, session: &mut Session) -> Result<Infallible, &'static str> {
        let (clock, stop) = (session.clock.clone(), self.chassis.tasks.stop_token());
        let (mut look_at, mut leave_at) = (clock.instant() + LOOK_EVERY, None);
        let mut submits = true;
        loop {
            if !submits && session.unanswered == 0 {
                return session.leave().await;
            }
            let room = session.window.len() < WINDOW;
            tokio::select! {
                biased;
                () = stop.cancelled(), if leave_at.is_none() => leave_at = Some(clock.instant() + DRAIN_WITHIN),
                () = clock.sleep_until(leave_at.unwrap_or(look_at)), if leave_at.is_some() => {
                    return session.leave().await;
                }
                () = clock.sleep_until(look_at) => {
                    look_at = clock.instant() + LOOK_EVERY;
                    session.look_after().await?;
                }
                frame = session.frames.next() => match frame {
                    Some(Ok(frame)) => {
                        session.heard = clock.instant();
                        self.frame(session, frame).await?;
                    }
                    Some(Err(_)) => return Err("garbage"),
                    None => return Err("closed"),
                },
                answer = session.answers.recv() => if let Some((sequence, status)) = answer {
                    session.unanswered -= 1;
                    session.answer(status, sequence, DeliverSmResp::default()).await?;
                },
                job = self.queue.recv(), if room && submits => match job {
                    Some(job) => session.submit(job).await?,
                    // Everybody who may submit has ended.
                    None => submits = false,
                },
            }
        }
    }

    async fn frame(&mut self, session: &mut Session, frame: Frame) -> Result<(), &'static str> {
        let command = match frame {
            Frame::Command(command) => *command,
            Frame::Garbled { id, sequence } => return session.garbled(id, sequence).await,
        };
        let (sequence, status) = (command.sequence_number(), command.status());
        match (command.id(), command.pdu()) {
            // Refusals, and some acceptances, come without a body.
            (CommandId::SubmitSmResp, body) => {
                let id = match body {
                    Some(Pdu::SubmitSmResp(answer)) => answer.message_id().as_str().to_owned(),
                    _ => String::new(),
                };
                session.answered_submit(sequence, status, id);
            }
            (CommandId::GenericNack, _) => session.answered_submit(sequence, status, String::new()),
            (_, Some(Pdu::DeliverSm(deliver))) => self.take(session, sequence, deliver.clone()).await?,
            (_, Some(Pdu::EnquireLink)) => {
                session.answer(CommandStatus::EsmeRok, sequence, Pdu::EnquireLinkResp).await?;
            }
            (_, Some(Pdu::Unbind)) => {
                session.answer(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp).await?;
                return Err("unbound by the operator");
            }
            (id, _) if is_answer(id) => {}
            _ => session.answer(CommandStatus::EsmeRinvcmdid, sequence, Pdu::GenericNack).await?,
        }
        Ok(())
    }

    /// Hands a deliver on; its answer goes out when whoever takes it says so. Too much at once is refused for now.
    async fn take(
        &self,
        session: &mut Session,
        sequence: u32,
        deliver: DeliverSm,
    ) -> Result<(), &'static str> {
        let (answer, outcome) = oneshot::channel();
        if self.delivered.try_send(Delivered { deliver, answer }).is_err() {
            metrics::mo("busy");
            return session.answer(CommandStatus::EsmeRxTAppn, sequence, DeliverSmResp::default()).await;
        }
        session.unanswered += 1;
        let answered = session.answered.clone();
        self.chassis.tasks.spawn("smpp answer", async move {
            let status = outcome.await.unwrap_or(CommandStatus::EsmeRxTAppn);
            let _bind_lost = answered.send((sequence, status)).await;
        });
        Ok(())
    }
}

/// What an operator that refuses a bind says, for those who look at `/readyz`.
fn refusal(status: CommandStatus) -> String {
    let hint = match status {
        CommandStatus::EsmeRinvpaswd | CommandStatus::EsmeRinvsysid | CommandStatus::EsmeRbindfail => {
            ": sms.system_id or sms.password is wrong"
        }
        CommandStatus::EsmeRalybnd => ": another bind has this system_id",
        _ => "",
    };
    format!("the bind was refused with {}{hint}", pdu::status_name(status))
}

/// Answers are never answered.
fn is_answer(id: CommandId) -> bool {
    u32::from(id) & 0x8000_0000 != 0
}

impl Session {
    fn next_sequence(&mut self) -> u32 {
        // SMPP 3.4: 1 to 0x7fffffff.
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        self.sequence
    }

    async fn leave(&mut self) -> Result<Infallible, &'static str> {
        self.say(CommandStatus::EsmeRok, Pdu::Unbind).await?;
        Err("stopping")
    }

    async fn say(&mut self, status: CommandStatus, pdu: impl Into<Pdu>) -> Result<(), &'static str> {
        let sequence = self.next_sequence();
        self.answer(status, sequence, pdu).await
    }

    async fn answer(
        &mut self,
        status: CommandStatus,
        sequence: u32,
        pdu: impl Into<Pdu>,
    ) -> Result<(), &'static str> {
        say(&self.clock, &mut self.frames, Command::new(status, sequence, pdu)).await
    }

    async fn submit(&mut self, job: Job) -> Result<(), &'static str> {
        let sequence = self.next_sequence();
        self.window.insert(sequence, (job.answer, self.clock.instant()));
        self.answer(CommandStatus::EsmeRok, sequence, job.submit).await
    }

    fn answered_submit(&mut self, sequence: u32, status: CommandStatus, id: String) {
        if let Some((answer, _)) = self.window.remove(&sequence) {
            let outcome = match status {
                CommandStatus::EsmeRok => Ok(id),
                refused => Err(SubmitError::Refused(refused)),
            };
            let _no_longer_waiting = answer.send(outcome);
        }
    }

    /// What can't be read is not worth trying again: a deliver is refused for good, or it would come for ever. An
    /// answer that can't be read is none.
    async fn garbled(&mut self, id: CommandId, sequence: u32) -> Result<(), &'static str> {
        match id {
            CommandId::DeliverSm => {
                metrics::mo("garbled");
                self.answer(CommandStatus::EsmeRxPAppn, sequence, DeliverSmResp::default()).await
            }
            id if is_answer(id) => Ok(()),
            _ => self.answer(CommandStatus::EsmeRinvcmdlen, sequence, Pdu::GenericNack).await,
        }
    }

    /// Signs of life, and submits that were never answered.
    async fn look_after(&mut self) -> Result<(), &'static str> {
        let now = self.clock.instant();
        if now - self.heard >= SILENT_MOST {
            return Err("silent");
        }
        let late = |(_, since): &(Answer, Instant)| now - *since >= SUBMIT_WITHIN;
        for (_, (answer, _)) in self.window.extract_if(.., |_, waiting| late(waiting)) {
            let _no_longer_waiting = answer.send(Err(SubmitError::Unknown));
        }
        if now - self.heard.max(self.enquired) >= ENQUIRE_EVERY {
            self.enquired = now;
            self.say(CommandStatus::EsmeRok, Pdu::EnquireLink).await?;
        }
        Ok(())
    }
}
