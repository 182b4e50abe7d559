//! The gRPC doors: the address book, and the graph for other services.

use dialtone_chassis::{Error, auth};
use dialtone_proto::contacts::internal::v1 as internal;
use dialtone_proto::contacts::internal::v1::graph_server::{Graph, GraphServer};
use dialtone_proto::contacts::v1 as proto;
use dialtone_proto::contacts::v1::contacts_server::{Contacts, ContactsServer};
use dialtone_proto::types::v1::UserRef;
use dialtone_vocab::{NumberHash, UserId};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::error;
use crate::handle::{Handle, SyncAsk};
use crate::limits::{BLOCKS_BATCH, MAY_SEE_BATCH, PAGE_DEFAULT, PAGE_MAX, SYNC_ENTRIES};

/// Both doors.
#[derive(Clone)]
pub(crate) struct Door {
    handle: Handle,
}

/// The public and internal services.
pub(crate) fn routes(handle: Handle) -> Routes {
    let door = Door { handle };
    Routes::new(ContactsServer::new(door.clone())).add_service(GraphServer::new(door))
}

fn user(name: &'static str, bytes: &[u8]) -> Result<UserId, Error> {
    UserId::from_slice(bytes).map_err(|_| error::field(name, "16 bytes"))
}

fn referred(user_ref: Option<UserRef>) -> Result<UserId, Error> {
    user("user", &user_ref.ok_or_else(|| error::field("user", "a user is needed"))?.id)
}

#[tonic::async_trait]
impl Contacts for Door {
    async fn sync(
        &self,
        request: Request<proto::SyncRequest>,
    ) -> Result<Response<proto::SyncResponse>, Status> {
        let caller = auth::caller(&request)?;
        let proto::SyncRequest { base_token: base, added, removed, region, more } = request.into_inner();
        if added.len() + removed.len() > SYNC_ENTRIES {
            return Err(error::too_large("too many entries in one call", SYNC_ENTRIES as u64).into());
        }
        let ask = SyncAsk { base, added, removed, region, more };
        let answer = self.handle.sync(caller.user, ask).await?;
        Ok(Response::new(proto::SyncResponse {
            verdicts: answer.verdicts,
            next_token: answer.next_token,
            budget_left: answer.budget_left,
        }))
    }

    async fn ack_token(
        &self,
        request: Request<proto::AckTokenRequest>,
    ) -> Result<Response<proto::AckTokenResponse>, Status> {
        let caller = auth::caller(&request)?;
        self.handle.acknowledge(caller.user, caller.number, request.into_inner().token).await?;
        Ok(Response::new(proto::AckTokenResponse {}))
    }

    async fn list_friends(
        &self,
        request: Request<proto::ListFriendsRequest>,
    ) -> Result<Response<proto::ListFriendsResponse>, Status> {
        let caller = auth::caller(&request)?;
        let proto::ListFriendsRequest { page_token, page_size } = request.into_inner();
        let last = match page_token.as_slice() {
            [] => None,
            bytes => Some(
                NumberHash::from_slice(bytes)
                    .map_err(|_| error::field("page_token", "as the last page gave it"))?,
            ),
        };
        let limit = match usize::try_from(page_size).unwrap_or(PAGE_MAX) {
            0 => PAGE_DEFAULT,
            size => size.min(PAGE_MAX),
        };
        let (friends, next) = self.handle.friends(caller.user, last, limit).await?;
        let next_page_token = next.map(NumberHash::to_vec).unwrap_or_default();
        Ok(Response::new(proto::ListFriendsResponse { friends, next_page_token }))
    }

    async fn forget_book(
        &self,
        request: Request<proto::ForgetBookRequest>,
    ) -> Result<Response<proto::ForgetBookResponse>, Status> {
        let caller = auth::caller(&request)?;
        self.handle.forget(caller.user).await?;
        Ok(Response::new(proto::ForgetBookResponse {}))
    }

    async fn block(
        &self,
        request: Request<proto::BlockRequest>,
    ) -> Result<Response<proto::BlockResponse>, Status> {
        let caller = auth::caller(&request)?;
        self.handle.block(caller.user, referred(request.into_inner().user)?, true).await?;
        Ok(Response::new(proto::BlockResponse {}))
    }

    async fn unblock(
        &self,
        request: Request<proto::UnblockRequest>,
    ) -> Result<Response<proto::UnblockResponse>, Status> {
        let caller = auth::caller(&request)?;
        self.handle.block(caller.user, referred(request.into_inner().user)?, false).await?;
        Ok(Response::new(proto::UnblockResponse {}))
    }
}

#[tonic::async_trait]
impl Graph for Door {
    async fn may_see(
        &self,
        request: Request<internal::MaySeeRequest>,
    ) -> Result<Response<internal::MaySeeResponse>, Status> {
        let internal::MaySeeRequest { viewer, subjects } = request.into_inner();
        if subjects.len() > MAY_SEE_BATCH {
            return Err(error::too_large("too many subjects", MAY_SEE_BATCH as u64).into());
        }
        let viewer = user("viewer", &viewer)?;
        let pair = |subject: &Vec<u8>| Ok((user("subjects", subject)?, viewer));
        let pairs = subjects.iter().map(pair).collect::<Result<_, Error>>()?;
        let may = self.handle.blocks(pairs).await?.into_iter().map(|blocks| !blocks).collect();
        Ok(Response::new(internal::MaySeeResponse { may }))
    }

    async fn blocks(
        &self,
        request: Request<internal::BlocksRequest>,
    ) -> Result<Response<internal::BlocksResponse>, Status> {
        let pairs = request.into_inner().pairs;
        if pairs.len() > BLOCKS_BATCH {
            return Err(error::too_large("too many pairs", BLOCKS_BATCH as u64).into());
        }
        let pair = |pair: &internal::Pair| Ok((user("by", &pair.by)?, user("user", &pair.user)?));
        let pairs = pairs.iter().map(pair).collect::<Result<_, Error>>()?;
        let blocked = self.handle.blocks(pairs).await?;
        Ok(Response::new(internal::BlocksResponse { blocked }))
    }
}
