//! Channels to several processes: they come and go, their names stand for others, and calls go on.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dialtone_chassis::network::{CONNECT_WITHIN, Resolver};
use dialtone_chassis::{Chassis, Error, Network};
use dialtone_vocab::{NodeId, Reason};
use futures::FutureExt;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{Process, ask, ask_until};

fn chassis() -> Chassis {
    Chassis::real(NodeId::new("test"))
}

fn all_of(expected: &'static [i32]) -> impl Fn(&[Result<i32, Error>]) -> bool {
    move |last| {
        let good = last.iter().all(|answer| answer.as_ref().is_ok_and(|number| expected.contains(number)));
        good && expected.iter().all(|number| last.contains(&Ok(*number)))
    }
}

/// A name whose addresses the test says.
#[derive(Clone, Default)]
struct Name(Arc<RwLock<Vec<SocketAddr>>>);

impl Name {
    fn is(&self, addrs: &[SocketAddr]) {
        *self.0.write().expect("lock") = addrs.to_vec();
    }

    fn resolver(&self) -> Resolver {
        let this = self.clone();
        Arc::new(move |host, port| {
            assert_eq!((host.as_str(), port), ("routing", 9100));
            let addrs = this.0.read().expect("lock").clone();
            let unknown = || Err(io::Error::other("no such name"));
            std::future::ready(if addrs.is_empty() { unknown() } else { Ok(addrs) }).boxed()
        })
    }
}

#[tokio::test]
async fn calls_are_spread_and_a_process_that_is_killed_is_not_missed() {
    let chassis = chassis();
    let (one, two) = (Process::new(1).await, Process::new(2).await);
    let urls = format!("{}, {}", one.url(), two.url());
    let channel = Network::new(&chassis, None).channel(&urls).expect("urls");
    ask_until(&chassis, &channel, 40, all_of(&[1, 2])).await;
    let answers = join_all((0..200).map(|_| ask(&channel, 20))).await;
    let ones = answers.iter().filter(|answer| **answer == Ok(1)).count();
    assert!((80..=120).contains(&ones), "the one with fewer calls gets the next: {ones} of 200");

    let (addr, before) = (one.addr, one.begun());
    let under_way = join_all((0..16).map(|_| ask(&channel, 2_000)));
    let killed = async {
        one.has_begun(&chassis, before + 1).await;
        drop(one);
    };
    let (outcomes, ()) = tokio::join!(under_way, killed);
    let (answered, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!(all_of(&[2])(&answered), "{answered:?}");
    let reasons: Vec<_> = lost.into_iter().filter_map(Result::err).map(|error| error.reason).collect();
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| *reason == Reason::PeerUnavailable),
        "{reasons:?}"
    );
    ask_until(&chassis, &channel, 40, all_of(&[2])).await;

    let _one = Process::start(1, addr).await;
    ask_until(&chassis, &channel, 40, all_of(&[1, 2])).await;
}

#[tokio::test]
async fn a_name_may_be_unknown_at_first_and_stand_for_others_later() {
    let chassis = chassis();
    let (one, two) = (Process::new(1).await, Process::new(2).await);
    let name = Name::default();
    let network = Network::new(&chassis, None).resolving_with(name.resolver());
    let channel = network.channel("http://routing:9100").expect("a url");
    let error = ask(&channel, 0).await.expect_err("nowhere yet");
    assert_eq!(error.reason, Reason::PeerUnavailable);
    assert!(error.message.contains("routing can't be resolved: no such name"), "{error}");

    name.is(&[one.addr]);
    ask_until(&chassis, &channel, 10, all_of(&[1])).await;
    name.is(&[one.addr, two.addr]);
    ask_until(&chassis, &channel, 40, all_of(&[1, 2])).await;

    // Both are asked, and one goes while it thinks.
    let before = (one.begun(), two.begun());
    let slow = join_all((0..16).map(|_| ask(&channel, 8_000)));
    let goes = async {
        one.has_begun(&chassis, before.0 + 1).await;
        two.has_begun(&chassis, before.1 + 1).await;
        name.is(&[two.addr]);
        ask_until(&chassis, &channel, 40, all_of(&[2])).await;
    };
    let (slow, ()) = tokio::join!(slow, goes);
    assert!(all_of(&[1, 2])(&slow), "calls under way have their answers: {slow:?}");

    name.is(&[]);
    ask_until(&chassis, &channel, 40, all_of(&[2])).await;
    drop(one);
}

#[tokio::test]
async fn a_process_that_stops_in_order_costs_no_call() {
    let chassis = chassis();
    let (one, two) = (Process::new(1).await, Process::new(2).await);
    let urls = format!("{},{}", one.url(), two.url());
    let channel = Network::new(&chassis, None).channel(&urls).expect("urls");
    ask_until(&chassis, &channel, 40, all_of(&[1, 2])).await;
    let is_over = Cell::new(false);
    let callers = join_all((0..16).map(async |_| {
        let mut answers = Vec::new();
        while !is_over.get() {
            answers.push(ask(&channel, 2).await);
        }
        answers
    }));
    let stops = async {
        one.has_begun(&chassis, one.begun() + 100).await;
        one.stop().await;
        two.has_begun(&chassis, two.begun() + 100).await;
        is_over.set(true);
    };
    let (answers, ()) = tokio::join!(callers, stops);
    let answers = answers.concat();
    assert!(all_of(&[1, 2])(&answers), "{:?}", answers.iter().find(|answer| answer.is_err()));
}

#[tokio::test]
async fn whoever_says_nothing_is_not_called() {
    let chassis = chassis();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let good = Process::new(1).await;
    let silent_url = format!("http://{}", silent.local_addr().expect("bound"));
    let network = Network::new(&chassis, None);
    let both = network.channel(&format!("{silent_url},{}", good.url())).expect("urls");
    ask_until(&chassis, &both, 40, all_of(&[1])).await;

    let channel = network.channel(&silent_url).expect("a url");
    let began = chassis.clock.instant();
    let error = ask(&channel, 0).await.expect_err("never answers");
    assert_eq!(error.reason, Reason::PeerUnavailable);
    assert!(chassis.clock.instant() - began < 2 * CONNECT_WITHIN);
}

#[tokio::test]
async fn connections_end_with_the_channel_and_outlive_the_order_to_stop() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let chassis = chassis();
    let peer = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", peer.local_addr().expect("bound"));
    let channel = Network::new(&chassis, None).channel(&url).expect("a url");
    let (mut stream, _) = peer.accept().await.expect("a connection");
    stream.write_all(&SETTINGS).await.expect("written");
    drop(channel);
    let mut rest = Vec::new();
    let ends = chassis.clock.timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
    ends.expect("nobody has the channel").expect("read");

    let good = Process::new(1).await;
    let channel = Network::new(&chassis, None).channel(&good.url()).expect("a url");
    assert_eq!(ask(&channel, 0).await, Ok(1));
    assert!(chassis.tasks.shutdown(Duration::from_secs(30)).await, "a stop does not wait for channels");
    assert_eq!(ask(&channel, 0).await, Ok(1), "handlers that run still call others");
}
