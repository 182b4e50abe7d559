//! Calls within a process get what calls across a network get.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dialtone_chassis::auth::{Caller, Signer, Verifier};
use dialtone_chassis::{Channel, Chassis, Error, server};
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UnixMillis, UserId};
use futures::future::join_all;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::handler::{Done, SLOW, STREAMS, scripted};

const SEED: [u8; 32] = [9; 32];

fn client(chassis: &Chassis) -> (HealthClient<Channel>, Done) {
    let (routes, done) = scripted(chassis);
    let routes = server::layers(chassis, routes, Some(Verifier::of_seed(&SEED)), STREAMS);
    (HealthClient::new(Channel::Local(routes)), done)
}

fn ask(what: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: what.into() })
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_honoured() {
    let chassis = Chassis::for_tests(1);
    let (mut client, _) = client(&chassis);
    let began = chassis.clock.instant();
    let mut request = ask("never");
    request.set_timeout(Duration::from_millis(250));
    let status = client.check(request).await.expect_err("too late");
    assert_eq!((status.code(), Error::from_status(&status).reason), (Code::Unavailable, Reason::Timeout));
    assert!(chassis.clock.instant() - began <= Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_gets_ours_and_no_more_than_the_cap() {
    let chassis = Chassis::for_tests(1);
    let (mut client, _) = client(&chassis);
    let began = chassis.clock.instant();
    client.check(ask("never")).await.expect_err("too late");
    assert!(chassis.clock.instant() - began <= server::DEADLINE);
    let mut patient = ask("never");
    patient.set_timeout(Duration::from_secs(3_600));
    client.check(patient).await.expect_err("too late");
    assert!(chassis.clock.instant() - began <= server::DEADLINE + server::DEADLINE_CAP);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_the_callees_alone() {
    let (mut client, _) = client(&Chassis::for_tests(1));
    let status = client.check(ask("panic")).await.expect_err("a defect");
    assert_eq!((status.code(), Error::from_status(&status).reason), (Code::Internal, Reason::Internal));
    assert!(!status.message().contains("on purpose"), "a panic's message may hold anything");
    client.check(ask("")).await.expect("the service goes on");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_stream_ends_that_stream_alone() {
    let (mut client, _) = client(&Chassis::for_tests(1));
    let mut answers = client.watch(ask("panic")).await.expect("opens").into_inner();
    assert_eq!(answers.message().await.expect("the first").map(|answer| answer.status), Some(1));
    let status = answers.message().await.expect_err("a defect");
    assert_eq!(Error::from_status(&status).reason, Reason::Internal);
    client.check(ask("")).await.expect("the service goes on");
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_every_deadline() {
    let (mut client, _) = client(&Chassis::for_tests(1));
    let mut answers = client.watch(ask("")).await.expect("opens").into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.expect("goes on") {
        seen.push(answer.status);
    }
    assert_eq!(seen, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_loses_no_change_of_state() {
    let chassis = Chassis::for_tests(1);
    let (mut client, done) = client(&chassis);
    let gone = chassis.clock.timeout(SLOW / 10, client.check(ask("slow"))).await;
    assert!(gone.is_err(), "the caller went away");
    assert_eq!(done.slow.load(Ordering::SeqCst), 0);
    assert!(chassis.tasks.shutdown(2 * SLOW).await, "a stop waits for what is running");
    assert_eq!(done.slow.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_that_run_are_bounded_and_forgotten_after_the_cap() {
    let chassis = Chassis::for_tests(1);
    let (client, _) = client(&chassis);
    let stuck = (0..server::MAX_RUNNING).map(|_| {
        let mut client = client.clone();
        async move { client.check(ask("never")).await.map_err(|status| Error::from_status(&status).reason) }
    });
    let outcomes = join_all(stuck).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|reason| *reason == Reason::Timeout)));
    let mut client = client;
    let status = client.check(ask("")).await.expect_err("full");
    assert_eq!(Error::from_status(&status).reason, Reason::Busy);
    chassis.clock.sleep(server::DEADLINE_CAP).await;
    client.check(ask("")).await.expect("room again");
}

#[tokio::test]
async fn a_token_names_the_caller() {
    let chassis = Chassis::for_tests(1);
    let (mut client, _) = client(&chassis);
    let caller = Caller {
        user: UserId::new([1; 16]),
        device: DeviceId(42),
        session: SessionId::new([2; 16]),
        number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
        expires: chassis.clock.now().plus(Duration::from_secs(60)),
    };
    let with = |token: &str| {
        let mut request = ask("who");
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ascii"));
        request
    };
    let good = Signer::from_seed(&SEED).sign(&caller);
    assert_eq!(client.check(with(&good)).await.expect("known").into_inner().status, 42);

    let late = Signer::from_seed(&SEED).sign(&Caller { expires: UnixMillis(1), ..caller.clone() });
    let foreign = Signer::from_seed(&[8; 32]).sign(&caller);
    let cases = [
        (ask("who"), Reason::TokenMissing),
        (with(&late), Reason::TokenExpired),
        (with(&foreign), Reason::TokenInvalid),
        (with("nonsense"), Reason::TokenInvalid),
    ];
    for (request, reason) in cases {
        let status = client.check(request).await.expect_err("refused");
        assert_eq!((status.code(), Error::from_status(&status).reason), (Code::Unauthenticated, reason));
    }
}
