//! The bridge: takes SMS once, hands them to the operator, tells what became of them.

use std::sync::Arc;
use std::time::Duration;

use dialtone_bus::Fan;
use dialtone_chassis::{Backoff, Chassis, Clock, Error, NumberKey};
use dialtone_proto::bus::v1::{SmsSubmit, SmsTaken, ToRouting, sms_submit};
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
    STORE_FIRST, STORE_MAX, SUBMIT_QUEUE, THROTTLED_FIRST, THROTTLED_MAX, THROTTLED_WITHIN, UNDER_WAY, WINDOW,
};
use crate::look::Hands;
use crate::segment::{self, Segments};
use crate::store::{Progress, Sms, Store, id_of, may_pass};
use crate::{metrics, pdu};

/// The bridge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bridge {
    pub(crate) chassis: Chassis,
    pub(crate) store: Store,
    pub(crate) key: NumberKey,
    pub(crate) config: Config,
    pub(crate) shards: Shards,
    pub(crate) routing: Fan<ToRouting>,
    pub(crate) hands: Hands,
    queue: mpsc::Sender<Vec<u8>>,
    pub(crate) news: Arc<Notify>,
    /// A place is taken from before an SMS may leave until what became of it is written down.
    pub(crate) under_way: Arc<Semaphore>,
    /// A slot is taken while one is on its way to the operator, and not while it waits to be tried again.
    window: Arc<Semaphore>,
}

