//! Taking what sources offer: once each, in order, and answering when it is settled.

use dialtone_proto::bus::v1::{self as bus, OfferAnswer, OfferAnswers, RoutingItem, SmsItem, offer_answer};
use dialtone_proto::bus::v1::{Owner, routing_item, sms_item};
use dialtone_proto::log::v1::{InboxEntry, Taken};
use dialtone_vocab::{LogId, NodeId, UserId};
use prost::Message as _;

use super::Resides;
use crate::limits::DECLINE_AFTER;
use crate::state::{Answer, Circumstances, Inbox, SinkStep, Verdict, chained};

/// Where the answers to a source go.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    owner: Owner,
    node: NodeId,
    source_user: Vec<u8>,
}

/// What reading back to a position came to.
enum Found {
    As(Answer),
    PastItsTime,
}

impl Resides {
    pub(super) async fn offered(&mut self, offer: bus::Offer) {
        let (Ok(source), true) = (LogId::from_slice(&offer.source), NodeId::is_valid(&offer.reply_node))
        else {
            return;
        };
        let reply = ReplyTo {
            owner: offer.reply_owner(),
            node: NodeId::new(&offer.reply_node),
            source_user: offer.source_user.clone(),
        };
        self.replies.insert(source, reply);
        let Some(moved_epoch) = self.current_epoch(&offer).await else { return };
        let mut answers = Vec::new();
        let mut blocked = None;
        for (prev, entry) in chained(offer.prev, &offer.entries) {
            match self.state.sink.offered(source, offer.settled, prev, entry.position) {
                SinkStep::Again { position, answer } => answers.push(proto(position, answer)),
                SinkStep::Wait { .. } => {}
                SinkStep::Look { position } => match self.look(source, position).await {
                    Some(Found::As(answer)) => answers.push(proto(position, answer)),
                    // It was taken, and what it was taken as is gone: nothing more is to follow from it.
                    Some(Found::PastItsTime) => {
                        let is_message = matches!(entry.entry, Some(bus::offer_entry::Entry::Message(_)));
                        let answer = if is_message { Answer::Kept } else { Answer::Delivered };
                        answers.push(proto(position, answer));
                    }
                    None => break,
                },
                SinkStep::Expected { taken } => {
                    self.answer(source, Vec::new(), Some(taken), false);
                    break;
                }
                SinkStep::Take { position, prev } => {
                    // The source offers again what can't be judged now.
                    let Some(around) = self.around(entry, moved_epoch, &mut blocked).await else { break };
                    if !self.take(source, prev, position, entry, around, &mut answers).await {
                        break;
                    }
                }
            }
        }
        if !answers.is_empty() {
            self.answer(source, answers, None, false);
        }
    }

    /// Takes one position; false if it must wait.
    async fn take(
        &mut self,
        source: LogId,
        prev: u64,
        position: u64,
        offered: &bus::OfferEntry,
        around: Circumstances,
        answers: &mut Vec<OfferAnswer>,
    ) -> bool {
        if self.log.is_full() {
            return false;
        }
        let mut verdict = self.state.decide(source, prev, offered, around);
        if let Verdict::LookFor(of) = verdict {
            verdict = match self.look(source, of).await {
                None => return false,
                Some(Found::As(_)) => self.state.decide(source, prev, offered, around),
                Some(Found::PastItsTime) if of <= self.state.sink.taken(source) => {
                    let (entry, answer) = Inbox::too_old(source, prev, position);
                    Verdict::Append(entry, answer)
                }
                Some(Found::PastItsTime) => verdict,
            };
        }
        match verdict {
            Verdict::Append(entry, answer) => {
                let idx = self.log.push(1, entry.encode_to_vec());
                self.state.taking(idx, *entry, answer);
                if self.shared.sabotage.offered_before_settled {
                    answers.push(proto(position, answer));
                }
                true
            }
            Verdict::Wait => {
                self.answer(source, Vec::new(), None, true);
                false
            }
            Verdict::LookFor(_) => {
                tracing::error!("a withdrawal names a message that was never taken");
                false
            }
        }
    }

