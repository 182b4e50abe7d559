//! gRPC-Web: what a browser sends, over a real socket and HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use dialtone_chassis::{Chassis, listen};
use dialtone_vocab::{NodeId, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::world::*;

const REGISTRATION: &str = "/dialtone.identity.v1.Registration/CreateSession";
/// An empty message with its head, and the same in base64.
const EMPTY: &[u8] = &[0; 5];
const EMPTY_TEXT: &[u8] = b"AAAAAAA=";
/// What [`ANSWER`] is in base64.
const ANSWER_TEXT: &[u8] = b"AAAAAAMIlgE=";

/// A gateway on a port.
async fn served() -> (World, SocketAddr) {
    let world = start(Chassis::real(NodeId::new("test"))).await;
    let listener =
        listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "gateway.listen").await.expect("bound");
    let addr = listener.local_addr().expect("bound");
    listen::serve(&world.chassis, listener, world.routes.clone(), "gateway");
    (world, addr)
}

/// One POST of HTTP/1.1; the head of the answer in small letters, and its body.
async fn post(addr: SocketAddr, path: &str, kind: &str, body: &[u8]) -> (String, Vec<u8>) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: {kind}\r\naccept: {kind}\r\nx-grpc-web: 1\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(addr).await.expect("connected");
    socket.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("answered");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("text").to_lowercase();
    let rest = &answer[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunked(rest) } else { rest.to_vec() };
    (head, body)
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    body
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_browsers_call_is_forwarded_and_its_status_comes_in_the_body() {
    let (world, addr) = served().await;
    let (head, body) = post(addr, REGISTRATION, "application/grpc-web+proto", EMPTY).await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-type: application/grpc-web"),
        "{head}"
    );
    assert!(body.starts_with(ANSWER), "{body:?}");
    let trailers = &body[ANSWER.len()..];
    assert_eq!(trailers[0], 0x80, "the frame of trailers");
    assert!(contains(trailers, b"grpc-status:0"), "{trailers:?}");
    assert_eq!(world.peers.calls()[0].body, EMPTY);

    let (head, body) = post(addr, REGISTRATION, "application/grpc-web-text", EMPTY_TEXT).await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-type: application/grpc-web-text"),
        "{head}"
    );
    assert!(body.starts_with(ANSWER_TEXT), "{}", String::from_utf8_lossy(&body));
    assert_eq!(world.peers.calls()[0].body, EMPTY, "services see no difference");
    assert!(world.chassis.tasks.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_browser_is_refused_in_the_same_words() {
    let (world, addr) = served().await;
    let kind = "application/grpc-web+proto";
    for (path, status) in [
        ("/dialtone.contacts.v1.Contacts/Sync", "grpc-status: 16"),
        ("/dialtone.identity.internal.v1.Directory/Resolve", "grpc-status: 12"),
    ] {
        let (head, body) = post(addr, path, kind, EMPTY).await;
        let whole =
            format!("{head}\n{}", String::from_utf8_lossy(&body).replace("grpc-status:", "grpc-status: "));
        assert!(head.starts_with("http/1.1 200") && whole.contains(status), "{whole}");
    }
    assert_eq!(world.peers.calls(), []);
    let (head, _) = post(addr, REGISTRATION, "application/json", b"{}").await;
    assert!(!head.starts_with("http/1.1 200"), "neither gRPC nor gRPC-Web: {head}");
    assert!(world.chassis.tasks.shutdown(Duration::from_secs(10)).await);
}

/// How a browser's text is refused.
pub(crate) async fn text_refused(world: &World, path: &str, token: &str, text: &str) -> Status {
    let request = http::Request::post(path).header("content-type", "application/grpc-web-text");
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::new(text.to_owned())).expect("a request");
    let response = world.routes.clone().oneshot(request).await.expect("answered");
    Status::from_header_map(response.headers()).expect("refused")
}

#[tokio::test(start_paused = true)]
async fn a_browsers_text_that_is_no_base64_is_refused_as_that_and_not_as_too_large() {
    let world = world().await;
    for text in ["!!!!", "AAAAAAA"] {
        let refused = text_refused(&world, REGISTRATION, &world.token(1), text).await;
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::InvalidArgument, Reason::FieldInvalid),
            "{text}"
        );
    }
    assert_eq!(world.peers.calls(), []);
}
