//! The gRPC door for other services.

use dialtone_proto::sms::internal::v1::bridge_server::{Bridge as Service, BridgeServer};
use dialtone_proto::sms::internal::v1::{QuoteRequest, QuoteResponse};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::bridge::Bridge;

struct Door {
    bridge: Bridge,
}

pub(crate) fn routes(bridge: Bridge) -> Routes {
    Routes::new(BridgeServer::new(Door { bridge }))
}

#[tonic::async_trait]
impl Service for Door {
    async fn quote(&self, request: Request<QuoteRequest>) -> Result<Response<QuoteResponse>, Status> {
        Ok(Response::new(self.bridge.quote(request.into_inner()).await?))
    }
}
