//! The layers that every gRPC service has, in one process or across: deadline, panic guard, tokens, metrics, traces.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dialtone_vocab::Reason;
use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tokio::sync::{Semaphore, oneshot};
use tonic::body::Body;
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};
use tracing::{Instrument, Span};

use crate::auth::{Authentication, Verifier, bearer};
use crate::guard::{Guarded, defect};
use crate::tasks::note_panic;
use crate::{Chassis, Clock, Error, LocalRoutes, method, trace};

/// What a call gets if it says nothing.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// What a call gets at most.
pub const DEADLINE_CAP: Duration = Duration::from_secs(30);
/// Unary handlers of one service that run at once, those included whose callers are gone; more are refused as `BUSY`.
pub const MAX_RUNNING: usize = 4_096;
/// We answer this much (at most a tenth) before the deadline, so that the caller reads our words and not the
/// framework's `CANCELLED`.
const ANSWER_EARLY: Duration = Duration::from_millis(20);

static DURATIONS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.chassis")
        .f64_histogram("dialtone_rpc_duration")
        .with_unit("s")
        .with_description("Time from a call's arrival to its answer's head, by method and gRPC code")
        .build()
});

/// Puts the layers on `routes`. `streams` are the paths of methods whose answers go on: the deadline is not for them,
/// and they end with their caller. A unary handler runs to its end (at most [`DEADLINE_CAP`]) even when its caller
/// has gone.
pub fn layers(
    chassis: &Chassis,
    routes: Routes,
    verifier: Option<Verifier>,
    streams: &'static [&'static str],
) -> LocalRoutes {
    let door = Door {
        routes: routes.prepare(),
        chassis: chassis.clone(),
        running: Arc::new(Semaphore::new(MAX_RUNNING)),
        streams,
    };
    let answer = move |mut request: Request<Body>| {
        let door = door.clone();
        if let Some(verifier) = &verifier {
            authenticate(verifier, &door.chassis.clock, &mut request);
        }
        async move { Ok(door.answer(request).await) }
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

/// What the layers of one service share.
#[derive(Clone)]
struct Door {
    routes: Routes,
    chassis: Chassis,
    running: Arc<Semaphore>,
    streams: &'static [&'static str],
}

impl Door {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let method = method::label(request.uri().path());
        let clock = self.chassis.clock.clone();
        let span = trace::span_of(request.headers(), method);
        let began = clock.instant();
        let response = if self.streams.contains(&request.uri().path()) {
            let response = guarded(self.routes, request, method).instrument(span).await;
            response.map(|body| Guarded::body(body, method.to_owned()))
        } else {
            self.unary(request, method, span).await
        };
        let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
        let labels = [KeyValue::new("method", method), KeyValue::new("code", method::code_name(code))];
        DURATIONS.record((clock.instant() - began).as_secs_f64(), &labels);
        response
    }

    /// Runs the handler as a task of its own: a caller that goes away or stops waiting loses the answer, never half
    /// of a change.
    async fn unary(self, request: Request<Body>, method: &'static str, span: Span) -> Response<Body> {
        let Ok(slot) = self.running.try_acquire_owned() else {
            return refusal(Reason::Busy, "too many calls of this service are running");
        };
        let limit = deadline(request.headers());
        let clock = self.chassis.clock.clone();
        let (answer, answered) = oneshot::channel();
        let handler = async move {
            let call = guarded(self.routes, request, method);
            // A call that outlives the cap is dropped; nobody waits for it any more.
            if let Ok(response) = self.chassis.clock.timeout(DEADLINE_CAP, call).await {
                let _caller_is_gone = answer.send(response);
            }
            drop(slot);
        };
        self.chassis.tasks.spawn("rpc", handler.instrument(span));
        match clock.timeout(limit.saturating_sub((limit / 10).min(ANSWER_EARLY)), answered).await {
            Ok(Ok(response)) => response,
            _late => refusal(Reason::Timeout, "no answer within the deadline; the outcome is unknown"),
        }
    }
}

/// Calls the handler; its panic is its own.
async fn guarded(routes: Routes, request: Request<Body>, method: &str) -> Response<Body> {
    match AssertUnwindSafe(routes.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_panic) => {
            note_panic(method);
            defect().into_http()
        }
    }
}

fn refusal(reason: Reason, message: &str) -> Response<Body> {
    Status::from(Error::new(reason, message)).into_http()
}

/// What `grpc-timeout` asks for: digits and a unit (gRPC over HTTP/2), capped.
fn deadline(headers: &HeaderMap) -> Duration {
    asked_timeout(headers).unwrap_or(DEADLINE).min(DEADLINE_CAP)
}

pub(crate) fn asked_timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout)
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
