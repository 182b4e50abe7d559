//! The gRPC door: the session stream is the gateway's own, everything else is forwarded.

use dialtone_chassis::auth;
use dialtone_proto::edge::v1::ClientFrame;
use dialtone_proto::edge::v1::session_server::{Session, SessionServer};
use tonic::{Request, Response, Status, Streaming};

use crate::handle::Handle;
use crate::limits::MAX_FRAME_BYTES;
use crate::stream::SessionStream;

/// The stream's path: no deadline is for it.
pub(crate) const STREAMS: &[&str] = &["/dialtone.edge.v1.Session/Connect"];

pub(crate) struct Door {
    handle: Handle,
}

impl Door {
    pub(crate) fn service(handle: Handle) -> SessionServer<Self> {
        SessionServer::new(Self { handle }).max_decoding_message_size(MAX_FRAME_BYTES)
    }
}

#[tonic::async_trait]
impl Session for Door {
    type ConnectStream = SessionStream;

    async fn connect(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<SessionStream>, Status> {
        let caller = auth::caller(&request)?;
        let registered = self.handle.open(&caller)?;
        Ok(Response::new(SessionStream::new(self.handle.clone(), caller, registered, request.into_inner())))
    }
}
