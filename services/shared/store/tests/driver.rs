//! What the driver of CQL servers counts is told. A program of its own: instruments are made once a process.

use dialtone_chassis::telemetry;
use dialtone_store::{Schema, Table};
use dialtone_testkit::CqlStore;

const ALPHA: Schema = Schema { service: "alpha", tables: &[Table::new("a", 1)], version: 1 };

#[tokio::test]
async fn requests_connections_and_times_are_told_while_the_session_is_there() {
    let telemetry = telemetry::metrics_only().expect("metrics");
    let Some(store) = CqlStore::fresh("what the driver counts", &[ALPHA]).await else { return };
    let opened = store.open().await;
    let value = |name: &str| {
        let families = telemetry.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let metric = family.get_metric().first()?;
        Some(metric.get_counter().get_value() + metric.get_gauge().get_value())
    };
    for name in ["dialtone_store_cql_requests_total", "dialtone_store_cql_connections"] {
        assert!(value(name).is_some_and(|value| value > 0.0), "{name}: {:?}", value(name));
    }
    assert_eq!(value("dialtone_store_cql_errors_total"), Some(0.0));
    assert!(value("dialtone_store_cql_request_seconds").is_some());
    drop(opened);
    assert_eq!(value("dialtone_store_cql_connections"), None, "of a session that has ended nothing is told");
    store.remove().await;
}
