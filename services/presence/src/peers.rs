//! What presence asks contacts.

use dialtone_chassis::{Channel, Error};
use dialtone_proto::contacts::internal::v1::graph_client::GraphClient;
use dialtone_proto::contacts::internal::v1::{BlocksRequest, MaySeeRequest, Pair};
use dialtone_vocab::{Reason, UserId};
use tonic::{Request, Status};

use crate::limits::MAY_SEE_WITHIN;
use crate::state::May;

/// Pairs of one question, as contacts takes them.
const BLOCKS_BATCH: usize = 1_000;

/// Who may see whom. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Graph(GraphClient<Channel>);

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(MAY_SEE_WITHIN);
    request
}

fn failed(status: &Status) -> Error {
    Error::from_status(status)
}

impl Graph {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(GraphClient::new(channel))
    }

    /// What `viewer` may see of each peer, in their order: nothing of those that block it, and no typing of those that
    /// it blocks itself.
    pub(crate) async fn judge(&self, viewer: UserId, peers: &[UserId]) -> Result<Vec<May>, Error> {
        let subjects = peers.iter().map(|peer| peer.to_vec()).collect();
        let ask = MaySeeRequest { viewer: viewer.to_vec(), subjects };
        let may = self.0.clone().may_see(request(ask)).await.map_err(|status| failed(&status))?;
        let may = may.into_inner().may;
        let mut blocked = Vec::with_capacity(peers.len());
        for chunk in peers.chunks(BLOCKS_BATCH) {
            let pairs = chunk.iter().map(|peer| Pair { by: viewer.to_vec(), user: peer.to_vec() }).collect();
            let answer = self.0.clone().blocks(request(BlocksRequest { pairs })).await;
            blocked.extend(answer.map_err(|status| failed(&status))?.into_inner().blocked);
        }
        if may.len() != peers.len() || blocked.len() != peers.len() {
            return Err(Error::new(Reason::Internal, "contacts answered something else than was asked"));
        }
        let word =
            |(may, blocked): (bool, bool)| if may { May::See { typing: !blocked } } else { May::Nothing };
        Ok(may.into_iter().zip(blocked).map(word).collect())
    }
}
