//! The bus within one process.
#![expect(
    clippy::disallowed_types,
    reason = "the table of subscribers and of waiting requests: held for a look-up"
)]

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Chassis;
use dialtone_vocab::UnixMillis;
use tokio::sync::{mpsc, oneshot};

use crate::limits::{MAX_MESSAGE, SUBSCRIPTION};
use crate::{BusError, Payload, metrics};

/// Says what becomes of each message: how tests make weather.
pub trait Courier: Send + Sync {
    /// The delays after which copies of the `n`-th message of this bus arrive; empty: it is lost; one zero: it goes
    /// as usual.
    fn fate(&self, subject: &str, n: u64) -> Vec<Duration>;
}

/// A message on its way: encoded in debug builds, so that the local bus is no kinder than NATS.
enum Parcel {
    Value(Box<dyn Any + Send>),
    Bytes(Bytes),
}

struct Letter {
    parcel: Parcel,
    deadline: Option<UnixMillis>,
    reply: Option<String>,
}

#[derive(Clone)]
struct Subscriber {
    id: u64,
    sender: mpsc::Sender<Letter>,
}

#[derive(Default)]
struct Listeners {
    all: Vec<Subscriber>,
    groups: BTreeMap<&'static str, (Arc<AtomicUsize>, Vec<Subscriber>)>,
}

pub(crate) struct LocalBus {
    listeners: RwLock<HashMap<String, Listeners>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Parcel>>>,
    next: AtomicU64,
    sent: AtomicU64,
    courier: Option<Arc<dyn Courier>>,
}

fn pack<M: Payload>(message: M) -> Result<Parcel, BusError> {
    if !cfg!(debug_assertions) {
        return Ok(Parcel::Value(Box::new(message)));
    }
    let bytes = message.encode_to_vec();
    if bytes.len() > MAX_MESSAGE {
        return Err(BusError::TooLarge(bytes.len()));
    }
    Ok(Parcel::Bytes(bytes.into()))
}

fn unpack<M: Payload>(parcel: Parcel) -> Option<M> {
    match parcel {
        Parcel::Value(value) => value.downcast().ok().map(|message| *message),
        Parcel::Bytes(bytes) => M::decode(bytes).ok(),
    }
}

impl LocalBus {
    pub(crate) fn new(courier: Option<Arc<dyn Courier>>) -> Self {
        Self {
            listeners: RwLock::default(),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            sent: AtomicU64::new(0),
            courier,
        }
    }

    pub(crate) fn subscribe<M>(
        this: &Arc<Self>,
        subject: &str,
        group: Option<&'static str>,
    ) -> Subscription<M> {
        let id = this.next.fetch_add(1, Ordering::Relaxed);
        let (sender, letters) = mpsc::channel(SUBSCRIPTION);
        let subscriber = Subscriber { id, sender };
        let mut all = this.listeners.write().unwrap_or_else(PoisonError::into_inner);
        let listeners = all.entry(subject.to_owned()).or_default();
        match group {
            None => listeners.all.push(subscriber),
            Some(group) => listeners.groups.entry(group).or_default().1.push(subscriber),
        }
        Subscription { letters, id, subject: subject.to_owned(), bus: this.clone(), message: PhantomData }
    }

    fn unsubscribe(&self, subject: &str, id: u64) {
        let mut all = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        let Some(listeners) = all.get_mut(subject) else { return };
        listeners.all.retain(|subscriber| subscriber.id != id);
        listeners.groups.retain(|_, (_, members)| {
            members.retain(|subscriber| subscriber.id != id);
            !members.is_empty()
        });
        if listeners.all.is_empty() && listeners.groups.is_empty() {
            all.remove(subject);
        }
    }

