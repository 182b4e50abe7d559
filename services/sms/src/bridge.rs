//! The bridge: takes SMS once, hands them to the operator, tells what became of them.

use std::sync::Arc;
use std::time::Duration;

use dialtone_bus::Fan;
use dialtone_chassis::{Chassis, Clock, Error, NumberKey};
use dialtone_proto::bus::v1::{
    RoutingItem, SmsResult, SmsSubmit, SmsTaken, ToRouting, routing_item, sms_submit,
};
use dialtone_proto::sms::internal::v1::{QuoteRequest, QuoteResponse};
use dialtone_proto::types::v1::FateKind;
use dialtone_shards::Shards;
use dialtone_store::StoreError;
use dialtone_vocab::{PhoneNumber, Reason, UserId};
use rusmpp::CommandStatus;
use rusmpp::pdus::SubmitSm;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::config::Config;
use crate::esme::{Esme, SubmitError};
use crate::limits::{
    REPEAT_EVERY, SUBMIT_QUEUE, THROTTLED_FIRST, THROTTLED_MAX, THROTTLED_WITHIN, UNDER_WAY, WINDOW,
};
use crate::pdu::Receipt;
use crate::segment::{self, Segments};
use crate::store::{Progress, SmsRow, Store};
use crate::{metrics, pdu};

/// The bridge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bridge {
    pub(crate) chassis: Chassis,
    pub(crate) store: Store,
    pub(crate) key: NumberKey,
    pub(crate) config: Config,
    shards: Shards,
    routing: Fan<ToRouting>,
    queue: mpsc::Sender<Vec<u8>>,
    news: Arc<Notify>,
    /// A place is taken from before an SMS may leave until what became of it is written down.
    under_way: Arc<Semaphore>,
    /// A slot is taken while one is on its way to the operator, and not while it waits to be tried again.
    window: Arc<Semaphore>,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Kept, or of no SMS of ours.
    Done,
    /// It may be of an SMS whose answer is still under way.
    Unknown,
}

fn failed(error: &StoreError) -> Error {
    tracing::error!(%error, "the SMS store");
    Error::new(Reason::StoreUnavailable, "the store can't be used now")
}

impl Bridge {
    pub(crate) fn start(
        chassis: &Chassis,
        store: Store,
        key: NumberKey,
        config: &Config,
        shards: &Shards,
        routing: Fan<ToRouting>,
        esme: Esme,
    ) -> Result<Self, StoreError> {
        let (queue, ids) = mpsc::channel(SUBMIT_QUEUE);
        let bridge = Self {
            chassis: chassis.clone(),
            store,
            key,
            config: config.clone(),
            shards: shards.clone(),
            routing,
            queue,
            news: Arc::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            window: Arc::new(Semaphore::new(WINDOW)),
        };
        let before = bridge.store.queued()?;
        chassis.tasks.spawn("sms submit", bridge.clone().submit_all(esme, ids, before));
        chassis.tasks.spawn("sms results", bridge.clone().tell_results());
        chassis.tasks.spawn("sms rows sweep", bridge.store.clone().keep_swept(chassis.clone()));
        Ok(bridge)
    }

    /// Takes an SMS durably; a repeat changes nothing.
    pub(crate) async fn take(&self, submit: SmsSubmit) -> Result<SmsTaken, Error> {
        let Ok(to) = PhoneNumber::parse_e164(&submit.to) else {
            return Ok(refused(Reason::NumberMalformed.as_str()));
        };
        // Before anything that may have changed since: what was taken stays taken.
        if self.store.row(&submit.message_id).map_err(|error| failed(&error))?.is_some() {
            return Ok(SmsTaken::default());
        }
        if segment::segment(&self.text(&submit)).is_none() {
            return Ok(refused("SMS_TOO_LONG"));
        }
        let is_message = submit.kind() == sms_submit::Kind::Message;
        if is_message && self.store.is_opted_out(self.key.hash(to)).map_err(|error| failed(&error))? {
            return Ok(refused("OPTED_OUT"));
        }
        if let Some(wait) = self
            .store
            .spend(self.config.per_hour, self.chassis.clock.now())
            .await
            .map_err(|error| failed(&error))?
        {
            metrics::mt("capped");
            return Ok(SmsTaken { refused: "SMS_BUDGET".into(), retry_after_ms: wait });
        }
        if self.store.take(&submit, self.chassis.clock.now()).await.map_err(|error| failed(&error))? {
            metrics::mt("taken");
            if self.queue.send(submit.message_id).await.is_err() {
                tracing::debug!("stopping: it will be submitted after the next start");
            }
        }
        Ok(SmsTaken::default())
    }

    /// What goes out: a user's text has the user's number before it.
    fn text(&self, submit: &SmsSubmit) -> String {
        match submit.kind() {
            sms_submit::Kind::Message => {
                format!("{}{}", self.config.prefix.replace("{number}", &submit.from_number), submit.text)
            }
            _ => submit.text.clone(),
        }
    }

