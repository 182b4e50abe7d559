//! The operations port: metrics, liveness, readiness, and whatever gRPC is for operators.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use tonic::service::Routes;

use crate::Readiness;

/// What the port serves.
#[derive(Clone)]
struct Ops {
    registry: Registry,
    ready: Readiness,
}

/// `/metrics`, `/healthz`, `/readyz`, and `grpc` beside them.
pub fn routes(registry: Registry, ready: Readiness, grpc: Routes) -> Routes {
    let ops = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(Ops { registry, ready });
    Routes::from(grpc.into_axum_router().merge(ops))
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    let outcome = encoder.encode(&ops.registry.gather(), &mut text);
    let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, [("content-type", encoder.format_type().to_owned())], text)
}

async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    let lines = ops.ready.report().into_iter().map(|(name, missing)| match missing {
        None => format!("{name}: ready\n"),
        Some(why) => format!("{name}: {why}\n"),
    });
    let status = if ops.ready.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines.collect::<String>())
}
