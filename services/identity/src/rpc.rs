//! The gRPC doors: registration, login, account, and the directory for other services.

use std::pin::Pin;

use dialtone_chassis::{Error, auth};
use dialtone_proto::identity::internal::v1 as internal;
use dialtone_proto::identity::internal::v1::directory_server::{Directory, DirectoryServer};
use dialtone_proto::identity::v1::account_server::{Account, AccountServer};
use dialtone_proto::identity::v1::login_server::{Login, LoginServer};
use dialtone_proto::identity::v1::registration_server::{Registration, RegistrationServer};
use dialtone_proto::identity::v1::{
    self as proto, check_code_response, complete_response, flow_state, with_code_response,
};
use dialtone_proto::types::v1::{TypedNumber, UserRef};
use dialtone_vocab::{PhoneNumber, Reason, SessionId};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::error;
use crate::handle::Handle;
use crate::limits::{READS_AT_ONCE, RESOLVE_BATCH, WATCH_EVERY};
use crate::rows::{DeviceRow, FlowRow};
use crate::state::{CodeVerdict, Stage};
use crate::store::FlowId;

/// The paths whose answers go on.
pub(crate) const STREAMS: &[&str] = &["/dialtone.identity.v1.Registration/WatchSession"];
/// States told and not read yet by a watcher.
const WATCH_QUEUE: usize = 16;

/// All doors.
#[derive(Clone)]
pub(crate) struct Door {
    handle: Handle,
}

/// The public and internal services.
pub(crate) fn routes(handle: Handle) -> Routes {
    let door = Door { handle };
    Routes::new(RegistrationServer::new(door.clone()))
        .add_service(LoginServer::new(door.clone()))
        .add_service(AccountServer::new(door.clone()))
        .add_service(DirectoryServer::new(door))
}

fn number(typed: Option<&TypedNumber>) -> Result<PhoneNumber, Error> {
    use dialtone_numbers::NumberError;
    let typed = typed.ok_or_else(|| error::field("number", "a number is needed"))?;
    dialtone_numbers::normalise(&typed.text, &typed.region).map_err(|error| match error {
        NumberError::NeedsCountry => Error::new(Reason::NumberNeedsCountry, error.to_string()),
        NumberError::UnknownRegion => error::field("region", "an ISO 3166-1 alpha-2 code"),
        NumberError::Malformed | NumberError::Ambiguous => {
            Error::new(Reason::NumberMalformed, error.to_string())
        }
    })
}

fn flow_id(bytes: &[u8]) -> Result<FlowId, Error> {
    bytes.try_into().map_err(|_| error::field("flow_id", "16 bytes"))
}

/// A device's key: none, or 32 bytes.
fn public_key(bytes: Vec<u8>, needed: bool) -> Result<Vec<u8>, Error> {
    match bytes.len() {
        32 => Ok(bytes),
        0 if !needed => Ok(bytes),
        _ => Err(error::field("device_public_key", "an Ed25519 public key has 32 bytes")),
    }
}

impl Door {
    async fn state(&self, id: &FlowId, row: &FlowRow) -> Result<proto::FlowState, Error> {
        let stage = match row.stage(self.handle.chassis.clock.now()) {
            Stage::Open => flow_state::Stage::Open,
            Stage::CodeSent => flow_state::Stage::CodeSent,
            Stage::Verified => flow_state::Stage::Verified,
            Stage::Ended => flow_state::Stage::Ended,
        };
        Ok(proto::FlowState {
            flow_id: id.to_vec(),
            stage: stage.into(),
            attempts_left: row.tries_left,
            expires_ms: row.expires_ms,
            next_sms_seconds: self.handle.next_sms_seconds(row).await?,
        })
    }

    /// The present state; a flow that is gone has ended.
    async fn present(&self, id: &FlowId) -> Result<proto::FlowState, Error> {
        match self.handle.seen(id).await {
            Ok(seen) => self.state(id, &seen.row).await,
            Err(error) if error.reason == Reason::FlowExpired => Ok(proto::FlowState {
                flow_id: id.to_vec(),
                stage: flow_state::Stage::Ended.into(),
                ..proto::FlowState::default()
            }),
            Err(error) => Err(error),
        }
    }

    /// Tells every change until the flow has ended or the client is gone.
    async fn follow(
        self,
        id: FlowId,
        mut changes: broadcast::Receiver<FlowId>,
        states: mpsc::Sender<Result<proto::FlowState, Status>>,
    ) {
        let mut told = None;
        loop {
            let state = self.present(&id).await;
            let over = state.as_ref().map_or(true, |state| state.stage() == flow_state::Stage::Ended);
            let now = state.as_ref().ok().map(what_changes);
            let is_news = now.is_none() || now != told;
            told = now;
            if is_news && states.send(state.map_err(Status::from)).await.is_err() || over {
                return;
            }
            tokio::select! {
                biased;
                () = states.closed() => return,
                () = changed(&mut changes, &id) => {}
                // Another process may have changed it, or its time is over.
                () = self.handle.chassis.clock.sleep(WATCH_EVERY) => {}
            }
        }
    }
}

