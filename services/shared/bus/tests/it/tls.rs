//! TLS to a nats-server.

use std::fs;
use std::path::Path;

use dialtone_bus::users::{ServerTls, server_config};
use dialtone_bus::{Bus, BusConfig, BusError, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_testkit::Nats;
use dialtone_vocab::NodeId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Somebody who signs certificates, and the file with its own.
fn authority(folder: &Path, name: &str) -> (CertifiedIssuer<'static, KeyPair>, std::path::PathBuf) {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
    let path = folder.join(format!("{name}.pem"));
    fs::write(&path, issuer.pem()).expect("written");
    (issuer, path)
}

fn certificate(folder: &Path, issuer: &CertifiedIssuer<'static, KeyPair>) -> ServerTls {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, issuer).expect("signed");
    let tls = ServerTls { certificate: folder.join("server.pem"), key: folder.join("server.key") };
    fs::write(&tls.certificate, certificate.pem()).expect("written");
    fs::write(&tls.key, key.serialize_pem()).expect("written");
    tls
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_alone() {
    // As the program does first thing: with what else is built here, rustls would not know which one to take.
    let _or_was_already = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, trusted) = authority(folder.path(), "ours");
    let (_, other) = authority(folder.path(), "other");
    let config = server_config(&[], Some(&certificate(folder.path(), &ours)));
    // Nobody logs in here.
    let config = config.split("authorization").next().expect("a part").to_owned();
    let path = folder.path().join("nats.conf");
    fs::write(&path, config).expect("written");
    let Some(server) = Nats::start_own("TLS to a nats-server", Some(&path)) else { return };
    let Some(plain) = Nats::start_own("TLS to a nats-server", None) else { return };
    let chassis = Chassis::real(NodeId::new("x"));
    let config = |server: &Nats, ca_file: &Path| BusConfig {
        ca_file: Some(ca_file.to_owned()),
        ..BusConfig::at(server.url())
    };

    let bus = Bus::connect(&config(&server, &trusted), &chassis).await.expect("connected");
    let mut beats = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    bus.publish(&subjects::heartbeat(), Heartbeat::default()).await.expect("published");
    assert_eq!(beats.next().await.expect("open").message, Heartbeat::default());

    for (what, config) in [
        ("signed by another", config(&server, &other)),
        ("no file", config(&server, &folder.path().join("none.pem"))),
        ("no certificate in it", config(&server, &path)),
        ("a server without TLS", config(&plain, &trusted)),
        ("nobody trusted", BusConfig::at(server.url())),
    ] {
        match Bus::connect(&config, &chassis).await.err() {
            Some(BusError::Connect(why)) => assert!(why.contains("bus.ca_file"), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}
