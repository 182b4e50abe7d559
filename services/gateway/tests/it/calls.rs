//! Unary calls: forwarded by their path, untouched, to public services only, with the token checked at the door.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Network, Secrets, listen, server};
use dialtone_gateway::Peers;
use dialtone_gateway::limits::MAX_UNARY_BYTES;
use dialtone_proto::offline::v1 as offline;
use dialtone_proto::offline::v1::inbox_client::InboxClient;
use dialtone_proto::offline::v1::inbox_server::{Inbox, InboxServer};
use dialtone_vocab::{NodeId, Reason};
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tower::ServiceExt;

use crate::world::*;

const SYNC: &str = "/dialtone.contacts.v1.Contacts/Sync";
const SESSION: &str = "/dialtone.edge.v1.Session/Connect";

/// A gRPC message with its head.
pub(crate) fn message(content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(content.len()).expect("small"));
    bytes.put_slice(content);
    bytes.freeze()
}

/// A call as it goes over the wire: the answer's bytes, or the refusal.
pub(crate) async fn call(
    routes: &Routes,
    path: &str,
    token: Option<&str>,
    body: Bytes,
) -> Result<Bytes, Status> {
    let mut request = http::Request::post(path).version(http::Version::HTTP_2);
    request = request.header("content-type", "application/grpc");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::new(Full::new(body))).expect("a request");
    let response = routes.clone().oneshot(request).await.expect("answered");
    if let Some(status) = Status::from_header_map(response.headers()).filter(|s| s.code() != Code::Ok) {
        return Err(status);
    }
    let whole = response.into_body().collect().await?;
    let status = whole.trailers().and_then(Status::from_header_map).expect("a status");
    if status.code() == Code::Ok { Ok(whole.to_bytes()) } else { Err(status) }
}

impl World {
    async fn call(&self, path: &str, token: Option<&str>, body: Bytes) -> Result<Bytes, Status> {
        call(&self.routes, path, token, body).await
    }

