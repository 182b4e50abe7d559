//! Processes over a real nats-server: one that is not there yet, and two processes of one name.

use std::path::Path;

use dialtone_testkit::{Nats, free_port};

use crate::process::{Serving, dialtone};

/// A process with every service, and a store of its own.
fn start(nats: &Nats, name: &str, folder: &Path) -> Serving {
    std::fs::create_dir_all(folder).expect("a folder");
    let listens = ["GATEWAY__LISTEN", "CENTRE__LISTEN", "INTERNAL__LISTEN"];
    let mut settings = listens.map(|name| (name, format!("127.0.0.1:{}", free_port()))).to_vec();
    settings.extend([("BUS__URL", nats.url().to_owned()), ("NODE__NAME", name.to_owned())]);
    Serving::start(dialtone(&[], settings, folder), free_port(), &folder.join("log"))
}

#[test]
fn a_process_waits_for_its_nats_server() {
    let Some(mut nats) = Nats::start_own("a process that starts before its nats-server", None) else {
        return;
    };
    nats.stop();
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = start(&nats, "early", folder.path());
    let report = process.wait_for("/readyz", "bus: ");
    assert!(report.starts_with("HTTP/1.1 503"), "{report}");
    nats.start();
    process.wait_ready();
    assert!(process.stop());
}

#[test]
fn neither_is_ready_until_one_has_gone() {
    let Some(nats) = Nats::start_own("two processes of one name", None) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = start(&nats, "same", &folder.path().join("first"));
    first.wait_ready();
    let mut second = start(&nats, "same", &folder.path().join("second"));
    for process in [&mut first, &mut second] {
        let report = process.wait_for("/readyz", "node.name");
        let is_told = report.starts_with("HTTP/1.1 503") && report.contains("cluster: another process");
        assert!(is_told, "{report}");
    }
    assert!(second.stop());
    first.wait_ready();
    assert!(first.said().contains("another process has the same node.name"), "{}", first.said());
    let mut other = start(&nats, "other", &folder.path().join("second"));
    other.wait_ready();
    assert!(other.stop() && first.stop());
}
