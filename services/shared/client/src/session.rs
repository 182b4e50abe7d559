//! A session that stays: it connects, resumes, repeats and reconnects until it is closed.

use dialtone_chassis::Chassis;
use dialtone_proto::edge::v1::{self as edge, GoAway, Presence, Progress, Receipt, Refused, Welcome};
use dialtone_proto::offline::v1::Message;
use dialtone_proto::routing::v1::{Accepted, SendRequest};
use dialtone_proto::types::v1::{Body, ConversationRef, Policy, Recipient, UserRef};
use dialtone_vocab::UserId;
use tokio::sync::{mpsc, oneshot};

use crate::stream::Driver;
use crate::{Api, ClientError, Credentials, Journal, SendId};

/// Commands that wait for the session's task.
const COMMANDS: usize = 256;
/// Events that wait for the application; then the stream is not read until it takes some.
const EVENTS: usize = 1_024;

/// What a session tells its application, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The stream is open. Not told when a stream is changed because its token runs out.
    Connected(Welcome),
    /// The stream is lost; the session tries again by itself.
    Disconnected(String),
    /// A send is durable at the server. The request comes along: after a restart of the device the id is a new one.
    Accepted(SendId, Accepted, Box<SendRequest>),
    /// A send will never be accepted as it is.
    Refused(SendId, Refused, Box<SendRequest>),
    /// A sent message has a fate of its own.
    Progress(Progress),
    /// How far a conversation was delivered and read.
    Receipt(Receipt),
    /// A message, once and in order.
    Message(Message),
    /// The message at this index was withdrawn after it was shown.
    Gone(u64),
    /// Nothing more is waiting.
    CaughtUp,
    /// Presence of the peers watched.
    Presence(Presence),
    /// A contact became a user, or is none any more.
    Contact(edge::Contact),
    /// The session has ended for good: replaced by a newer stream of the device, revoked, or its key is not known.
    Ended(GoAway),
}

/// How a session behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the app is in front.
    pub inactive: bool,
    /// Open the stream but take nothing: what a phone looks like that only seems online.
    pub frozen: bool,
}

pub(crate) enum Command {
    Send(Box<SendRequest>, oneshot::Sender<SendId>),
    Frame(edge::client_frame::Frame),
    Freeze(bool),
    Close(oneshot::Sender<()>),
}

/// A handle on a session. Cheap to clone; the session closes when the last handle is dropped.
#[derive(Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
}

impl Session {
    /// Opens a session that goes on where `journal` ends.
    ///
    /// # Errors
    /// [`ClientError::Journal`] if the journal can't be read.
    pub fn open(
        chassis: &Chassis,
        api: Api,
        credentials: Credentials,
        journal: impl Journal,
        options: Options,
    ) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (events, receiver) = mpsc::channel(EVENTS);
        let driver = Driver::new(chassis, api, credentials, Box::new(journal), options, events)?;
        chassis.tasks.spawn("client session", driver.run(inbox));
        Ok((Self { commands }, receiver))
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| ClientError::Closed)
    }

    async fn frame(&self, frame: edge::client_frame::Frame) -> Result<(), ClientError> {
        self.command(Command::Frame(frame)).await
    }

    /// Sends a message: journalled when this returns; `Accepted` or `Refused` follows as an event.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn send(&self, to: Recipient, body: Body, policy: Policy) -> Result<SendId, ClientError> {
        let request = SendRequest { client_seq: 0, to: Some(to), body: Some(body), policy: Some(policy) };
        let (answer, id) = oneshot::channel();
        self.command(Command::Send(Box::new(request), answer)).await?;
        id.await.map_err(|_| ClientError::Closed)
    }

    /// Says that everything of a conversation up to `idx` was read.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn read(&self, conversation: ConversationRef, idx: u64) -> Result<(), ClientError> {
        self.frame(edge::client_frame::Frame::Read(edge::Read { conversation: Some(conversation), idx }))
            .await
    }

    /// Makes `peers` the whole interaction table.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn watch(&self, version: u64, peers: &[UserId]) -> Result<(), ClientError> {
        let replace = peers.iter().map(|peer| UserRef { id: peer.to_vec() }).collect();
        let watch = edge::Watch { version, replace, is_replace: true, ..Default::default() };
        self.frame(edge::client_frame::Frame::Watch(watch)).await
    }

    /// Says that one is typing to a peer.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn typing(&self, to: UserId) -> Result<(), ClientError> {
        let to = Some(UserRef { id: to.to_vec() });
        self.frame(edge::client_frame::Frame::Typing(edge::Typing { to })).await
    }

    /// Says whether the app is in front.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn state(&self, state: edge::ClientState) -> Result<(), ClientError> {
        self.frame(edge::client_frame::Frame::State(edge::State { state: state.into() })).await
    }

    /// Freezes (takes nothing, though the stream is open) or thaws (resumes from what was stored).
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn freeze(&self, frozen: bool) -> Result<(), ClientError> {
        self.command(Command::Freeze(frozen)).await
    }

    /// Closes the stream and ends the session; returns when it is closed.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.command(Command::Close(done)).await.is_ok() {
            let _closed_or_gone = closed.await;
        }
    }
}