    async fn refused(&self, path: &str, token: Option<&str>, body: Bytes) -> Status {
        self.call(path, token, body).await.expect_err("refused")
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_forwarded_by_path_and_their_bytes_untouched() {
    let world = world().await;
    let token = world.token(1);
    // Nobody at the door needs to know what is in it.
    let body = message(&[0xfa, 0x7f, 3, 1, 2, 3]);
    for (path, peer) in [
        ("/dialtone.identity.v1.Registration/CreateSession", "identity"),
        ("/dialtone.identity.v1.Login/Refresh", "identity"),
        ("/dialtone.identity.v1.Account/Get", "identity"),
        (SYNC, "contacts"),
        ("/dialtone.presence.v1.Presence/SetStatus", "presence"),
        ("/dialtone.routing.v1.Messages/PlanSend", "routing"),
        ("/dialtone.offline.v1.Inbox/AMethodOfNextYear", "offline"),
    ] {
        let answer = world.call(path, Some(&token), body.clone()).await.expect("answered");
        assert_eq!(answer, ANSWER, "{path}");
        let token = Some(format!("Bearer {token}"));
        let call = Call { peer, path: path.to_owned(), token, body: body.clone() };
        assert_eq!(world.peers.calls(), [call]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_public_is_not_here() {
    let world = world().await;
    for path in [
        "/dialtone.identity.internal.v1.Directory/Resolve",
        "/dialtone.contacts.internal.v1.Graph/MaySee",
        "/dialtone.sms.internal.v1.Bridge/Quote",
        "/dialtone.sms.sim.v1.Handsets/Watch",
        "/dialtone.identity.v1.Accounts/Get",
        "/dialtone.identity.v1/Get",
        "//dialtone.identity.v1.Account/Get",
        "/",
    ] {
        let refused = world.refused(path, Some(&world.token(1)), message(b"")).await;
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
        assert_eq!(world.peers.calls(), [], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_needs_a_token_of_ours_that_is_still_good() {
    let world = world().await;
    let caller = |life| world.caller(1, Duration::from_secs(life));
    let foreign = Secrets { token_seed: [9; 32], ..Secrets::for_tests() }.signer();
    let (late, foreign) = (world.secrets.signer().sign(&caller(0)), foreign.sign(&caller(60)));
    for (token, expected) in [
        (None, Reason::TokenMissing),
        (Some("nonsense"), Reason::TokenInvalid),
        (Some(foreign.as_str()), Reason::TokenInvalid),
        (Some(late.as_str()), Reason::TokenExpired),
    ] {
        for path in [SYNC, "/dialtone.identity.v1.Account/Get", SESSION] {
            let refused = world.refused(path, token, message(b"")).await;
            assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, expected), "{path}");
        }
        world
            .call("/dialtone.identity.v1.Login/Challenge", token, message(b""))
            .await
            .expect("tokens come from there");
        assert_eq!(world.peers.calls().len(), 1, "what is refused at the door goes no further");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_service_refuses_comes_as_it_is_and_the_frameworks_words_become_ours() {
    let world = world().await;
    let token = world.token(1);
    let ours = Error::new(Reason::SyncBaseUnknown, "no such base").retry_after(Duration::from_secs(3));
    world.peers.refuse(ours.clone().into());
    let refused = world.refused(SYNC, Some(&token), message(b"")).await;
    assert_eq!((refused.code(), Error::from_status(&refused)), (Code::Aborted, ours));
    world.peers.refuse(Error::new(Reason::Internal, "a defect").into());
    let refused = world.refused(SYNC, Some(&token), message(b"")).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::Internal, Reason::Internal));

    for (theirs, code, expected) in [
        (Status::out_of_range("4194305 bytes"), Code::InvalidArgument, Reason::TooLarge),
        (Status::internal("failed to decode"), Code::InvalidArgument, Reason::FieldInvalid),
        (Status::deadline_exceeded("late"), Code::Unavailable, Reason::Timeout),
        (Status::cancelled("Timeout expired"), Code::Unavailable, Reason::Timeout),
    ] {
        world.peers.refuse(theirs);
        let refused = world.refused(SYNC, Some(&token), message(b"")).await;
        assert_eq!((refused.code(), reason(&refused)), (code, expected));
    }
    world.peers.refuse(Status::unimplemented("no such method"));
    let refused = world.refused(SYNC, Some(&token), message(b"")).await;
    assert_eq!(refused.code(), Code::Unimplemented, "as gRPC defines it");
}

#[tokio::test(start_paused = true)]
async fn a_request_has_at_most_a_mebibyte() {
    let world = world().await;
    let token = world.token(1);
    let fits = message(&vec![7; MAX_UNARY_BYTES]);
    world.call(SYNC, Some(&token), fits.clone()).await.expect("it just fits");
    assert_eq!(world.peers.calls()[0].body, fits);
    let refused = world.refused(SYNC, Some(&token), message(&vec![7; MAX_UNARY_BYTES + 1])).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, Reason::TooLarge));
    assert_eq!(world.peers.calls(), []);
}

/// A real service behind the door.
struct SlowInbox;

#[tonic::async_trait]
impl Inbox for SlowInbox {
    async fn list(
        &self,
        _: Request<offline::ListRequest>,
    ) -> Result<Response<offline::ListResponse>, Status> {
        std::future::pending().await
    }

    async fn get_cursor(
        &self,
        _: Request<offline::GetCursorRequest>,
    ) -> Result<Response<offline::GetCursorResponse>, Status> {
        Ok(Response::new(offline::GetCursorResponse::default()))
    }
}

fn slow_inbox(chassis: &Chassis) -> LocalRoutes {
    server::layers(chassis, Routes::new(InboxServer::new(SlowInbox)), None, &[])
}

fn peers(offline: Channel) -> Peers {
    let (identity, contacts, presence, routing) =
        (offline.clone(), offline.clone(), offline.clone(), offline.clone());
    Peers { identity, contacts, presence, routing, offline }
}

#[tokio::test(start_paused = true)]
async fn a_caller_gets_an_answer_within_its_deadline_and_garbage_is_named() {
    let chassis = Chassis::for_tests(7);
    let inbox = Channel::Local(slow_inbox(&chassis));
    let world = open(chassis, FakePeers::default(), peers(inbox), true).await;
    let mut client = InboxClient::new(world.routes.clone());
    let bearer = format!("Bearer {}", world.token(1));
    let mut request = Request::new(offline::ListRequest::default());
    request.metadata_mut().insert("authorization", bearer.parse().expect("a header"));
    request.set_timeout(Duration::from_millis(250));
    let began = world.chassis.clock.instant();
    let refused = client.list(request).await.expect_err("too late");
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, Reason::Timeout));
    assert!(world.chassis.clock.instant() - began <= Duration::from_millis(250));

    let garbage = message(&[0xff; 9]);
    let refused = world.refused("/dialtone.offline.v1.Inbox/GetCursor", Some(&world.token(1)), garbage).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, Reason::FieldInvalid));
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_a_session_that_is_no_message_of_ours_is_named() {
    let world = world().await;
    let refused = world.refused(SESSION, Some(&world.token(1)), message(&[0xff; 9])).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, Reason::FieldInvalid));
}

/// Nobody listens there, and the system gives this port to no other test.
const NOWHERE: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn services_in_other_processes_are_reached_and_missed_in_the_same_words() {
    let chassis = Chassis::real(NodeId::new("test"));
    let listener =
        listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "internal.listen").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let joined = server::join(vec![(&["dialtone.offline.v1.Inbox"], slow_inbox(&chassis))]);
    listen::serve(&chassis, listener, joined, "inbox");
    let network = Network::new(&chassis, None);
    let inbox = network.channel(&url).expect("a url");
    let peers = Peers { contacts: network.channel(NOWHERE).expect("a url"), ..peers(inbox) };
    let world = open(chassis, FakePeers::default(), peers, true).await;
    let token = world.token(1);
    let path = "/dialtone.offline.v1.Inbox/GetCursor";
    assert_eq!(world.call(path, Some(&token), message(b"")).await.expect("answered"), message(b""));
    let refused = world.refused(path, Some(&token), message(&vec![7; MAX_UNARY_BYTES + 1])).await;
    assert_eq!(reason(&refused), Reason::TooLarge);
    let refused = crate::web::text_refused(&world, path, &token, "no base64").await;
    assert_eq!(reason(&refused), Reason::FieldInvalid, "half a request says nothing about the way");
    let refused = world.refused(SYNC, Some(&token), message(b"")).await;
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, Reason::PeerUnavailable));
    assert!(world.chassis.tasks.shutdown(Duration::from_secs(10)).await);
}
