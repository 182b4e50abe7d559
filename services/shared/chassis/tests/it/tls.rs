//! TLS between processes: whom a server lets in, whom a client believes, and what becomes of renewed files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dialtone_chassis::tls::{Files, Tls};
use dialtone_chassis::{Channel, Chassis, Error, Network, SimWall};
use dialtone_vocab::{NodeId, Reason};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::authority::{Authority, Desk};
use crate::process::{SOON, ask, ask_until, serve_tls};

const HERE: &str = "127.0.0.1";
/// 2026-01-01, as unix milliseconds.
const NOW: u64 = 1_767_225_600_000;
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// A process whose wall clock the test sets.
struct Node {
    chassis: Chassis,
    wall: SimWall,
    tls: Tls,
}

impl Node {
    fn new(desk: &Desk) -> Self {
        let wall = SimWall::default();
        wall.store(NOW, Ordering::Relaxed);
        let chassis = Chassis::simulated(NodeId::new("test"), 7, wall.clone());
        let tls = Tls::open(&chassis, desk.files()).expect("good files");
        Self { chassis, wall, tls }
    }

    /// Serves, and says where.
    async fn serve(&self) -> String {
        format!("https://{}", serve_tls(&self.chassis, &self.tls).await)
    }

    fn channel(&self, url: &str) -> Channel {
        Network::new(&self.chassis, Some(self.tls.clone())).channel(url).expect("a url")
    }

    async fn refused(&self, url: &str) -> String {
        let Error { reason, message, .. } = ask(&self.channel(url), 0).await.expect_err("no connection");
        assert_eq!(reason, Reason::PeerUnavailable, "{message}");
        message
    }
}

