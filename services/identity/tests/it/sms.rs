//! SMS with codes: their budgets, and how they are handed over.

use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_chassis::Chassis;
use dialtone_identity::Config;
use dialtone_identity::limits::{SMS_PAUSES, SMS_PER_DAY};
use dialtone_proto::bus::v1::SmsTaken;
use dialtone_proto::identity::v1 as proto;
use dialtone_proto::identity::v1::registration_client::RegistrationClient;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::Reason;
use futures::future::join_all;

use crate::world::*;

const MOMENT: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn pauses_between_sms_grow_and_a_day_has_its_limit() {
    let mut world = world().await;
    for sent in 1..=SMS_PER_DAY as usize {
        // A flow lives 15 minutes: it is the number that is counted, not the flow.
        let flow = world.create(ANNA).await.flow_id;
        let state = world.send_code(&flow).await.expect("sent");
        world.sms().await;
        let (reason, told) = wait(world.send_code(&flow).await);
        assert_eq!(reason, Reason::SmsBudget);
        if sent == SMS_PER_DAY as usize {
            let day = Duration::from_secs(86_400);
            assert!(told > Duration::from_secs(3_600) && told < day, "the day is used up: {told:?}");
            world.pass(told - MOMENT).await;
            let flow = world.create(ANNA).await.flow_id;
            assert_eq!(wait(world.send_code(&flow).await).0, Reason::SmsBudget);
            world.pass(MOMENT).await;
            world.send_code(&flow).await.expect("a new day");
            return;
        }
        let pause = SMS_PAUSES[(sent - 1).min(SMS_PAUSES.len() - 1)];
        assert!(told <= pause && told > pause - MOMENT, "after {sent}: {told:?}");
        assert_eq!(u64::from(state.next_sms_seconds), pause.as_secs());
        world.pass(told - MOMENT).await;
        let flow = world.create(ANNA).await.flow_id;
        assert_eq!(wait(world.send_code(&flow).await).0, Reason::SmsBudget, "too early");
        world.pass(MOMENT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_numbers_budget_is_one_for_all_its_ways_and_survives_a_restart() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    assert_eq!(wait(world.request_code(ANNA).await).0, Reason::SmsBudget, "one-time passwords");
    let flow = world.create("").await.flow_id;
    let text = world.start_mo(&flow).await.expect("told").text;
    assert!(world.text(ANNA, &text).await);
    world.no_sms().await;
    let mut world = world.restart().await;
    assert_eq!(wait(world.request_code(ANNA).await).0, Reason::SmsBudget);
    let other = world.create(BEN).await.flow_id;
    world.send_code(&other).await.expect("another number has its own");
    assert_eq!(world.sms().await.to, BEN);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_has_a_budget_for_an_hour() {
    let mut world = start(2).await;
    for number in [ANNA, BEN] {
        let flow = world.create(number).await.flow_id;
        world.send_code(&flow).await.expect("sent");
        world.sms().await;
        // Who asks again too early uses up nothing that is others'.
        assert_eq!(wait(world.send_code(&flow).await).0, Reason::SmsBudget);
    }
    let third = world.create("+14155550103").await.flow_id;
    let (reason, told) = wait(world.send_code(&third).await);
    assert_eq!(reason, Reason::SmsBudget);
    assert!(told <= Duration::from_secs(3_600) && told > Duration::from_secs(3_590), "{told:?}");
    world.no_sms().await;
    assert_eq!(world.create("+14155550103").await.next_sms_seconds, 0, "what was not sent is not counted");
    let abroad = world.create("+4915112345678").await.flow_id;
    world.send_code(&abroad).await.expect("another prefix");
    world.sms().await;
    world.pass(told).await;
    let third = world.create("+14155550103").await.flow_id;
    world.send_code(&third).await.expect("the next hour");
}

/// Asks at once for a code to each of these numbers; how many were let through.
async fn let_through(world: &World, numbers: &[String]) -> usize {
    let flows = join_all(numbers.iter().map(|number| world.create(number))).await;
    let outcomes = join_all(flows.iter().map(|flow| world.send_code(&flow.flow_id))).await;
    let (sent, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!(refused.into_iter().all(|outcome| wait(outcome).0 == Reason::SmsBudget));
    sent.len()
}

#[tokio::test(start_paused = true)]
async fn who_ask_at_once_are_let_through_as_often_as_both_budgets_have_it() {
    let mut world = start(5).await;
    assert_eq!(let_through(&world, &vec![ANNA.to_owned(); 20]).await, 1, "a number has one at a time");
    let numbers: Vec<_> = (10..30).map(|n| format!("+141555501{n}")).collect();
    assert_eq!(let_through(&world, &numbers).await, 4, "the prefix has paid for one only");
    let states = join_all(numbers.iter().map(|number| world.create(number))).await;
    let paid = states.iter().filter(|state| state.next_sms_seconds > 0).count();
    assert_eq!(paid, 4, "a number does not pay for what its prefix refused");
    for _ in 0..5 {
        world.sms().await;
    }
    world.no_sms().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_away_because_others_of_the_prefix_ask_too() {
    let mut world = start(1_000).await;
    let numbers: Vec<_> = (10..50).map(|n| format!("+141555501{n}")).collect();
    assert_eq!(let_through(&world, &numbers).await, numbers.len());
    for _ in &numbers {
        world.sms().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_has_paid_if_the_process_dies_before_its_prefix_has() {
    let write = Duration::from_millis(100);
    let mut world = start_over(MemoryDisk::with_delay(write..=write), 1).await;
    let flow = world.create(ANNA).await.flow_id;
    // While the number's is being written: the next write is the prefix's.
    let dies = async {
        world.chassis.clock.sleep(write / 2).await;
        world.disk.fail_next(1);
    };
    let (sent, ()) = futures::future::join(world.send_code(&flow), dies).await;
    assert_eq!(reason(sent), Reason::StoreUnavailable);
    world.no_sms().await;
    let mut world = world.restart().await;
    let (reason, told) = wait(world.send_code(&flow).await);
    assert_eq!(reason, Reason::SmsBudget, "for one that was not sent");
    world.pass(told).await;
    world.send_code(&flow).await.expect("the prefix has not paid");
    world.sms().await;
    let other = world.create(BEN).await.flow_id;
    assert_eq!(wait(world.send_code(&other).await).0, Reason::SmsBudget, "and now it has");
}

#[tokio::test(start_paused = true)]
async fn without_a_store_nothing_is_sent() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    world.disk.fail_next(1);
    assert_eq!(reason(world.send_code(&flow).await), Reason::StoreUnavailable);
    world.no_sms().await;
}

#[tokio::test(start_paused = true)]
async fn a_code_is_handed_over_again_until_it_is_taken() {
    let (chassis, config) =
        (Chassis::for_tests(7), Config { service_number: SERVICE.into(), prefix_sms_per_hour: 9 });
    let bus = dialtone_bus::Bus::local(&chassis);
    let (url, secrets) = (StoreUrl::memory(&MemoryDisk::new()), dialtone_chassis::Secrets::for_tests());
    let identity =
        dialtone_identity::start(&chassis, &bus, &secrets, url, &config).await.expect("starts alone");
    let mut client = RegistrationClient::new(dialtone_chassis::Channel::Local(identity.routes));
    let ask = proto::CreateSessionRequest { number: typed(ANNA) };
    let flow = client.create_session(ask).await.expect("opened").into_inner().state.expect("a state").flow_id;
    let began = chassis.clock.instant();
    client
        .send_code(proto::SendCodeRequest { flow_id: flow })
        .await
        .expect("the caller does not wait for it");
    assert!(chassis.clock.instant() - began < MOMENT);
    let mut sms = bus.subscribe_group(&subjects::sms_send(), "sms").await.expect("subscribed");
    let first = sms.next().await.expect("handed over").message;
    let second = sms.next().await.expect("handed over again");
    assert_eq!(second.message, first, "under the same id, so that it is taken once");
    second.reply(SmsTaken::default()).await;
    let third = chassis.clock.timeout(Duration::from_secs(60), sms.next()).await;
    assert!(third.is_err(), "what is taken is not handed over again");
}
