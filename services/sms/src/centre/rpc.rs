//! The gRPC door of the handsets.

use dialtone_chassis::Error;
use dialtone_proto::sms::sim::v1::handsets_server::{Handsets, HandsetsServer};
use dialtone_proto::sms::sim::v1::{
    ListSmsRequest, ListSmsResponse, SendSmsRequest, SendSmsResponse, SetPowerRequest, SetPowerResponse, Sms,
    WatchSmsRequest,
};
use dialtone_vocab::{PhoneNumber, Reason};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::handsets::Network;
use crate::limits::HANDSET_CHARS;

struct Door {
    network: Network,
}

pub(super) fn routes(network: Network) -> Routes {
    Routes::new(HandsetsServer::new(Door { network }))
}

fn number(text: &str) -> Result<String, Error> {
    let number = PhoneNumber::parse_e164(text);
    number
        .map(|number| number.to_string())
        .map_err(|error| Error::new(Reason::NumberMalformed, error.to_string()))
}

#[tonic::async_trait]
impl Handsets for Door {
    type WatchSmsStream = BoxStream<'static, Result<Sms, Status>>;

    async fn send_sms(&self, request: Request<SendSmsRequest>) -> Result<Response<SendSmsResponse>, Status> {
        let SendSmsRequest { from, to, text } = request.into_inner();
        if text.chars().count() > HANDSET_CHARS {
            return Err(Error::new(Reason::TooLarge, "at most 1,000 characters").into());
        }
        self.network.send(number(&from)?, number(&to)?, text).await?;
        Ok(Response::new(SendSmsResponse {}))
    }

    async fn list_sms(&self, request: Request<ListSmsRequest>) -> Result<Response<ListSmsResponse>, Status> {
        let sms = self.network.list(number(&request.into_inner().number)?).await;
        Ok(Response::new(ListSmsResponse { sms }))
    }

    async fn watch_sms(
        &self,
        request: Request<WatchSmsRequest>,
    ) -> Result<Response<Self::WatchSmsStream>, Status> {
        let WatchSmsRequest { number: of, after_id } = request.into_inner();
        let sms = self.network.watch(number(&of)?, after_id).await;
        let sms = sms.ok_or_else(|| Error::new(Reason::Busy, "too many handsets"))?;
        Ok(Response::new(ReceiverStream::new(sms).map(Ok).boxed()))
    }

    async fn set_power(
        &self,
        request: Request<SetPowerRequest>,
    ) -> Result<Response<SetPowerResponse>, Status> {
        let SetPowerRequest { number: of, on } = request.into_inner();
        self.network.power(number(&of)?, on).await;
        Ok(Response::new(SetPowerResponse {}))
    }
}