    /// Whether so much waits that nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.log.last().saturating_sub(self.state.acked()) >= self.shared.config.kept_per_user
    }

    /// What a position is taken under; `None` if blocks can't be read now. An offer has one sender, who is looked up once.
    async fn around(
        &self,
        offered: &bus::OfferEntry,
        epoch: Option<u64>,
        known: &mut Option<(UserId, bool)>,
    ) -> Option<Circumstances> {
        let message = match &offered.entry {
            Some(bus::offer_entry::Entry::Message(message)) => Some(message),
            _ => None,
        };
        let sender = message.and_then(|message| UserId::from_slice(&message.sender).ok());
        let promised = message.map_or(0, |message| message.number_epoch);
        let blocked = match (sender, *known) {
            (None, _) => false,
            (Some(sender), Some((of, blocked))) if of == sender => blocked,
            (Some(sender), _) => {
                let read = self.shared.blocks.is_blocked(self.user, sender).await;
                let read =
                    read.inspect_err(|error| tracing::warn!(%error, "blocks could not be read")).ok()?;
                *known = Some((sender, read));
                read
            }
        };
        Some(Circumstances {
            attached: !self.attached.is_empty(),
            settling_in: self.shared.logs.owned_for(&self.log) < DECLINE_AFTER,
            full: self.is_full(),
            moved: promised != 0 && epoch.is_some_and(|epoch| epoch != promised),
            blocked,
        })
    }

    /// The epoch of this user's number, if the offer rests on one; `None` when identity can't be asked now.
    async fn current_epoch(&mut self, offer: &bus::Offer) -> Option<Option<u64>> {
        let needs = offer.entries.iter().any(|entry| {
            matches!(&entry.entry, Some(bus::offer_entry::Entry::Message(message)) if message.number_epoch != 0)
        });
        if !needs {
            return Some(None);
        }
        let now = self.now();
        if let Some(known) = self.epoch.filter(|known| known.is_fresh(now)) {
            return Some(Some(known.epoch));
        }
        let asked = self.shared.epochs.of(self.user, now).await?;
        self.epoch = Some(asked);
        Some(Some(asked.epoch))
    }

    /// Reads back to what was taken for a position: its answer is remembered again. `None` if it can't be read now.
    async fn look(&mut self, source: LogId, position: u64) -> Option<Found> {
        let mut found = Found::PastItsTime;
        let look = |state: &mut Inbox, idx: u64, entry: &InboxEntry| {
            let is_it = |taken: &Taken| taken.position == position && taken.source == source.as_bytes();
            if entry.taken.as_ref().is_some_and(is_it) {
                found = Found::As(state.recall(source, position, idx, entry));
            }
            state.recall_stub(entry);
        };
        let read = self.each(1..=self.log.tail(), look).await;
        read.then_some(found)
    }

    pub(super) fn answer(&self, source: LogId, answers: Vec<OfferAnswer>, expected: Option<u64>, wait: bool) {
        let Some(reply) = self.replies.get(&source) else { return };
        let answers = OfferAnswers {
            source: source.to_vec(),
            source_user: reply.source_user.clone(),
            receiver: self.user.to_vec(),
            answers,
            expected: expected.is_some(),
            taken: expected.unwrap_or(0),
            wait,
        };
        let pushed = match reply.owner {
            Owner::Routing => {
                let item = RoutingItem { item: Some(routing_item::Item::Answers(answers)) };
                self.shared.routing.push(&reply.node, item)
            }
            _ => {
                let item = SmsItem { item: Some(sms_item::Item::Answers(answers)) };
                self.shared.sms.push(&reply.node, item)
            }
        };
        if let Err(error) = pushed {
            tracing::debug!(%error, "the source will offer again");
        }
    }
}

/// An answer as it is told.
pub(super) fn proto(position: u64, answer: Answer) -> OfferAnswer {
    use offer_answer::Kind;
    let (kind, why) = match answer {
        Answer::Kept => (Kind::Kept, ""),
        Answer::NotAttached => (Kind::Declined, "NOT_ATTACHED"),
        Answer::MailboxFull => (Kind::Declined, "MAILBOX_FULL"),
        Answer::Moved => (Kind::NumberMoved, ""),
        Answer::Withdrawn => (Kind::Withdrawn, ""),
        Answer::Delivered => (Kind::Delivered, ""),
    };
    OfferAnswer { position, kind: kind.into(), why: why.to_owned() }
}