/// Does the same again while the store can't be reached, until the process stops: what was told to the operator can't
/// be untold.
macro_rules! insist {
    ($bridge:expr, $what:expr) => {{
        let mut backoff = Backoff::new(STORE_FIRST, STORE_MAX);
        loop {
            match $what.await {
                Ok(done) => break done,
                Err(error) => $bridge.pause_after(error, &mut backoff).await?,
            }
        }
    }};
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
    ) -> Self {
        let (queue, keys) = mpsc::channel(SUBMIT_QUEUE);
        let bridge = Self {
            chassis: chassis.clone(),
            store,
            key,
            config: config.clone(),
            shards: shards.clone(),
            routing,
            hands: Hands::default(),
            queue,
            news: Arc::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            window: Arc::new(Semaphore::new(WINDOW)),
        };
        chassis.tasks.spawn("sms submit", bridge.clone().submit_all(esme, keys));
        chassis.tasks.spawn("sms look", bridge.clone().keep_looking());
        chassis.tasks.spawn("sms results", bridge.clone().tell_results());
        chassis.tasks.spawn("sms rows sweep", bridge.store.clone().keep_swept(chassis.clone()));
        bridge
    }

    /// Takes an SMS durably; a repeat changes nothing.
    pub(crate) async fn take(&self, submit: SmsSubmit) -> Result<SmsTaken, Error> {
        let Ok(to) = PhoneNumber::parse_e164(&submit.to) else {
            return Ok(refused(Reason::NumberMalformed.as_str()));
        };
        // Before anything that may have changed since: what was taken stays taken.
        if let Some(sms) = self.store.sms(&submit.message_id).await.map_err(|error| failed(&error))? {
            self.queue_own(&sms);
            return Ok(SmsTaken::default());
        }
        if segment::segment(&self.text(&submit)).is_none() {
            return Ok(refused("SMS_TOO_LONG"));
        }
        let is_message = submit.kind() == sms_submit::Kind::Message;
        if is_message && self.store.is_opted_out(self.key.hash(to)).await.map_err(|error| failed(&error))? {
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
        self.taken(&submit).await?;
        Ok(SmsTaken::default())
    }

    async fn taken(&self, submit: &SmsSubmit) -> Result<(), Error> {
        let id = &submit.message_id;
        if !self.hands.take(id) {
            return Err(Error::new(Reason::Busy, "it is being taken"));
        }
        let (node, now) = (self.chassis.node.as_str(), self.chassis.clock.now());
        let taken = self.store.take(submit, node, now).await;
        if !matches!(taken, Ok(Some(_))) {
            self.hands.drop(id);
        }
        if let Some(key) = taken.map_err(|error| failed(&error))? {
            metrics::mt("taken");
            self.hand_over(key).await;
        }
        Ok(())
    }

    /// It was taken here without anybody knowing then.
    fn queue_own(&self, sms: &Sms) {
        let is_ours = sms.row.is(Progress::Queued) && sms.row.node == self.chassis.node.as_str();
        if is_ours && self.hands.take(&sms.id) && self.queue.try_send(sms.queue_key()).is_err() {
            self.hands.drop(&sms.id);
        }
    }

    /// Something of an SMS is to be done, and nobody has it in hand.
    pub(crate) async fn queue(&self, key: Vec<u8>) {
        if self.hands.take(id_of(&key)) {
            self.hand_over(key).await;
        }
    }

    async fn hand_over(&self, key: Vec<u8>) {
        if self.queue.send(key).await.is_err() {
            tracing::debug!("stopping: it will be seen to after the next start");
        }
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
    pub(crate) async fn quote(&self, request: QuoteRequest) -> Result<QuoteResponse, Error> {
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
        let answerable = self.store.could_assign(self.key.hash(to), user, pool).await;
        let answerable = answerable.map_err(|error| failed(&error))?;
        Ok(QuoteResponse {
            segments: u32::try_from(count).unwrap_or(u32::MAX),
            encoding: segments.encoding.name().to_owned(),
            price_micros: self.config.price_micros.saturating_mul(count),
            currency: self.config.currency.clone(),
            answerable,
        })
    }

    /// Submits what is queued, a window at a time.
    async fn submit_all(self, esme: Esme, mut keys: mpsc::Receiver<Vec<u8>>) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            let key = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                key = keys.recv() => match key {
                    Some(key) => key,
                    None => return,
                },
            };
            let Some(Ok(place)) = self.or_stop(self.under_way.clone().acquire_owned()).await else { return };
            let (bridge, esme) = (self.clone(), esme.clone());
            self.chassis.tasks.spawn("sms submit one", async move {
                if let Err(error) = bridge.see_to(&esme, &key).await {
                    tracing::error!(%error, "an SMS waits for the next start");
                }
                bridge.hands.drop(id_of(&key));
                drop(place);
            });
        }
    }

    /// Sees to an SMS until nothing more is to be done.
    async fn see_to(&self, esme: &Esme, key: &[u8]) -> Result<(), StoreError> {
        insist!(self, self.submit(esme, key));
        Ok(())
    }

    /// Right also when it is begun again after an error.
    async fn submit(&self, esme: &Esme, key: &[u8]) -> Result<(), StoreError> {
        let Some(mut turn) = self.or_stop(Turn::begin(self)).await else { return Ok(()) };
        loop {
            let Some(mut sms) = self.store.sms(id_of(key)).await? else {
                return self.store.drop_untaken(key, self.chassis.clock.now()).await;
            };
            if sms.row.progress >= Progress::Submitted as u32 {
                return self.follow(&sms, key).await;
            }
            if !self.is_to_see_to(&sms.row.node) {
                // Another process has it, that is there or was a moment ago.
                return self.store.name_in_queue(key, &sms.row.node).await;
            }
            if sms.row.is(Progress::Submitting) {
                // A process died between this and the answer: nobody knows, and it is not sent twice.
                return self.ended(&mut sms, key, FateKind::SmsUnknown, "").await;
            }
            let submit = sms.row.submit.clone().unwrap_or_default();
            let Some(segments) = segment::segment(&self.text(&submit)) else {
                return self.ended(&mut sms, key, FateKind::SmsFailed, "SMS_TOO_LONG").await;
            };
            let from = self.sender(&submit).await?;
            if self.or_stop(esme.bound()).await.is_none() {
                return Ok(());
            }
            let node = self.chassis.node.as_str();
            if !insist!(self, self.store.submitting(&mut sms, node)) {
                continue;
            }
            match self.parts(esme, &mut turn, &from, &submit, &segments).await {
                Ok(ids) => return self.submitted(&mut sms, key, &ids).await,
                Err(Unsent { left: 0, why: SubmitError::NotSent }) => self.requeue(&mut sms).await?,
                // Nothing of it is out: until the operator takes it, it waits like one that was never tried.
                Err(Unsent { left: 0, why: SubmitError::Refused(status) }) if turn.covers(status) => {
                    self.requeue(&mut sms).await?;
                    if self.or_stop(turn.pause()).await.is_none() {
                        return Ok(());
                    }
                }
                Err(Unsent { why: SubmitError::Refused(status), .. }) => {
                    let reason = pdu::status_name(status);
                    return self.ended(&mut sms, key, FateKind::SmsFailed, &reason).await;
                }
                Err(Unsent { .. }) => return self.ended(&mut sms, key, FateKind::SmsUnknown, "").await,
            }
        }
    }

    /// After the store could not do something: waits, if the same may be possible a moment later.
    async fn pause_after(&self, error: StoreError, backoff: &mut Backoff) -> Result<(), StoreError> {
        if !may_pass(&error) {
            return Err(error);
        }
        tracing::debug!(%error, "the SMS store is tried again");
        let pause = self.chassis.clock.sleep(backoff.pause(&self.chassis.rng));
        self.or_stop(pause).await.ok_or(error)
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

    async fn requeue(&self, sms: &mut Sms) -> Result<(), StoreError> {
        // If it is no longer as it was, whatever it is now is looked at next.
        insist!(self, self.store.requeue(sms));
        Ok(())
    }

    async fn submitted(&self, sms: &mut Sms, key: &[u8], ids: &[String]) -> Result<(), StoreError> {
        let result = self.result(&sms.row, FateKind::SmsSubmitted, "");
        if insist!(self, self.store.submitted(sms, ids, result.as_ref())) {
            metrics::mt("submitted");
            self.follow(sms, key).await?;
        }
        Ok(())
    }

    async fn ended(&self, sms: &mut Sms, key: &[u8], kind: FateKind, reason: &str) -> Result<(), StoreError> {
        let result = self.result(&sms.row, kind, reason);
        if insist!(self, self.store.ended(sms, result.as_ref())) {
            metrics::mt(if kind == FateKind::SmsUnknown { "unknown" } else { "failed" });
            self.follow(sms, key).await?;
        }
        Ok(())
    }

    /// What became of it is decided: all that follows is written, and told.
    async fn follow(&self, sms: &Sms, key: &[u8]) -> Result<(), StoreError> {
        let now = self.chassis.clock.now();
        if let Some(told) = insist!(self, self.store.follow(sms, key, now)) {
            self.hands.tell(told);
            self.news.notify_one();
        }
        Ok(())
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
