//! What callers can do to the metrics. A program of its own: instruments are made once a process.

use dialtone_chassis::{Chassis, server, telemetry};
use http::Request;
use prometheus::TextEncoder;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

#[tokio::test]
async fn paths_that_callers_make_up_share_one_series() {
    let telemetry = telemetry::metrics_only().expect("metrics");
    let routes = server::layers(&Chassis::for_tests(1), Routes::default(), None, &[]);
    let ours = "/dialtone.identity.v1.Registration/StartMo".to_owned();
    let junk = (0..20).map(|place| format!("/dialtone.identity.v1.Registration/Junk{place}"));
    for path in junk.chain(["/".to_owned(), format!("{ours}/"), ours.clone()]) {
        let request = Request::post(path).body(Body::empty()).expect("a request");
        routes.clone().oneshot(request).await.expect("answered");
    }
    let metrics = TextEncoder::new().encode_to_string(&telemetry.registry.gather()).expect("text");
    let mut series: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("dialtone_rpc_duration_seconds_count")).collect();
    series.sort_unstable();
    assert_eq!(series.len(), 2, "{series:#?}");
    for (line, method, count) in [(series[0], ours.as_str(), " 1"), (series[1], "unknown", " 22")] {
        assert!(line.contains(&format!("method=\"{method}\"")) && line.ends_with(count), "{line}");
        assert!(line.contains("code=\"UNIMPLEMENTED\""), "{line}");
    }
}
