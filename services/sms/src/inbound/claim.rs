//! Whose an SMS from a phone is.

use dialtone_bus::subjects;
use dialtone_proto::bus::v1::{MoClaim, MoClaimed, SmsSubmit, sms_submit};
use dialtone_vocab::{PhoneNumber, UserId};

use super::Inbound;
use crate::limits::CLAIM_WITHIN;

/// What became of a text.
pub(super) enum Claimed {
    Done(&'static str),
    Routed(UserId),
    /// Can't be decided now: the operator delivers it again.
    Later,
}

impl Inbound {
    /// In this order: an open registration, a keyword, a reply; else nobody's.
    pub(super) async fn claim(&self, from: &str, to: &str, content: &str) -> Claimed {
        let claim = MoClaim { from: from.to_owned(), to: to.to_owned(), text: content.to_owned() };
        match self.bus.request::<_, MoClaimed>(&subjects::identity_mo(), claim, CLAIM_WITHIN).await {
            Ok(MoClaimed { claimed: true }) => return Claimed::Done("claimed"),
            Ok(MoClaimed { claimed: false }) => {}
            Err(error) => {
                tracing::debug!(%error, "identity can't be asked: the operator delivers it again");
                return Claimed::Later;
            }
        }
        let Ok(number) = PhoneNumber::parse_e164(from) else { return Claimed::Done("refused") };
        match self.keyword(number, to, content).await {
            Ok(Some(event)) => return Claimed::Done(event),
            Ok(None) => {}
            Err(()) => return Claimed::Later,
        }
        match self.bridge.store.route(self.bridge.key.hash(number), to).await {
            Ok(Some(user)) => Claimed::Routed(user),
            Ok(None) => Claimed::Done("refused"),
            Err(_) => Claimed::Later,
        }
    }

    /// STOP, START and HELP, alone and in any case. The answer comes from the number that was texted, which can be
    /// answered.
    async fn keyword(&self, from: PhoneNumber, to: &str, content: &str) -> Result<Option<&'static str>, ()> {
        let answer = match content.trim().to_ascii_uppercase().as_str() {
            "STOP" => {
                self.bridge.store.opt_out(self.bridge.key.hash(from), true).await.map_err(|_| ())?;
                "You will get no more messages. START undoes this."
            }
            "START" => {
                self.bridge.store.opt_out(self.bridge.key.hash(from), false).await.map_err(|_| ())?;
                "You will get messages again. STOP ends this."
            }
            "HELP" => {
                "Somebody writes to you through Dialtone. Answer to this number to reply, STOP to get no more."
            }
            _ => return Ok(None),
        };
        let submit = SmsSubmit {
            message_id: self.chassis.rng.bytes::<16>().to_vec(),
            to: from.to_string(),
            text: answer.to_owned(),
            kind: sms_submit::Kind::Code.into(),
            from_number: to.to_owned(),
            ..SmsSubmit::default()
        };
        let taken = self.bridge.take(submit).await.map_err(|_| ())?;
        if taken.refused.is_empty() {
            return Ok(Some("keyword"));
        }
        // What it asks for is done, and that can't wait until there is room for an answer.
        tracing::debug!(reason = taken.refused, "a keyword was obeyed and not answered");
        Ok(Some("unanswered"))
    }
}
