//! The gRPC door.

use dialtone_chassis::{Clock, auth};
use dialtone_proto::offline::v1::inbox_server::{Inbox, InboxServer};
use dialtone_proto::offline::v1::{GetCursorRequest, GetCursorResponse, ListRequest, ListResponse};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::handle::Handle;

struct Door {
    handle: Handle,
    clock: Clock,
}

/// The public service.
pub(crate) fn routes(handle: Handle, clock: Clock) -> Routes {
    Routes::new(InboxServer::new(Door { handle, clock }))
}

#[tonic::async_trait]
impl Inbox for Door {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let caller = auth::caller(&request)?;
        let ListRequest { after, limit } = request.into_inner();
        let after = after.unwrap_or_default();
        let page = self.handle.list(caller.user, caller.device, &after, limit, self.clock.now()).await?;
        Ok(Response::new(page))
    }

    async fn get_cursor(
        &self,
        request: Request<GetCursorRequest>,
    ) -> Result<Response<GetCursorResponse>, Status> {
        let caller = auth::caller(&request)?;
        Ok(Response::new(self.handle.get_cursor(caller.user, caller.device).await?))
    }
}
