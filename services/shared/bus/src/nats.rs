//! The bus over a nats-server. Core NATS only: at most once.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, ServerAddr, Subscriber};
use bytes::Bytes;
use dialtone_chassis::{Chassis, ReadyHandle};
use dialtone_vocab::UnixMillis;
use futures::StreamExt;

use crate::limits::{CONNECT_WITHIN, MAX_MESSAGE, SUBSCRIPTION};
use crate::{BusError, Payload, metrics};

/// The oldest server that is supported.
const FLOOR: (i64, i64, i64) = (2, 11, 0);
/// The header that carries a request's deadline in unix milliseconds.
const DEADLINE: &str = "Dialtone-Deadline";
/// How long flushing may take.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct NatsBus {
    client: Client,
    chassis: Chassis,
}

impl NatsBus {
    pub(crate) async fn connect(url: &str, chassis: &Chassis) -> Result<Self, BusError> {
        let refused = |why: String| BusError::Connect(format!("bus.url: {why}"));
        let address: ServerAddr =
            url.parse().map_err(|error| refused(format!("not a NATS address: {error}")))?;
        let ready = chassis.ready.register("bus");
        let noticed = ready.clone();
        let options = ConnectOptions::new()
            .name(chassis.node.as_str())
            .subscription_capacity(SUBSCRIPTION)
            .event_callback(move |event| {
                notice(&noticed, &event);
                async {}
            });
        let connecting = chassis.clock.timeout(CONNECT_WITHIN, options.connect(address)).await;
        let unreachable = |why: String| BusError::Unreachable(format!("bus.url: {why}"));
        let client = connecting
            .map_err(|_| unreachable("the server did not answer in time".into()))?
            .map_err(|error| unreachable(format!("the server can't be reached: {error}")))?;
        let (major, minor, patch) = FLOOR;
        if !client.is_server_compatible(major, minor, patch) {
            let found = client.server_info().version;
            return Err(refused(format!(
                "nats-server {found} is too old, {major}.{minor} is the oldest supported"
            )));
        }
        ready.set_ready();
        Ok(Self { client, chassis: chassis.clone() })
    }

    pub(crate) async fn publish<M: Payload>(&self, subject: &str, message: &M) -> Result<(), BusError> {
        let bytes = encode(message)?;
        self.client.publish(subject.to_owned(), bytes).await.map_err(|_| BusError::Closed)
    }

    pub(crate) async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscriber, BusError> {
        let subscribed = match group {
            None => self.client.subscribe(subject.to_owned()).await,
            Some(group) => self.client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
        };
        let subscriber = subscribed.map_err(|_| BusError::Closed)?;
        // A subscription is only there once the server has read it.
        self.flush().await;
        Ok(subscriber)
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

    pub(crate) async fn flush(&self) {
        let flushed = self.chassis.clock.timeout(FLUSH_WITHIN, self.client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the bus could not be flushed in time");
        }
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
        Event::SlowConsumer(_) => metrics::dropped("slow_consumer"),
        _ => {}
    }
    tracing::info!(%event, "bus");
}

pub(crate) async fn next<M: Payload>(
    subscriber: &mut Subscriber,
) -> Option<(M, Option<UnixMillis>, Option<String>)> {
    loop {
        let message = subscriber.next().await?;
        let header = message.headers.as_ref().and_then(|headers| headers.get(DEADLINE));
        let deadline = header.and_then(|value| value.as_str().parse().ok()).map(UnixMillis);
        match M::decode(message.payload) {
            Ok(decoded) => return Some((decoded, deadline, message.reply.map(|reply| reply.to_string()))),
            Err(_) => metrics::dropped("garbled"),
        }
    }
}
