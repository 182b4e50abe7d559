//! Serving gRPC on a port, with every HTTP/2 limit set.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::Chassis;
use crate::tls::Tls;

/// Streams of one connection.
pub const MAX_STREAMS: u32 = 1_024;
/// Bytes of request headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of an HTTP/2 frame: the smallest maximum that HTTP/2 allows (RFC 9113, 4.2).
const MAX_FRAME_BYTES: u32 = 16 * 1024;
/// A ping on an idle connection; a client that does not answer is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Handshakes of internal TLS at once; more wait.
const MAX_HANDSHAKES: usize = 256;
/// A connection of internal TLS this old is made anew, with a look at both certificates.
const CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// A pause when nothing can be accepted: no file descriptors, perhaps.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Streams reset by a client before they were answered; more ends the connection.
const MAX_PENDING_RESETS: usize = 64;

/// Why a port could not be had: the port and the setting that changes it.
#[derive(Debug, thiserror::Error)]
#[error("{addr} can't be listened on ({error}): change `{setting}`, or {}", env_name(.setting))]
pub struct ListenError {
    addr: SocketAddr,
    setting: &'static str,
    error: io::Error,
}

fn env_name(setting: &str) -> String {
    format!("set DIALTONE__{}", setting.to_uppercase().replace('.', "__"))
}

/// Binds a port.
///
/// # Errors
/// [`ListenError`], which names `setting`.
pub async fn bind(addr: SocketAddr, setting: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|error| ListenError { addr, setting, error })
}

/// Serves until the process is to stop. Open streams are closed by their owners; what is left after that is cut when
/// the runtime ends (a graceful shutdown alone hangs on any open stream).
pub fn serve(chassis: &Chassis, listener: TcpListener, routes: Routes, name: &'static str) {
    run(chassis, server(), incoming(listener), routes, name);
}

fn run<S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static>(
    chassis: &Chassis,
    mut server: Server,
    incoming: impl Stream<Item = io::Result<S>> + Send + 'static,
    routes: Routes,
    name: &'static str,
) {
    let stop = chassis.tasks.stop_token();
    chassis.tasks.spawn(name, async move {
        let server = server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled());
        if let Err(error) = server.await {
            tracing::error!(%error, name, "the server ended");
        }
    });
}

/// What connects. The framework sets no options of connections that it did not accept itself.
fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    TcpListenerStream::new(listener).inspect(|accepted| {
        if let Ok(stream) = accepted {
            send_at_once(stream);
        }
    })
}

/// An answer does not wait until the one before it was acknowledged.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delays");
    }
}

/// As [`serve`], for other processes of the deployment: with `tls` whoever connects must show a certificate of its
/// authority.
pub fn serve_internal(chassis: &Chassis, listener: TcpListener, routes: Routes, tls: Option<&Tls>) {
    let Some(tls) = tls else { return serve(chassis, listener, routes, "internal") };
    // Nobody waits in it: a handshake that is done hands its stream over at once.
    let (sender, streams) = mpsc::channel(1);
    let shaking = Shaking { chassis: chassis.clone(), tls: tls.clone(), sender };
    chassis.tasks.spawn("internal accept", shaking.accept(listener));
    let incoming = ReceiverStream::new(streams).map(Ok);
    run(chassis, server().max_connection_age(CONNECTION_AGE), incoming, routes, "internal");
}

/// Makes TLS of what connects.
#[derive(Clone)]
struct Shaking {
    chassis: Chassis,
    tls: Tls,
    sender: mpsc::Sender<TlsStream<TcpStream>>,
}

impl Shaking {
    async fn accept(self, listener: TcpListener) {
        let (stop, slots) = (self.chassis.tasks.stop_token(), Arc::new(Semaphore::new(MAX_HANDSHAKES)));
        loop {
            let next = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let shake = self.clone().shake(stream, peer);
                    self.chassis.tasks.spawn("internal handshake", async move {
                        shake.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    self.chassis.clock.sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn shake(self, stream: TcpStream, peer: SocketAddr) {
        send_at_once(&stream);
        let handshake = TlsAcceptor::from(self.tls.server()).accept(stream);
        match self.chassis.clock.timeout(HANDSHAKE_WITHIN, handshake).await {
            Ok(Ok(stream)) => {
                let _stopping = self.sender.send(stream).await;
            }
            Ok(Err(error)) => tracing::warn!(%peer, %error, "an internal connection was refused"),
            Err(_) => tracing::warn!(%peer, "an internal connection did not finish its handshake"),
        }
    }
}

/// A server with our limits.
pub fn server() -> Server {
    Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_ANSWER))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dialtone_vocab::NodeId;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::Network;

    #[tokio::test]
    async fn a_connection_that_has_its_age_is_made_anew_and_no_call_lost() {
        let chassis = Chassis::real(NodeId::new("test"));
        let listener = bind(([127, 0, 0, 1], 0).into(), "internal.listen").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let counted = incoming(listener).inspect(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let routes = Routes::new(tonic_health::server::health_reporter().1);
        run(&chassis, server().max_connection_age(Duration::from_millis(50)), counted, routes, "test");
        let mut client = HealthClient::new(Network::new(&chassis, None).channel(&url).expect("a url"));
        let calling = async {
            while connections.load(Ordering::SeqCst) < 4 {
                client.check(HealthCheckRequest::default()).await.expect("answered");
            }
        };
        chassis.clock.timeout(Duration::from_secs(30), calling).await.expect("new connections");
    }

    #[tokio::test]
    async fn answers_leave_at_once() {
        let listener =
            bind(SocketAddr::from(([127, 0, 0, 1], 0)), "gateway.listen").await.expect("a free port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let accepted = Box::pin(incoming(listener)).next().await.expect("one").expect("accepted");
        assert!(accepted.nodelay().expect("an option"));
    }

    #[tokio::test]
    async fn a_port_in_use_names_port_and_setting() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "gateway.listen").await.expect("a free port");
        let addr = first.local_addr().expect("bound");
        let error = bind(addr, "gateway.listen").await.expect_err("in use").to_string();
        assert!(error.contains(&addr.to_string()), "{error}");
        assert!(error.contains("gateway.listen") && error.contains("DIALTONE__GATEWAY__LISTEN"), "{error}");
    }
}
