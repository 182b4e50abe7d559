//! Accepting messages, and taking them back.

use dialtone_chassis::Error;
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::log::v1::outbox_message::Route;
use dialtone_proto::log::v1::{
    DataRoute, OutboxEntry, OutboxMessage, SmsRoute, Withdraw, decision, withdraw,
};
use dialtone_proto::routing::v1::{Accepted, RevokeResponse, SendRequest, Way, revoke_response};
use dialtone_proto::types::v1::{
    ConversationRef, Fate, FateKind, Recipient, UserRef, conversation_ref::With,
};
use dialtone_vocab::{ClientSeq, MessageId, Reason, UnixMillis};
use prost::Message as _;
use tokio::sync::oneshot;

use super::{Asker, Resides, Resolved, Sender};
use crate::decide::{self, Receiver};
use crate::limits::{PAGE, RESOLVED, RESOLVED_LIFE, UNANSWERED};
use crate::metrics;
use crate::state::Sent;

/// What a message was accepted as.
pub(super) fn accepted_of(idx: u64, message: &OutboxMessage) -> Accepted {
    let way = if matches!(message.route, Some(Route::Data(_))) { Way::Data } else { Way::Sms };
    Accepted {
        client_seq: message.client_seq,
        message_id: message.message_id.clone(),
        sent_idx: idx,
        way: way.into(),
        why: i32::try_from(message.why).unwrap_or_default(),
        conversation: message.conversation.clone(),
        accepted_ms: message.accepted_ms,
    }
}

/// A conversation as its sender sees it.
pub(crate) fn conversation(receiver: &Receiver) -> ConversationRef {
    let with = match receiver.user {
        Some((user, _)) => With::User(UserRef { id: user.to_vec() }),
        None => With::Number(receiver.number.to_string()),
    };
    ConversationRef { with: Some(with) }
}

/// Tells a repeat from another content under the same number. FNV-1a: a client that lies to itself harms nobody else.
fn fingerprint(request: &SendRequest) -> Vec<u8> {
    let bytes = SendRequest { client_seq: 0, ..request.clone() }.encode_to_vec();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    [&hash.to_be_bytes()[..], &(bytes.len() as u64).to_be_bytes()].concat()
}

impl Resides {
    pub(super) async fn send(&mut self, sender: Sender, request: SendRequest, asker: Asker) {
        let seq = request.client_seq;
        match self.take(&sender, request).await {
            // Told when it is settled.
            Ok(Taken::UnderWay(idx)) => {
                if self.shared.sabotage.accepted_before_write {
                    let accepted = self.state.sent.get(&idx).map(|sent| accepted_of(idx, &sent.message));
                    if let Some(accepted) = accepted {
                        return self.answer_send(asker, seq, Ok(accepted));
                    }
                }
                self.waiting.accepted.entry(idx).or_default().push(asker);
            }
            Ok(Taken::Before(accepted)) => self.answer_send(asker, seq, Ok(accepted)),
            // A refusal says that something is not there: the owner's word alone. Else the sender asks again.
            Err(_) if !self.may_tell().await => {}
            Err(error) => {
                metrics::refused(error.reason);
                self.answer_send(asker, seq, Err(error));
            }
        }
    }

    pub(super) async fn may_tell(&self) -> bool {
        self.shared.logs.may_tell(self.user.as_bytes(), self.log.epoch()).await
    }

    async fn take(&mut self, sender: &Sender, request: SendRequest) -> Result<Taken, Error> {
        let last = self.state.last_seq(sender.device);
        let print = fingerprint(&request);
        if request.client_seq <= last {
            return self.repeated(sender, request.client_seq, &print).await;
        }
        if request.client_seq != last + 1 {
            let gap = Error::new(Reason::SequenceGap, "a number is missing before this one");
            return Err(gap.with("expected_client_seq", last + 1));
        }
        if self.state.unanswered(sender.device) >= UNANSWERED || self.log.is_full() {
            return Err(Error::new(Reason::SendBudget, "too many sends are unanswered")
                .retry_after(std::time::Duration::from_millis(100)));
        }
        let body = request.body.unwrap_or_default();
        decide::check_body(&body)?;
        let default = std::time::Duration::from_millis(self.shared.config.fallback_after_ms);
        let policy = decide::check_policy(&request.policy.unwrap_or_default(), default)?;
        let receiver = self.resolve(request.to.as_ref()).await?;
        let decision = decide::decide(&receiver, policy, &body)?;
        let now = self.now();
        let data = decision.way == Way::Data;
        let route = match receiver.user.filter(|_| data) {
            Some((user, epoch)) => Route::Data(DataRoute {
                receiver: user.to_vec(),
                number: receiver.number.to_string(),
                number_epoch: epoch,
            }),
            None => Route::Sms(SmsRoute { number: receiver.number.to_string() }),
        };
        let show_until =
            if data && policy.sms_if_offline { now.plus(policy.fallback_after) } else { UnixMillis(0) };
        let message = OutboxMessage {
            device: sender.device.0,
            client_seq: request.client_seq,
            message_id: MessageId::compute(self.user, sender.device, ClientSeq(request.client_seq)).to_vec(),
            conversation: Some(conversation(&receiver)),
            route: Some(route),
            body: Some(body),
            sms_if_offline: policy.sms_if_offline,
            accepted_ms: now.0,
            show_until_ms: show_until.0,
            from_number: sender.number.to_string(),
            fingerprint: print,
            why: u32::try_from(i32::from(decision.why)).unwrap_or_default(),
        };
        metrics::accepted(decision.way);
        Ok(Taken::UnderWay(self.append(Kind::Message(message))))
    }

