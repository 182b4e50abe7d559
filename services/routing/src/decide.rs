//! What becomes of a message: the decision of the method (claim 2), pure. `PlanSend` and `Send` both ask here, so
//! that the plan is what is done.

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_proto::routing::v1::{IfUnreachable, Way, Why};
use dialtone_proto::types::v1::{Body, Channel, IfOffline, Policy};
use dialtone_vocab::{PhoneNumber, Reason, UserId};

use crate::limits::{BODY_BYTES, CONTENT_TYPE_CHARS, FALLBACK_MAX, FALLBACK_MIN, SMS_CHARS};

/// What is known about the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) number: PhoneNumber,
    /// The user behind the number, and the epoch of that binding.
    pub(crate) user: Option<(UserId, u64)>,
}

/// A policy that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) channel: Channel,
    pub(crate) sms_if_offline: bool,
    pub(crate) fallback_after: Duration,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) way: Way,
    pub(crate) why: Why,
    pub(crate) if_unreachable: IfUnreachable,
}

fn field(name: &'static str, why: &'static str) -> Error {
    Error::new(Reason::FieldInvalid, why).with("field", name)
}

/// Checks a policy; unknown values are refused, not guessed.
pub(crate) fn check_policy(policy: &Policy, default_fallback: Duration) -> Result<Checked, Error> {
    let channel = match Channel::try_from(policy.channel) {
        Ok(Channel::Unspecified) => Channel::Auto,
        Ok(channel) => channel,
        Err(_) => return Err(field("policy.channel", "unknown channel")),
    };
    let if_offline =
        IfOffline::try_from(policy.if_offline).map_err(|_| field("policy.if_offline", "unknown value"))?;
    let fallback_after = match policy.fallback_after_ms {
        0 => default_fallback,
        millis => Duration::from_millis(millis),
    };
    if !(FALLBACK_MIN..=FALLBACK_MAX).contains(&fallback_after) {
        return Err(field("policy.fallback_after_ms", "5,000 to 86,400,000"));
    }
    Ok(Checked { channel, sms_if_offline: if_offline == IfOffline::Sms, fallback_after })
}

/// Checks a body.
pub(crate) fn check_body(body: &Body) -> Result<(), Error> {
    if body.content.is_empty() {
        return Err(Error::new(Reason::BodyEmpty, "a body has at least one byte"));
    }
    if body.content.len() > BODY_BYTES {
        return Err(
            Error::new(Reason::BodyTooLarge, "a body has at most 64 KiB").with("bytes", body.content.len())
        );
    }
    if body.content_type.chars().count() > CONTENT_TYPE_CHARS {
        return Err(field("body.content_type", "at most 128 characters"));
    }
    if body.sms_text.chars().count() > SMS_CHARS {
        return Err(field("body.sms_text", "at most 1,530 characters"));
    }
    Ok(())
}

/// The text a body goes out with as SMS.
pub(crate) fn sms_text(body: &Body) -> Option<String> {
    if !body.sms_text.is_empty() {
        return Some(body.sms_text.clone());
    }
    let plain = body.content_type.is_empty() || body.content_type.starts_with("text/plain");
    let text = std::str::from_utf8(&body.content).ok().filter(|_| plain)?;
    (text.chars().count() <= SMS_CHARS).then(|| text.to_owned())
}

