//! A CQL server that wants TLS and a password, and that may forget what it acknowledged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::StoreError;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_testkit::{cql_nodes, free_port, repository};
use dialtone_vocab::NodeId;
use tempfile::TempDir;

use crate::contract::ALPHA;

/// A server of the test's own; it ends with this.
struct Server {
    home: TempDir,
    node: String,
}

impl Server {
    fn start() -> Self {
        let home = TempDir::new().expect("a folder for the test");
        let certs = home.path().join("certs");
        script("certs", &home, &[certs.to_str().expect("utf-8")]);
        let read = |name: &str| std::fs::read(certs.join(name)).expect("made");
        let both = certs.join("server.pem");
        std::fs::write(&both, [read("key.pem"), read("cert.pem")].concat()).expect("written");
        std::fs::write(certs.join("password"), "cassandra\n").expect("written");
        std::fs::write(certs.join("wrong"), "guess").expect("written");
        let (port, storage) = (free_port().to_string(), free_port().to_string());
        let both = both.to_str().expect("utf-8");
        let options = ["start", "--port", &port, "--storage-port", &storage, "--auth", "--tls", both];
        script("cql-server", &home, &[&options[..], &["--sync", "periodic"]].concat());
        Self { node: format!("127.0.0.1:{port}"), home }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("certs").join(name)
    }

    /// What is right.
    fn config(&self) -> ScyllaConfig {
        ScyllaConfig {
            nodes: vec![self.node.clone()],
            keyspace: "secured".into(),
            user: "cassandra".into(),
            password_file: Some(self.file("password")),
            ca_file: Some(self.file("ca.pem")),
            ..ScyllaConfig::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script("cql-server", &self.home, &["stop"]);
    }
}

fn script(name: &str, home: &TempDir, args: &[&str]) {
    let program = repository().join("deploy/local").join(name);
    let done = Command::new(program).args(args).env("DIALTONE_CQL_HOME", home.path().join("cql")).output();
    let done = done.expect("the script is there");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn refusal(config: ScyllaConfig) -> String {
    match Scylla::connect(&config).await {
        Err(StoreError::Unreachable { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_let_in_and_what_is_not_safe() {
    if cql_nodes("a CQL server with passwords and TLS").is_none() {
        return;
    }
    let server = Server::start();
    let chassis = Chassis::real(NodeId::new("test"));
    // The role is made a moment after the start.
    let migrated = async {
        while let Err(error) = Scylla::migrate(&server.config(), &[ALPHA], 1, &chassis, || true).await {
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
            chassis.clock.sleep(Duration::from_millis(200)).await;
        }
    };
    chassis.clock.timeout(Duration::from_secs(60), migrated).await.expect("the right ones are let in");
    let without = |change: &dyn Fn(&mut ScyllaConfig)| {
        let mut config = server.config();
        change(&mut config);
        config
    };
    let why = refusal(without(&|config| config.password_file = Some(server.file("wrong")))).await;
    assert!(why.contains("cassandra") || why.contains("credentials") || why.contains("password"), "{why}");
    let why = refusal(without(&|config| config.password_file = None)).await;
    assert!(why.to_lowercase().contains("auth"), "{why}");
    refusal(without(&|config| config.ca_file = None)).await;
    let (other, stranger) = (TempDir::new().expect("a folder"), Path::new("certs"));
    script("certs", &other, &[other.path().join(stranger).to_str().expect("utf-8")]);
    let strangers = other.path().join(stranger).join("ca.pem");
    let why = refusal(without(&|config| config.ca_file = Some(strangers.clone()))).await;
    assert!(why.contains("certificate"), "{why}");
    let missing =
        Scylla::connect(&without(&|config| config.ca_file = Some("nowhere".into()))).await.map(drop);
    assert!(matches!(missing, Err(StoreError::BadFile { .. })), "{missing:?}");
    // It acknowledges up to 10 s before its commit log is on disk.
    assert!(Scylla::open(&server.config()).await.is_ok(), "a warning");
    let strict = Scylla::open(&without(&|config| config.strict = true)).await.map(drop);
    assert!(matches!(strict, Err(StoreError::Unsafe { .. })), "{strict:?}");
}