#[tokio::test]
async fn both_ends_have_certificates_of_one_authority() {
    let authority = Authority::new("ours");
    let (server, client) =
        (Desk::new(&authority, &authority, HERE, 2030), Desk::new(&authority, &authority, "client", 2030));
    let (server, client) = (Node::new(&server), Node::new(&client));
    let url = server.serve().await;
    assert_eq!(ask(&client.channel(&url), 0).await, Ok(1));
    let by_name = url.replace(HERE, "localhost");
    assert!(client.refused(&by_name).await.contains("not valid for name"), "it is not called that");

    let plain = Network::new(&client.chassis, None).channel(&url.replace("https", "http")).expect("a url");
    assert_eq!(ask(&plain, 0).await.expect_err("not encrypted").reason, Reason::PeerUnavailable);
    assert_eq!(ask(&client.channel(&url), 0).await, Ok(1), "and others are served");
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_not_served() {
    let authority = Authority::new("ours");
    let desk = Desk::new(&authority, &authority, HERE, 2030);
    let server = Node::new(&desk);
    let url = server.serve().await;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate"))
        .expect("added");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(url.trim_start_matches("https://")).await.expect("connected");
    let name = ServerName::try_from(HERE).expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.expect("the server is believed");
    let answer = server.chassis.clock.timeout(SOON, stream.read_u8()).await;
    let error = answer.expect("it is told").expect_err("refused");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_at_both_ends() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = Desk::new(&ours, &ours, HERE, 2030);
    let server = Node::new(&server);
    let url = server.serve().await;
    let unbelieving = Desk::new(&other, &other, "client", 2030);
    assert!(Node::new(&unbelieving).refused(&url).await.contains("UnknownIssuer"));
    // It believes us, and we do not believe it. Its own authorities would not, either: it is told at once.
    let stranger = Desk::new(&ours, &other, "client", 2030);
    let cause = Node::new(&stranger).refused(&url).await;
    assert!(cause.contains("internal.cert_file") && cause.contains("UnknownIssuer"), "{cause}");
    // It believes both: only the server knows better.
    let stranger = Desk::new(&ours, &other, "client", 2030);
    stranger.write("ca.pem", &format!("{}{}", ours.pem(), other.pem()));
    let cause = Node::new(&stranger).refused(&url).await;
    assert!(cause.contains("received fatal alert"), "{cause}");
}

#[tokio::test]
async fn certificates_are_renewed_while_processes_run() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let at_server = Desk::new(&ours, &ours, "another.example", 2030);
    let at_client = Desk::new(&ours, &other, "client", 2030);
    let (server, client) = (Node::new(&at_server), Node::new(&at_client));
    let url = server.serve().await;
    let channel = client.channel(&url);
    ask(&channel, 0).await.expect_err("neither is right");
    at_client.renew(&ours, "client", 2030);
    let wrong_name = |last: &[Result<i32, Error>]| {
        last.iter()
            .all(|answer| answer.as_ref().is_err_and(|error| error.message.contains("not valid for name")))
    };
    ask_until(&client.chassis, &channel, 1, wrong_name).await;
    at_server.renew(&ours, HERE, 2030);
    ask_until(&client.chassis, &channel, 10, |last| last.iter().all(Result::is_ok)).await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_named() {
    let authority = Authority::new("ours");
    let (at_server, at_client) =
        (Desk::new(&authority, &authority, HERE, 2026), Desk::new(&authority, &authority, "client", 2030));
    let (server, client) = (Node::new(&at_server), Node::new(&at_client));
    let url = server.serve().await;
    assert_eq!(ask(&client.channel(&url), 0).await, Ok(1));
    client.wall.store(NOW + 2 * DAY, Ordering::Relaxed);
    assert!(client.refused(&url).await.contains("certificate expired"), "the server's");

    at_client.renew(&authority, "client", 2026);
    let own = Node::new(&at_client);
    assert_eq!(ask(&own.channel(&url), 0).await, Ok(1));
    own.wall.store(NOW + 2 * DAY, Ordering::Relaxed);
    let cause = own.refused(&url).await;
    assert!(cause.contains("our own certificate") && cause.contains("certificate expired"), "{cause}");
    // Another clock, or no look at its own: the server refuses it.
    own.wall.store(NOW, Ordering::Relaxed);
    server.wall.store(NOW + 2 * DAY, Ordering::Relaxed);
    let cause = own.refused(&url).await;
    assert!(cause.contains("CertificateExpired"), "{cause}");
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_no_connection_and_lets_no_other_begin_until_it_is_renewed() {
    let authority = Authority::new("ours");
    let (at_server, at_client) =
        (Desk::new(&authority, &authority, HERE, 2026), Desk::new(&authority, &authority, "client", 2026));
    let (server, client) = (Node::new(&at_server), Node::new(&at_client));
    let url = server.serve().await;
    let open = client.channel(&url);
    assert_eq!(ask(&open, 0).await, Ok(1));
    for node in [&server, &client] {
        node.wall.store(NOW + 2 * DAY, Ordering::Relaxed);
    }
    assert_eq!(ask(&open, 0).await, Ok(1), "what is open goes on");
    let channel = client.channel(&url);
    assert!(ask(&channel, 0).await.is_err(), "the next handshake is refused");
    // Each end takes its own: with one of them the other's is still in the way.
    at_client.renew(&authority, "client", 2030);
    let of_server = |last: &[Result<i32, Error>]| {
        let expired = |error: &Error| {
            error.message.contains("certificate expired") && !error.message.contains("our own")
        };
        last.iter().all(|answer| answer.as_ref().is_err_and(expired))
    };
    ask_until(&client.chassis, &channel, 1, of_server).await;
    at_server.renew(&authority, HERE, 2030);
    ask_until(&client.chassis, &channel, 10, |last| last.iter().all(Result::is_ok)).await;
}

#[tokio::test]
async fn files_that_are_no_good_at_the_start_are_named() {
    assert_eq!(Files::of("", "", ""), Ok(None));
    for some in [("a", "", ""), ("a", "b", ""), ("", "b", "c")] {
        assert!(Files::of(some.0, some.1, some.2).is_err(), "{some:?}");
    }
    let authority = Authority::new("ours");
    let chassis = Chassis::for_tests(1);
    for (file, text) in
        [("ca", "nothing"), ("cert", "nothing"), ("key", "nothing"), ("key", &authority.signs(HERE, 2030).1)]
    {
        let desk = Desk::new(&authority, &authority, HERE, 2030);
        desk.write(&format!("{file}.pem"), text);
        let error = Tls::open(&chassis, desk.files()).err().expect("no good").to_string();
        assert!(error.starts_with(&format!("internal.{file}_file: ")), "{error}");
    }
    let error = Tls::open(&chassis, Files::of("/nowhere", "b", "c").expect("all").expect("all")).err();
    assert!(error.is_some_and(|error| error.to_string().contains("/nowhere")));
}
