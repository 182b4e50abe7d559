//! Serving gRPC on a port, with every HTTP/2 limit set.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::Chassis;

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
    let stop = chassis.tasks.stop_token();
    let incoming = TcpListenerStream::new(listener);
    chassis.tasks.spawn(name, async move {
        let server = server().add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled());
        if let Err(error) = server.await {
            tracing::error!(%error, name, "the server ended");
        }
    });
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
        .tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_port_and_setting() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "gateway.listen").await.expect("a free port");
        let addr = first.local_addr().expect("bound");
        let error = bind(addr, "gateway.listen").await.expect_err("in use").to_string();
        assert!(error.contains(&addr.to_string()), "{error}");
        assert!(error.contains("gateway.listen") && error.contains("DIALTONE__GATEWAY__LISTEN"), "{error}");
    }
}
