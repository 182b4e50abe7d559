//! What contacts asks identity.

use std::time::Duration;

use dialtone_chassis::{Channel, Error};
use dialtone_proto::identity::internal::v1::directory_client::DirectoryClient;
use dialtone_proto::identity::internal::v1::{NumbersRequest, ResolveRequest, Resolved, UserNumbers};
use dialtone_vocab::{PhoneNumber, Reason, UserId};
use tonic::{Request, Status};

use crate::limits::{DIRECTORY_BATCH, DIRECTORY_WITHIN};

/// Whose numbers are whose. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory(DirectoryClient<Channel>);

fn request<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

/// What identity says about us is our defect; only what passes by itself is passed on.
fn unavailable(status: &Status) -> Error {
    let error = Error::from_status(status);
    tracing::warn!(reason = error.reason.as_str(), "identity did not answer");
    match error.reason {
        Reason::Timeout | Reason::Busy | Reason::StoreUnavailable => error,
        _ => Error::new(Reason::PeerUnavailable, "the directory of numbers is not there"),
    }
}

fn short() -> Error {
    Error::new(Reason::Internal, "the directory answered something else than was asked")
}

impl Directory {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(DirectoryClient::new(channel))
    }

    /// Whose numbers these are, in their order.
    pub(crate) async fn resolve(&self, numbers: &[PhoneNumber]) -> Result<Vec<Resolved>, Error> {
        let mut answers = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(DIRECTORY_BATCH) {
            let ask = ResolveRequest { numbers: chunk.iter().map(PhoneNumber::to_string).collect() };
            let answer = self.0.clone().resolve(request(ask, DIRECTORY_WITHIN)).await;
            answers.extend(answer.map_err(|status| unavailable(&status))?.into_inner().answers);
        }
        if answers.len() == numbers.len() { Ok(answers) } else { Err(short()) }
    }

    /// The numbers of users, in their order.
    pub(crate) async fn numbers(&self, users: &[UserId]) -> Result<Vec<UserNumbers>, Error> {
        let mut answers = Vec::with_capacity(users.len());
        for chunk in users.chunks(DIRECTORY_BATCH) {
            let ask = NumbersRequest { users: chunk.iter().map(|user| user.to_vec()).collect() };
            let answer = self.0.clone().numbers(request(ask, DIRECTORY_WITHIN)).await;
            answers.extend(answer.map_err(|status| unavailable(&status))?.into_inner().answers);
        }
        if answers.len() == users.len() { Ok(answers) } else { Err(short()) }
    }
}
