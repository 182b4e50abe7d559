//! A subscription that nobody reads. A program of its own: instruments are made once a process.

use std::time::Duration;

use dialtone_bus::limits::SUBSCRIPTION;
use dialtone_bus::{Bus, BusConfig, subjects};
use dialtone_chassis::{Chassis, telemetry};
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_testkit::Nats;
use dialtone_vocab::NodeId;

/// How much more is published than a subscription holds.
const MORE: usize = 1_000;

/// What was published so far has come to this process: the server keeps the order, and a subscription hears itself.
async fn through(bus: &Bus) {
    drop(bus.subscribe(&subjects::lease()).await.expect("subscribed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_overflows_is_counted_and_keeps_what_it_had() {
    let telemetry = telemetry::metrics_only().expect("metrics");
    let Some(server) = Nats::find("subscriptions that overflow") else { return };
    let chassis = Chassis::real(NodeId::new("slow"));
    let bus = Bus::connect(&BusConfig::at(server.url()), &chassis).await.expect("connected");
    let dropped = || {
        let families = telemetry.registry.gather();
        let family = families.iter().find(|family| family.name().starts_with("dialtone_bus_dropped"))?;
        let mut metrics = family.get_metric().iter();
        let metric = metrics.find(|metric| {
            metric.get_label().iter().any(|label| label.name() == "cause" && label.value() == "slow_consumer")
        })?;
        Some(metric.get_counter().get_value())
    };
    let mut slow = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    let beat = |n: usize| Heartbeat { incarnation: n as u64, ..Default::default() };
    for n in 0..SUBSCRIPTION {
        bus.publish(&subjects::heartbeat(), beat(n)).await.expect("published");
    }
    through(&bus).await;
    assert_eq!(dropped(), None, "it holds so many");
    for n in 0..MORE {
        bus.publish(&subjects::heartbeat(), beat(SUBSCRIPTION + n)).await.expect("published");
    }
    through(&bus).await;
    let counted = async {
        while dropped().is_none() {
            chassis.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    chassis.clock.timeout(Duration::from_secs(20), counted).await.expect("it is counted");
    assert!(dropped().is_some_and(|count| count <= MORE as f64), "{:?}", dropped());
    for n in 0..SUBSCRIPTION {
        assert_eq!(slow.next().await.expect("open").message, beat(n), "the oldest are kept, in order");
    }
}
