//! The gRPC door: one's own status.

use dialtone_chassis::auth;
use dialtone_proto::presence::v1 as proto;
use dialtone_proto::presence::v1::presence_server::{Presence, PresenceServer};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::handle::Handle;

struct Door {
    handle: Handle,
}

/// The public service.
pub(crate) fn routes(handle: Handle) -> Routes {
    Routes::new(PresenceServer::new(Door { handle }))
}

#[tonic::async_trait]
impl Presence for Door {
    async fn set_status(
        &self,
        request: Request<proto::SetStatusRequest>,
    ) -> Result<Response<proto::SetStatusResponse>, Status> {
        let caller = auth::caller(&request)?;
        let proto::SetStatusRequest { text, invisible } = request.into_inner();
        self.handle.set_status(caller.user, text, invisible).await?;
        Ok(Response::new(proto::SetStatusResponse {}))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let caller = auth::caller(&request)?;
        let view = self.handle.get(caller.user).await?;
        Ok(Response::new(proto::GetResponse { state: Some(view.of(caller.user, false)) }))
    }
}
