//! What routing does, in domain words.

use std::time::Duration;

use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Chassis, Error};
use dialtone_proto::routing::v1::{
    Accepted, IfUnreachable, PlanSendRequest, PlanSendResponse, RevokeResponse, SendRequest, SmsQuote,
};
use dialtone_shards::Hive;
use dialtone_vocab::{Reason, UserId};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::decide;
use crate::limits::PEER_WITHIN;
use crate::metrics;
use crate::outbox::{Asker, Message, Resides, Sender, conversation};
use crate::peers::Peers;

/// Routing's operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    chassis: Chassis,
    hive: Hive<Resides>,
    peers: Peers,
    config: Config,
}

fn busy() -> Error {
    Error::new(Reason::Busy, "too much is waiting for this outbox").retry_after(Duration::from_millis(200))
}

impl Handle {
    pub(crate) fn new(chassis: &Chassis, hive: Hive<Resides>, peers: Peers, config: &Config) -> Self {
        Self { chassis: chassis.clone(), hive, peers, config: config.clone() }
    }

    /// Something happens to a user's outbox; what does not fit is repeated by whoever sent it.
    pub(crate) fn tell(&self, user: UserId, message: Message) {
        if self.hive.send(user, message).is_err() {
            metrics::busy();
        }
    }

    /// Asks an outbox; a caller that goes away loses no change of state, the actor has it.
    async fn ask<T>(
        &self,
        user: UserId,
        message: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Message,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.hive.send(user, message(sender)).map_err(|_| busy())?;
        let answer = self.chassis.clock.timeout(PEER_WITHIN * 2, answer).await;
        let answer =
            answer.map_err(|_| Error::new(Reason::Timeout, "not settled in time; the outcome is unknown"))?;
        answer.map_err(|_| busy())?
    }

    pub(crate) async fn send(&self, caller: &Caller, request: SendRequest) -> Result<Accepted, Error> {
        let sender = Sender { device: caller.device, number: caller.number };
        self.ask(caller.user, |answer| Message::Send(sender, Box::new(request), Asker::Call(answer))).await
    }

    pub(crate) async fn revoke(&self, caller: &Caller, sent_idx: u64) -> Result<RevokeResponse, Error> {
        self.ask(caller.user, |answer| Message::Revoke(sent_idx, answer)).await
    }

    /// The quote before the send; changes nothing.
    pub(crate) async fn plan(
        &self,
        caller: &Caller,
        request: PlanSendRequest,
    ) -> Result<PlanSendResponse, Error> {
        let body = request.body.unwrap_or_default();
        decide::check_body(&body)?;
        let default = Duration::from_millis(self.config.fallback_after_ms);
        let policy = decide::check_policy(&request.policy.unwrap_or_default(), default)?;
        let receiver = self.peers.resolve(&request.to.unwrap_or_default()).await?;
        let decision = decide::decide(&receiver, policy, &body)?;
        let may_be_sms = decision.if_unreachable != IfUnreachable::Kept;
        let sms = match decide::sms_text(&body).filter(|_| may_be_sms) {
            Some(text) => {
                let quote = self.peers.quote(receiver.number, text, (caller.user, caller.number)).await?;
                Some(SmsQuote {
                    segments: quote.segments,
                    encoding: quote.encoding,
                    price_micros: quote.price_micros,
                    currency: quote.currency,
                    answerable: quote.answerable,
                })
            }
            None => None,
        };
        Ok(PlanSendResponse {
            way: decision.way.into(),
            why: decision.why.into(),
            if_unreachable: decision.if_unreachable.into(),
            sms,
            conversation: Some(conversation(&receiver)),
        })
    }
}
