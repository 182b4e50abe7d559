//! The tour, told by the real binary: in one process, and against processes of their own over a real nats-server.

use std::path::Path;

use dialtone_testkit::{Nats, free_port};

use crate::process::{Serving, dialtone, outcome};

/// Tells the tour and returns the steps that were as told.
fn tell(args: &[&str], folder: &Path) -> Vec<u64> {
    let args = [&["tour", "--json"], args].concat();
    let told = outcome(dialtone(&args, [], folder));
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{said}\n{complaint}");
    let steps = said.lines().map(|line| {
        let step: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert_eq!(step["ok"], true, "{line}");
        assert!(step["title"].is_string() && step["ms"].is_u64(), "{line}");
        step["step"].as_u64().expect("a number")
    });
    steps.collect()
}

#[test]
fn the_tour_is_as_told_in_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(tell(&[], folder.path()), (1..=10).collect::<Vec<_>>());
}

/// Which services live together, as somebody would split them who begins to.
const SPLIT: [(&str, &[&str]); 3] = [
    ("door", &["gateway"]),
    ("people", &["identity", "contacts", "presence"]),
    ("messages", &["routing", "offline", "sms", "centre"]),
];

#[test]
fn the_tour_is_as_told_over_nats_in_three_processes() {
    let Some(nats) = Nats::find("the tour over NATS in three processes") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [gateway, smpp, people, messages] = [(); 4].map(|()| free_port());
    let local = |port: u16| format!("127.0.0.1:{port}");
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let mut serving = Vec::new();
    for (name, services) in SPLIT {
        let settings = [
            ("NODE__NAME", name.to_owned()),
            ("BUS__URL", nats.url().to_owned()),
            ("GATEWAY__LISTEN", local(gateway)),
            ("CENTRE__LISTEN", local(smpp)),
            ("SMS__PROVIDER", local(smpp)),
            ("INTERNAL__LISTEN", local(if name == "people" { people } else { messages })),
            ("INTERNAL__IDENTITY", at(people)),
            ("INTERNAL__CONTACTS", at(people)),
            ("INTERNAL__PRESENCE", at(people)),
            ("INTERNAL__ROUTING", at(messages)),
            ("INTERNAL__OFFLINE", at(messages)),
            ("INTERNAL__SMS", at(messages)),
        ];
        let args = [&["run"], services].concat();
        let command = dialtone(&args, settings, folder.path());
        let ops = free_port();
        // All at once: none may need another to have come first.
        serving.push((ops, Serving::start(command, ops, &folder.path().join(format!("{name}.log")))));
    }
    serving.iter_mut().for_each(|(_, process)| process.wait_ready());
    let (gateway, centre) = (at(gateway), at(serving[2].0));
    let steps = tell(&["--gateway", &gateway, "--sms-centre", &centre], folder.path());
    assert_eq!(steps, (1..=9).collect::<Vec<_>>());
    for (_, process) in serving {
        assert!(process.stop(), "a process did not end well");
    }
}
