//! `deploy/compose.yaml` without Docker: everything in it is there, and is taken by whom it is for.

mod file;
mod rules;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;

use dialtone_testkit::{free_port, repository};
use tempfile::TempDir;

use crate::process::{DIALTONE, Serving, dialtone, outcome};
use file::Compose;
use rules::{Around, Complaints};

/// What `deploy/compose-prepare` made, once for all tests.
struct Prepared {
    _home: TempDir,
    variables: String,
    certified: BTreeSet<String>,
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let home = tempfile::tempdir().expect("a folder");
        let state = home.path().join("state");
        // Twice: what is there is kept.
        let [first, second] = [(); 2].map(|()| {
            let mut prepare = Command::new(repository().join("deploy/compose-prepare"));
            let done = outcome({
                prepare.arg(&state).env("DIALTONE_BIN", DIALTONE);
                prepare
            });
            assert!(done.status.success(), "{done:?}");
            let conf = std::fs::read_to_string(state.join("nats.conf")).expect("made");
            (conf, std::fs::read_to_string(state.join("env")).expect("made"))
        });
        assert_eq!(first, second, "the second time something else was made");
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(state.join("certs/cert.pem"));
        let names = String::from_utf8(outcome(openssl).stdout).expect("text");
        let certified = names.split([',', '\n']).filter_map(|name| name.trim().strip_prefix("DNS:"));
        let certified = certified.map(str::to_owned).collect();
        assert!(!state.join("certs/ca.key").exists(), "the authority's key is where containers see it");
        Prepared { _home: home, variables: second.1, certified }
    })
}

fn text() -> String {
    dialtone_testkit::file("deploy/compose.yaml").expect("deploy/compose.yaml").text
}

/// The processes of `deploy/local/cluster`: name and service.
fn cluster() -> BTreeSet<(String, String)> {
    let script = dialtone_testkit::file("deploy/local/cluster").expect("deploy/local/cluster").text;
    let list = script.split_once("processes=(").and_then(|(_, rest)| rest.split_once(')'));
    let (list, _) = list.expect("a list of processes");
    let names = list.split('"').skip(1).step_by(2).filter_map(|entry| entry.split_once(' '));
    names.map(|(name, service)| (name.to_owned(), service.to_owned())).collect()
}

fn read(text: &str) -> Result<Compose, String> {
    file::read(text, &prepared().variables)
}

fn complaints(text: &str) -> Complaints {
    let (repository, cluster) = (repository(), cluster());
    assert!(cluster.len() >= 13, "{cluster:?}");
    let around = Around { repository: &repository, cluster: &cluster, certified: &prepared().certified };
    match read(text) {
        Ok(compose) => around.complaints(&compose),
        Err(error) => vec![error],
    }
}

#[test]
fn all_that_is_in_it_is_there_and_is_taken() {
    let complaints = complaints(&text());
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
    assert_eq!(read(&text()).expect("read").name, "dialtone");
}

/// The file broken in this way, and a word of what must be said about it.
const BROKEN: &[(&str, &str, &str)] = &[
    ("image: dialtone:dev", "image: dialtone:latest", "has no version"),
    ("image: nats:2.11-alpine", "image: nats", "has no version"),
    ("./compose.toml:/etc", "./composed.toml:/etc", "nothing is at ./composed.toml"),
    ("/nats.conf:/etc", "/nats.config:/etc", "nats: nothing is at"),
    ("/keys:/var/lib/dialtone/keys:ro", "/keys:/var/lib/keys:ro", "secrets.folder"),
    ("/certs:/etc/dialtone/certs:ro", "/certs:/etc/certs:ro", "internal.cert_file"),
    ("target: bus.password", "target: password", "bus.password_file"),
    ("/passwords/sms", "/passwords/smtp", "no secret bus-sms"),
    ("dockerfile: deploy/Dockerfile", "dockerfile: Dockerfile", "nothing to build from"),
    ("scylla:/var/lib/scylla", "scylladb:/var/lib/scylla", "no volume scylladb"),
    ("volumes:\n  scylla: {}", "volumes:\n  scylla: {}\n  other: {}", "nobody uses other"),
    ("run, presence]", "run, presents]", "presents"),
    ("dialtone.toml, migrate]", "dialtone.toml, migration]", "migration"),
    ("DIALTONE__BUS__USER: routing", "DIALTONE__BUS__USERS: routing", "users"),
    ("DIALTONE__BUS__USER: routing", "DIALTONE__BUS__USER: offline", "bus.user"),
    ("NODE__NAME: offline-2", "NODE__NAME: offline-1", "node.name"),
    ("ADVERTISE: https://sms-1:9100", "ADVERTISE: https://sms-1:9101", "internal.advertise"),
    ("  presence-3:\n", "  presence-4:\n", "presence-3 (presence)"),
    ("127.0.0.1:7402:8080", "127.0.0.1:7401:8080", "127.0.0.1:7401 is public or taken"),
    ("127.0.0.1:7402:8080", "7402:8080", "public"),
    ("127.0.0.1:7400:9090", "127.0.0.1:7400:9091", "nobody listens"),
    ("    migrate:\n      condition", "    migration:\n      condition", "waits for migration"),
    ("service_completed_successfully", "service_started", "service_started"),
    ("restart: on-failure", "restart: unless-stopped", "never comes to that"),
    ("    nats:\n      condition: service_healthy\n", "", "does not wait for nats"),
    ("stop_grace_period: 30s", "stop_grace_period: 5s", "stop_grace_period"),
    ("test: [CMD, cqlsh", "test: [cqlsh", "a health check"),
    ("restart: unless-stopped\n    volumes", "volumes", "restart"),
    ("depends_on:", "depend_on:", "depend_on"),
    ("${DIALTONE_UID:?", "${DIALTONE_USER:?", "DIALTONE_USER"),
    ("    build:\n      context: ..\n      dockerfile: deploy/Dockerfile\n", "", "nobody builds"),
];

