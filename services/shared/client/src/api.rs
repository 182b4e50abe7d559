//! The unary calls, each with the caller's token where it needs one.

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_proto::contacts::v1::contacts_client::ContactsClient;
use dialtone_proto::edge::v1::session_client::SessionClient;
use dialtone_proto::identity::v1::account_client::AccountClient;
use dialtone_proto::identity::v1::login_client::LoginClient;
use dialtone_proto::identity::v1::registration_client::RegistrationClient;
use dialtone_proto::offline::v1::inbox_client::InboxClient;
use dialtone_proto::presence::v1::presence_client::PresenceClient;
use dialtone_proto::routing::v1::messages_client::MessagesClient;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for a unary answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A ping on an idle connection, so that a dead one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connection to a gateway, shared by all calls and streams made over it.
pub type Connection = Channel;

/// Why a call or a flow did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused or could not be reached; the reason is a word of `docs/errors.md`.
    #[error("{}: {}", .0.reason.as_str(), .0.message)]
    Refused(Error),
    /// The server answered something that this client does not understand.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// The journal could not be read or written.
    #[error("journal: {0}")]
    Journal(#[from] std::io::Error),
    /// The address of the gateway is not a URL.
    #[error("not a gateway address: {0}")]
    Address(String),
    /// The session was closed by its owner.
    #[error("the session is closed")]
    Closed,
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Error::from_status(&status))
    }
}

/// Adds `authorization: Bearer …`.
#[derive(Clone, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

type Authorised = InterceptedService<Channel, Token>;

/// The public API over one connection. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    channel: Channel,
    token: Token,
}

impl Api {
    /// Over the gateway at `url`, connecting when first used.
    ///
    /// # Errors
    /// [`ClientError::Address`] if it is not a URL.
    pub fn lazy(url: &str) -> Result<Self, ClientError> {
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|_| ClientError::Address(url.to_owned()))?;
        Ok(Self::over(tuned(endpoint).connect_lazy()))
    }

    /// Over a connection made elsewhere, such as an in-memory one.
    pub fn over(channel: Connection) -> Self {
        Self { channel, token: Token::default() }
    }

    /// The same connection with an access token.
    #[must_use]
    pub fn with_token(&self, access: &str) -> Self {
        Self { channel: self.channel.clone(), token: Token(format!("Bearer {access}").parse().ok()) }
    }

    fn authorised(&self) -> Authorised {
        InterceptedService::new(self.channel.clone(), self.token.clone())
    }

    /// `identity.v1.Registration`.
    pub fn registration(&self) -> RegistrationClient<Authorised> {
        RegistrationClient::new(self.authorised())
    }

    /// `identity.v1.Login`.
    pub fn login(&self) -> LoginClient<Authorised> {
        LoginClient::new(self.authorised())
    }

    /// `identity.v1.Account`.
    pub fn account(&self) -> AccountClient<Authorised> {
        AccountClient::new(self.authorised())
    }

    /// `contacts.v1.Contacts`.
    pub fn contacts(&self) -> ContactsClient<Authorised> {
        ContactsClient::new(self.authorised())
    }

    /// `routing.v1.Messages`.
    pub fn messages(&self) -> MessagesClient<Authorised> {
        MessagesClient::new(self.authorised())
    }

    /// `offline.v1.Inbox`.
    pub fn inbox(&self) -> InboxClient<Authorised> {
        InboxClient::new(self.authorised())
    }

    /// `presence.v1.Presence`.
    pub fn presence(&self) -> PresenceClient<Authorised> {
        PresenceClient::new(self.authorised())
    }

    /// `edge.v1.Session`.
    pub fn session(&self) -> SessionClient<Authorised> {
        SessionClient::new(self.authorised())
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
}
