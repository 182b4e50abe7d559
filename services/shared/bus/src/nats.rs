//! The bus over a nats-server. Core NATS only: at most once.

use std::time::Duration;

use async_nats::{
    Client, ClientError, Event, HeaderMap, RequestErrorKind, ServerAddr, ServerError, Subscriber,
};
use bytes::Bytes;
use dialtone_chassis::{Chassis, ReadyHandle};
use dialtone_vocab::UnixMillis;
use futures::StreamExt;

use crate::limits::{CONNECT_WITHIN, MAX_MESSAGE, ROOM_WITHIN, SUBSCRIPTION};
use crate::{BusConfig, BusError, Payload, metrics, users};

/// The oldest server that is supported.
const FLOOR: (i64, i64, i64) = (2, 11, 0);
/// The header that carries a request's deadline in unix milliseconds.
const DEADLINE: &str = "Dialtone-Deadline";
/// How a server begins to say that a user may not do what it did.
const VIOLATION: &str = "Permissions Violation";
/// What it says of a subscription then.
const DEAF: &str = "for Subscription";
/// How long an echo may take.
const ECHO_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct NatsBus {
    client: Client,
    chassis: Chassis,
}

impl NatsBus {
    pub(crate) async fn connect(
        config: &BusConfig,
        chassis: &Chassis,
        ready: &ReadyHandle,
    ) -> Result<Self, BusError> {
        let refused = |why: String| BusError::Connect(format!("bus.url: {why}"));
        let address: ServerAddr =
            config.url.parse().map_err(|error| refused(format!("not a NATS address: {error}")))?;
        let noticed = ready.clone();
        let options =
            config.options()?.name(chassis.node.as_str()).subscription_capacity(SUBSCRIPTION).event_callback(
                move |event| {
                    notice(&noticed, &event);
                    async {}
                },
            );
        let connecting = chassis.clock.timeout(CONNECT_WITHIN, options.connect(address)).await;
        let client = connecting
            .map_err(|_| BusError::Unreachable("bus.url: the server did not answer in time".into()))?
            .map_err(|error| config.failure(&error))?;
        let (major, minor, patch) = FLOOR;
        if !client.is_server_compatible(major, minor, patch) {
            let found = client.server_info().version;
            return Err(refused(format!(
                "nats-server {found} is too old, {major}.{minor} is the oldest supported"
            )));
        }
        Ok(Self { client, chassis: chassis.clone() })
    }

    pub(crate) async fn publish<M: Payload>(&self, subject: &str, message: &M) -> Result<(), BusError> {
        let bytes = encode(message)?;
        self.hand_over(self.client.publish(subject.to_owned(), bytes)).await
    }

    /// Waits no longer than [`ROOM_WITHIN`] until the client takes something: while the server is away it takes what it
    /// has room for, and nothing more.
    async fn hand_over<T, E>(&self, taking: impl Future<Output = Result<T, E>>) -> Result<T, BusError> {
        match self.chassis.clock.timeout(ROOM_WITHIN, taking).await {
            Ok(taken) => taken.map_err(|_| BusError::Closed),
            Err(_) => Err(BusError::Busy),
        }
    }

    pub(crate) async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscriber, BusError> {
        let subscribed = match group {
            None => self.hand_over(self.client.subscribe(subject.to_owned())).await,
            Some(group) => {
                self.hand_over(self.client.queue_subscribe(subject.to_owned(), group.to_owned())).await
            }
        };
        let subscriber = subscribed?;
        self.settle().await;
        Ok(subscriber)
    }

    /// What was subscribed so far is there when this returns: the server reads in order, and what this process says to
    /// itself comes back after it. Flushing only hands it to the operating system.
    async fn settle(&self) {
        let echo = self.client.new_inbox();
        let heard = async {
            let mut listener = self.client.subscribe(echo.clone()).await.ok()?;
            self.client.publish(echo.clone(), Bytes::new()).await.ok()?;
            listener.next().await
        };
        if !matches!(self.chassis.clock.timeout(ECHO_WITHIN, heard).await, Ok(Some(_))) {
            tracing::warn!("nats-server did not read a subscription in time");
        }
    }

    pub(crate) async fn request<M: Payload, R: Payload>(
        &self,
        subject: &str,
        message: &M,
        deadline: UnixMillis,
        within: Duration,
    ) -> Result<R, BusError> {
        let mut headers = HeaderMap::new();
        headers.insert(DEADLINE, deadline.0.to_string());
        let asking = self.client.request_with_headers(subject.to_owned(), headers, encode(message)?);
        let answer = self.chassis.clock.timeout(within, asking).await.map_err(|_| BusError::Timeout)?;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => BusError::NoResponder,
            RequestErrorKind::TimedOut => BusError::Timeout,
            _ => BusError::Closed,
        })?;
        R::decode(answer.payload).map_err(|_| BusError::Garbled)
    }
}

fn encode<M: Payload>(message: &M) -> Result<Bytes, BusError> {
    let bytes = message.encode_to_vec();
    if bytes.len() > MAX_MESSAGE {
        return Err(BusError::TooLarge(bytes.len()));
    }
    Ok(bytes.into())
}

fn notice(ready: &ReadyHandle, event: &Event) {
    match event {
        Event::Connected => ready.set_ready(),
        Event::Disconnected | Event::Closed => ready.set_missing("not connected to nats-server"),
        // One a message, more than anybody wants to read.
        Event::SlowConsumer(_) => return metrics::dropped("slow_consumer"),
        Event::ServerError(ServerError::Other(why)) if why.contains(VIOLATION) => forbidden(ready, why),
        // An attempt to connect again.
        Event::ClientError(ClientError::Other(why)) => {
            ready.set_missing(format!("not connected to nats-server: {why}"));
        }
        _ => {}
    }
    tracing::info!(%event, "bus");
}

/// The server's allow-list is not for the services of this process. Without a subscription the process is deaf.
fn forbidden(ready: &ReadyHandle, why: &str) {
    metrics::dropped("forbidden");
    tracing::error!(
        why,
        "nats-server forbids it; is its configuration of this version, and bus.user of these services?"
    );
    if why.contains(DEAF) {
        ready.set_missing(format!("nats-server: {why}"));
    }
}

pub(crate) async fn next<M: Payload>(
    subscriber: &mut Subscriber,
) -> Option<(M, Option<UnixMillis>, Option<String>)> {
    loop {
        let message = subscriber.next().await?;
        let header = message.headers.as_ref().and_then(|headers| headers.get(DEADLINE));
        let deadline = header.and_then(|value| value.as_str().parse().ok()).map(UnixMillis);
        match M::decode(message.payload) {
            Ok(decoded) => return Some((decoded, deadline, message.reply.as_deref().and_then(inbox))),
            Err(_) => metrics::dropped("garbled"),
        }
    }
}

/// Where to answer. A server lets a process answer wherever a request says: no request makes it publish anywhere else.
fn inbox(reply: &str) -> Option<String> {
    if reply.starts_with(users::INBOX) {
        return Some(reply.to_owned());
    }
    metrics::dropped("reply");
    None
}
