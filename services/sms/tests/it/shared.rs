//! Processes that share a store: two bridges, each with a bind of its own.

use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::SmsResult;
use dialtone_proto::types::v1::FateKind;
use dialtone_shards::lease::CheckBy;
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_store::Db;
use dialtone_testkit::CqlStore;
use dialtone_vocab::NodeId;
use prost::Message as _;

use crate::peer::*;
use crate::world::*;

/// What the processes share.
struct Ground {
    store: CqlStore,
    bus: Bus,
    _bus_of: Chassis,
}

impl Ground {
    async fn new() -> Option<Self> {
        let rooms = [LEASES, dialtone_sms::SCHEMA];
        let store = CqlStore::fresh("sms processes that share a store", &rooms).await?;
        let chassis = Chassis::real(NodeId::new("test"));
        Some(Self { store, bus: Bus::local(&chassis), _bus_of: chassis })
    }

    /// A process, and the operator at the other end of its bind.
    async fn process(&self, node: &str) -> (World, Peer) {
        let chassis = Chassis::real(NodeId::new(node));
        let url = self.store.open().await;
        let services = ["routing", "offline", "sms", "identity"];
        let shards = Shards::start(&chassis, &self.bus, &services, &[]).await.expect("starts");
        let db = Db::open(url.clone(), LEASES, &chassis).await.expect("opens");
        let leases = Leases::start(&chassis, &self.bus, &shards, db, CheckBy::Read, vec!["sms"]).await;
        let shards = shards.with_leases(leases.expect("starts"));
        let setup = Setup::default();
        let mut world = start_in(chassis, self.bus.clone(), shards, url, setup).await;
        let peer = world.operator().await;
        (world, peer)
    }
}

