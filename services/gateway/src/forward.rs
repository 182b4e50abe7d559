//! Public unary calls, forwarded untouched by their path: there is no second copy of any message definition here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dialtone_chassis::auth::Verifier;
use dialtone_chassis::{BoxError, Channel, Clock, Error, bearer};
use dialtone_vocab::Reason;
use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

/// Whether callers of a service need a token at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Registration and login: that is where tokens come from.
    Open,
    /// Everything else; the service behind checks the same token again.
    Token,
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
    clock: Clock,
}

impl Forward {
    /// For the services given as (full name, channel, door).
    pub(crate) fn new(
        services: impl IntoIterator<Item = (&'static str, Channel, Door)>,
        verifier: Verifier,
        clock: Clock,
    ) -> Self {
        let targets =
            services.into_iter().map(|(name, channel, door)| (name, Target { channel, door })).collect();
        Self { targets: Arc::new(targets), verifier, clock }
    }

    fn admit(&self, request: &Request<Body>) -> Result<Target, tonic::Status> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let target = self.targets.get(service).cloned();
        let target = target.ok_or_else(|| tonic::Status::unimplemented("no such public service"))?;
        if target.door == Door::Token {
            let token = bearer(request.headers())
                .ok_or_else(|| Error::new(Reason::TokenMissing, "this call needs an access token"))?;
            self.verifier.verify(token, self.clock.now())?;
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
                Ok(target) => pass_on(target.channel, request).await,
                Err(status) => Err(status),
            };
            Ok(answer.unwrap_or_else(tonic::Status::into_http))
        })
    }
}

async fn pass_on(mut channel: Channel, request: Request<Body>) -> Result<Response<Body>, tonic::Status> {
    let unavailable = |error: BoxError| {
        tracing::warn!(%error, "a service could not be reached");
        tonic::Status::from(Error::new(Reason::PeerUnavailable, "a service on the way is not there"))
    };
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(unavailable)?;
    channel.call(request).await.map_err(unavailable)
}
