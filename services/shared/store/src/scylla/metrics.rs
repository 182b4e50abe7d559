//! What the driver counts, told whenever somebody asks for metrics.

use std::sync::Weak;

use opentelemetry::metrics::Meter;
use scylla::observability::metrics::Metrics;

use super::Inner;

/// Something that the driver counts.
type Count = fn(&Metrics) -> u64;

const COUNTERS: [(&str, &str, Count); 4] = [
    ("dialtone_store_cql_requests", "Requests to CQL servers", |driver| {
        driver.get_requests_unpaged_num()
            + driver.get_requests_manually_paged_num()
            + driver.get_requests_automatically_paged_num()
    }),
    ("dialtone_store_cql_errors", "Requests to CQL servers that came to nothing", |driver| {
        driver.get_errors_unpaged_num()
            + driver.get_errors_manually_paged_num()
            + driver.get_errors_automatically_paged_num()
    }),
    ("dialtone_store_cql_retries", "Requests that the driver tried again", Metrics::get_retries_num),
    ("dialtone_store_cql_timeouts", "Requests without an answer in time", Metrics::get_request_timeouts),
];

/// The quantiles of the time of a request that are told, in percent and as a label.
const QUANTILES: [(f64, &str); 2] = [(50.0, "0.5"), (99.0, "0.99")];

/// Tells what the driver counts for as long as the session is there.
pub(super) fn tell(inner: Weak<Inner>) {
    let meter = opentelemetry::global::meter("dialtone.store");
    for (name, description, count) in COUNTERS {
        let inner = inner.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(inner) = inner.upgrade() {
                    observer.observe(count(&inner.session.get_metrics()), &[]);
                }
            })
            .build();
    }
    tell_connections(&meter, inner.clone());
    tell_times(&meter, inner);
}

fn tell_connections(meter: &Meter, inner: Weak<Inner>) {
    meter
        .u64_observable_gauge("dialtone_store_cql_connections")
        .with_description("Connections to CQL servers")
        .with_callback(move |observer| {
            if let Some(inner) = inner.upgrade() {
                observer.observe(inner.session.get_metrics().get_total_connections(), &[]);
            }
        })
        .build();
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a request")]
fn tell_times(meter: &Meter, inner: Weak<Inner>) {
    meter
        .f64_observable_gauge("dialtone_store_cql_request")
        .with_unit("s")
        .with_description("Time of a request to CQL servers since the start, by quantile")
        .with_callback(move |observer| {
            let Some(inner) = inner.upgrade() else { return };
            let driver = inner.session.get_metrics();
            for (percent, quantile) in QUANTILES {
                // Nothing was asked yet: nothing to tell.
                if let Ok(ms) = driver.get_latency_percentile_ms(percent) {
                    let labels = [opentelemetry::KeyValue::new("quantile", quantile)];
                    observer.observe(ms as f64 / 1_000.0, &labels);
                }
            }
        })
        .build();
}
