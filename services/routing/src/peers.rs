//! What routing asks identity and the SMS bridge.

use dialtone_chassis::{Channel, Chassis, Error};
use dialtone_numbers::NumberError;
use dialtone_proto::identity::internal::v1::directory_client::DirectoryClient;
use dialtone_proto::identity::internal::v1::{NumbersRequest, ResolveRequest};
use dialtone_proto::sms::internal::v1::bridge_client::BridgeClient;
use dialtone_proto::sms::internal::v1::{QuoteRequest, QuoteResponse};
use dialtone_proto::types::v1::{Recipient, TypedNumber, recipient::To};
use dialtone_vocab::{PhoneNumber, Reason, UserId};

use crate::decide::Receiver;
use crate::limits::PEER_WITHIN;

/// The services that routing asks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    chassis: Chassis,
    identity: DirectoryClient<Channel>,
    sms: BridgeClient<Channel>,
}

/// A number as typed, read.
fn read(typed: &TypedNumber) -> Result<PhoneNumber, Error> {
    dialtone_numbers::normalise(&typed.text, &typed.region).map_err(|error| match error {
        NumberError::NeedsCountry => Error::new(Reason::NumberNeedsCountry, error.to_string()),
        NumberError::UnknownRegion => {
            Error::new(Reason::FieldInvalid, error.to_string()).with("field", "region")
        }
        NumberError::Malformed | NumberError::Ambiguous => {
            Error::new(Reason::NumberMalformed, error.to_string())
        }
    })
}

impl Peers {
    pub(crate) fn new(chassis: &Chassis, identity: Channel, sms: Channel) -> Self {
        let (identity, sms) = (DirectoryClient::new(identity), BridgeClient::new(sms));
        Self { chassis: chassis.clone(), identity, sms }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        let answer = self.chassis.clock.timeout(PEER_WITHIN, call).await;
        let answer =
            answer.map_err(|_| Error::new(Reason::Timeout, "a service on the way did not answer in time"))?;
        Ok(answer.map_err(|status| Error::from_status(&status))?.into_inner())
    }

    /// Who is behind a recipient.
    pub(crate) async fn resolve(&self, to: &Recipient) -> Result<Receiver, Error> {
        match &to.to {
            Some(To::Number(typed)) => self.by_number(read(typed)?).await,
            Some(To::User(user)) => {
                let user = UserId::from_slice(&user.id);
                self.by_user(user.map_err(|_| {
                    Error::new(Reason::FieldInvalid, "a user has 16 bytes").with("field", "to.user")
                })?)
                .await
            }
            None => Err(Error::new(Reason::FieldInvalid, "to whom?").with("field", "to")),
        }
    }

    async fn by_number(&self, number: PhoneNumber) -> Result<Receiver, Error> {
        let mut identity = self.identity.clone();
        let answer =
            self.within(identity.resolve(ResolveRequest { numbers: vec![number.to_string()] })).await?;
        let resolved = answer.answers.into_iter().next().unwrap_or_default();
        let user = UserId::from_slice(&resolved.user).ok().map(|user| (user, resolved.epoch));
        Ok(Receiver { number, user })
    }

    async fn by_user(&self, user: UserId) -> Result<Receiver, Error> {
        let mut identity = self.identity.clone();
        let answer = self.within(identity.numbers(NumbersRequest { users: vec![user.to_vec()] })).await?;
        let numbers = answer.answers.into_iter().next().unwrap_or_default();
        let number = PhoneNumber::parse_e164(&numbers.primary);
        let number = number.map_err(|_| Error::new(Reason::RecipientUnknown, "no such user"))?;
        Ok(Receiver { number, user: Some((user, numbers.epoch)) })
    }

    /// What an SMS would cost.
    pub(crate) async fn quote(
        &self,
        to: PhoneNumber,
        text: String,
        from: (UserId, PhoneNumber),
    ) -> Result<QuoteResponse, Error> {
        let request = QuoteRequest {
            to: to.to_string(),
            text,
            from_number: from.1.to_string(),
            from_user: from.0.to_vec(),
        };
        let mut sms = self.sms.clone();
        self.within(sms.quote(request)).await
    }
}
