//! Items on their way to one destination, many in a message: a message's cost is the processes it wakes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use dialtone_proto::bus::v1 as bus;
use dialtone_vocab::NodeId;
use prost::Message;
use tokio::sync::mpsc;

use crate::limits::{BATCH_BYTES, BATCH_ITEMS, BATCH_QUEUE, LINGER, LINGER_FROM, STOP_IDLE};
use crate::{Bus, BusError, Payload, Subject, metrics};

/// A message that is a list of items.
pub trait Batch: Payload {
    /// One of them.
    type Item: Message + Send + 'static;
    /// The message of these items.
    fn of(items: Vec<Self::Item>) -> Self;
}

macro_rules! batches {
    ($($batch:ident of $item:ident;)*) => {
        $(impl Batch for bus::$batch {
            type Item = bus::$item;
            fn of(items: Vec<Self::Item>) -> Self {
                Self { items }
            }
        })*
    };
}

batches! {
    ToRouting of RoutingItem;
    ToOffline of OfflineItem;
    ToPresence of PresenceItem;
    ToGateway of GatewayItem;
    ToSms of SmsItem;
}

/// Sends items to one subject, in order. Cheap to clone; its task ends with the last clone, or with the process.
pub struct Batcher<B: Batch>(mpsc::Sender<B::Item>);

impl<B: Batch> Clone for Batcher<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Batch> Batcher<B> {
    /// Queues an item.
    ///
    /// # Errors
    /// [`BusError::Busy`] when too much is waiting, [`BusError::Closed`] at shutdown.
    pub fn push(&self, item: B::Item) -> Result<(), BusError> {
        self.0.try_send(item).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BusError::Busy,
            mpsc::error::TrySendError::Closed(_) => BusError::Closed,
        })
    }
}

impl Bus {
    /// A batcher for one subject.
    pub fn batcher<B: Batch>(&self, subject: Subject<B>) -> Batcher<B> {
        let (sender, items) = mpsc::channel(BATCH_QUEUE);
        let bus = self.clone();
        self.chassis().tasks.spawn("bus batcher", async move { run(bus, subject, items).await });
        Batcher(sender)
    }

    /// Batchers for the subjects of nodes, made when first needed.
    pub fn fan<B: Batch>(&self, subject: fn(&NodeId) -> Subject<B>) -> Fan<B> {
        Fan { bus: self.clone(), subject, batchers: Arc::default() }
    }
}

/// Takes all that is ready, up to a batch; lingers only under load, and only on the way to another process.
async fn run<B: Batch>(bus: Bus, subject: Subject<B>, mut items: mpsc::Receiver<B::Item>) {
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    let mut last = 0;
    while next(&bus, &mut items, &mut batch).await > 0 {
        if batch.len() < BATCH_ITEMS {
            // Whoever is ready to add something does so before we go.
            if bus.is_remote() && last >= LINGER_FROM {
                bus.chassis().clock.sleep(LINGER).await;
            } else {
                tokio::task::yield_now().await;
            }
            while batch.len() < BATCH_ITEMS {
                match items.try_recv() {
                    Ok(item) => batch.push(item),
                    Err(_) => break,
                }
            }
        }
        last = batch.len();
        for message in split(std::mem::take(&mut batch)) {
            if let Err(error) = bus.publish(&subject, B::of(message)).await {
                tracing::warn!(%error, subject = subject.pattern(), "a batch was dropped");
                metrics::dropped("overflow");
            }
        }
    }
}

/// Waits for items; none come any more when nobody can send, or nobody has for a moment and the process is to stop.
async fn next<I>(bus: &Bus, items: &mut mpsc::Receiver<I>, batch: &mut Vec<I>) -> usize {
    let stop = bus.chassis().tasks.stop_token();
    tokio::select! {
        biased;
        count = items.recv_many(batch, BATCH_ITEMS) => return count,
        () = stop.cancelled() => {}
    }
    bus.chassis().clock.timeout(STOP_IDLE, items.recv_many(batch, BATCH_ITEMS)).await.unwrap_or(0)
}

/// Splits items so that no message is too large.
fn split<I: Message>(items: Vec<I>) -> Vec<Vec<I>> {
    let (mut messages, mut message, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let size = item.encoded_len();
        if bytes + size > BATCH_BYTES && !message.is_empty() {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
        bytes += size;
        message.push(item);
    }
    messages.push(message);
    messages
}

/// Batchers by node. Cheap to clone.
pub struct Fan<B: Batch> {
    bus: Bus,
    subject: fn(&NodeId) -> Subject<B>,
    batchers: Arc<RwLock<BTreeMap<NodeId, Batcher<B>>>>,
}

impl<B: Batch> Clone for Fan<B> {
    fn clone(&self) -> Self {
        Self { bus: self.bus.clone(), subject: self.subject, batchers: self.batchers.clone() }
    }
}

impl<B: Batch> Fan<B> {
    /// Queues an item for a node.
    ///
    /// # Errors
    /// As [`Batcher::push`].
    pub fn push(&self, node: &NodeId, item: B::Item) -> Result<(), BusError> {
        let known = self.batchers.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned();
        if let Some(batcher) = known {
            return batcher.push(item);
        }
        let mut batchers = self.batchers.write().unwrap_or_else(PoisonError::into_inner);
        let batcher = batchers.entry(node.clone()).or_insert_with(|| self.bus.batcher((self.subject)(node)));
        batcher.push(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> bus::SmsResult {
        bus::SmsResult { reason: "x".repeat(bytes), ..Default::default() }
    }

    #[test]
    fn a_batch_is_split_before_it_is_too_large() {
        let sizes = |messages: Vec<Vec<bus::SmsResult>>| messages.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(split(vec![item(10), item(10)])), [2]);
        assert_eq!(sizes(split(vec![item(400_000), item(400_000), item(10)])), [1, 2]);
        assert_eq!(sizes(split(vec![item(900_000)])), [1]);
    }
}
