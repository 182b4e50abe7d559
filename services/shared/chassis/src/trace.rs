//! One trace through every process: W3C trace context in the headers of calls.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Read<'a>(&'a HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Write<'a>(&'a mut HeaderMap);

impl Injector for Write<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// The span of a call that arrived with these headers; its trace is the caller's, and log lines name it.
pub(crate) fn span_of(headers: &HeaderMap, method: &str) -> Span {
    let span = tracing::info_span!("rpc", method, trace_id = tracing::field::Empty);
    let parent = opentelemetry::global::get_text_map_propagator(|format| format.extract(&Read(headers)));
    // Fails where no tracer is installed: then there is no trace to join.
    if span.set_parent(parent).is_ok() {
        let context = span.context();
        let id = context.span().span_context().trace_id();
        if id != opentelemetry::trace::TraceId::INVALID {
            span.record("trace_id", tracing::field::display(id));
        }
    }
    span
}

/// Puts the current trace into the headers of a call to another process.
pub(crate) fn inject(headers: &mut HeaderMap) {
    let context = Span::current().context();
    opentelemetry::global::get_text_map_propagator(|format| {
        format.inject_context(&context, &mut Write(headers));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_carry_what_a_propagator_writes() {
        let mut headers = HeaderMap::new();
        Write(&mut headers).set("traceparent", "00-1-2-01".into());
        Write(&mut headers).set("not a name", "x".into());
        assert_eq!(Read(&headers).get("traceparent"), Some("00-1-2-01"));
        assert_eq!(Read(&headers).keys(), ["traceparent"]);
    }
}
