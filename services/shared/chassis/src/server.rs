//! The layers that every gRPC service has, in one process or across: deadline, panic guard, tokens, metrics, traces.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use dialtone_vocab::Reason;
use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tonic::Status;
use tonic::body::Body;
use tonic::service::{AxumBody, Routes};
use tower::{ServiceExt, service_fn};
use tracing::Instrument;

use crate::auth::{Authentication, Verifier, bearer};
use crate::tasks::note_panic;
use crate::{Chassis, Clock, Error, LocalRoutes};

/// What a call gets if it says nothing.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// What a call gets at most.
pub const DEADLINE_CAP: Duration = Duration::from_secs(30);

static DURATIONS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.chassis")
        .f64_histogram("dialtone_rpc_duration")
        .with_unit("s")
        .with_description("Time from a call's arrival to its answer's head, by method and gRPC code")
        .build()
});

/// Puts the layers on `routes`. `streams` are the paths of methods whose answers go on: the deadline is not for them.
pub fn layers(
    chassis: &Chassis,
    routes: Routes,
    verifier: Option<Verifier>,
    streams: &'static [&'static str],
) -> LocalRoutes {
    let routes = routes.prepare();
    let clock = chassis.clock.clone();
    let answer = move |mut request: Request<Body>| {
        let (routes, clock) = (routes.clone(), clock.clone());
        if let Some(verifier) = &verifier {
            authenticate(verifier, &clock, &mut request);
        }
        async move { Ok(guarded(routes, request, clock, streams).await) }
    };
    LocalRoutes::new(service_fn(answer))
}

/// Several services on one port, each with the full names of the gRPC services it has.
pub fn join(services: Vec<(&'static [&'static str], LocalRoutes)>) -> Routes {
    let answer = move |request: Request<AxumBody>| {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        let target = services
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()))
            .map(|(_, routes)| routes.clone());
        async move {
            let outcome = match target {
                Some(routes) => routes.oneshot(request.map(Body::new)).await,
                None => Ok(Status::unimplemented("no such service here").into_http()),
            };
            Ok::<_, std::convert::Infallible>(
                outcome.unwrap_or_else(|_| Status::internal("a layer failed").into_http()),
            )
        }
    };
    Routes::from(Routes::default().into_axum_router().fallback_service(service_fn(answer)))
}

fn authenticate(verifier: &Verifier, clock: &Clock, request: &mut Request<Body>) {
    if let Some(token) = bearer(request.headers()) {
        let outcome = verifier.verify(token, clock.now());
        request.extensions_mut().insert(Authentication(outcome));
    }
}

async fn guarded(routes: Routes, request: Request<Body>, clock: Clock, streams: &[&str]) -> Response<Body> {
    let method = request.uri().path().to_owned();
    let limit = (!streams.contains(&method.as_str())).then(|| deadline(request.headers()));
    let span = tracing::info_span!("rpc", method);
    let began = clock.instant();
    let call = AssertUnwindSafe(routes.oneshot(request)).catch_unwind();
    let outcome = match limit {
        Some(limit) => clock.timeout(limit, call).instrument(span).await,
        None => Ok(call.instrument(span).await),
    };
    let response = match outcome {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(_panic)) => {
            note_panic(&method);
            Status::from(Error::new(Reason::Internal, "a defect of ours; it was counted")).into_http()
        }
        Err(_elapsed) => {
            Status::from(Error::new(Reason::Timeout, "no answer within the deadline; the outcome is unknown"))
                .into_http()
        }
    };
    let code = Status::from_header_map(response.headers()).map_or(0, |status| status.code() as i64);
    let labels = [KeyValue::new("method", method), KeyValue::new("code", code)];
    DURATIONS.record((clock.instant() - began).as_secs_f64(), &labels);
    response
}

/// What `grpc-timeout` asks for: digits and a unit (gRPC over HTTP/2), capped.
fn deadline(headers: &HeaderMap) -> Duration {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    asked.unwrap_or(DEADLINE).min(DEADLINE_CAP)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("2S"), Some(Duration::from_secs(2)));
        for bad in ["", "S", "2", "2x", "123456789S", "-1S"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(deadline(&headers), DEADLINE);
        headers.insert("grpc-timeout", "9H".parse().expect("header"));
        assert_eq!(deadline(&headers), DEADLINE_CAP);
    }
}
