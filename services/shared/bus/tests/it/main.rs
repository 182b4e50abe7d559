//! The contract over every kind of bus. NATS: `DIALTONE_TEST_NATS`, else a nats-server on the PATH is started;
//! `DIALTONE_TEST_REQUIRE=nats` makes its absence a failure.

mod outage;
mod tls;
mod users;
mod wire;

use dialtone_bus::{Bus, BusConfig, BusError, Courier, contract, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_testkit::Nats;
use std::sync::Arc;
use std::time::Duration;

macro_rules! cases {
    ($($case:ident)*) => {
        mod local {
            $(#[tokio::test]
            async fn $case() {
                super::contract::$case(&super::Bus::local(&super::Chassis::for_tests(1))).await;
            })*
        }

        /// One after the other: the subjects are the same.
        #[tokio::test]
        async fn nats_keeps_the_contract() {
            let Some(server) = Nats::find("the bus contract over NATS") else { return };
            $(
                let chassis = Chassis::real(dialtone_vocab::NodeId::new("contract"));
                let bus = Bus::connect(&BusConfig::at(server.url()), &chassis).await.expect(stringify!($case));
                contract::$case(&bus).await;
            )*
        }
    };
}

cases! {
    order_is_kept
    everybody_hears
    a_group_shares
    nobody_listens_to_a_publish
    nobody_answers_fails_fast
    a_request_is_answered
    a_group_shares_requests
    answers_do_not_mix
    silence_times_out
    too_large_is_refused
    dropping_unsubscribes
    nodes_are_apart
    batches_keep_order_and_size
    a_broadcast_reaches_all
}

struct Twice;

impl Courier for Twice {
    fn fate(&self, _subject: &str, n: u64) -> Vec<Duration> {
        if n == 0 { Vec::new() } else { vec![Duration::from_millis(5), Duration::ZERO] }
    }
}

#[tokio::test(start_paused = true)]
async fn a_courier_loses_delays_and_repeats() {
    let bus = Bus::local_with_courier(&Chassis::for_tests(1), Arc::new(Twice));
    let mut listener = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    for incarnation in 0..2 {
        let beat = Heartbeat { incarnation, ..Default::default() };
        bus.publish(&subjects::heartbeat(), beat).await.expect("published");
    }
    let began = tokio::time::Instant::now();
    for _ in 0..2 {
        assert_eq!(listener.next().await.expect("open").message.incarnation, 1);
    }
    assert_eq!(began.elapsed(), Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_batcher_that_somebody_still_holds_does_not_keep_the_process() {
    let chassis = Chassis::for_tests(1);
    let bus = Bus::local(&chassis);
    let mut listener = bus.subscribe(&subjects::presence(&chassis.node)).await.expect("subscribed");
    let fan = bus.fan(subjects::presence);
    let push = || fan.push(&chassis.node, <_>::default()).expect("room");
    push();
    assert_eq!(listener.next().await.expect("open").message.items.len(), 1);
    push();
    assert!(chassis.tasks.shutdown(Duration::from_secs(1)).await, "it ends");
    assert_eq!(listener.next().await.expect("open").message.items.len(), 1, "what was pushed is sent");
    drop(fan);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_names_the_setting() {
    let nowhere = BusConfig::at("nats://127.0.0.1:1");
    let error = Bus::connect(&nowhere, &Chassis::real(dialtone_vocab::NodeId::new("x"))).await;
    let error = error.err().expect("refused");
    assert!(matches!(error, BusError::Unreachable(_)), "it may come later: {error:?}");
    assert!(error.to_string().contains("bus.url"), "{error}");
}

#[tokio::test]
async fn who_tries_again_goes_on_saying_why_and_every_bus_that_is_there_is_ready() {
    let chassis = Chassis::real(dialtone_vocab::NodeId::new("x"));
    let ready = chassis.ready.register("bus");
    ready.set_missing("away");
    let nowhere = BusConfig::at("nats://127.0.0.1:1");
    assert!(Bus::connect_saying(&nowhere, &chassis, &ready).await.is_err());
    assert_eq!(chassis.ready.report(), [("bus", Some("away".to_owned()))]);
    let here = BusConfig::at("local");
    assert!(Bus::connect_saying(&here, &chassis, &ready).await.is_ok());
    assert_eq!(chassis.ready.report(), [("bus", None)]);
    assert!(Bus::connect(&here, &chassis).await.is_ok());
    assert_eq!(chassis.ready.report(), [("bus", None)]);
}