    /// A number that was used: answered as it was.
    async fn repeated(&self, sender: &Sender, seq: u64, print: &[u8]) -> Result<Taken, Error> {
        let (idx, sent) = match self
            .state
            .of_seq(sender.device, seq)
            .and_then(|idx| Some((idx, self.state.sent.get(&idx)?.clone())))
        {
            Some(found) => found,
            None => self.look(sender, seq).await?,
        };
        if sent.message.fingerprint != print {
            return Err(Error::new(Reason::SequenceReused, "this number was used for another message"));
        }
        Ok(if sent.settled { Taken::Before(accepted_of(idx, &sent.message)) } else { Taken::UnderWay(idx) })
    }

    /// Reads back to a message that is no longer in memory.
    async fn look(&self, sender: &Sender, seq: u64) -> Result<(u64, Sent), Error> {
        let mut from = 1;
        while from <= self.log.tail() {
            let page = self.shared.logs.read(self.log.id(), from, self.log.tail(), PAGE, self.now()).await?;
            for entry in &page.entries {
                if let Ok(OutboxEntry { entry: Some(Kind::Message(message)) }) =
                    OutboxEntry::decode(&entry.content[..])
                    && message.device == sender.device.0
                    && message.client_seq == seq
                {
                    return Ok((entry.idx, Sent { message, settled: true, ..Sent::default() }));
                }
            }
            from = page.next(from);
        }
        Err(Error::new(Reason::SequenceReused, "this number was used long ago; its answer is gone"))
    }

    /// Who is behind a recipient.
    pub(super) async fn resolve(&mut self, to: Option<&Recipient>) -> Result<Receiver, Error> {
        let to = to.ok_or_else(|| Error::new(Reason::FieldInvalid, "to whom?").with("field", "to"))?;
        let key = format!("{to:?}");
        let now = self.now();
        if let Some(known) = self.resolved.get(&key).filter(|known| now.since(known.at) < RESOLVED_LIFE) {
            return Ok(known.receiver);
        }
        let receiver = self.shared.peers.resolve(to).await?;
        if self.resolved.len() >= RESOLVED {
            self.resolved.clear();
        }
        self.resolved.insert(key, Resolved { receiver, at: now });
        Ok(receiver)
    }

    /// A message is settled: whoever waits is told.
    pub(super) fn accepted(&mut self, idx: u64) {
        let Some(sent) = self.state.sent.get(&idx) else { return };
        let accepted = accepted_of(idx, &sent.message);
        // Not before the entry is settled: a mark that outlives its entry would lose the retry.
        self.log
            .mark(dialtone_log::mark_name("seq/", &sent.message.device.to_be_bytes()), accepted.client_seq);
        for asker in self.waiting.accepted.remove(&idx).unwrap_or_default() {
            self.answer_send(asker, accepted.client_seq, Ok(accepted.clone()));
        }
    }

    /// Puts a withdraw behind a message, if it has none.
    pub(super) fn withdraw(&mut self, idx: u64, why: withdraw::Why) {
        let Some(sent) = self.state.sent.get(&idx).filter(|sent| sent.withdraw.is_none()) else { return };
        let Some(receiver) = sent.receiver() else { return };
        self.append(Kind::Withdraw(Withdraw { of: idx, why: why.into(), receiver: receiver.to_vec() }));
    }

    pub(super) async fn revoke(&mut self, idx: u64, answer: oneshot::Sender<Result<RevokeResponse, Error>>) {
        if !self.state.sent.contains_key(&idx) && idx > 0 && idx <= self.log.tail() {
            // Older than what is in memory: it may still wait in an inbox.
            if self.recall(idx).await.is_ok() {
                self.state.restored();
            }
        }
        if !self.state.sent.get(&idx).is_some_and(|sent| sent.settled) {
            if !self.may_tell().await {
                return;
            }
            let error =
                Error::new(Reason::FieldInvalid, "no message of yours that could still be taken back")
                    .with("field", "sent_idx");
            let _no_longer_waiting = answer.send(Err(error));
            return;
        }
        self.waiting.revoked.entry(idx).or_default().push(answer);
        if self.revocation(idx).is_none() {
            self.withdraw(idx, withdraw::Why::Revoke);
        }
        self.answer_revocation(idx);
    }

    /// How a revocation stands: answered from the decision, never from the witness.
    fn revocation(&self, idx: u64) -> Option<revoke_response::Outcome> {
        use revoke_response::{AlreadyDelivered, AlreadySms, Ended, Outcome, Withdrawn};
        let sent = self.state.sent.get(&idx)?;
        match &sent.decision {
            Some((decision::Kind::SmsClaimed, _, true)) => return Some(Outcome::AlreadySms(AlreadySms {})),
            Some((decision::Kind::Revoked, _, true)) => return Some(Outcome::Withdrawn(Withdrawn {})),
            Some((_, reason, true)) => {
                let fate = Fate { kind: FateKind::Failed.into(), reason: reason.clone(), at_ms: 0 };
                return Some(Outcome::Ended(Ended { fate: Some(fate) }));
            }
            Some(_) => return None,
            None => {}
        }
        if sent.receiver().is_none() {
            return Some(Outcome::AlreadySms(AlreadySms {}));
        }
        self.state.is_delivered(idx).then_some(Outcome::AlreadyDelivered(AlreadyDelivered {}))
    }

    pub(super) fn answer_revocation(&mut self, idx: u64) {
        if !self.waiting.revoked.contains_key(&idx) {
            return;
        }
        let Some(outcome) = self.revocation(idx) else { return };
        for answer in self.waiting.revoked.remove(&idx).unwrap_or_default() {
            let _no_longer_waiting = answer.send(Ok(RevokeResponse { outcome: Some(outcome.clone()) }));
        }
    }
}

/// What became of a send.
pub(super) enum Taken {
    UnderWay(u64),
    Before(Accepted),
}
