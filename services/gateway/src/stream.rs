//! A session's stream: polls the client's frames, the items of the bus and a timer from one task, so that a message
//! wakes nothing but the stream it is for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dialtone_attach::SessionKey;
use dialtone_chassis::Clock;
use dialtone_chassis::auth::Caller;
use dialtone_proto::bus::v1::GatewayItem;
use dialtone_proto::edge::v1::{ClientFrame, ServerFrame};
use futures::Stream;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::handle::Handle;
use crate::limits::{REPAIR_EVERY, SESSION_OUT};
use crate::registry::{Progress, Registered};
use crate::state::{End, OWNERS, Session};
use crate::unreadable;

/// How a stream ends whose next frame could not be read: a frame that is wrong is said so, a broken connection hears
/// nothing anyway.
fn broken(status: &Status) -> End {
    unreadable::in_our_words(status).map_or(End::Clean, End::Failed)
}

/// What the client reads; dropping it detaches the session.
pub(crate) struct SessionStream {
    session: Session,
    ticket: u64,
    up: Streaming<ClientFrame>,
    mailbox: mpsc::Receiver<GatewayItem>,
    progress: Arc<Progress>,
    timer: Option<BoxFuture<'static, ()>>,
    handle: Handle,
    clock: Clock,
    over: bool,
}

impl SessionStream {
    pub(crate) fn new(
        handle: Handle,
        caller: Caller,
        registered: Registered,
        up: Streaming<ClientFrame>,
    ) -> Self {
        let Registered { ticket, mailbox, progress } = registered;
        let key = SessionKey { gateway: handle.node().clone(), ticket };
        let clock = handle.clock().clone();
        let session = Session::new(key, caller, clock.now());
        Self { session, ticket, up, mailbox, progress, timer: None, handle, clock, over: false }
    }

    /// Takes what the client and the bus have; whether there was anything.
    fn take_in(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.clock.now();
        let mut any = false;
        match Pin::new(&mut self.up).poll_next(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.session.client(frame, now);
                any = true;
            }
            Poll::Ready(Some(Err(status))) => {
                tracing::debug!(code = ?status.code(), "a client's stream broke");
                self.session.end.get_or_insert(broken(&status));
                return true;
            }
            Poll::Ready(None) => {
                self.session.end.get_or_insert(End::Clean);
                return true;
            }
            Poll::Pending => {}
        }
        while self.session.backlog() < SESSION_OUT {
            match self.mailbox.poll_recv(cx) {
                Poll::Ready(Some(item)) => {
                    self.session.owner(item, now);
                    any = true;
                }
                // It was told to go, if there was room to tell it.
                Poll::Ready(None) => {
                    self.session.end.get_or_insert(End::Clean);
                    break;
                }
                Poll::Pending => break,
            }
        }
        any | self.look_after(cx)
    }

    /// A session that is not level has a timer; one that is needs none.
    fn look_after(&mut self, cx: &mut Context<'_>) -> bool {
        if self.session.is_level() {
            self.timer = None;
            return false;
        }
        let clock = &self.clock;
        let timer = self.timer.get_or_insert_with(|| {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep(REPAIR_EVERY).await })
        });
        let fired = timer.as_mut().poll(cx).is_ready();
        if fired {
            self.timer = None;
            self.session.tick(self.clock.now());
        }
        fired
    }

    /// Carries out what the session wants done.
    fn carry_out(&mut self) {
        if let Err(error) = self.handle.carry_out(self.session.user(), self.session.effects.drain(..)) {
            self.session.fail(error);
        }
        for slot in 0..OWNERS.len() {
            self.progress.note(slot, &self.session.link(slot).beat(self.ticket, &[]));
        }
        self.progress.note_ack(self.session.acked());
        self.handle.count_unknown_frames(std::mem::take(&mut self.session.unknown_frames));
    }
}

impl Stream for SessionStream {
    type Item = Result<ServerFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            if let Some(frame) = this.session.pop() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if let Some(end) = this.session.end.take() {
                this.over = true;
                match end {
                    End::Clean => return Poll::Ready(None),
                    End::Failed(error) => return Poll::Ready(Some(Err(error.into()))),
                }
            }
            let any = this.take_in(cx);
            this.carry_out();
            if !any && this.session.end.is_none() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.handle.close(self.ticket, self.session.user(), self.session.detach());
    }
}
