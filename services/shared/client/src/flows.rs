//! Registering and logging in.

use dialtone_chassis::{Chassis, Rng};
use dialtone_proto::identity::v1::{
    self as identity, check_code_response, complete_response, with_code_response,
};
use dialtone_proto::types::v1::TypedNumber;
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, UnixMillis, UserId};
use ed25519_dalek::{Signer, SigningKey};

use crate::{Api, ClientError};

/// What the server expects to be signed at a login, before nonce and device.
const LOGIN_CONTEXT: &[u8] = b"dialtone-login-v1";

/// The key of a device: made at registration, never leaves it.
#[derive(Clone)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// A new key.
    pub fn generate(rng: &Rng) -> Self {
        Self::from_seed(rng.bytes())
    }

    /// The key of a seed kept by the device.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed to keep.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What the server keeps.
    pub fn public(&self) -> Vec<u8> {
        self.0.verifying_key().to_bytes().to_vec()
    }

    fn answer(&self, nonce: &[u8], device: DeviceId) -> Vec<u8> {
        let message = [LOGIN_CONTEXT, nonce, &device.0.to_be_bytes()].concat();
        self.0.sign(&message).to_bytes().to_vec()
    }
}

/// A logged-in device.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: UserId,
    /// The device within the user.
    pub device: DeviceId,
    /// The user's number.
    pub number: PhoneNumber,
    /// The device's key, if it has one; else it logs in by its refresh token.
    pub key: Option<DeviceKey>,
    /// The present tokens.
    pub tokens: identity::Tokens,
}

impl Credentials {
    fn new(login: identity::LoggedIn, key: Option<DeviceKey>) -> Result<Self, ClientError> {
        let user = login.user.ok_or(ClientError::Unexpected("no user"))?;
        Ok(Self {
            user: UserId::from_slice(&user.id).map_err(|_| ClientError::Unexpected("user id"))?,
            device: DeviceId(login.device),
            number: PhoneNumber::parse_e164(&login.number).map_err(|_| ClientError::Unexpected("number"))?,
            key,
            tokens: login.tokens.ok_or(ClientError::Unexpected("no tokens"))?,
        })
    }

    /// Logs in with the device's key.
    ///
    /// # Errors
    /// [`ClientError::Refused`], in the same words whether number, device or key is wrong.
    pub async fn by_key(
        api: &Api,
        number: PhoneNumber,
        device: DeviceId,
        key: DeviceKey,
    ) -> Result<Self, ClientError> {
        match Self::by_challenge(api, number, device, &key).await {
            // A challenge may have run out meanwhile; only the second refusal is about the key.
            Err(ClientError::Refused(error)) if error.reason == Reason::LoginRefused => {
                Self::by_challenge(api, number, device, &key).await
            }
            outcome => outcome,
        }
    }

    async fn by_challenge(
        api: &Api,
        number: PhoneNumber,
        device: DeviceId,
        key: &DeviceKey,
    ) -> Result<Self, ClientError> {
        let typed = Some(TypedNumber { text: number.to_string(), region: String::new() });
        let challenge = identity::ChallengeRequest { number: typed.clone(), device: device.0 };
        let nonce = api.login().challenge(challenge).await?.into_inner().nonce;
        let signature = key.answer(&nonce, device);
        let request = identity::WithKeyRequest { number: typed, device: device.0, nonce, signature };
        let answer = api.login().with_key(request).await?.into_inner();
        Self::new(answer.logged_in.ok_or(ClientError::Unexpected("no login"))?, Some(key.clone()))
    }

    /// Fresh tokens: by the key, or by the refresh token.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the session was revoked or the server is not there.
    pub async fn renew(&mut self, api: &Api) -> Result<(), ClientError> {
        if let Some(key) = self.key.clone() {
            *self = Self::by_key(api, self.number, self.device, key).await?;
            return Ok(());
        }
        let request = identity::RefreshRequest { refresh: self.tokens.refresh.clone() };
        let answer = api.login().refresh(request).await?.into_inner();
        self.tokens = answer.tokens.ok_or(ClientError::Unexpected("no tokens"))?;
        Ok(())
    }

    /// Whether the access token is about to run out.
    pub fn is_stale(&self, now: UnixMillis) -> bool {
        now.0 + 30_000 >= self.tokens.access_expires_ms
    }
}

/// A registration or one-time password on its way.
pub struct PendingFlow {
    api: Api,
    /// How the server sees it.
    pub state: identity::FlowState,
}