#[test]
fn every_way_to_break_it_is_seen() {
    for (what, by, word) in BROKEN {
        let (whole, broken) = (text(), text().replace(what, by));
        assert_ne!(whole, broken, "{what:?} is not in it");
        let complaints = complaints(&broken);
        assert!(complaints.iter().any(|line| line.contains(word)), "{what:?} as {by:?}: {complaints:#?}");
    }
}

/// ScyllaDB forgets what it acknowledged unless it is told not to, and has no conditional writes with tablets.
#[test]
fn the_cql_server_keeps_what_it_acknowledges() {
    let compose = read(&text()).expect("read");
    let command = compose.services["scylla"].command.join(" ");
    for wanted in ["--commitlog-sync batch", "--tablets-mode-for-new-keyspaces disabled"] {
        assert!(command.contains(wanted), "{command}");
    }
}

/// The very command that asks a container, asked of a process here.
#[test]
fn the_health_check_tells_ready_from_not() {
    let compose = read(&text()).expect("read");
    let folder = tempfile::tempdir().expect("a folder");
    let ops = free_port();
    let ask = || {
        let test = compose.services["routing-1"].health().expect("a health check").to_vec();
        let words: Vec<_> = test[1..].iter().map(|word| word.replace("/9090", &format!("/{ops}"))).collect();
        assert_ne!(test[1..], words, "another port");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        outcome(command).status.success()
    };
    assert!(!ask(), "nobody is there");
    let listens = ["GATEWAY__LISTEN", "CENTRE__LISTEN", "INTERNAL__LISTEN"];
    let mut settings = listens.map(|name| (name, format!("127.0.0.1:{}", free_port()))).to_vec();
    let log = folder.path().join("log");
    let mut serving = Serving::start(dialtone(&[], settings.clone(), folder.path()), ops, &log);
    serving.wait_ready();
    assert!(ask(), "it is ready");
    assert!(serving.stop());
    // Nobody listens there: it waits, and says so.
    settings.push(("STORE__URL", "scylla://127.0.0.1:1".to_owned()));
    let mut waiting = Serving::start(dialtone(&[], settings, folder.path()), ops, &log);
    waiting.wait_for("/readyz", "store: ");
    assert!(!ask(), "it waits");
}

/// The image is built by a compiler that the workspace takes, and of what is in the repository.
#[test]
fn the_dockerfile_names_a_compiler_that_is_new_enough() {
    let read = |path| dialtone_testkit::file(path).unwrap_or_else(|| panic!("{path}")).text;
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().expect("a number")).collect() };
    let (manifest, dockerfile) = (read("Cargo.toml"), read("deploy/Dockerfile"));
    let (_, least) = manifest.split_once("rust-version = \"").expect("a version");
    let least = version(least.split('"').next().expect("quoted"));
    let images: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    let [build, run] = images[..] else { panic!("two stages: {images:?}") };
    let (_, rust) = build.split_once("rust:").expect("a compiler");
    let (rust, base) = rust.split_once("-slim-").expect("rust:VERSION-slim-NAME AS build");
    assert!(version(rust) >= least, "{rust} is too old");
    // The same C library: what was built runs there.
    assert_eq!(format!("debian:{}-slim", base.trim_end_matches(" AS build")), run);
    for must in ["--locked", "--release", "USER 65532:65532"] {
        assert!(dockerfile.contains(must), "{must}");
    }
    let ignored = read(".dockerignore");
    for secret in ["deploy/compose.state", "target", ".git"] {
        assert!(ignored.lines().any(|line| line == secret), "{secret} would be in the image");
    }
}