    /// The quote before the send.
    pub(crate) fn quote(&self, request: QuoteRequest) -> Result<QuoteResponse, Error> {
        let to = PhoneNumber::parse_e164(&request.to)
            .map_err(|_| Error::new(Reason::NumberMalformed, "to whom?"))?;
        let user = UserId::from_slice(&request.from_user).unwrap_or_default();
        let submit = SmsSubmit {
            text: request.text,
            from_number: request.from_number,
            kind: sms_submit::Kind::Message.into(),
            ..SmsSubmit::default()
        };
        let segments = segment::segment(&self.text(&submit));
        let segments = segments.ok_or_else(|| Error::new(Reason::NoSmsText, "too long for an SMS"))?;
        let count = segments.parts.len() as u64;
        let pool = &self.config.service_numbers;
        let answerable =
            self.store.could_assign(self.key.hash(to), user, pool).map_err(|error| failed(&error))?;
        Ok(QuoteResponse {
            segments: u32::try_from(count).unwrap_or(u32::MAX),
            encoding: segments.encoding.name().to_owned(),
            price_micros: self.config.price_micros.saturating_mul(count),
            currency: self.config.currency.clone(),
            answerable,
        })
    }

    /// Submits what is queued, a window at a time; what was left from before first.
    async fn submit_all(self, esme: Esme, mut ids: mpsc::Receiver<Vec<u8>>, before: Vec<Vec<u8>>) {
        let stop = self.chassis.tasks.stop_token();
        let mut before = before.into_iter();
        loop {
            let id = match before.next() {
                Some(id) => id,
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    id = ids.recv() => match id {
                        Some(id) => id,
                        None => return,
                    },
                },
            };
            let Some(Ok(place)) = self.or_stop(self.under_way.clone().acquire_owned()).await else { return };
            let (bridge, esme) = (self.clone(), esme.clone());
            self.chassis.tasks.spawn("sms submit one", async move {
                if let Err(error) = bridge.submit(&esme, &id).await {
                    tracing::error!(%error, "an SMS waits for the next start");
                }
                drop(place);
            });
        }
    }

    async fn submit(&self, esme: &Esme, id: &[u8]) -> Result<(), StoreError> {
        let Some(mut turn) = self.or_stop(Turn::begin(self)).await else { return Ok(()) };
        loop {
            let Some(row) = self.store.row(id)? else { return Ok(()) };
            let Some(submit) = row.submit.clone() else { return Ok(()) };
            if row.progress == Progress::Submitting as u32 {
                // A process died between this and the answer: nobody knows, and it is not sent twice.
                return self.ended(id, &row, FateKind::SmsUnknown, "").await;
            }
            if row.progress != Progress::Queued as u32 {
                return Ok(());
            }
            let Some(segments) = segment::segment(&self.text(&submit)) else {
                return self.ended(id, &row, FateKind::SmsFailed, "SMS_TOO_LONG").await;
            };
            let from = self.sender(&submit).await?;
            if self.or_stop(esme.bound()).await.is_none() {
                return Ok(());
            }
            self.store.submitting(id, &row).await?;
            match self.parts(esme, &mut turn, &from, &submit, &segments).await {
                Ok(ids) => return self.submitted(id, &row, &segments, &ids).await,
                Err(Unsent { left: 0, why: SubmitError::NotSent }) => self.store.requeue(id, &row).await?,
                // Nothing of it is out: until the operator takes it, it waits like one that was never tried.
                Err(Unsent { left: 0, why: SubmitError::Refused(status) }) if turn.covers(status) => {
                    self.store.requeue(id, &row).await?;
                    if self.or_stop(turn.pause()).await.is_none() {
                        return Ok(());
                    }
                }
                Err(Unsent { why: SubmitError::Refused(status), .. }) => {
                    let reason = pdu::status_name(status);
                    return self.ended(id, &row, FateKind::SmsFailed, &reason).await;
                }
                Err(Unsent { .. }) => return self.ended(id, &row, FateKind::SmsUnknown, "").await,
            }
        }
    }

    /// What comes of a future, unless the process stops first.
    async fn or_stop<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let stop = self.chassis.tasks.stop_token();
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            outcome = future => Some(outcome),
        }
    }

    /// The number or name it comes from; what answers a keyword comes from the number that was texted.
    async fn sender(&self, submit: &SmsSubmit) -> Result<String, StoreError> {
        let is_message = submit.kind() == sms_submit::Kind::Message;
        if !is_message && self.config.service_numbers.contains(&submit.from_number) {
            return Ok(submit.from_number.clone());
        }
        let (Ok(to), Ok(user)) = (PhoneNumber::parse_e164(&submit.to), UserId::from_slice(&submit.from_user))
        else {
            return Ok(self.config.sender_id.clone());
        };
        let assigned = self.store.assign(self.key.hash(to), user, &self.config.service_numbers).await?;
        Ok(assigned.unwrap_or_else(|| self.config.sender_id.clone()))
    }

    async fn parts(
        &self,
        esme: &Esme,
        turn: &mut Turn,
        from: &str,
        submit: &SmsSubmit,
        segments: &Segments,
    ) -> Result<Vec<String>, Unsent> {
        let reference = submit.message_id.first().copied().unwrap_or(0);
        let total = u8::try_from(segments.parts.len()).unwrap_or(u8::MAX);
        let mut ids = Vec::new();
        for (place, octets) in (1..=total).zip(&segments.parts) {
            let part = (total > 1).then_some((u16::from(reference), total, place));
            let part = pdu::submit(from, &submit.to, segments.encoding, part, octets);
            match self.part(esme, turn, part, place > 1).await {
                Ok(id) => ids.push(id),
                Err(why) => return Err(Unsent { left: ids.len(), why }),
            }
            metrics::segments(1);
        }
        Ok(ids)
    }

    /// One part. When others of its text have left the rest can't be begun again: it alone is repeated while the
    /// operator refuses it for now.
    async fn part(
        &self,
        esme: &Esme,
        turn: &mut Turn,
        part: SubmitSm,
        insist: bool,
    ) -> Result<String, SubmitError> {
        if insist {
            turn.anew();
        }
        loop {
            match esme.submit(part.clone()).await {
                Err(SubmitError::Refused(status)) if insist && turn.covers(status) => {
                    if self.or_stop(turn.pause()).await.is_none() {
                        return Err(SubmitError::NotSent);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn submitted(
        &self,
        id: &[u8],
        row: &SmsRow,
        segments: &Segments,
        ids: &[String],
    ) -> Result<(), StoreError> {
        metrics::mt("submitted");
        let row = SmsRow { parts: u32::try_from(segments.parts.len()).unwrap_or(u32::MAX), ..row.clone() };
        let result = self.result(&row, FateKind::SmsSubmitted, "");
        self.store.submitted(id, &row, ids, result.as_ref(), false).await?;
        self.news.notify_one();
        Ok(())
    }

    async fn ended(&self, id: &[u8], row: &SmsRow, kind: FateKind, reason: &str) -> Result<(), StoreError> {
        metrics::mt(if kind == FateKind::SmsUnknown { "unknown" } else { "failed" });
        let result = self.result(row, kind, reason);
        self.store.submitted(id, row, &[], result.as_ref(), true).await?;
        self.news.notify_one();
        Ok(())
    }

    /// A result to tell; codes have nobody who waits for one.
    fn result(&self, row: &SmsRow, kind: FateKind, reason: &str) -> Option<SmsResult> {
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
        // Looked at before the map is: an answer that lands in between is then found in the map.
        let under_way = self.under_way.available_permits() < UNDER_WAY;
        let Some(id) = self.store.of_receipt(&receipt.id)? else {
            return Ok(if under_way { Reported::Unknown } else { Reported::Done });
        };
        let Some(mut row) = self.store.row(&id)? else { return Ok(Reported::Done) };
        // Of a part after the one that failed: no later word changes an end that was told.
        if row.progress == Progress::Ended as u32 {
            return Ok(Reported::Done);
        }
        row.delivered += u32::from(receipt.delivered);
        let result = match (receipt.delivered, row.delivered >= row.parts) {
            (false, _) => self.result(&row, FateKind::SmsFailed, "UNDELIVERABLE"),
            (true, true) => self.result(&row, FateKind::SmsDelivered, ""),
            (true, false) => None,
        };
        if result.is_some() {
            metrics::mt(if receipt.delivered { "delivered" } else { "failed" });
        }
        self.store.reported(&receipt.id, &id, &row, result.as_ref()).await?;
        self.news.notify_one();
        Ok(Reported::Done)
    }

    /// Tells each result until it is taken.
    async fn tell_results(self) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            for result in self.store.results().unwrap_or_default() {
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

/// How a text in parts did not leave.
struct Unsent {
    /// Parts that did.
    left: usize,
    why: SubmitError,
}

/// An SMS's turn with the operator: its slot, and how long an operator that refuses for now is asked again.
struct Turn {
    clock: Clock,
    window: Arc<Semaphore>,
    slot: Option<OwnedSemaphorePermit>,
    until: Instant,
    pause: Duration,
}

impl Turn {
    async fn begin(bridge: &Bridge) -> Self {
        let (clock, window) = (bridge.chassis.clock.clone(), bridge.window.clone());
        let slot = window.clone().acquire_owned().await.ok();
        let until = clock.instant() + THROTTLED_WITHIN;
        Self { clock, window, slot, until, pause: THROTTLED_FIRST }
    }

    /// Each part is waited for as long as the first.
    fn anew(&mut self) {
        (self.until, self.pause) = (self.clock.instant() + THROTTLED_WITHIN, THROTTLED_FIRST);
    }

    /// Whether a refusal is for now only, and it is not yet time to give up.
    fn covers(&self, status: CommandStatus) -> bool {
        matches!(status, CommandStatus::EsmeRthrottled | CommandStatus::EsmeRmsgqful)
            && self.clock.instant() < self.until
    }

    /// Waits, while others have the slot.
    async fn pause(&mut self) {
        metrics::mt("throttled");
        self.slot = None;
        self.clock.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(THROTTLED_MAX);
        self.slot = self.window.clone().acquire_owned().await.ok();
    }
}

fn refused(reason: &str) -> SmsTaken {
    SmsTaken { refused: reason.to_owned(), retry_after_ms: 0 }
}