/// Delivers until it is taken; how often it was not yet.
async fn delivered(world: &World, peer: &mut Peer, deliver: rusmpp::pdus::DeliverSm) -> u32 {
    let mut refused = 0;
    loop {
        match peer.delivered(deliver.clone()).await {
            Status::EsmeRok => return refused,
            Status::EsmeRxTAppn => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(refused < 600, "a minute");
        world.chassis.clock.sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_process_takes_replies_when_the_log_is_its_own_and_another_when_it_has_gone() {
    let Some(ground) = Ground::new().await else { return };
    let (mut one, mut peer) = ground.process("one").await;
    one.sends([message(1, "dinner?")]).await;
    peer.taken("a").await;
    assert_eq!(one.result().await, (1, FateKind::SmsSubmitted, String::new()));
    let refused = delivered(&one, &mut peer, mo(STRANGER, POOL[0], b"yes")).await;
    assert!(refused > 0, "the lease comes some seconds after the start");
    let offered = one.offer().await;
    // The first goes before the inbox has answered, and before the operator has reported.
    one.stop().await;
    let (mut other, mut peer) = ground.process("other").await;
    let refused = delivered(&other, &mut peer, receipt("id:a stat:DELIVRD")).await;
    assert_eq!(refused, 0, "a receipt needs no log");
    assert_eq!(other.result().await, (1, FateKind::SmsDelivered, String::new()));
    let again = other.offer().await;
    assert_eq!((again.source, again.entries), (offered.source, offered.entries));
    other.sends([message(1, "dinner?"), message(2, "again?")]).await;
    assert_eq!(peer.taken("b").await.short_message().as_ref(), b"again?", "what was taken is not sent twice");
    other.stop().await;
    ground.store.remove().await;
}

/// Two processes, and the operator at the other end of each bind.
struct Pair {
    worlds: [World; 2],
    peers: [Peer; 2],
    /// Their store, as a third reads it.
    db: Db,
}

const NAMES: [&str; 2] = ["one", "other"];
const WITHIN: Duration = Duration::from_secs(60);

impl Pair {
    async fn start(ground: &Ground) -> Self {
        let (one, ones) = ground.process(NAMES[0]).await;
        let (other, others) = ground.process(NAMES[1]).await;
        let url = ground.store.open().await;
        let db = Db::open(url, dialtone_sms::SCHEMA, &one.chassis).await.expect("opens");
        Self { worlds: [one, other], peers: [ones, others], db }
    }

    /// Until one of them has the log.
    async fn owned(&mut self) {
        let clock = self.worlds[0].chassis.clock.clone();
        let until = clock.instant() + WITHIN;
        loop {
            for peer in &mut self.peers {
                if peer.delivered(mo(STRANGER, POOL[0], b"for nobody")).await == Status::EsmeRok {
                    return;
                }
            }
            assert!(clock.instant() < until, "nobody has the log");
            clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends the n-th message, which the operator takes under its number; who submitted it.
    async fn submitted(&mut self, n: u8) -> usize {
        self.worlds[0].sends([message(n, "whose?")]).await;
        let [ones, others] = &mut self.peers;
        let (took, sequence) = tokio::select! {
            (sequence, _) = ones.submit() => (0, sequence),
            (sequence, _) = others.submit() => (1, sequence),
        };
        self.peers[took].take(sequence, &n.to_string()).await;
        assert_eq!(self.taken(n, FateKind::SmsSubmitted).await, NAMES[took]);
        took
    }

    /// Takes what is told until this is, whichever process has the user's routing; who told it.
    async fn taken(&mut self, n: u8, kind: FateKind) -> String {
        let clock = self.worlds[0].chassis.clock.clone();
        let [one, other] = &mut self.worlds;
        let taken = async {
            loop {
                let result = tokio::select! {
                    result = one.told() => result,
                    result = other.told() => result,
                };
                one.take_result(&result).await;
                if (result.message_id[0], result.kind()) == (n, kind) {
                    return result.reply_node;
                }
            }
        };
        clock.timeout(WITHIN, taken).await.expect("told")
    }

    /// The processes that have a result of this kind to tell.
    async fn telling(&self, kind: FateKind) -> Vec<String> {
        let rows = self.db.walk("sms_result", &[], 99).await.expect("read");
        let results = rows.into_iter().map(|(_, value)| SmsResult::decode(value).expect("a result"));
        results.filter(|result| result.kind() == kind).map(|result| result.reply_node).collect()
    }
}

#[tokio::test]
async fn a_receipt_for_what_another_process_submitted_is_told_once_by_whoever_gets_it() {
    let Some(ground) = Ground::new().await else { return };
    let mut pair = Pair::start(&ground).await;
    pair.owned().await;
    // Until each has submitted one, so that one of them gets its receipt without the log.
    let mut submitted = [None; 2];
    for n in 1.. {
        let took = pair.submitted(n).await;
        submitted[took].get_or_insert(n);
        if submitted.iter().all(Option::is_some) {
            break;
        }
        assert!(n < 64, "the bus gives to both");
    }
    for (took, gets) in [(0, 1), (1, 0)] {
        let n = submitted[took].expect("both have");
        let deliver = receipt(&format!("id:{n} stat:DELIVRD"));
        assert_eq!(delivered(&pair.worlds[gets], &mut pair.peers[gets], deliver).await, 0, "at once");
        assert_eq!(pair.telling(FateKind::SmsDelivered).await, [NAMES[gets]], "one result, of who got it");
        assert_eq!(pair.taken(n, FateKind::SmsDelivered).await, NAMES[gets]);
        let clock = pair.worlds[0].chassis.clock.clone();
        let gone = async {
            while !pair.telling(FateKind::SmsDelivered).await.is_empty() {
                clock.sleep(Duration::from_millis(100)).await;
            }
        };
        clock.timeout(WITHIN, gone).await.expect("who told it hears that it was taken");
    }
    let Pair { worlds, db, .. } = pair;
    drop(db);
    for world in worlds {
        world.stop().await;
    }
    ground.store.remove().await;
}
