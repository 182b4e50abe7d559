//! Starts that must fail: each says what is wrong, names the setting or the path, and leaves nothing broken behind.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use dialtone_testkit::free_port;

use crate::process::{Serving, dialtone, outcome};

/// Settings of a process on ports of its own.
fn settings() -> Vec<(&'static str, String)> {
    let ports = ["GATEWAY__LISTEN", "OPS__LISTEN", "CENTRE__LISTEN", "INTERNAL__LISTEN"];
    ports.map(|name| (name, format!("127.0.0.1:{}", free_port()))).to_vec()
}

/// A process that serves in this folder.
fn serve(folder: &Path) -> Serving {
    let ops = free_port();
    let mut settings = settings();
    let centre = settings[2].1.clone();
    settings.push(("SMS__PROVIDER", centre));
    let mut serving = Serving::start(dialtone(&[], settings, folder), ops, &folder.join("log"));
    serving.wait_ready();
    serving
}

/// Starts with these settings over the others and returns what it complains about.
#[track_caller]
fn refused(folder: &Path, over: &[(&'static str, String)]) -> String {
    let settings = settings().into_iter().chain(over.iter().cloned());
    let outcome = outcome(dialtone(&[], settings, folder));
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "it greets before it serves: {outcome:?}");
    String::from_utf8(outcome.stderr).expect("text")
}

#[track_caller]
fn assert_says(complaint: &str, words: &[&str]) {
    for word in words {
        assert!(complaint.contains(word), "{word} is not in {complaint:?}");
    }
}

#[test]
fn a_setting_that_does_not_exist_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_says(&refused(folder.path(), &[("GATEWAY__COLOUR", "red".into())]), &["gateway", "colour"]);
    let file = folder.path().join("over.toml");
    fs::write(&file, "[routing]\nfallback_after_ms = \"soon\"\n").expect("written");
    let checked = dialtone(&["config", "check", "--config", "over.toml"], [], folder.path());
    assert_says(&String::from_utf8_lossy(&outcome(checked).stderr), &["routing.fallback_after_ms"]);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("listed").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for (name, setting) in [
        ("GATEWAY__LISTEN", "gateway.listen"),
        ("OPS__LISTEN", "ops.listen"),
        ("CENTRE__LISTEN", "centre.listen"),
    ] {
        let complaint = refused(folder.path(), &[(name, address.clone())]);
        assert_says(&complaint, &[&address, setting, &format!("DIALTONE__{name}")]);
        assert!(!folder.path().join("dialtone-data").exists(), "{setting}: a store was made");
    }
}

#[test]
fn a_store_that_is_in_use_or_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = serve(folder.path());
    assert_says(&refused(folder.path(), &[]), &["dialtone-data", "in use by another process"]);
    // The first goes on.
    first.wait_ready();
    assert!(first.stop());

    let home = folder.path().join("home");
    fs::create_dir(&home).expect("made");
    fs::write(home.join("thesis.txt"), "mine").expect("written");
    let url = format!("embedded:{}", home.display());
    assert_says(&refused(folder.path(), &[("STORE__URL", url)]), &["home", "not a store of Dialtone"]);
    assert_eq!(fs::read_dir(&home).expect("listed").count(), 1);
}

#[test]
fn a_store_of_another_version_or_with_a_file_missing_is_refused_and_starts_when_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(serve(folder.path()).stop());
    let routing = folder.path().join("dialtone-data/routing");
    let manifest = fs::read_to_string(routing.join("manifest")).expect("read");
    let other = manifest.replace("schema 2\n", "schema 7\n");
    assert_ne!(manifest, other);
    fs::write(routing.join("manifest"), other).expect("written");
    assert_says(&refused(folder.path(), &[]), &["routing", "schema version 7", "needs 2"]);
    fs::write(routing.join("manifest"), manifest).expect("written");

    fs::rename(routing.join("data"), routing.join("elsewhere")).expect("moved");
    assert_says(&refused(folder.path(), &[]), &["routing/data", "missing"]);
    fs::rename(routing.join("elsewhere"), routing.join("data")).expect("moved");
    assert!(serve(folder.path()).stop(), "what was put back is served");
}

#[test]
fn a_store_without_its_keys_is_refused_until_they_are_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(serve(folder.path()).stop());
    let keys = folder.path().join("dialtone-data.keys");
    let backup = folder.path().join("backup");
    fs::rename(&keys, &backup).expect("moved");
    assert_says(&refused(folder.path(), &[]), &["secrets.folder", "dialtone-data.keys", "restore"]);
    assert!(!keys.exists(), "new keys were made");

    fs::create_dir(&keys).expect("made");
    fs::copy(backup.join("token.key"), keys.join("token.key")).expect("copied");
    assert_says(&refused(folder.path(), &[]), &["secrets.folder", "number.key", "restore"]);

    fs::copy(backup.join("number.key"), keys.join("number.key")).expect("copied");
    assert!(serve(folder.path()).stop(), "restored keys are taken");
}

#[test]
fn the_bridge_binds_to_the_centre_of_its_own_process_wherever_that_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ports as the messages about ports in use say, and no word about the provider; its readiness waits for the bind.
    let ops = free_port();
    let mut serving =
        Serving::start(dialtone(&[], settings(), folder.path()), ops, &folder.path().join("log"));
    serving.wait_ready();
    assert!(serving.stop());

    let apart = settings().into_iter().chain([("BUS__URL", "nats://127.0.0.1:4222".into())]);
    let alone = outcome(dialtone(&["run", "sms"], apart, folder.path()));
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");
    assert_says(&String::from_utf8_lossy(&alone.stderr), &["sms.provider", "DIALTONE__SMS__PROVIDER"]);
}

#[test]
fn some_of_the_services_do_not_start_on_a_bus_that_nobody_else_is_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let apart = outcome(dialtone(&["run", "gateway", "identity"], settings(), folder.path()));
    assert_eq!(apart.status.code(), Some(1), "{apart:?}");
    assert_says(&String::from_utf8_lossy(&apart.stderr), &["bus.url", "routing", "DIALTONE__BUS__URL"]);
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0, "something was made");
}

#[test]
fn who_keeps_nothing_waits_for_the_keys_and_not_for_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    let over = [
        // Nobody listens there.
        ("STORE__URL", "scylla://127.0.0.1:1".to_owned()),
        ("SECRETS__FOLDER", keys.display().to_string()),
    ];
    let ops = free_port();
    let command = dialtone(&["run", "centre"], settings().into_iter().chain(over), folder.path());
    let mut serving = Serving::start(command, ops, &folder.path().join("log"));
    let waits = serving.wait_for("/readyz", "keys: ");
    assert_says(&waits, &["HTTP/1.1 503", "token.key"]);
    fs::create_dir(&keys).expect("made");
    for name in ["token.key", "number.key"] {
        let beside = folder.path().join("key");
        fs::write(&beside, [7; 32]).expect("written");
        fs::rename(beside, keys.join(name)).expect("moved");
    }
    serving.wait_ready();
    let report = serving.get("/readyz").expect("an answer");
    assert!(!report.contains("store"), "{report}");
    assert!(serving.stop());
}
