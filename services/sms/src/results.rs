//! What became of SMS: by the operator's receipts, and told until it is taken.

use dialtone_proto::bus::v1::{RoutingItem, SmsResult, routing_item, sms_submit};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::StoreError;
use dialtone_vocab::UserId;

use crate::bridge::Bridge;
use crate::limits::{RECEIPT_TRIES, REPEAT_EVERY, UNDER_WAY};
use crate::metrics;
use crate::pdu::Receipt;
use crate::store::{Progress, Sms, SmsRow};

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Kept, or of no SMS of ours.
    Done,
    /// It may be of an SMS whose answer is still under way.
    Unknown,
}

impl Bridge {
    /// A result to tell; codes have nobody who waits for one.
    pub(crate) fn result(&self, row: &SmsRow, kind: FateKind, reason: &str) -> Option<SmsResult> {
        let submit = row.submit.as_ref().filter(|submit| submit.kind() == sms_submit::Kind::Message)?;
        Some(SmsResult {
            message_id: submit.message_id.clone(),
            outbox: submit.outbox.clone(),
            user: submit.from_user.clone(),
            sent_idx: submit.sent_idx,
            kind: kind.into(),
            reason: reason.to_owned(),
            at_ms: self.chassis.clock.now().0,
            reply_node: self.chassis.node.as_str().to_owned(),
        })
    }

    /// A delivery receipt: durable before it is answered.
    pub(crate) async fn receipt(&self, receipt: &Receipt) -> Result<Reported, StoreError> {
        if !receipt.is_final {
            return Ok(Reported::Done);
        }
        // Looked at before the map is: an answer that lands in between is then found in the map. Of what other
        // processes have under way nothing is known here.
        let under_way = self.under_way.available_permits() < UNDER_WAY || self.shards.nodes("sms").len() > 1;
        let Some(id) = self.store.of_receipt(&receipt.id).await? else {
            return Ok(if under_way { Reported::Unknown } else { Reported::Done });
        };
        for _ in 0..RECEIPT_TRIES {
            let Some(mut sms) = self.store.sms(&id).await? else { return Ok(Reported::Done) };
            if self.counted(receipt, &mut sms).await? {
                return Ok(Reported::Done);
            }
        }
        Err(StoreError::Unknown { why: "too many at once".to_owned() })
    }

    /// Counts a receipt; false if meanwhile something else has become of the SMS.
    async fn counted(&self, receipt: &Receipt, sms: &mut Sms) -> Result<bool, StoreError> {
        // No later word changes an end that was told, and each part counts once.
        if sms.row.is(Progress::Ended) || !sms.row.waiting.contains(&receipt.id) {
            // It may be here again because the process ended before the result was written.
            if sms.row.ended_by == receipt.id {
                self.tell(sms).await?;
            }
            return Ok(true);
        }
        let delivered = sms.row.delivered + u32::from(receipt.delivered);
        let result = match (receipt.delivered, delivered >= sms.row.parts) {
            (false, _) => self.result(&sms.row, FateKind::SmsFailed, "UNDELIVERABLE"),
            (true, true) => self.result(&sms.row, FateKind::SmsDelivered, ""),
            (true, false) => None,
        };
        if !self.store.reported(sms, &receipt.id, receipt.delivered, result.as_ref()).await? {
            return Ok(false);
        }
        if result.is_some() {
            metrics::mt(if receipt.delivered { "delivered" } else { "failed" });
            self.tell(sms).await?;
        }
        Ok(true)
    }

    async fn tell(&self, sms: &Sms) -> Result<(), StoreError> {
        if let Some(result) = &sms.row.result {
            self.hands.tell(self.store.tell(result, self.chassis.clock.now()).await?);
            self.news.notify_one();
        }
        Ok(())
    }

    /// A result needs no more telling.
    pub(crate) async fn result_taken(&self, id: &[u8], kind: i32) {
        // One that is not in hand is told again by whoever has it, and answered again.
        let Some(told) = self.hands.taken(id, kind) else { return };
        if let Err(error) = self.store.result_taken(&told).await {
            tracing::warn!(%error, "a result will be told again");
            self.hands.tell(told);
        }
    }

    /// Tells each result until it is taken.
    pub(crate) async fn tell_results(self) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            for mut result in self.hands.telling() {
                // It may be the result of a process that is gone.
                self.chassis.node.as_str().clone_into(&mut result.reply_node);
                let Ok(user) = UserId::from_slice(&result.user) else { continue };
                let Some(node) = self.shards.node_of("routing", user) else { continue };
                let item = RoutingItem { item: Some(routing_item::Item::SmsResult(result)) };
                if let Err(error) = self.routing.push(&node, item) {
                    tracing::debug!(%error, "a result will be told again");
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.news.notified() => {}
                () = self.chassis.clock.sleep(REPEAT_EVERY) => {}
            }
        }
    }
}