/// Decides. A message that goes or may go as SMS needs a text form.
pub(crate) fn decide(receiver: &Receiver, policy: Checked, body: &Body) -> Result<Decision, Error> {
    let (way, why) = match (policy.channel, receiver.user) {
        (Channel::Sms, _) => (Way::Sms, Why::Chosen),
        (_, None) => (Way::Sms, Why::NotUser),
        (_, Some(_)) => (Way::Data, Why::User),
    };
    let if_unreachable = match (way, policy.sms_if_offline) {
        (Way::Sms, _) => IfUnreachable::Operator,
        (_, true) => IfUnreachable::SmsAtOnce,
        (_, false) => IfUnreachable::Kept,
    };
    if if_unreachable != IfUnreachable::Kept && sms_text(body).is_none() {
        return Err(Error::new(
            Reason::NoSmsText,
            "it goes or may go as SMS and has no text form: set sms_text",
        ));
    }
    Ok(Decision { way, why, if_unreachable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(registered: bool) -> Receiver {
        let number = PhoneNumber::parse_e164("+14155550101").expect("valid");
        Receiver { number, user: registered.then_some((UserId::new([1; 16]), 1)) }
    }

    fn policy(channel: Channel, if_offline: IfOffline) -> Checked {
        let policy = Policy { channel: channel.into(), if_offline: if_offline.into(), fallback_after_ms: 0 };
        check_policy(&policy, Duration::from_secs(20)).expect("in order")
    }

    fn plain() -> Body {
        Body { content: "hi".into(), ..Default::default() }
    }

    /// Figure 7 of the method, row by row.
    #[test]
    fn the_flow_of_sending() {
        use IfUnreachable::{Kept, Operator, SmsAtOnce};
        for (channel, registered, if_offline, expected) in [
            (Channel::Sms, true, IfOffline::Store, (Way::Sms, Why::Chosen, Operator)),
            (Channel::Sms, false, IfOffline::Store, (Way::Sms, Why::Chosen, Operator)),
            (Channel::Data, false, IfOffline::Store, (Way::Sms, Why::NotUser, Operator)),
            (Channel::Auto, false, IfOffline::Sms, (Way::Sms, Why::NotUser, Operator)),
            (Channel::Data, true, IfOffline::Store, (Way::Data, Why::User, Kept)),
            (Channel::Auto, true, IfOffline::Store, (Way::Data, Why::User, Kept)),
            (Channel::Data, true, IfOffline::Sms, (Way::Data, Why::User, SmsAtOnce)),
            (Channel::Auto, true, IfOffline::Sms, (Way::Data, Why::User, SmsAtOnce)),
            (Channel::Unspecified, true, IfOffline::Unspecified, (Way::Data, Why::User, Kept)),
        ] {
            let decision =
                decide(&receiver(registered), policy(channel, if_offline), &plain()).expect("decided");
            let got = (decision.way, decision.why, decision.if_unreachable);
            assert_eq!(got, expected, "{channel:?} {registered} {if_offline:?}");
        }
    }

    #[test]
    fn what_may_go_as_sms_needs_a_text() {
        let picture =
            Body { content: vec![0xff].into(), content_type: "image/png".into(), ..Default::default() };
        let refused = |registered, channel, if_offline| {
            decide(&receiver(registered), policy(channel, if_offline), &picture)
                .err()
                .map(|error| error.reason)
        };
        assert_eq!(refused(false, Channel::Auto, IfOffline::Store), Some(Reason::NoSmsText));
        assert_eq!(refused(true, Channel::Auto, IfOffline::Sms), Some(Reason::NoSmsText));
        assert_eq!(refused(true, Channel::Auto, IfOffline::Store), None);
        let told = Body { sms_text: "a picture".into(), ..picture };
        assert!(decide(&receiver(false), policy(Channel::Auto, IfOffline::Store), &told).is_ok());
    }

    #[test]
    fn bodies_and_policies_have_limits() {
        let body = |bytes: usize| Body { content: vec![b'x'; bytes].into(), ..Default::default() };
        assert_eq!(check_body(&body(0)).err().map(|e| e.reason), Some(Reason::BodyEmpty));
        assert!(check_body(&body(BODY_BYTES)).is_ok());
        assert_eq!(check_body(&body(BODY_BYTES + 1)).err().map(|e| e.reason), Some(Reason::BodyTooLarge));
        for wrong in [
            Policy { channel: 99, ..Default::default() },
            Policy { if_offline: 99, ..Default::default() },
            Policy { fallback_after_ms: 4_999, ..Default::default() },
            Policy { fallback_after_ms: 86_400_001, ..Default::default() },
        ] {
            let refused = check_policy(&wrong, Duration::from_secs(20)).err().map(|error| error.reason);
            assert_eq!(refused, Some(Reason::FieldInvalid), "{wrong:?}");
        }
    }
}
