//! Dialtone as a cluster: thirteen processes over a real nats-server and a real CQL server, in real time. Every process
//! and the nats-server are restarted while phones write to each other, every process is killed, and every replica of the
//! store is away once; afterwards each accepted message was shown once and in order, all that was told is in the logs,
//! and nobody was logged out. What the measured times were is said on stderr.

pub(crate) mod at_all;
mod front;
mod host;
pub(crate) mod load;
mod seen;

use std::io::Write;
use std::time::{Duration, Instant};

use dialtone_testkit::{CQL_NODES, CqlNodes};
use host::{Cluster, NAMES};
use load::{FROZEN, Load, gateway_of};

use crate::canary::{leaks, secrets_in, timeless};
use crate::process::{dialtone, outcome};

/// How long messages may stop when a process that owns logs is killed.
const OWNER_WITHIN: Duration = Duration::from_secs(20);
/// How long when another is; the only one of its service is started again meanwhile.
const OTHER_WITHIN: Duration = Duration::from_secs(10);

/// How long when a replica of the store is away.
const REPLICA_WITHIN: Duration = Duration::from_secs(30);

/// Something done to a replica.
type Change = fn(&CqlNodes, u8);

/// Says straight to the terminal: the test runner keeps what passes to itself.
fn say(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").expect("stderr");
}

#[test]
fn the_tour_is_as_told_by_a_cluster_and_nobody_of_it_logs_a_word() {
    let settings = [("TELEMETRY__LOG", "trace"), ("LEASE__CHECK", "read")];
    let Some(cluster) = Cluster::up_by_hand("the tour against a cluster", &settings) else { return };
    cluster.run(&["status"]);
    let (gateway, centre) = (cluster.gateway(0), cluster.handsets());
    let args = ["tour", "--gateway", &gateway, "--sms-centre", &centre];
    let told = outcome(dialtone(&args, [], &cluster.home()));
    let said = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    assert!(told.status.success(), "{said}");
    assert!(said.contains("All 9 steps were as told."), "{said}");
    let secrets = secrets_in(&said);
    assert!(secrets.len() > 20, "{secrets:?}");
    for name in NAMES {
        let logged: Vec<String> = cluster.log(name).lines().map(timeless).collect();
        assert!(logged.len() > 100, "{name}: hardly anything was logged: {} lines", logged.len());
        let told = logged.iter().map(String::as_str);
        assert_eq!(leaks(&secrets, told), Vec::<String>::new(), "{name}");
    }
    cluster.run(&["down"]);
}

#[test]
fn no_restart_of_a_process_is_noticed_but_as_a_reconnect() {
    let Some(cluster) = Cluster::up("a restart of every process of a cluster") else { return };
    let load = cluster.load();
    let mut wrongs = Vec::new();
    for name in NAMES.into_iter().chain(["nats"]) {
        let began = Instant::now();
        let connects = load.connects();
        cluster.run(&["restart", name]);
        let ready = Instant::now();
        flows_again(&load, name, ready, &mut wrongs);
        let slowest = load.slowest_since(began);
        say(&format!("{name} restarted in {:.1?}; the slowest message took {slowest:.1?}", ready - began));
        wrongs.extend(reconnects(&load, name, None, &connects));
        wrongs.extend(load.told_offline(name));
    }
    end(&cluster, load, wrongs);
}

#[test]
fn no_message_is_lost_whichever_process_is_killed() {
    let Some(cluster) = Cluster::up("a kill of every process of a cluster") else { return };
    let load = cluster.load();
    let mut wrongs = Vec::new();
    for name in NAMES {
        if owns_logs(name) {
            load.freeze_and_burst();
        }
        let (connects, killed) = (load.connects(), Instant::now());
        cluster.run(&["kill", name]);
        if owns_logs(name) {
            load.thaw();
        }
        if !has_twin(name) {
            cluster.run(&["start", name]);
        }
        let within = if owns_logs(name) { OWNER_WITHIN } else { OTHER_WITHIN };
        let flows = flows_again(&load, name, killed, &mut wrongs);
        if flows.is_some_and(|flows| flows > within) {
            wrongs.push(format!("{name}: messages stopped for {flows:.1?}"));
        }
        cluster.run(&["start", name]);
        flows_again(&load, name, Instant::now(), &mut wrongs);
        let slowest = load.slowest_since(killed);
        let flows = flows.map_or_else(|| "never".to_owned(), |flows| format!("after {flows:.1?}"));
        say(&format!("{name} killed: all flows {flows}; the slowest message took {slowest:.1?}"));
        let thawed = owns_logs(name).then_some(FROZEN);
        wrongs.extend(reconnects(&load, name, thawed, &connects));
        wrongs.extend(load.told_offline(name));
    }
    end(&cluster, load, wrongs);
}

