//! Public unary calls, forwarded untouched by their path: there is no second copy of any message definition here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use dialtone_chassis::auth::Verifier;
use dialtone_chassis::{BoxError, Channel, Clock, Error, bearer};
use dialtone_vocab::Reason;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tonic::body::Body;
use tower_service::Service;

use crate::ended::Ended;
use crate::limits::MAX_UNARY_BYTES;
use crate::owners::Ways;

/// The head of a gRPC message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

/// Whether callers of a service need a token at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Registration and login: that is where tokens come from.
    Open,
    /// Everything else; the service behind checks the same token again.
    Token,
    /// As `Token`; what this service keeps of a user is with the process that owns the user.
    Owner(&'static str),
    /// The session stream: a token too, and its own limit for each of its frames.
    Stream,
}

/// A public service: where it lives and who may call it.
#[derive(Clone)]
struct Target {
    channel: Channel,
    door: Door,
}

/// Forwards by the service name in the path; a name that is not public is answered as gRPC defines it.
#[derive(Clone)]
pub(crate) struct Forward {
    targets: Arc<HashMap<&'static str, Target>>,
    verifier: Verifier,
    ended: Ended,
    clock: Clock,
    ways: Ways,
}

impl Forward {
    /// For the services given as (full name, channel, door).
    pub(crate) fn new(
        services: impl IntoIterator<Item = (&'static str, Channel, Door)>,
        verifier: Verifier,
        ended: Ended,
        clock: Clock,
        ways: Ways,
    ) -> Self {
        let targets =
            services.into_iter().map(|(name, channel, door)| (name, Target { channel, door })).collect();
        Self { targets: Arc::new(targets), verifier, ended, clock, ways }
    }

    /// The full names of the public services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &'static str> {
        self.targets.keys().copied()
    }

    fn admit(&self, request: &Request<Body>) -> Result<Target, tonic::Status> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let target = self.targets.get(service).cloned();
        let mut target = target.ok_or_else(|| tonic::Status::unimplemented("no such public service"))?;
        if target.door != Door::Open {
            let token = bearer(request.headers())
                .ok_or_else(|| Error::new(Reason::TokenMissing, "this call needs an access token"))?;
            let caller = self.verifier.verify(token, self.clock.now())?;
            self.ended.check(&caller)?;
            if let Door::Owner(service) = target.door {
                target.channel = self.ways.to_owner(service, caller.user).unwrap_or(target.channel);
            }
        }
        Ok(target)
    }
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let admitted = self.admit(&request);
        Box::pin(async move {
            let answer = match admitted {
                Ok(target) if target.door == Door::Stream => pass_on(target.channel, request).await,
                Ok(target) => pass_on_limited(target.channel, request).await,
                Err(status) => Err(status),
            };
            Ok(answer.unwrap_or_else(tonic::Status::into_http))
        })
    }
}

/// Passes a call on whose request has a limit; what is too large is never held here.
async fn pass_on_limited(channel: Channel, request: Request<Body>) -> Result<Response<Body>, tonic::Status> {
    let broken = Arc::new(OnceLock::new());
    let note = broken.clone();
    let request = request.map(|body| {
        Body::new(Limited::new(body, MAX_UNARY_BYTES + MESSAGE_HEAD).map_err(move |error| {
            let status = match error.is::<LengthLimitError>() {
                true => Error::new(Reason::TooLarge, "a request has at most 1 MiB").into(),
                // It was cut, or a browser's text is no base64.
                false => tonic::Status::from_error(error),
            };
            note.get_or_init(|| status).clone()
        }))
    });
    let answer = pass_on(channel, request).await;
    // Whatever the service, or the way to it, made of half a request.
    broken.get().cloned().map_or(answer, Err)
}

async fn pass_on(mut channel: Channel, request: Request<Body>) -> Result<Response<Body>, tonic::Status> {
    let unavailable = |error: BoxError| {
        tracing::warn!(%error, "a service could not be reached");
        tonic::Status::from(Error::new(Reason::PeerUnavailable, "a service on the way is not there"))
    };
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(unavailable)?;
    channel.call(request).await.map_err(unavailable)
}
