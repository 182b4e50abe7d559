//! A gRPC service that behaves as it is asked to: gRPC's own health service, scripted by the name in the request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dialtone_chassis::{Chassis, auth};
use futures::{Stream, StreamExt, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The method whose answers go on.
pub(crate) const STREAMS: &[&str] = &["/grpc.health.v1.Health/Watch"];
/// How long a `slow` call takes.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// What the handler did, seen from outside.
#[derive(Clone, Default)]
pub(crate) struct Done {
    /// `slow` calls that ran to their end.
    pub(crate) slow: Arc<AtomicU32>,
}

struct Scripted {
    chassis: Chassis,
    done: Done,
}

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Scripted {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "panic" => panic!("on purpose"),
            "slow" => {
                self.chassis.clock.sleep(SLOW).await;
                self.done.slow.fetch_add(1, Ordering::SeqCst);
            }
            "never" => std::future::pending().await,
            "who" => {
                let caller = auth::caller(&request)?;
                return Ok(Response::new(HealthCheckResponse {
                    status: i32::try_from(caller.device.0).unwrap_or(-1),
                }));
            }
            _ => {}
        }
        Ok(Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = Answers;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Answers>, Status> {
        let first = stream::once(async { Ok(HealthCheckResponse { status: 1 }) });
        let clock = self.chassis.clock.clone();
        let then: Answers = match request.into_inner().service.as_str() {
            "panic" => Box::pin(stream::once(async move {
                // Later than the first answer: what is ready together travels together.
                clock.sleep(SLOW).await;
                panic!("on purpose")
            })),
            _ => Box::pin(stream::once(async move {
                // Longer than any deadline.
                clock.sleep(Duration::from_secs(3_600)).await;
                Ok(HealthCheckResponse { status: 2 })
            })),
        };
        Ok(Response::new(Box::pin(first.chain(then))))
    }
}

/// The scripted service without layers, and what it did.
pub(crate) fn scripted(chassis: &Chassis) -> (Routes, Done) {
    let done = Done::default();
    let service = Scripted { chassis: chassis.clone(), done: done.clone() };
    (Routes::new(HealthServer::new(service)), done)
}
