//! A nats-server that goes and comes back.

use std::time::Duration;

use dialtone_bus::limits::ROOM_WITHIN;
use dialtone_bus::{Bus, BusConfig, BusError, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::{Heartbeat, MoClaim, MoClaimed};
use dialtone_testkit::Nats;
use dialtone_vocab::NodeId;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn until(chassis: &Chassis, ready: bool) {
    let seen = async {
        while chassis.ready.is_ready() != ready {
            chassis.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    chassis.clock.timeout(PATIENCE, seen).await.expect("in time");
}

async fn asked_and_answered(asks: &Bus, answers: &mut dialtone_bus::Subscription<MoClaim>) {
    let subject = subjects::identity_mo();
    let asking = asks.request::<_, MoClaimed>(&subject, MoClaim::default(), PATIENCE);
    let asking = async {
        assert_eq!(asking.await, Ok(MoClaimed { claimed: true }));
    };
    let answering = async { answers.next().await.expect("open").reply(MoClaimed { claimed: true }).await };
    tokio::join!(asking, answering);
}

#[tokio::test]
async fn subscriptions_come_back_with_the_server_and_meanwhile_nobody_is_ready() {
    let Some(mut server) = Nats::start_own("a nats-server that restarts", None) else { return };
    let (one, other) = (Chassis::real(NodeId::new("one")), Chassis::real(NodeId::new("other")));
    let config = BusConfig::at(server.url());
    let hears = Bus::connect(&config, &one).await.expect("connected");
    let speaks = Bus::connect(&config, &other).await.expect("connected");
    let mut beats = hears.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    let mut door = hears.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
    asked_and_answered(&speaks, &mut door).await;

    for round in 1..=2 {
        assert!(one.ready.is_ready() && other.ready.is_ready());
        server.stop();
        until(&one, false).await;
        until(&other, false).await;
        let report = one.ready.report();
        assert!(report[0].1.as_deref().is_some_and(|why| why.contains("nats-server")), "{report:?}");
        server.start();
        until(&one, true).await;
        until(&other, true).await;
        // The server reads in order: what was subscribed again is there before what is subscribed now.
        drop(hears.subscribe(&subjects::lease()).await.expect("subscribed"));
        let beat = Heartbeat { incarnation: round, ..Default::default() };
        speaks.publish(&subjects::heartbeat(), beat.clone()).await.expect("published");
        assert_eq!(beats.next().await.expect("open").message, beat);
        asked_and_answered(&speaks, &mut door).await;
    }
}

#[tokio::test]
async fn a_subscription_is_there_when_it_is_made() {
    let Some(server) = Nats::find("subscriptions of other processes") else { return };
    let config = BusConfig::at(server.url());
    let asks = Bus::connect(&config, &Chassis::real(NodeId::new("asks"))).await.expect("connected");
    let answers = Bus::connect(&config, &Chassis::real(NodeId::new("answers"))).await.expect("connected");
    for _ in 0..200 {
        let mut door =
            answers.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
        asked_and_answered(&asks, &mut door).await;
        drop(door);
        // What is dropped is gone on the server before the next one is made.
        drop(answers.subscribe(&subjects::lease()).await.expect("subscribed"));
    }
}

/// More messages than a client keeps for a server that is away.
const MORE_THAN_FITS: u64 = 20_000;

#[tokio::test]
async fn while_the_server_is_away_publishing_ends_as_busy_and_goes_on_when_it_is_back() {
    let Some(mut server) = Nats::start_own("a nats-server that is away", None) else { return };
    let chassis = Chassis::real(NodeId::new("one"));
    let bus = Bus::connect(&BusConfig::at(server.url()), &chassis).await.expect("connected");
    let mut beats = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    server.stop();
    until(&chassis, false).await;
    let beat = |incarnation| Heartbeat { incarnation, ..Default::default() };
    let filling = async {
        for n in 0..MORE_THAN_FITS {
            let began = chassis.clock.instant();
            if let Err(error) = bus.publish(&subjects::heartbeat(), beat(n)).await {
                return (n, error, chassis.clock.instant() - began);
            }
        }
        panic!("no end of what a client keeps");
    };
    let (kept, error, waited) = chassis.clock.timeout(PATIENCE, filling).await.expect("it ends");
    assert_eq!(error, BusError::Busy);
    assert!(kept > 0 && waited >= ROOM_WITHIN, "{kept} in {waited:?}");
    let lease = subjects::lease();
    let deaf = chassis.clock.timeout(PATIENCE, bus.subscribe(&lease)).await.expect("it ends");
    assert_eq!(deaf.err(), Some(BusError::Busy));

    server.start();
    until(&chassis, true).await;
    let speaking = async {
        while bus.publish(&subjects::heartbeat(), beat(MORE_THAN_FITS)).await.is_err() {}
        while beats.next().await.expect("open").message != beat(MORE_THAN_FITS) {}
    };
    chassis.clock.timeout(PATIENCE, speaking).await.expect("it goes on");
}
