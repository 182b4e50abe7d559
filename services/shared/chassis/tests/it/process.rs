//! Processes with a service that says who it is, on ports of this machine, each in a runtime of its own: it can be
//! killed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_chassis::tls::Tls;
use dialtone_chassis::{Channel, Chassis, Clock, Error, listen, server};
use dialtone_vocab::NodeId;
use futures::Stream;
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How long something may take that must come.
pub(crate) const SOON: Duration = Duration::from_secs(30);

struct Named {
    number: i32,
    clock: Clock,
    begun: Arc<AtomicUsize>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Named {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if let Ok(ms) = request.get_ref().service.parse() {
            self.clock.sleep(Duration::from_millis(ms)).await;
        }
        Ok(Response::new(HealthCheckResponse { status: self.number }))
    }

    type WatchStream = Answers;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

pub(crate) struct Process {
    runtime: Option<Runtime>,
    chassis: Chassis,
    begun: Arc<AtomicUsize>,
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// Answers with its number.
    pub(crate) async fn start(number: i32, addr: SocketAddr) -> Self {
        let chassis = Chassis::real(NodeId::new("peer"));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let begun = Arc::default();
        let named = Named { number, clock: chassis.clock.clone(), begun: Arc::clone(&begun) };
        let for_server = chassis.clone();
        let addr = runtime.spawn(async move { serve(&for_server, named, addr, None).await });
        Self { addr: addr.await.expect("served"), runtime: Some(runtime), chassis, begun }
    }

    /// It ends in order.
    pub(crate) async fn stop(self) {
        assert!(self.chassis.tasks.shutdown(SOON).await, "it ends");
    }

    /// Until so many calls have begun here.
    pub(crate) async fn has_begun(&self, chassis: &Chassis, calls: usize) {
        let waiting = async {
            while self.begun.load(Ordering::SeqCst) < calls {
                chassis.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        chassis.clock.timeout(SOON, waiting).await.expect("calls come");
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// On any port.
    pub(crate) async fn new(number: i32) -> Self {
        Self::start(number, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// It and its connections are gone, whatever they were at.
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves in this runtime, with TLS.
pub(crate) async fn serve_tls(chassis: &Chassis, tls: &Tls) -> SocketAddr {
    let named = Named { number: 1, clock: chassis.clock.clone(), begun: Arc::default() };
    serve(chassis, named, ([127, 0, 0, 1], 0).into(), Some(tls)).await
}

async fn serve(chassis: &Chassis, named: Named, addr: SocketAddr, tls: Option<&Tls>) -> SocketAddr {
    let listener = listen::bind(addr, "internal.listen").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let routes = server::layers(chassis, Routes::new(HealthServer::new(named)), None, &[]);
    let joined = server::join(vec![(&["grpc.health.v1.Health"], routes)]);
    listen::serve_internal(chassis, listener, joined, tls);
    addr
}

/// The number of whoever answers, after so many milliseconds.
pub(crate) async fn ask(channel: &Channel, after_ms: u32) -> Result<i32, Error> {
    let mut request = Request::new(HealthCheckRequest { service: after_ms.to_string() });
    request.set_timeout(SOON);
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.map(|answer| answer.into_inner().status).map_err(|status| Error::from_status(&status))
}

/// Asks until this is so of what the last `n` calls gave.
pub(crate) async fn ask_until(
    chassis: &Chassis,
    channel: &Channel,
    n: usize,
    is_so: impl Fn(&[Result<i32, Error>]) -> bool,
) {
    let mut last = Vec::new();
    let asking = async {
        while last.len() < n || !is_so(&last) {
            last.push(ask(channel, 0).await);
            last.drain(..last.len().saturating_sub(n));
            chassis.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = chassis.clock.timeout(SOON, asking).await;
    assert!(outcome.is_ok(), "it became never so: {last:?}");
}
