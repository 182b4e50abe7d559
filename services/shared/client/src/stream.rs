//! The task behind a session: one stream after another.

use std::collections::VecDeque;
use std::time::Duration;

use dialtone_chassis::{Backoff, Chassis, Error};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::{self as edge, ClientFrame, ServerFrame};
use dialtone_proto::types::v1::Cursor;
use dialtone_vocab::{Reason, UnixMillis};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::inbox::{Inbox, Taken};
use crate::outbox::{Outbox, Verdict};
use crate::session::Command;
use crate::{Api, ClientError, Credentials, Event, Journal, Options, Saved};

/// Frames handed to the transport and not sent yet.
const UP_QUEUE: usize = 64;
/// The first pause before a reconnect.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest pause before a reconnect.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Sends that may be unanswered; what the server allows.
const WINDOW: usize = 256;
/// How long to look away at most when nothing comes.
const IDLE: Duration = Duration::from_secs(5);
/// How long closing a stream in order may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// How long fetching another token may hold up an open stream.
const RENEW_WITHIN: Duration = Duration::from_secs(2);
/// How long the server may take to welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// Why a stream is no more.
enum Over {
    /// The application closed the session, and may wait until that is done.
    Closed(Option<oneshot::Sender<()>>),
    /// The server ended the session for good.
    Ended(edge::GoAway),
    /// Connect again; after the pause the server asked for, if it did.
    Lost(String, Option<Duration>),
    /// The access token runs out and there is a new one: go on at once on a new stream. The application hears nothing.
    Renewed,
}

pub(crate) struct Driver {
    chassis: Chassis,
    api: Api,
    credentials: Credentials,
    journal: Box<dyn Journal>,
    options: Options,
    events: mpsc::Sender<Event>,
    saved: Saved,
    outbox: Outbox,
    inbox: Inbox,
    watch: Option<edge::Watch>,
    /// Server time minus own time, at most; never behind the truth.
    offset_ms: i64,
    hello_at: UnixMillis,
    up: VecDeque<ClientFrame>,
    welcomed: bool,
    /// The application knows of an open stream: this one, or the one that this one takes over from.
    is_open: bool,
    /// Not before then another token is fetched while the stream is open.
    renew_at: UnixMillis,
}

impl Driver {
    pub(crate) fn new(
        chassis: &Chassis,
        api: Api,
        credentials: Credentials,
        mut journal: Box<dyn Journal>,
        options: Options,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, ClientError> {
        let saved = journal.load()?;
        Ok(Self {
            chassis: chassis.clone(),
            api,
            credentials,
            journal,
            options,
            events,
            outbox: Outbox::new(saved.next_seq.max(1), saved.pending.clone(), WINDOW),
            inbox: Inbox::new(saved.inbox_idx),
            saved,
            watch: None,
            offset_ms: 0,
            hello_at: UnixMillis(0),
            up: VecDeque::new(),
            welcomed: false,
            is_open: false,
            renew_at: UnixMillis(0),
        })
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            let over = match self.connect(&mut commands).await {
                Ok((up, down)) => self.serve(&mut commands, up, down).await,
                Err(over) => over,
            };
            if self.welcomed {
                backoff.reset();
            }
            let (why, wait) = match over {
                Over::Closed(done) => {
                    if let Some(done) = done {
                        let _nobody_waits = done.send(());
                    }
                    return;
                }
                Over::Ended(go_away) => {
                    self.tell(Event::Ended(go_away)).await;
                    return;
                }
                Over::Renewed => continue,
                Over::Lost(why, wait) => (why, wait),
            };
            self.is_open = false;
            self.tell(Event::Disconnected(why)).await;
            let rest = wait.unwrap_or_default() + backoff.pause(&self.chassis.rng);
            if let Err(over) = self.rest(&mut commands, rest).await {
                if let Over::Closed(Some(done)) = over {
                    let _nobody_waits = done.send(());
                }
                return;
            }
        }
    }

    async fn tell(&mut self, event: Event) {
        // An application that dropped its receiver is not interested; the session goes on for its other effects.
        let _not_interested = self.events.send(event).await;
    }

    fn server_now(&self) -> UnixMillis {
        UnixMillis(self.chassis.clock.now().0.saturating_add_signed(self.offset_ms))
    }

