//! What can be looked up at the door: what is public, and nothing else.

use dialtone_chassis::Chassis;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Ask;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;

use crate::world::*;

const PUBLIC: &[&str] = &[
    "dialtone.contacts.v1.Contacts",
    "dialtone.edge.v1.Session",
    "dialtone.identity.v1.Account",
    "dialtone.identity.v1.Login",
    "dialtone.identity.v1.Registration",
    "dialtone.offline.v1.Inbox",
    "dialtone.presence.v1.Presence",
    "dialtone.routing.v1.Messages",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
];

impl World {
    async fn look_up(&self, ask: Ask) -> Answer {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
        let requests = tokio_stream::once(request);
        let mut client = ServerReflectionClient::new(self.routes.clone());
        let mut answers = client.server_reflection_info(requests).await.expect("answered").into_inner();
        let answer = answers.message().await.expect("no error").expect("an answer");
        answer.message_response.expect("an answer")
    }
}

#[tokio::test(start_paused = true)]
async fn reflection_lists_the_public_services_and_no_other() {
    let world = world().await;
    let Answer::ListServicesResponse(listed) = world.look_up(Ask::ListServices(String::new())).await else {
        panic!("no list")
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, PUBLIC);
}

#[tokio::test(start_paused = true)]
async fn what_is_public_can_be_looked_up_with_all_it_needs() {
    let world = world().await;
    let parts = ["dialtone.types.v1.TypedNumber", "dialtone.routing.v1.Accepted", "google.rpc.ErrorInfo"];
    for symbol in PUBLIC.iter().chain(&parts) {
        let answer = world.look_up(Ask::FileContainingSymbol((*symbol).to_owned())).await;
        assert!(matches!(answer, Answer::FileDescriptorResponse(_)), "{symbol}: {answer:?}");
    }
    for symbol in [
        "dialtone.identity.internal.v1.Directory",
        "dialtone.contacts.internal.v1.Graph",
        "dialtone.sms.internal.v1.Bridge",
        "dialtone.sms.sim.v1.Handsets",
        "dialtone.bus.v1.SmsSubmit",
        "dialtone.log.v1.OutboxEntry",
    ] {
        // An unknown symbol ends the stream with an error or is answered by one.
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(Ask::FileContainingSymbol(symbol.to_owned())),
        };
        let mut client = ServerReflectionClient::new(world.routes.clone());
        let answers = client.server_reflection_info(tokio_stream::once(request)).await;
        let answer = answers.expect("a stream").into_inner().message().await;
        let found = answer.ok().flatten().and_then(|answer| answer.message_response);
        assert!(!matches!(found, Some(Answer::FileDescriptorResponse(_))), "{symbol}");
    }
}

#[tokio::test(start_paused = true)]
async fn reflection_can_be_switched_off() {
    let world = start_with(Chassis::for_tests(7), false).await;
    let ask = Some(Ask::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request: ask };
    let mut client = ServerReflectionClient::new(world.routes.clone());
    let refused = client.server_reflection_info(tokio_stream::once(request)).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn health_is_told_without_a_token() {
    let world = world().await;
    let ask = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(world.routes.clone()).check(ask).await.expect("answered").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}
