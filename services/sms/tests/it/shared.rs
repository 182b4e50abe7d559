//! Processes that share a store: two bridges, each with a bind of its own.

use dialtone_bus::Bus;
use dialtone_chassis::Chassis;
use dialtone_proto::types::v1::FateKind;
use dialtone_shards::lease::CheckBy;
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_store::Db;
use dialtone_testkit::CqlStore;
use dialtone_vocab::NodeId;

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
        world.chassis.clock.sleep(std::time::Duration::from_millis(100)).await;
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
    delivered(&other, &mut peer, receipt("id:a stat:DELIVRD")).await;
    assert_eq!(other.result().await, (1, FateKind::SmsDelivered, String::new()));
    let again = other.offer().await;
    assert_eq!((again.source, again.entries), (offered.source, offered.entries));
    other.sends([message(1, "dinner?"), message(2, "again?")]).await;
    assert_eq!(peer.taken("b").await.short_message().as_ref(), b"again?", "what was taken is not sent twice");
    other.stop().await;
    ground.store.remove().await;
}

#[tokio::test]
async fn a_receipt_for_what_another_process_submitted_is_told_by_whoever_gets_it() {
    let Some(ground) = Ground::new().await else { return };
    let (one, mut ones) = ground.process("one").await;
    // Both are there, and each has a bind. One of them has the log.
    let (other, mut others) = ground.process("other").await;
    let mut worlds = [one, other];
    worlds[0].sends([message(1, "whose?")]).await;
    let took = tokio::select! {
        (sequence, _) = ones.submit() => { ones.take(sequence, "a").await; 0 }
        (sequence, _) = others.submit() => { others.take(sequence, "a").await; 1 }
    };
    assert_eq!(worlds[took].result().await.1, FateKind::SmsSubmitted);
    let reported = tokio::select! {
        _ = delivered(&worlds[0], &mut ones, receipt("id:a stat:DELIVRD")) => 0,
        _ = delivered(&worlds[1], &mut others, receipt("id:a stat:DELIVRD")) => 1,
    };
    assert!(reported < 2);
    let [mut one, mut other] = worlds;
    // Whoever's it is, it goes to the node of routing that has the user.
    let result = tokio::select! {
        result = one.result() => result,
        result = other.result() => result,
    };
    assert_eq!(result, (1, FateKind::SmsDelivered, String::new()));
    one.stop().await;
    other.stop().await;
    ground.store.remove().await;
}
