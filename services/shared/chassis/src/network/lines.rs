//! The lines of a channel to other processes, and how a call takes one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_vocab::Reason;
use http::{Request, Response, Version};
use hyper::client::conn::http2::SendRequest;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::CONNECT_WITHIN;
use super::target::Target;
use crate::{BoxError, Chassis, Error, Rng, server, trace};

/// Calls of one line that wait for their answers' heads: as many as one service runs.
const MAX_CALLS: usize = server::MAX_RUNNING;
/// Lines that a call tries, as long as it was not sent.
const TRIES: usize = 4;
/// Addresses whose troubles are told in one error.
const TOLD: usize = 3;

/// An address, and the number of the target it belongs to.
pub(super) type Place = (SocketAddr, usize);

/// A connection that stands.
#[derive(Clone)]
pub(super) struct Line {
    sender: SendRequest<Body>,
    target: Arc<Target>,
    running: Arc<AtomicUsize>,
}

/// How it is with a place.
pub(super) enum State {
    /// Whoever calls may wait for it.
    Dialing,
    Up(Line),
    /// It is dialed again and again; why it is not there.
    Down(String),
}

/// All places of a channel. Each has the number of its minder: one that was told to end says no more of it.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) places: BTreeMap<Place, (u64, State)>,
    /// Whether names were looked up at all.
    pub(super) is_resolved: bool,
    /// Why a name has no address.
    pub(super) unresolved: Option<String>,
}

/// What a call finds.
enum Pick {
    Take(Line),
    Wait,
    Refuse(Error),
}

impl Lines {
    /// Of two lines the one with fewer calls.
    fn pick(&self, rng: &Rng) -> Pick {
        let up: Vec<_> = self.up().collect();
        let free: Vec<_> = up.iter().copied().filter(|line| line.load() < MAX_CALLS).collect();
        match (free.as_slice(), up.is_empty()) {
            ([], false) => Pick::Refuse(Error::new(Reason::Busy, "too many calls to another service")),
            ([], true) if self.may_come() => Pick::Wait,
            ([], true) => Pick::Refuse(self.trouble()),
            (lines, _) => {
                let any = || lines[usize::try_from(rng.below(lines.len() as u64)).unwrap_or(0)];
                let (one, other) = (any(), any());
                Pick::Take(if other.load() < one.load() { other } else { one }.clone())
            }
        }
    }

    fn up(&self) -> impl Iterator<Item = &Line> {
        self.places.values().filter_map(|(_, state)| match state {
            State::Up(line) if !line.sender.is_closed() => Some(line),
            _ => None,
        })
    }

    /// Whether it is worth to wait: a place was not tried yet, or has just gone.
    fn may_come(&self) -> bool {
        !self.is_resolved || self.places.values().any(|(_, state)| !matches!(state, State::Down(_)))
    }

    fn trouble(&self) -> Error {
        let down = self.places.iter().filter_map(|((addr, _), (_, state))| match state {
            State::Down(why) => Some(format!("{addr}: {why}")),
            _ => None,
        });
        let all: Vec<_> = down.take(TOLD).chain(self.unresolved.clone()).collect();
        Error::new(Reason::PeerUnavailable, format!("no connection ({})", all.join("; ")))
    }
}

impl Line {
    pub(super) fn new(sender: SendRequest<Body>, target: Arc<Target>) -> Self {
        Self { sender, target, running: Arc::default() }
    }

    fn load(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Sends a call; one that was not sent comes back.
    async fn send(mut self, mut request: Request<Body>) -> Result<Response<Body>, Option<Request<Body>>> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(self.target.scheme.clone());
        uri.authority = Some(self.target.authority.clone());
        *request.uri_mut() = http::Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let _running = Running::count(&self.running);
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(mut error) => {
                tracing::debug!(error = %error.error(), "a call broke");
                Err(error.take_message())
            }
        }
    }
}

/// Counts a call while it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn count(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a call to another process had no answer; for gRPC it is the status behind it.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {}", status.message())]
struct NoAnswer {
    name: Arc<str>,
    #[source]
    status: Status,
}

/// The way to a service in other processes. Cheap to clone; its connections end with its last clone.
#[derive(Clone)]
pub struct Remote {
    chassis: Chassis,
    name: Arc<str>,
    lines: watch::Receiver<Lines>,
}

impl Remote {
    pub(super) fn new(chassis: &Chassis, name: &str, lines: watch::Receiver<Lines>) -> Self {
        Self { chassis: chassis.clone(), name: name.into(), lines }
    }

    /// Sends a call over one of the lines, and waits for its answer as long as the call says.
    pub(crate) async fn call(self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        trace::inject(request.headers_mut());
        let Some(within) = server::asked_timeout(request.headers()) else { return self.send(request).await };
        let clock = self.chassis.clock.clone();
        let late = Error::new(Reason::Timeout, "no answer within the deadline; the outcome is unknown");
        let outcome = clock.timeout(within, self.send(request)).await;
        outcome.unwrap_or_else(|_| Ok(Status::from(late).into_http()))
    }

    async fn send(mut self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let until = self.chassis.clock.instant() + CONNECT_WITHIN;
        for _ in 0..TRIES {
            match self.line(until).await?.send(request).await {
                Ok(response) => return Ok(response),
                Err(Some(unsent)) => request = unsent,
                Err(None) => break,
            }
        }
        Err(self.no_answer(Error::new(Reason::PeerUnavailable, "the connection was lost during the call")))
    }

    async fn line(&mut self, until: Instant) -> Result<Line, BoxError> {
        loop {
            let picked = self.lines.borrow_and_update().pick(&self.chassis.rng);
            match picked {
                Pick::Take(line) => return Ok(line),
                Pick::Refuse(error) => return Err(self.no_answer(error)),
                Pick::Wait => {}
            }
            let left = until.saturating_duration_since(self.chassis.clock.instant());
            if !matches!(self.chassis.clock.timeout(left, self.lines.changed()).await, Ok(Ok(()))) {
                return Err(self.no_answer(Error::new(Reason::PeerUnavailable, "no connection yet")));
            }
        }
    }

    fn no_answer(&self, error: Error) -> BoxError {
        Box::new(NoAnswer { name: self.name.clone(), status: error.into() })
    }
}
