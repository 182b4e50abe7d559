//! What the phone says, in words for its owner. Pure.

use dialtone_client::ClientError;
use dialtone_proto::contacts::v1::Verdict;
use dialtone_proto::edge::v1::{GoAway, Refused};
use dialtone_proto::routing::v1::{IfUnreachable, PlanSendResponse, Way, Why};
use dialtone_proto::types::v1::FateKind;
use dialtone_vocab::Reason;

/// Something that did not work.
pub(super) fn problem(error: &anyhow::Error, gateway: &str) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(refused)) if refused.reason == Reason::PeerUnavailable => {
            format!("the system at {gateway} can't be reached ({})", refused.reason.as_str())
        }
        Some(ClientError::Refused(refused)) => format!("{} ({})", refused.message, refused.reason.as_str()),
        _ => format!("{error:#}"),
    }
}

/// A send that was refused.
pub(super) fn refused(refused: &Refused) -> String {
    if refused.message.is_empty() {
        return format!("! refused: {}", refused.reason);
    }
    format!("! refused: {} ({})", refused.message, refused.reason)
}

/// The end of a session.
pub(super) fn ended(go_away: &GoAway) -> String {
    let is = |reason: Reason| go_away.reason == reason.as_str();
    if is(Reason::Replaced) {
        "another phone with this number took over; /online takes it back".to_owned()
    } else if is(Reason::SessionRevoked) {
        "this phone was logged out; /quit and start it again to log in".to_owned()
    } else if is(Reason::LoginRefused) {
        // The server's data are others now.
        "the system does not know this phone any more: /quit and start it again to register".to_owned()
    } else {
        format!("the session ended: {}", go_away.reason)
    }
}

/// Why a number does not go into the book.
pub(super) fn not_kept(number: &str, verdict: Verdict) -> String {
    match verdict {
        Verdict::Ambiguous => format!("{number} may be several numbers: write it with + and its country"),
        Verdict::NeedsCountry => format!("{number} has no country: write it with +"),
        _ => format!("{number} is not a phone number"),
    }
}

/// What became of a message, where there is something to say.
pub(super) fn fate(kind: FateKind) -> Option<&'static str> {
    Some(match kind {
        FateKind::SmsClaimed => "goes out as SMS instead",
        FateKind::SmsDelivered => "SMS delivered",
        FateKind::SmsFailed => "SMS failed",
        FateKind::SmsUnknown => "SMS: the operator never answered",
        FateKind::Revoked => "taken back",
        FateKind::Failed => "failed",
        FateKind::SmsSubmitted | FateKind::Unspecified => return None,
    })
}

/// A plan.
pub(super) fn plan(plan: &PlanSendResponse) -> String {
    let way = match (plan.way(), plan.why()) {
        (Way::Sms, Why::NotUser) => "goes as SMS, the number has no user",
        (Way::Sms, _) => "goes as SMS",
        _ => "goes as data",
    };
    let unreachable = match plan.if_unreachable() {
        IfUnreachable::Kept => "; if offline it is kept",
        IfUnreachable::SmsAtOnce => "; if offline it goes as SMS",
        _ => "",
    };
    let quote = plan.sms.as_ref().map_or_else(String::new, |sms| {
        let segments = if sms.segments == 1 { "segment" } else { "segments" };
        let answerable = if sms.answerable { "can be answered" } else { "can't be answered" };
        format!(
            "; as SMS: {} {segments}, {}, about {} {}, {answerable}",
            sms.segments,
            sms.encoding,
            price(sms.price_micros),
            sms.currency
        )
    });
    format!("{way}{unreachable}{quote}")
}

/// Millionths with all their digits, and no zeros after them.
fn price(micros: u64) -> String {
    let digits = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use dialtone_chassis::Error;
    use dialtone_proto::routing::v1::SmsQuote;

    use super::*;

    #[test]
    fn a_price_has_all_its_digits() {
        assert_eq!(price(7_500), "0.0075");
        assert_eq!(price(1_000_001), "1.000001");
        assert_eq!(price(20_000_000), "20");
        assert_eq!(price(0), "0");
    }

    #[test]
    fn one_segment_is_one() {
        let told = |segments| {
            plan(&PlanSendResponse {
                sms: Some(SmsQuote { segments, ..SmsQuote::default() }),
                ..Default::default()
            })
        };
        assert!(told(1).contains("1 segment,"));
        assert!(told(2).contains("2 segments,"));
    }

    #[test]
    fn a_problem_is_told_in_the_servers_words() {
        let told = |reason| {
            let error = ClientError::Refused(Error::new(reason, "too much is going on"));
            problem(&anyhow::Error::from(error), "http://127.0.0.1:1")
        };
        assert_eq!(told(Reason::Busy), "too much is going on (BUSY)");
        assert_eq!(
            told(Reason::PeerUnavailable),
            "the system at http://127.0.0.1:1 can't be reached (PEER_UNAVAILABLE)"
        );
    }
}
