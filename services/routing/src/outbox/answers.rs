//! Offering to inboxes, and what follows from their answers.

use dialtone_log::{Back, Source};
use dialtone_proto::bus::v1::offer_answer::Kind as Answer;
use dialtone_proto::bus::v1::{
    self as bus, Offer, OfferEntry, OfferedMessage, OfferedWithdraw, OfflineItem, Owner, offer_entry,
    offline_item,
};
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::log::v1::outbox_message::Route;
use dialtone_proto::log::v1::{Decision, decision};
use dialtone_proto::types::v1::{Recipient, TypedNumber, recipient::To};
use dialtone_vocab::{LogId, NodeId, UserId};

use super::Resides;
use crate::metrics;
use crate::state::Verdict;

impl Resides {
    /// Offers what is due to every receiver.
    pub(super) fn offer(&mut self) {
        let now = self.boot();
        let receivers: Vec<_> = self
            .state
            .sources
            .iter()
            .filter(|(_, source)| !source.is_level())
            .map(|(user, _)| *user)
            .collect();
        for receiver in receivers {
            let Some(node) = self.shared.shards.node_of("offline", receiver) else { continue };
            let source = self.state.sources.get_mut(&receiver);
            let Some(due) = source.and_then(|source| source.poll(&node, now)) else { continue };
            let entries = due.positions.iter().filter_map(|position| self.offered(*position)).collect();
            let offer = Offer {
                source: self.log.id().to_vec(),
                source_epoch: self.log.epoch().0,
                reply_owner: Owner::Routing.into(),
                reply_node: self.shared.chassis.node.as_str().to_owned(),
                source_user: self.user.to_vec(),
                receiver: receiver.to_vec(),
                settled: due.settled,
                prev: due.prev,
                entries,
            };
            let item = OfflineItem { item: Some(offline_item::Item::Offer(offer)) };
            if let Err(error) = self.shared.offline.push(&node, item) {
                tracing::debug!(%error, "it will be offered again");
            }
        }
    }

    fn offered(&self, position: u64) -> Option<OfferEntry> {
        let of = self.state.message_at(position);
        if of != position {
            let withdraw = OfferedWithdraw { of };
            return Some(OfferEntry { position, entry: Some(offer_entry::Entry::Withdraw(withdraw)) });
        }
        let message = &self.state.sent.get(&position)?.message;
        let Some(Route::Data(route)) = &message.route else { return None };
        let offered = OfferedMessage {
            sender: self.user.to_vec(),
            from_number: message.from_number.clone(),
            message_id: message.message_id.clone(),
            body: message.body.clone(),
            sent_ms: message.accepted_ms,
            show_until_ms: message.show_until_ms,
            sms_if_offline: message.sms_if_offline,
            to_number: route.number.clone(),
            number_epoch: route.number_epoch,
        };
        Some(OfferEntry { position, entry: Some(offer_entry::Entry::Message(offered)) })
    }

    pub(super) async fn answers(&mut self, answers: bus::OfferAnswers) {
        let Ok(receiver) = UserId::from_slice(&answers.receiver) else { return };
        if LogId::from_slice(&answers.source) != Ok(self.log.id()) {
            return;
        }
        if answers.wait {
            let now = self.boot();
            return self
                .state
                .sources
                .get_mut(&receiver)
                .into_iter()
                .for_each(|source| source.has_begun(now));
        }
        if answers.expected {
            self.expected(receiver, answers.taken);
        }
        for answer in answers.answers {
            let fresh =
                self.state.sources.get_mut(&receiver).is_some_and(|source| source.answered(answer.position));
            if fresh {
                self.answered(receiver, answer.position, answer.kind(), &answer.why).await;
            }
        }
    }

    /// The receiver's log is elsewhere than we thought: go there.
    fn expected(&mut self, receiver: UserId, taken: u64) {
        let Some(source) = self.state.sources.get_mut(&receiver) else { return };
        if let Back::Below { taken } = source.expected(taken) {
            tracing::error!("a receiver lost what it had taken: a defect; it is offered again");
            metrics::below();
            let mut anew = Source::new(taken);
            let of = |sent: &crate::state::Sent| sent.receiver() == Some(receiver) && sent.settled;
            for (idx, sent) in self.state.sent.iter().filter(|(_, sent)| of(sent)) {
                anew.add(*idx);
                if let Some((withdraw, _)) = sent.withdraw {
                    anew.add(withdraw);
                }
            }
            self.state.sources.insert(receiver, anew);
        }
    }

