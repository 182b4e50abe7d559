//! Real sockets: the same layers across a network, and the operations port.

use std::net::SocketAddr;
use std::time::Duration;

use dialtone_chassis::{Channel, Chassis, Error, Network, listen, ops, server, telemetry};
use dialtone_vocab::{NodeId, Reason};
use http_body_util::BodyExt;
use tonic::Request;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use crate::handler::{SLOW, STREAMS, scripted};

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// The scripted service on a port of its own.
async fn served(chassis: &Chassis) -> HealthClient<Channel> {
    let listener = listen::bind(SocketAddr::from(ANY_PORT), "internal.listen").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (routes, _) = scripted(chassis);
    let layered = server::layers(chassis, routes, None, STREAMS);
    let joined = server::join(vec![(&["grpc.health.v1.Health"], layered)]);
    listen::serve(chassis, listener, joined, "test");
    HealthClient::new(Network::new(chassis, None).channel(&format!("http://{addr}")).expect("a url"))
}

fn ask(what: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: what.into() })
}

#[tokio::test]
async fn a_remote_call_has_the_same_layers() {
    let chassis = Chassis::real(NodeId::new("test"));
    let mut client = served(&chassis).await;
    client.check(ask("")).await.expect("answers");

    let status = client.check(ask("panic")).await.expect_err("a defect");
    assert_eq!(Error::from_status(&status).reason, Reason::Internal);

    let mut late = ask("slow");
    late.set_timeout(Duration::from_millis(500));
    let status = client.check(late).await.expect_err("too late");
    assert_eq!(Error::from_status(&status).reason, Reason::Timeout);

    assert_eq!(client.check(ask("who")).await.expect_err("no token").code(), tonic::Code::Unauthenticated);
    assert!(chassis.tasks.shutdown(SLOW * 5).await, "the server ends with the process");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let listener = listen::bind(SocketAddr::from(ANY_PORT), "internal.listen").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let network = Network::new(&Chassis::real(NodeId::new("test")), None);
    let mut client = HealthClient::new(network.channel(&format!("http://{addr}")).expect("a url"));
    let status = client.check(ask("")).await.expect_err("nobody listens");
    assert_eq!(Error::from_status(&status).reason, Reason::PeerUnavailable);
    assert!(network.channel("not a url").is_err());
}

async fn get(routes: &Routes, path: &str) -> (u16, String) {
    let request = http::Request::get(path).body(tonic::body::Body::empty()).expect("a request");
    let response = routes.clone().oneshot(request).await.expect("never fails");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn the_operations_port_tells_health_readiness_and_metrics() {
    let chassis = Chassis::for_tests(1);
    let telemetry = telemetry::metrics_only().expect("metrics");
    let (grpc, _) = scripted(&chassis);
    let routes = ops::routes(telemetry.registry.clone(), chassis.ready.clone(), grpc);

    assert_eq!(get(&routes, "/healthz").await, (200, "alive\n".into()));
    let bus = chassis.ready.register("bus");
    assert_eq!(get(&routes, "/readyz").await, (503, "bus: starting\n".into()));
    bus.set_ready();
    assert_eq!(get(&routes, "/readyz").await, (200, "bus: ready\n".into()));

    opentelemetry::global::meter("test").u64_counter("chassis_test_things").build().add(3, &[]);
    let (status, text) = get(&routes, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("chassis_test_things_total"), "{text}");

    let mut client = HealthClient::new(routes);
    client.check(ask("")).await.expect("gRPC beside the pages");
}
