//! The gRPC door.

use dialtone_chassis::auth;
use dialtone_proto::routing::v1::messages_server::{Messages, MessagesServer};
use dialtone_proto::routing::v1::{
    PlanSendRequest, PlanSendResponse, RevokeRequest, RevokeResponse, SendRequest, SendResponse,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::handle::Handle;

struct Door {
    handle: Handle,
}

/// The public service.
pub(crate) fn routes(handle: Handle) -> Routes {
    Routes::new(MessagesServer::new(Door { handle }))
}

#[tonic::async_trait]
impl Messages for Door {
    async fn plan_send(
        &self,
        request: Request<PlanSendRequest>,
    ) -> Result<Response<PlanSendResponse>, Status> {
        let caller = auth::caller(&request)?;
        Ok(Response::new(self.handle.plan(&caller, request.into_inner()).await?))
    }

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let caller = auth::caller(&request)?;
        let accepted = self.handle.send(&caller, request.into_inner()).await?;
        Ok(Response::new(SendResponse { accepted: Some(accepted) }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let caller = auth::caller(&request)?;
        Ok(Response::new(self.handle.revoke(&caller, request.into_inner().sent_idx).await?))
    }
}