#[test]
fn no_replica_of_three_is_missed() {
    let mut nodes = None;
    let start = || nodes.insert(CqlNodes::start()).store();
    let Some(cluster) = Cluster::up_over_nodes("each of three replicas away in turn", start) else { return };
    let nodes = nodes.as_ref().expect("started");
    let load = cluster.load();
    let mut wrongs = Vec::new();
    // While a replica is away, what a process has moves to others, and back.
    for (node, name) in CQL_NODES.into_iter().zip(["offline-1", "routing-2", "presence-3"]) {
        let away: [(&str, Change, Change); 2] = [
            ("stands still", CqlNodes::pause, CqlNodes::resume),
            ("is killed", CqlNodes::kill, CqlNodes::revive),
        ];
        for (how, goes, is_back) in away {
            let what = format!("replica {node} {how}");
            let gone = Instant::now();
            goes(nodes, node);
            let flows = flows_again(&load, &what, gone, &mut wrongs);
            if flows.is_some_and(|flows| flows > REPLICA_WITHIN) {
                wrongs.push(format!("{what}: messages stopped for {flows:.1?}"));
            }
            let began = Instant::now();
            cluster.run(&["restart", name]);
            let ready = Instant::now();
            flows_again(&load, name, ready, &mut wrongs);
            is_back(nodes, node);
            flows_again(&load, &format!("{what} no more"), Instant::now(), &mut wrongs);
            let flows = flows.map_or_else(|| "never".to_owned(), |flows| format!("after {flows:.1?}"));
            say(&format!("{what}: all flows {flows}; {name} restarted meanwhile in {:.1?}", ready - began));
            say(&format!("{what}: the slowest message took {:.1?}", load.slowest_since(gone)));
            wrongs.extend(load.told_offline(&what));
        }
    }
    end(&cluster, load, wrongs);
}

/// Nothing was wrong, and all that was told is there.
fn end(cluster: &Cluster, load: Load, mut wrongs: Vec<String>) {
    let (wrong, told) = load.end();
    wrongs.extend(wrong);
    let missing = cluster.missing(&told);
    let count: usize = told.iter().map(|told| told.accepted.len() + told.shown.len()).sum();
    say(&format!("told: {count} entries; missing in the logs at ALL: {}", missing.len()));
    wrongs.extend(missing);
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

/// Whether another of its service does its work while it is away.
fn has_twin(name: &str) -> bool {
    ["presence", "offline", "routing", "gateway"].iter().any(|service| name.starts_with(service))
}

fn owns_logs(name: &str) -> bool {
    ["offline", "routing"].iter().any(|service| name.starts_with(service))
}

/// How long after `then` everybody had been shown something that was sent after it; said to be wrong if that did not
/// come to be.
fn flows_again(load: &Load, name: &str, then: Instant, wrongs: &mut Vec<String>) -> Option<Duration> {
    let flows = load.flows_since(then);
    if flows.is_none() {
        let waiting = load.waiting_since(then);
        wrongs.push(format!("{name}: nothing arrives any more from the phones {waiting:?}"));
    }
    flows
}

/// Who reconnected more often than once when its gateway was away or it thawed, and at all otherwise. Whose first one was does not go back: afterwards all
/// are at the second.
fn reconnects(load: &Load, name: &str, thawed: Option<usize>, before: &[usize]) -> Vec<String> {
    let most = |place| {
        usize::from(match name {
            "gateway-1" => gateway_of(place) == 0,
            "gateway-2" => true,
            // Its first stream after the thaw.
            _ => thawed == Some(place),
        })
    };
    let times = load.connects().into_iter().zip(before).map(|(now, before)| now - before);
    let wrong = times.enumerate().filter(|(place, times)| *times > most(*place));
    let told = wrong.map(|(place, times)| {
        format!("{name}: phone {place} reconnected {times} times: {:?}", load.why_lost(place))
    });
    told.collect()
}