    /// Waits, taking commands meanwhile.
    async fn rest(&mut self, commands: &mut mpsc::Receiver<Command>, rest: Duration) -> Result<(), Over> {
        let until = self.chassis.clock.instant() + rest;
        loop {
            let clock = self.chassis.clock.clone();
            tokio::select! {
                biased;
                command = commands.recv() => match self.command(command).await {
                    // There is no stream to lose.
                    Ok(()) | Err(Over::Lost(..)) => {}
                    Err(over) => return Err(over),
                },
                () = clock.sleep_until(until) => return Ok(()),
            }
        }
    }

    async fn connect(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<(mpsc::Sender<ClientFrame>, Streaming<ServerFrame>), Over> {
        self.welcomed = false;
        if self.credentials.is_stale(self.server_now()) {
            self.renew().await?;
        }
        self.up.clear();
        self.outbox.reconnected();
        self.inbox.reconnected();
        self.hello_at = self.chassis.clock.now();
        let (up, frames) = mpsc::channel(UP_QUEUE);
        let hello = ClientFrame { frame: Some(Up::Hello(self.hello())) };
        up.try_send(hello).map_err(|_| Over::Lost("no room for Hello".into(), None))?;
        let mut client = self.api.with_token(&self.credentials.tokens.access).session();
        let opening = client.connect(ReceiverStream::new(frames));
        let mut opening = std::pin::pin!(opening);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut opening => break answer,
                command = commands.recv() => self.command(command).await?,
            }
        };
        match answer {
            Ok(answer) => Ok((up, answer.into_inner())),
            Err(status) => Err(self.lost(&status).await),
        }
    }

    fn hello(&self) -> edge::Hello {
        let state =
            if self.options.inactive { edge::ClientState::Inactive } else { edge::ClientState::Active };
        edge::Hello {
            inbox: Some(Cursor { log_id: self.saved.inbox_log.clone(), idx: self.inbox.cursor() }),
            outbox: Some(Cursor { log_id: self.saved.outbox_log.clone(), idx: self.saved.outbox_idx }),
            watch_version: 0,
            client_state: state.into(),
        }
    }

    /// What a status means for the session: a stale token is renewed, all else is tried again.
    async fn lost(&mut self, status: &tonic::Status) -> Over {
        let error = Error::from_status(status);
        match error.reason {
            Reason::SessionRevoked => {
                Over::Ended(edge::GoAway { reason: error.reason.as_str().into(), ..Default::default() })
            }
            Reason::TokenExpired | Reason::TokenInvalid | Reason::TokenMissing => match self.renew().await {
                Ok(()) => Over::Lost("token renewed".into(), None),
                Err(over) => over,
            },
            reason => Over::Lost(format!("{}: {}", reason.as_str(), error.message), error.retry_after),
        }
    }

    async fn renew(&mut self) -> Result<(), Over> {
        match self.credentials.renew(&self.api).await {
            Ok(()) => Ok(()),
            Err(ClientError::Refused(error))
                if matches!(error.reason, Reason::SessionRevoked | Reason::LoginRefused) =>
            {
                Err(Over::Ended(edge::GoAway { reason: error.reason.as_str().into(), ..Default::default() }))
            }
            Err(error) => Err(Over::Lost(error.to_string(), None)),
        }
    }

    /// A stream ends with its token: shortly before, another one is fetched and the stream changed. While that fails the
    /// stream goes on.
    async fn renew_in_time(&mut self) -> Option<Over> {
        let now = self.chassis.clock.now();
        let may = self.welcomed && self.up.is_empty() && now >= self.renew_at;
        if !may || !self.credentials.is_stale(self.server_now()) {
            return None;
        }
        self.renew_at = now.plus(IDLE);
        let clock = self.chassis.clock.clone();
        match clock.timeout(RENEW_WITHIN, self.renew()).await {
            Ok(Ok(())) => Some(Over::Renewed),
            Ok(Err(over @ Over::Ended(_))) => Some(over),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        up: mpsc::Sender<ClientFrame>,
        mut down: Streaming<ServerFrame>,
    ) -> Over {
        let over = self.until_over(commands, &up, &mut down).await;
        match over {
            Over::Closed(_) => self.say_goodbye(up, down).await,
            Over::Renewed => self.leave(up, down),
            Over::Ended(_) | Over::Lost(..) => {}
        }
        over
    }

    async fn until_over(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        up: &mpsc::Sender<ClientFrame>,
        down: &mut Streaming<ServerFrame>,
    ) -> Over {
        loop {
            if let Some(over) = self.queue_due() {
                return over;
            }
            if let Some(over) = self.renew_in_time().await {
                return over;
            }
            let clock = self.chassis.clock.clone();
            let wake = self.wake_after();
            tokio::select! {
                biased;
                permit = up.reserve(), if self.welcomed && !self.up.is_empty() => match (permit, self.up.pop_front()) {
                    (Ok(permit), Some(frame)) => permit.send(frame),
                    _ => return Over::Lost("the stream was closed".into(), None),
                },
                frame = down.message() => match frame {
                    Ok(Some(frame)) => if let Err(over) = self.frame(frame).await { return over },
                    Ok(None) => return Over::Lost("the server closed the stream".into(), None),
                    Err(status) => return self.lost(&status).await,
                },
                command = commands.recv() => if let Err(over) = self.command(command).await { return over },
                () = clock.sleep(wake) => {}
            }
        }
    }

    /// What was acknowledged reaches the server before the stream ends: else what was shown might still be withdrawn.
    async fn say_goodbye(&mut self, up: mpsc::Sender<ClientFrame>, mut down: Streaming<ServerFrame>) {
        let clock = self.chassis.clock.clone();
        let goodbye = async {
            for frame in self.up.drain(..) {
                if up.send(frame).await.is_err() {
                    return;
                }
            }
            drop(up);
            while let Ok(Some(_)) = down.message().await {}
        };
        // A server that does not end the stream in time is not waited for.
        let _late = clock.timeout(GOODBYE_WITHIN, goodbye).await;
    }

    /// Keeps a stream until the next one is welcomed, when the server ends it: a device that is between two streams would
    /// be away, and what is sent to it then might go as SMS.
    fn leave(&self, up: mpsc::Sender<ClientFrame>, mut down: Streaming<ServerFrame>) {
        let clock = self.chassis.clock.clone();
        self.chassis.tasks.spawn("client stream before", async move {
            let until_ended = async { while let Ok(Some(_)) = down.message().await {} };
            let _not_taken_over = clock.timeout(WELCOME_WITHIN, until_ended).await;
            drop(up);
        });
    }

    /// Queues what is due; says so if the stream is stuck.
    fn queue_due(&mut self) -> Option<Over> {
        let now = self.chassis.clock.now();
        if !self.welcomed {
            let late = now.since(self.hello_at) >= WELCOME_WITHIN;
            return late.then(|| Over::Lost("no welcome".into(), None));
        }
        if self.inbox.is_stuck(self.server_now()) {
            return Some(Over::Lost("a withdrawn message has no stub yet".into(), None));
        }
        for request in self.outbox.due(now) {
            self.up.push_back(ClientFrame { frame: Some(Up::Send(request)) });
        }
        None
    }

    fn wake_after(&self) -> Duration {
        let now = self.chassis.clock.now();
        self.outbox.next_repeat().map_or(IDLE, |at| at.since(now)).clamp(Duration::from_millis(1), IDLE)
    }

    async fn command(&mut self, command: Option<Command>) -> Result<(), Over> {
        match command {
            None => return Err(Over::Closed(None)),
            Some(Command::Close(done)) => return Err(Over::Closed(Some(done))),
            Some(Command::Send(request, answer)) => {
                let id = self.outbox.push(*request);
                self.save()?;
                let _nobody_waits = answer.send(id);
            }
            Some(Command::Freeze(frozen)) => {
                let thawed = self.options.frozen && !frozen;
                self.options.frozen = frozen;
                if thawed {
                    return Err(Over::Lost("thawed".into(), None));
                }
            }
            Some(Command::Frame(frame)) => {
                // What the next stream begins with.
                match &frame {
                    Up::Watch(watch) => self.watch = Some(watch.clone()),
                    Up::State(state) => {
                        self.options.inactive = state.state() == edge::ClientState::Inactive;
                    }
                    _ => {}
                }
                // Between two streams it waits for the welcome.
                if self.is_open {
                    self.up.push_back(ClientFrame { frame: Some(frame) });
                }
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), Over> {
        (self.saved.next_seq, self.saved.pending) = self.outbox.snapshot();
        self.saved.inbox_idx = self.inbox.cursor();
        self.journal.save(&self.saved).map_err(|error| Over::Lost(format!("journal: {error}"), None))
    }

    async fn frame(&mut self, frame: ServerFrame) -> Result<(), Over> {
        let now = self.chassis.clock.now();
        match frame.frame {
            Some(Down::Welcome(welcome)) => self.welcome(welcome).await?,
            Some(Down::Accepted(accepted)) => {
                if let Some((id, request)) = self.outbox.accepted(&accepted, now) {
                    self.save()?;
                    self.tell(Event::Accepted(id, accepted, Box::new(request))).await;
                }
            }
            Some(Down::Refused(refused)) => {
                if let Verdict::Final(id, request) = self.outbox.refused(&refused, now) {
                    self.save()?;
                    self.tell(Event::Refused(id, refused, request)).await;
                }
            }
            Some(Down::Progress(progress)) => {
                self.saved.outbox_idx = self.saved.outbox_idx.max(progress.outbox_idx);
                self.tell(Event::Progress(progress)).await;
            }
            Some(Down::Receipt(receipt)) => self.tell(Event::Receipt(receipt)).await,
            Some(Down::Message(message)) if !self.options.frozen => {
                let taken = self.inbox.message(message, self.server_now());
                self.taken(taken).await?;
            }
            Some(Down::Gone(gone)) if !self.options.frozen => {
                let taken = self.inbox.gone(gone, self.server_now());
                self.taken(taken).await?;
            }
            Some(Down::Acked(acked)) if !self.options.frozen => {
                let taken = self.inbox.acked(acked.idx, self.server_now());
                self.taken(taken).await?;
            }
            Some(Down::CaughtUp(_)) => self.tell(Event::CaughtUp).await,
            Some(Down::Resync(resync)) => {
                let cursor = resync.inbox.unwrap_or_default();
                self.saved.inbox_log = cursor.log_id;
                self.inbox.resync(cursor.idx);
                self.save()?;
            }
            Some(Down::Presence(presence)) => self.tell(Event::Presence(presence)).await,
            Some(Down::Contact(contact)) => self.tell(Event::Contact(contact)).await,
            Some(Down::GoAway(go_away)) => return Err(go(go_away)),
            Some(Down::Message(_) | Down::Gone(_) | Down::Acked(_) | Down::Pong(_)) | None => {}
        }
        Ok(())
    }

    async fn welcome(&mut self, welcome: edge::Welcome) -> Result<(), Over> {
        let server = i64::try_from(welcome.server_time_ms).unwrap_or(i64::MAX);
        self.offset_ms = server.saturating_sub_unsigned(self.hello_at.0);
        if self.saved.inbox_log.is_empty() {
            self.saved.inbox_log.clone_from(&welcome.inbox_log_id);
        }
        self.saved.outbox_log.clone_from(&welcome.outbox_log_id);
        self.outbox.welcomed(welcome.last_client_seq);
        self.save()?;
        self.welcomed = true;
        if let Some(watch) = self.watch.clone() {
            self.up.push_back(ClientFrame { frame: Some(Up::Watch(watch)) });
        }
        if !std::mem::replace(&mut self.is_open, true) {
            self.tell(Event::Connected(welcome)).await;
        }
        Ok(())
    }

    /// Stores first, then acknowledges, then shows.
    async fn taken(&mut self, taken: Vec<Taken>) -> Result<(), Over> {
        if let Some(idx) = self.inbox.promise(self.server_now()) {
            self.acknowledge(idx);
        }
        if self.inbox.cursor() == self.saved.inbox_idx {
            return Ok(());
        }
        self.save()?;
        self.acknowledge(self.inbox.cursor());
        for entry in taken {
            match entry {
                Taken::Show(message) => self.tell(Event::Message(message)).await,
                Taken::Gone { of } => self.tell(Event::Gone(of)).await,
            }
        }
        Ok(())
    }

    /// Acks are cumulative: one that still waits takes the new index.
    fn acknowledge(&mut self, idx: u64) {
        if let Some(ClientFrame { frame: Some(Up::Ack(waiting)) }) = self.up.back_mut() {
            waiting.idx = waiting.idx.max(idx);
            return;
        }
        self.up.push_back(ClientFrame { frame: Some(Up::Ack(edge::Ack { idx })) });
    }
}

/// `GoAway` is final when the session was replaced or revoked; else it says when to come back.
fn go(go_away: edge::GoAway) -> Over {
    let is_final =
        [Reason::Replaced, Reason::SessionRevoked].iter().any(|reason| reason.as_str() == go_away.reason);
    match is_final {
        true => Over::Ended(go_away),
        false => Over::Lost(go_away.reason, Some(Duration::from_millis(go_away.reconnect_after_ms))),
    }
}
