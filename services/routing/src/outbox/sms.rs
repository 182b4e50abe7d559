//! Handing messages to the SMS service, and what it reports.

use dialtone_bus::subjects;
use dialtone_chassis::Backoff;
use dialtone_proto::bus::v1::{self as bus, SmsSubmit, SmsTaken, sms_submit};
use dialtone_proto::log::v1::SmsRefinement;
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::types::v1::FateKind;
use dialtone_vocab::NodeId;

use super::{Message, Resides};
use crate::decide::sms_text;
use crate::limits::{PEER_WITHIN, SMS_RETRY, SMS_RETRY_MAX};

/// Refinements go forward only.
fn rank(kind: FateKind) -> u8 {
    match kind {
        FateKind::SmsSubmitted => 1,
        FateKind::SmsUnknown => 2,
        FateKind::SmsDelivered | FateKind::SmsFailed => 3,
        _ => 0,
    }
}

impl Resides {
    /// Requests it of the SMS service until it has taken it; it takes each message once.
    pub(super) fn submit(&mut self, idx: u64) {
        let Some(sent) = self.state.sent.get(&idx) else { return };
        let may = sent.is_sms() || self.shared.sabotage.sms_before_claim_settled;
        if !may || sent.sms_taken {
            return;
        }
        let submit = SmsSubmit {
            message_id: sent.message.message_id.clone(),
            to: sent.number().to_owned(),
            text: sent.message.body.as_ref().and_then(sms_text).unwrap_or_default(),
            kind: sms_submit::Kind::Message.into(),
            from_user: self.user.to_vec(),
            from_number: sent.message.from_number.clone(),
            outbox: self.log.id().to_vec(),
            sent_idx: idx,
        };
        let (shared, user, opening) = (self.shared.clone(), self.user, self.opening);
        self.shared.chassis.tasks.spawn("outbox sms", async move {
            let stop = shared.chassis.tasks.stop_token();
            let mut backoff = Backoff::new(SMS_RETRY, SMS_RETRY_MAX);
            while !stop.is_cancelled() {
                let asked = shared
                    .bus
                    .request::<_, SmsTaken>(&subjects::sms_send(), submit.clone(), PEER_WITHIN)
                    .await;
                if let Ok(taken) = asked.map(|taken| (taken.refused, taken.retry_after_ms))
                    && taken.1 == 0
                {
                    if let Some(hive) = shared.hive.get() {
                        hive.send_own(user, Message::SmsTaken(opening, idx, taken.0));
                    }
                    return;
                }
                let rest = shared.chassis.clock.sleep(backoff.pause(&shared.chassis.rng));
                if stop.run_until_cancelled(rest).await.is_none() {
                    return;
                }
            }
        });
    }

    pub(super) fn sms_taken(&mut self, idx: u64, refused: String) {
        let at_ms = self.now().0;
        let Some(sent) = self.state.sent.get_mut(&idx) else { return };
        if refused.is_empty() {
            sent.sms_taken = true;
            return;
        }
        let kind = FateKind::SmsFailed.into();
        self.append(Kind::Sms(SmsRefinement { of: idx, kind, reason: refused, at_ms }));
    }

    /// A result becomes an entry; answered when that is settled.
    pub(super) fn sms_result(&mut self, result: bus::SmsResult) {
        if !NodeId::is_valid(&result.reply_node) || result.outbox != self.log.id().as_bytes() {
            return;
        }
        let node = NodeId::new(&result.reply_node);
        let taken = bus::SmsResultTaken { message_id: result.message_id.clone(), kind: result.kind };
        let known = self.state.sent.get(&result.sent_idx).and_then(|sent| sent.sms).map_or(0, rank);
        if rank(result.kind()) <= known {
            return self.tell_sms(&node, taken);
        }
        let under_way = self.waiting.sms_results.values().any(|(_, waiting)| *waiting == taken);
        if under_way {
            return;
        }
        let (of, kind, at_ms) = (result.sent_idx, result.kind, result.at_ms);
        let idx = self.append(Kind::Sms(SmsRefinement { of, kind, reason: result.reason, at_ms }));
        self.waiting.sms_results.insert(idx, (node, taken));
    }
}