/// What came of returning a code.
pub enum CodeOutcome<T> {
    /// It was right.
    Passed(T),
    /// It was wrong; so many tries are left.
    NotPassed(u32),
}

impl PendingFlow {
    /// Begins a registration by nothing but the number.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a malformed number or a spent budget.
    pub async fn register(api: &Api, number: &str) -> Result<Self, ClientError> {
        let number = Some(TypedNumber { text: number.to_owned(), region: String::new() });
        let answer =
            api.registration().create_session(identity::CreateSessionRequest { number }).await?.into_inner();
        Self::new(api, answer.state)
    }

    /// Asks for a one-time password by SMS, for a device without SIM.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a malformed number or a spent budget.
    pub async fn one_time_password(api: &Api, number: &str) -> Result<Self, ClientError> {
        let number = Some(TypedNumber { text: number.to_owned(), region: String::new() });
        let answer = api.login().request_code(identity::RequestCodeRequest { number }).await?.into_inner();
        Self::new(api, answer.state)
    }

    fn new(api: &Api, state: Option<identity::FlowState>) -> Result<Self, ClientError> {
        Ok(Self { api: api.clone(), state: state.ok_or(ClientError::Unexpected("no state"))? })
    }

    /// The MO way: what to text to which service number.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn start_mo(&mut self) -> Result<(String, String), ClientError> {
        let request = identity::StartMoRequest { flow_id: self.state.flow_id.clone() };
        let answer = self.api.registration().start_mo(request).await?.into_inner();
        self.state = answer.state.unwrap_or_else(|| self.state.clone());
        Ok((answer.service_number, answer.text))
    }

    /// The MT way: asks for the code by SMS.
    ///
    /// # Errors
    /// [`ClientError::Refused`], with the wait when the budget is spent.
    pub async fn send_code(&mut self) -> Result<(), ClientError> {
        let request = identity::SendCodeRequest { flow_id: self.state.flow_id.clone() };
        let answer = self.api.registration().send_code(request).await?.into_inner();
        self.state = answer.state.unwrap_or_else(|| self.state.clone());
        Ok(())
    }

    /// Returns the code of a registration.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the flow has ended.
    pub async fn check_code(&self, code: &str) -> Result<CodeOutcome<String>, ClientError> {
        let request =
            identity::CheckCodeRequest { flow_id: self.state.flow_id.clone(), code: code.to_owned() };
        match self.api.registration().check_code(request).await?.into_inner().outcome {
            Some(check_code_response::Outcome::Passed(passed)) => Ok(CodeOutcome::Passed(passed.number)),
            Some(check_code_response::Outcome::NotPassed(wrong)) => {
                Ok(CodeOutcome::NotPassed(wrong.attempts_left))
            }
            None => Err(ClientError::Unexpected("no outcome")),
        }
    }

    /// Makes user and device of a verified registration. `nickname` may stay empty.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the flow is not verified.
    pub async fn complete(
        &self,
        chassis: &Chassis,
        name: &str,
        nickname: &str,
    ) -> Result<Credentials, ClientError> {
        let key = DeviceKey::generate(&chassis.rng);
        let request = identity::CompleteRequest {
            flow_id: self.state.flow_id.clone(),
            device_public_key: key.public(),
            device_name: name.to_owned(),
            nickname: nickname.to_owned(),
        };
        match self.api.registration().complete(request).await?.into_inner().outcome {
            Some(complete_response::Outcome::Registered(done)) => {
                let identity::Registered { user, device, number, tokens } = done;
                Credentials::new(identity::LoggedIn { user, device, number, tokens }, Some(key))
            }
            None => Err(ClientError::Unexpected("no outcome")),
        }
    }

    /// Returns a one-time password.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the tries are used up or the flow has expired.
    pub async fn log_in(
        &self,
        code: &str,
        device_name: &str,
    ) -> Result<CodeOutcome<Credentials>, ClientError> {
        let request = identity::WithCodeRequest {
            flow_id: self.state.flow_id.clone(),
            code: code.to_owned(),
            device_public_key: Vec::new(),
            device_name: device_name.to_owned(),
        };
        match self.api.login().with_code(request).await?.into_inner().outcome {
            Some(with_code_response::Outcome::Passed(login)) => {
                Ok(CodeOutcome::Passed(Credentials::new(login, None)?))
            }
            Some(with_code_response::Outcome::NotPassed(wrong)) => {
                Ok(CodeOutcome::NotPassed(wrong.attempts_left))
            }
            None => Err(ClientError::Unexpected("no outcome")),
        }
    }
}
