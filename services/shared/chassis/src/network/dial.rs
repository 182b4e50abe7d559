//! One connection to another process.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::body::Body;

use super::target::Target;
use super::{CONNECT_WITHIN, KEEP_ALIVE, KEEP_ALIVE_ANSWER, Network};
use crate::tls;

/// A connection over which the other side has said something.
pub(super) struct Connected {
    pub(super) sender: SendRequest<Body>,
    /// Why it ended, once it has.
    pub(super) ended: oneshot::Receiver<String>,
}

/// Connects, within [`CONNECT_WITHIN`].
///
/// # Errors
/// What is in the way, in words for a log.
pub(super) async fn dial(
    network: &Network,
    target: &Arc<Target>,
    addr: SocketAddr,
) -> Result<Connected, String> {
    let connecting = connect(network, target, addr);
    let outcome = network.chassis.clock.timeout(CONNECT_WITHIN, connecting).await;
    outcome.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_WITHIN:?}")))
}

async fn connect(network: &Network, target: &Target, addr: SocketAddr) -> Result<Connected, String> {
    let stream = TcpStream::connect(addr).await.map_err(|error| words(&error))?;
    stream.set_nodelay(true).map_err(|error| words(&error))?;
    match &network.tls {
        None => begin(stream).await,
        Some(tls) => {
            if let Some(problem) = tls.problem() {
                return Err(problem);
            }
            let name = tls::name_of(&target.host).map_err(|error| words(&error))?;
            let connector = tokio_rustls::TlsConnector::from(tls.client());
            begin(connector.connect(name, stream).await.map_err(|error| words(&error))?).await
        }
    }
}

/// HTTP/2 over a stream. With TLS 1.3 a client learns only from what it reads that its certificate was refused: so a
/// connection is one when the other side has said something in it.
async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Connected, String> {
    let ((heard, first_word), broken) = (oneshot::channel(), Arc::<OnceLock<String>>::default());
    let stream = Listening { stream, heard: Some(heard), broken: broken.clone() };
    let handshake = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| words(&error))?;
    let (over, ended) = oneshot::channel();
    // No task of the chassis: a stop waits for those, and until its end handlers still call others. It ends with its
    // last sender.
    TokioExecutor::new().execute(async move {
        let why = connection.await.map_or_else(|error| words(&error), |()| "it was closed".to_owned());
        // The library does not tell why it could not read.
        let _nobody_minds = over.send(broken.get().cloned().unwrap_or(why));
    });
    match first_word.await {
        Ok(()) => Ok(Connected { sender, ended }),
        Err(_) => Err(ended.await.unwrap_or_else(|_| "it was closed".to_owned())),
    }
}

/// An error with what is behind it.
fn words(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// A stream that says when the other side said something, and what broke it.
struct Listening<S> {
    stream: S,
    heard: Option<oneshot::Sender<()>>,
    broken: Arc<OnceLock<String>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            self.broken.get_or_init(|| words(&error));
            return Poll::Ready(Err(error));
        }
        if buf.filled().len() > before
            && let Some(heard) = self.heard.take()
        {
            let _nobody_waits = heard.send(());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
