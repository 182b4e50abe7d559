//! A connection between two nodes that can be cut from outside.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Cuts a pipe: whoever holds it is woken and told that it was reset.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_cut: bool,
    waiting: Option<Waker>,
}

impl Cut {
    pub(crate) fn now(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_cut = true;
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }

    /// An error if it was cut; else `cx` is woken when it is.
    fn look(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.waiting = Some(cx.waker().clone());
        Ok(())
    }
}

/// The end of a pipe at the node that dialled.
pub(crate) struct Pipe {
    pub(crate) near: DuplexStream,
    pub(crate) cut: Cut,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.look(cx)?;
        Pin::new(&mut self.near).poll_read(cx, into)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.cut.look(cx)?;
        Pin::new(&mut self.near).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.look(cx)?;
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}
