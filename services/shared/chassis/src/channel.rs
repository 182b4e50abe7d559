//! How one service calls another: in the process or across the network, with the same layers.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::network::Remote;

/// Whatever can go wrong below gRPC.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// gRPC services in this process, with their layers on. Cheap to clone.
pub type LocalRoutes = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// The way to a service: `SomethingClient<Channel>` works over both.
#[derive(Clone)]
pub enum Channel {
    /// In this process.
    Local(LocalRoutes),
    /// In others, wherever they are by now: [`crate::Network::channel`].
    Remote(Remote),
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Local(routes) => routes.poll_ready(cx),
            // A call waits for its line itself.
            Self::Remote(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Local(routes) => {
                // The routes that were polled ready serve this call; their clone waits for the next one.
                let next = routes.clone();
                let ready = std::mem::replace(routes, next);
                Box::pin(ready.oneshot(request))
            }
            Self::Remote(remote) => Box::pin(remote.clone().call(request)),
        }
    }
}