    fn is_heard(&self, subject: &str) -> bool {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).contains_key(subject)
    }

    /// Who gets the next message of a subject: every plain subscriber and one of each group.
    fn receivers(&self, subject: &str) -> Vec<Subscriber> {
        let all = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        let Some(listeners) = all.get(subject) else { return Vec::new() };
        let chosen = listeners.groups.values().filter_map(|(turn, members)| {
            members.get(turn.fetch_add(1, Ordering::Relaxed) % members.len().max(1))
        });
        listeners.all.iter().chain(chosen).cloned().collect()
    }

    pub(crate) fn publish<M: Payload>(
        &self,
        chassis: &Chassis,
        subject: &str,
        message: M,
        deadline: Option<UnixMillis>,
        reply: Option<&str>,
    ) -> Result<(), BusError> {
        let mut receivers = self.receivers(subject);
        let Some(last) = receivers.pop() else { return Ok(()) };
        for receiver in receivers {
            let letter = Letter { parcel: pack(message.clone())?, deadline, reply: reply.map(str::to_owned) };
            self.post(chassis, subject, &receiver, letter, &message);
        }
        match &self.courier {
            None => {
                let letter = Letter { parcel: pack(message)?, deadline, reply: reply.map(str::to_owned) };
                drop_in(&last.sender, letter);
            }
            Some(_) => {
                let letter =
                    Letter { parcel: pack(message.clone())?, deadline, reply: reply.map(str::to_owned) };
                self.post(chassis, subject, &last, letter, &message);
            }
        }
        Ok(())
    }

    /// Hands a letter over, as often and as late as the courier says.
    fn post<M: Payload>(
        &self,
        chassis: &Chassis,
        subject: &str,
        to: &Subscriber,
        letter: Letter,
        message: &M,
    ) {
        let Some(courier) = &self.courier else { return drop_in(&to.sender, letter) };
        let fate = courier.fate(subject, self.sent.fetch_add(1, Ordering::Relaxed));
        for delay in fate {
            let Ok(parcel) = pack(message.clone()) else { return };
            let copy = Letter { parcel, deadline: letter.deadline, reply: letter.reply.clone() };
            if delay.is_zero() {
                drop_in(&to.sender, copy);
                continue;
            }
            let (sender, clock) = (to.sender.clone(), chassis.clock.clone());
            chassis.tasks.spawn("bus courier", async move {
                clock.sleep(delay).await;
                drop_in(&sender, copy);
            });
        }
    }

    pub(crate) async fn request<M: Payload, R: Payload>(
        &self,
        chassis: &Chassis,
        subject: &str,
        message: M,
        deadline: UnixMillis,
        within: Duration,
    ) -> Result<R, BusError> {
        if !self.is_heard(subject) {
            return Err(BusError::NoResponder);
        }
        let reply = format!("reply.{}", self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(reply.clone(), sender);
        let waiting = Waiting { bus: self, reply: &reply };
        self.publish(chassis, subject, message, Some(deadline), Some(&reply))?;
        let answer = chassis.clock.timeout(within, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(parcel)) => unpack(parcel).ok_or(BusError::Garbled),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Timeout),
        }
    }

    pub(crate) fn answer<R: Payload>(&self, chassis: &Chassis, reply: &str, answer: R) {
        let delay = match &self.courier {
            None => Some(Duration::ZERO),
            Some(courier) => {
                courier.fate("reply", self.sent.fetch_add(1, Ordering::Relaxed)).first().copied()
            }
        };
        let (Some(delay), Ok(parcel)) = (delay, pack(answer)) else { return metrics::dropped("reply") };
        let sender = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(reply);
        let Some(sender) = sender else { return };
        if delay.is_zero() {
            let _no_longer_waiting = sender.send(parcel);
            return;
        }
        let clock = chassis.clock.clone();
        chassis.tasks.spawn("bus courier", async move {
            clock.sleep(delay).await;
            let _no_longer_waiting = sender.send(parcel);
        });
    }
}

/// A request that waits; forgotten when its caller goes.
struct Waiting<'a> {
    bus: &'a LocalBus,
    reply: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.bus.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(self.reply);
    }
}

fn drop_in(to: &mpsc::Sender<Letter>, letter: Letter) {
    if to.try_send(letter).is_err() {
        metrics::dropped("overflow");
    }
}

pub(crate) struct Subscription<M> {
    letters: mpsc::Receiver<Letter>,
    id: u64,
    subject: String,
    bus: Arc<LocalBus>,
    message: PhantomData<fn() -> M>,
}

impl<M: Payload> Subscription<M> {
    pub(crate) async fn next(&mut self) -> Option<(M, Option<UnixMillis>, Option<String>)> {
        loop {
            let letter = self.letters.recv().await?;
            match unpack(letter.parcel) {
                Some(message) => return Some((message, letter.deadline, letter.reply)),
                None => metrics::dropped("garbled"),
            }
        }
    }
}

impl<M> Drop for Subscription<M> {
    fn drop(&mut self) {
        self.bus.unsubscribe(&self.subject, self.id);
    }
}