    /// What follows from an answer. Only when that is settled does the mark pass the position.
    async fn answered(&mut self, receiver: UserId, position: u64, answer: Answer, why: &str) {
        let of = self.state.message_at(position);
        metrics::answered(answer);
        let (kind, reason) = match self.state.answered(position, answer, why) {
            Verdict::Decide(kind, reason) => (kind, reason),
            Verdict::Claim => self.claim(of).await,
            // Entries settle in order: the last one that is under way settles no earlier than the decision.
            Verdict::Decided if !self.state.is_decided(of) => {
                return self.state.follows(self.log.last(), receiver, position);
            }
            Verdict::Decided | Verdict::Done => {
                if let Some(next) = self.state.done(receiver, position) {
                    self.follow(next);
                }
                return self.answer_revocation(of);
            }
        };
        let at_ms = self.now().0;
        let idx = self.append(Kind::Decision(Decision { of, kind: kind.into(), reason, at_ms }));
        self.state.follows(idx, receiver, position);
        if self.shared.sabotage.sms_before_claim_settled && kind == decision::Kind::SmsClaimed {
            self.submit(of);
        }
    }

    /// It shall go as SMS, if the number still is the receiver's.
    async fn claim(&mut self, of: u64) -> (decision::Kind, String) {
        let Some(Route::Data(route)) = self.state.sent.get(&of).and_then(|sent| sent.message.route.clone())
        else {
            return (decision::Kind::Failed, "NUMBER_MOVED".into());
        };
        let to = Recipient {
            to: Some(To::Number(TypedNumber { text: route.number.clone(), region: String::new() })),
        };
        let same = match self.shared.peers.resolve(&to).await {
            Ok(now) => now.user.is_some_and(|(user, epoch)| {
                user.as_bytes()[..] == route.receiver && epoch == route.number_epoch
            }),
            // Identity can't be asked: the number was right when the message was accepted.
            Err(_) => true,
        };
        if same {
            (decision::Kind::SmsClaimed, String::new())
        } else {
            (decision::Kind::Failed, "NUMBER_MOVED".into())
        }
    }

    pub(super) fn watermarks(&mut self, marks: &bus::Watermarks) {
        let (Ok(receiver), true) = (UserId::from_slice(&marks.receiver), NodeId::is_valid(&marks.reply_node))
        else {
            return;
        };
        if LogId::from_slice(&marks.source) != Ok(self.log.id()) {
            return;
        }
        let taken = bus::WatermarksTaken {
            source: marks.source.clone(),
            receiver: marks.receiver.clone(),
            delivered: marks.delivered,
            read: marks.read,
        };
        let node = NodeId::new(&marks.reply_node);
        let is_news = self.state.watermark(receiver, marks.delivered, marks.read);
        if !is_news && !self.waiting.watermarks.contains_key(&receiver) {
            return self.tell_offline(&node, taken);
        }
        // Written with the next marks that are, at the latest when this outbox rests; taken is what is on disk.
        let now = self.state.watermarks.get(&receiver).copied().unwrap_or_default();
        self.log.mark(dialtone_log::mark_name("delivered/", receiver.as_bytes()), now.delivered);
        self.log.mark(dialtone_log::mark_name("read/", receiver.as_bytes()), now.read);
        self.waiting.watermarks.insert(receiver, (node, taken));
        if is_news {
            self.tell_receipt(receiver);
        }
    }

    /// Marks are on disk: inboxes whose watermarks they cover are told that these were taken.
    pub(super) fn watermarks_written(&mut self, marks: &[(Vec<u8>, u64)]) {
        let value =
            |name: Vec<u8>| marks.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
        let told: Vec<_> = marks
            .iter()
            .filter_map(|(name, _)| UserId::from_slice(name.strip_prefix(b"delivered/")?).ok())
            .filter(|receiver| {
                let delivered = value(dialtone_log::mark_name("delivered/", receiver.as_bytes()));
                let read = value(dialtone_log::mark_name("read/", receiver.as_bytes()));
                let waiting = self.waiting.watermarks.get(receiver);
                // Nobody reads what was not delivered, whatever an inbox says.
                waiting.is_some_and(|(_, taken)| {
                    taken.delivered <= delivered && taken.read.min(taken.delivered) <= read
                })
            })
            .collect();
        for receiver in told {
            if let Some((node, taken)) = self.waiting.watermarks.remove(&receiver) {
                self.tell_offline(&node, taken);
            }
        }
    }
}