/// What a watcher is told of.
fn what_changes(state: &proto::FlowState) -> (i32, u32, u64) {
    (state.stage, state.attempts_left, state.expires_ms)
}

/// Until this process has changed the flow, or may have.
async fn changed(changes: &mut broadcast::Receiver<FlowId>, id: &FlowId) {
    loop {
        match changes.recv().await {
            Ok(other) if other != *id => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The process stops.
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl Registration for Door {
    type WatchSessionStream = Pin<Box<dyn Stream<Item = Result<proto::FlowState, Status>> + Send>>;

    async fn create_session(
        &self,
        request: Request<proto::CreateSessionRequest>,
    ) -> Result<Response<proto::CreateSessionResponse>, Status> {
        let typed = request.into_inner().number.filter(|typed| !typed.text.is_empty());
        let number = typed.as_ref().map(|typed| number(Some(typed))).transpose()?;
        let (id, row) = self.handle.open_flow(false, number).await?;
        Ok(Response::new(proto::CreateSessionResponse { state: Some(self.state(&id, &row).await?) }))
    }

    async fn start_mo(
        &self,
        request: Request<proto::StartMoRequest>,
    ) -> Result<Response<proto::StartMoResponse>, Status> {
        let id = flow_id(&request.into_inner().flow_id)?;
        let (service_number, text, row) = self.handle.start_mo(&id).await?;
        Ok(Response::new(proto::StartMoResponse {
            service_number,
            text,
            state: Some(self.state(&id, &row).await?),
        }))
    }

    async fn send_code(
        &self,
        request: Request<proto::SendCodeRequest>,
    ) -> Result<Response<proto::SendCodeResponse>, Status> {
        let id = flow_id(&request.into_inner().flow_id)?;
        if self.handle.seen(&id).await?.row.login {
            return Err(error::flow_step("a one-time password is asked for with RequestCode").into());
        }
        let row = self.handle.send_code(&id, true).await?;
        Ok(Response::new(proto::SendCodeResponse { state: Some(self.state(&id, &row).await?) }))
    }

    async fn check_code(
        &self,
        request: Request<proto::CheckCodeRequest>,
    ) -> Result<Response<proto::CheckCodeResponse>, Status> {
        let proto::CheckCodeRequest { flow_id: id, code } = request.into_inner();
        let id = flow_id(&id)?;
        if self.handle.seen(&id).await?.row.login {
            return Err(error::flow_step("this is a login: use WithCode").into());
        }
        let (verdict, seen) = self.handle.check_code(&id, &code).await?;
        let outcome = match verdict {
            CodeVerdict::Passed => {
                let number = seen.row.number().ok_or_else(error::flow_expired)?.to_string();
                check_code_response::Outcome::Passed(check_code_response::Passed { number })
            }
            CodeVerdict::NotPassed { left } => {
                check_code_response::Outcome::NotPassed(proto::NotPassed { attempts_left: left })
            }
        };
        Ok(Response::new(proto::CheckCodeResponse { outcome: Some(outcome) }))
    }

    async fn watch_session(
        &self,
        request: Request<proto::WatchSessionRequest>,
    ) -> Result<Response<Self::WatchSessionStream>, Status> {
        let id = flow_id(&request.into_inner().flow_id)?;
        self.handle.seen(&id).await?;
        let changes = self.handle.watch_changes();
        let (sender, states) = mpsc::channel(WATCH_QUEUE);
        self.handle.chassis.tasks.spawn("identity watch", self.clone().follow(id, changes, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(states))))
    }

    async fn complete(
        &self,
        request: Request<proto::CompleteRequest>,
    ) -> Result<Response<proto::CompleteResponse>, Status> {
        let request = request.into_inner();
        let id = flow_id(&request.flow_id)?;
        let device = DeviceRow {
            public_key: public_key(request.device_public_key, true)?,
            name: request.device_name,
            ..DeviceRow::default()
        };
        let proto::LoggedIn { user, device, number, tokens } =
            self.handle.complete(&id, device, &request.nickname).await?;
        let registered = proto::Registered { user, device, number, tokens };
        let outcome = Some(complete_response::Outcome::Registered(registered));
        Ok(Response::new(proto::CompleteResponse { outcome }))
    }
}

#[tonic::async_trait]
impl Login for Door {
    async fn challenge(
        &self,
        request: Request<proto::ChallengeRequest>,
    ) -> Result<Response<proto::ChallengeResponse>, Status> {
        let request = request.into_inner();
        let nonce = self.handle.challenge(number(request.number.as_ref())?, request.device).await?;
        Ok(Response::new(proto::ChallengeResponse { nonce: nonce.to_vec() }))
    }

    async fn with_key(
        &self,
        request: Request<proto::WithKeyRequest>,
    ) -> Result<Response<proto::WithKeyResponse>, Status> {
        let request = request.into_inner();
        let number = number(request.number.as_ref())?;
        let logged_in =
            self.handle.with_key(number, request.device, &request.nonce, &request.signature).await?;
        Ok(Response::new(proto::WithKeyResponse { logged_in: Some(logged_in) }))
    }

    async fn request_code(
        &self,
        request: Request<proto::RequestCodeRequest>,
    ) -> Result<Response<proto::RequestCodeResponse>, Status> {
        let number = number(request.into_inner().number.as_ref())?;
        let (id, row) = self.handle.request_code(number).await?;
        Ok(Response::new(proto::RequestCodeResponse { state: Some(self.state(&id, &row).await?) }))
    }

    async fn with_code(
        &self,
        request: Request<proto::WithCodeRequest>,
    ) -> Result<Response<proto::WithCodeResponse>, Status> {
        let request = request.into_inner();
        let id = flow_id(&request.flow_id)?;
        let device = DeviceRow {
            public_key: public_key(request.device_public_key, false)?,
            name: request.device_name,
            ..DeviceRow::default()
        };
        let outcome = match self.handle.with_code(&id, &request.code, device).await? {
            Ok(logged_in) => with_code_response::Outcome::Passed(logged_in),
            Err(attempts_left) => with_code_response::Outcome::NotPassed(proto::NotPassed { attempts_left }),
        };
        Ok(Response::new(proto::WithCodeResponse { outcome: Some(outcome) }))
    }

    async fn refresh(
        &self,
        request: Request<proto::RefreshRequest>,
    ) -> Result<Response<proto::RefreshResponse>, Status> {
        let tokens = self.handle.refresh(&request.into_inner().refresh).await?;
        Ok(Response::new(proto::RefreshResponse { tokens: Some(tokens) }))
    }
}

#[tonic::async_trait]
impl Account for Door {
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let caller = self.handle.admit(auth::caller(&request)?).await?;
        let row = self.handle.user_row(caller.user).await?;
        let numbers = row.numbers.iter().filter_map(|digits| PhoneNumber::from_u64(*digits).ok());
        Ok(Response::new(proto::GetResponse {
            user: Some(UserRef { id: caller.user.to_vec() }),
            numbers: numbers.map(|number| number.to_string()).collect(),
            nickname: row.nickname,
            registered_ms: row.registered_ms,
        }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateRequest>,
    ) -> Result<Response<proto::UpdateResponse>, Status> {
        let caller = self.handle.admit(auth::caller(&request)?).await?;
        self.handle.rename(caller.user, &request.into_inner().nickname).await?;
        Ok(Response::new(proto::UpdateResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let caller = self.handle.admit(auth::caller(&request)?).await?;
        let sessions = self.handle.sessions(&caller).await?.into_iter().map(|(id, row)| proto::Session {
            session_id: id.to_vec(),
            device: row.device,
            device_name: row.device_name,
            created_ms: row.created_ms,
            last_seen_ms: row.last_seen_ms,
            current: id == caller.session,
        });
        Ok(Response::new(proto::ListSessionsResponse { sessions: sessions.collect() }))
    }

    async fn revoke_session(
        &self,
        request: Request<proto::RevokeSessionRequest>,
    ) -> Result<Response<proto::RevokeSessionResponse>, Status> {
        let caller = self.handle.admit(auth::caller(&request)?).await?;
        let session = SessionId::from_slice(&request.into_inner().session_id)
            .map_err(|_| error::field("session_id", "16 bytes"))?;
        self.handle.revoke(caller.user, session).await?;
        Ok(Response::new(proto::RevokeSessionResponse {}))
    }

    async fn logout(
        &self,
        request: Request<proto::LogoutRequest>,
    ) -> Result<Response<proto::LogoutResponse>, Status> {
        let caller = self.handle.admit(auth::caller(&request)?).await?;
        self.handle.revoke(caller.user, caller.session).await?;
        Ok(Response::new(proto::LogoutResponse {}))
    }
}

#[tonic::async_trait]
impl Directory for Door {
    async fn resolve(
        &self,
        request: Request<internal::ResolveRequest>,
    ) -> Result<Response<internal::ResolveResponse>, Status> {
        let numbers = request.into_inner().numbers;
        if numbers.len() > RESOLVE_BATCH {
            return Err(Error::new(Reason::TooLarge, "at most 1,000 numbers").into());
        }
        let answers = stream::iter(numbers).map(async |number: String| self.handle.resolve(&number).await);
        let answers = answers.buffered(READS_AT_ONCE).try_collect().await?;
        Ok(Response::new(internal::ResolveResponse { answers }))
    }

    async fn numbers(
        &self,
        request: Request<internal::NumbersRequest>,
    ) -> Result<Response<internal::NumbersResponse>, Status> {
        let users = request.into_inner().users;
        if users.len() > RESOLVE_BATCH {
            return Err(Error::new(Reason::TooLarge, "at most 1,000 users").into());
        }
        let answers = stream::iter(users).map(async |user: Vec<u8>| self.handle.numbers(&user).await);
        let answers = answers.buffered(READS_AT_ONCE).try_collect().await?;
        Ok(Response::new(internal::NumbersResponse { answers }))
    }
}
