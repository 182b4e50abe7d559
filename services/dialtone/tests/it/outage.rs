//! A CQL server that goes away, or answers too slowly, while a whole process runs and phones write to each other.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use dialtone_store::limits::CQL_REQUEST;
use dialtone_testkit::{CqlProxy, CqlStore, Fault, Nats, free_port};
use tokio::runtime::Runtime;

use crate::cluster::at_all::missing;
use crate::cluster::load::Load;
use crate::process::{Serving, dialtone, outcome};

/// Settings of a process with every service, over this CQL server.
fn settings(store: &CqlStore, node: &str, folder: &Path) -> Vec<(&'static str, String)> {
    let listens = ["GATEWAY__LISTEN", "CENTRE__LISTEN", "INTERNAL__LISTEN"];
    let mut settings = listens.map(|name| (name, format!("127.0.0.1:{}", free_port()))).to_vec();
    settings.extend([
        ("STORE__URL", format!("scylla://{node}")),
        ("STORE__KEYSPACE", store.config.keyspace.clone()),
        ("STORE__REPLICAS", "1".to_owned()),
        ("SECRETS__FOLDER", folder.join("keys").display().to_string()),
    ]);
    settings
}

#[test]
fn a_cql_server_that_goes_or_is_slow_is_waited_out_and_nothing_is_lost() {
    let Some(store) = CqlStore::name("a whole process without its CQL server") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(CqlProxy::before(&store));
    let settings = settings(&store, proxy.node(), folder.path());
    let (gateway, ops) = (format!("http://{}", settings[0].1), free_port());
    let command = dialtone(&[], settings.clone(), folder.path());
    let mut serving = Serving::start(command, ops, &folder.path().join("log"));
    let report = serving.wait_for("/readyz", "store: there is no keyspace");
    assert!(report.starts_with("HTTP/1.1 503"), "{report}");
    let mut elsewhere = settings;
    let made = folder.path().join("made");
    elsewhere.push(("SECRETS__FOLDER", made.display().to_string()));
    let migrated = outcome(dialtone(&["migrate"], elsewhere, folder.path()));
    assert!(migrated.status.success(), "{migrated:?}");
    // Whoever migrates makes the keys after the tables.
    serving.wait_for("/readyz", "keys: ");
    fs::rename(made, folder.path().join("keys")).expect("moved");
    serving.wait_ready();
    let load = Load::begin([gateway.clone(), gateway], &format!("http://127.0.0.1:{ops}"));

    let slow = Fault::Late(CQL_REQUEST + Duration::from_millis(500));
    for how in ["gone", "slow"] {
        match how {
            "gone" => runtime.block_on(proxy.cut()),
            _ => proxy.inflict(&store.config.keyspace, slow),
        }
        let report = serving.wait_for("/readyz", "leases: the lease was lost");
        assert!(report.starts_with("HTTP/1.1 503"), "{how}: {report}");
        match how {
            "gone" => runtime.block_on(proxy.mend()),
            _ => proxy.heal(),
        }
        serving.wait_ready();
        assert!(load.flows_since(Instant::now()).is_some(), "{how}: {:?}", serving.said());
    }
    assert!(proxy.hits() > 0, "nothing was slow");
    let (mut wrongs, told) = load.end();
    wrongs.extend(runtime.block_on(missing(&store.config, &told)));
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    assert!(serving.stop(), "it ends in order");
    runtime.block_on(store.remove());
}

#[test]
fn a_process_that_has_no_lease_to_lose_says_that_its_store_is_away() {
    let what = "a process without leases, and without its CQL server";
    let (Some(store), Some(nats)) = (CqlStore::name(what), Nats::find(what)) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(CqlProxy::before(&store));
    let mut settings = settings(&store, proxy.node(), folder.path());
    settings.extend([("BUS__URL", nats.url().to_owned()), ("STORE__MIGRATE", "true".to_owned())]);
    let command = dialtone(&["run", "identity"], settings, folder.path());
    let mut serving = Serving::start(command, free_port(), &folder.path().join("log"));
    serving.wait_ready();
    runtime.block_on(proxy.cut());
    let report = serving.wait_for("/readyz", "HTTP/1.1 503");
    assert!(report.contains("store: ") && !report.contains("store: ready"), "{report}");
    runtime.block_on(proxy.mend());
    serving.wait_ready();
    assert!(serving.stop());
    runtime.block_on(store.remove());
}
