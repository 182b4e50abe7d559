//! A user's session stream, bare: frames go out as they are queued, what comes back is counted.
//!
//! Not the session of the client crate: a generator that journals and repeats would burn more than the server it
//! measures. What a device must do is done: it acknowledges what it took, batch by batch.
#![expect(
    clippy::disallowed_types,
    reason = "one tally for the pacer's thread and all streams, locked for a few counts"
)]

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dialtone_chassis::Chassis;
use dialtone_client::Api;
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::{Ack, ClientFrame, Hello, ServerFrame, Welcome};
use dialtone_proto::routing::v1::SendRequest;
use dialtone_proto::types::v1::{Body, Recipient};
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tonic::Streaming;

use crate::tally::{Mark, Tally};

/// Frames queued for one stream; a full queue is counted as a message never sent.
const QUEUE: usize = 4_096;
/// Frames taken from a stream at once, and acknowledged by one ack.
const BATCH: usize = 64;
/// How long a stream may take to be open and level.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// The tally, shared.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(crate) fn new(tally: Tally) -> Self {
        Self(Arc::new(Mutex::new(tally)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame on its way out, and when its message was due.
struct Queued {
    frame: Up,
    due: Option<Duration>,
}

/// What the transport reads: it notes how late a message is when it is taken, not when it was queued.
struct Outgoing {
    queue: mpsc::Receiver<Queued>,
    shared: Shared,
}

impl Stream for Outgoing {
    type Item = ClientFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<ClientFrame>> {
        let Some(Queued { frame, due }) = std::task::ready!(self.queue.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        if let Some(due) = due {
            self.shared.lock().taken(due);
        }
        Poll::Ready(Some(ClientFrame { frame: Some(frame) }))
    }
}

/// One open session stream.
pub(crate) struct Line {
    up: mpsc::Sender<Queued>,
    down: Streaming<ServerFrame>,
    next_seq: u64,
}

/// Room for messages under way in a pair; `None`: as many as there are.
pub(crate) type Window = Option<Arc<Semaphore>>;

/// The sending half.
pub(crate) struct Sender {
    up: mpsc::Sender<Queued>,
    next_seq: u64,
    to: Recipient,
    shared: Shared,
    pair: usize,
    body: usize,
}

impl Line {
    /// Opens a stream from the beginning of its logs and waits until it is welcome.
    pub(crate) async fn open(chassis: &Chassis, api: &Api, shared: &Shared) -> Result<Self> {
        let opening = Self::welcome(api, shared);
        chassis.clock.timeout(OPEN_WITHIN, opening).await.ok().context("a stream was not welcome in time")?
    }

    async fn welcome(api: &Api, shared: &Shared) -> Result<Self> {
        let (up, queue) = mpsc::channel(QUEUE);
        up.try_send(Queued { frame: Up::Hello(Hello::default()), due: None }).ok().context("no room")?;
        let outgoing = Outgoing { queue, shared: shared.clone() };
        let mut down = api.session().connect(outgoing).await.context("opening a stream")?.into_inner();
        loop {
            let frame = down.message().await.context("a stream broke")?.context("a stream ended")?;
            match frame.frame {
                Some(Down::Welcome(Welcome { last_client_seq, .. })) => {
                    return Ok(Self { up, down, next_seq: last_client_seq + 1 });
                }
                Some(Down::GoAway(go_away)) => bail!("told to go away: {}", go_away.reason),
                _ => {}
            }
        }
    }

    /// Makes it the sender of a pair: answers and receipts are counted in the background.
    pub(crate) fn send_from(
        self,
        chassis: &Chassis,
        shared: &Shared,
        pair: usize,
        to: Recipient,
        body: usize,
        window: Window,
    ) -> Sender {
        let Self { up, mut down, next_seq } = self;
        let counted = shared.clone();
        chassis.tasks.spawn("load sender", async move {
            loop {
                match down.message().await {
                    Ok(Some(frame)) => {
                        if let (Some(Down::Accepted(_)), Some(window)) = (&frame.frame, &window) {
                            window.add_permits(1);
                        }
                        counted.lock().answer(pair, frame);
                    }
                    Ok(None) => return counted.lock().broken("the server ended a sender's stream"),
                    Err(status) => return counted.lock().broken(status.message()),
                }
            }
        });
        Sender { up, next_seq, to, shared: shared.clone(), pair, body }
    }

    /// Makes it the receiver of a pair: what comes is counted and acknowledged in the background.
    pub(crate) fn receive_at(self, chassis: &Chassis, shared: &Shared, pair: usize, window: Window) {
        let Self { up, down, .. } = self;
        let counted = shared.clone();
        chassis.tasks.spawn("load receiver", async move {
            let mut batches = down.ready_chunks(BATCH);
            while let Some(batch) = batches.next().await {
                let mut last = None;
                for frame in batch {
                    match frame {
                        Ok(ServerFrame { frame: Some(Down::Message(message)) }) => {
                            last = Some(message.idx);
                            counted.lock().message(pair, &message);
                            if let Some(window) = &window {
                                window.add_permits(1);
                            }
                        }
                        Ok(_) => {}
                        Err(status) => return counted.lock().broken(status.message()),
                    }
                }
                let ack = last.map(|idx| Queued { frame: Up::Ack(Ack { idx }), due: None });
                if let Some(ack) = ack
                    && up.send(ack).await.is_err()
                {
                    break;
                }
            }
            counted.lock().broken("the server ended a receiver's stream");
        });
    }
}

impl Sender {
    /// Queues the next message of the pair.
    pub(crate) fn send(&mut self, due: Duration) {
        let (run, number) = self.shared.lock().sends(self.pair, due);
        let content = Mark { run, number, due }.body(self.body);
        let body = Body { content: content.into(), ..Default::default() };
        let request = SendRequest {
            client_seq: self.next_seq,
            to: Some(self.to.clone()),
            body: Some(body),
            policy: None,
        };
        self.next_seq += 1;
        if self.up.try_send(Queued { frame: Up::Send(request), due: Some(due) }).is_err() {
            self.shared.lock().broken("a sender's queue is full: the server does not read");
        }
    }
}
