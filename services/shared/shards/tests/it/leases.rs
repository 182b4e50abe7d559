//! Processes that share one store, each with its own clock and tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::{Chassis, SimWall};
use dialtone_shards::lease::limits::{RENEW_EVERY, SETTLE_IN, WAIT};
use dialtone_shards::lease::{CheckBy, Holding, ShardKey};
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_store::replicas::{Replicas, Way, Weather};
use dialtone_store::{Db, MemoryDisk, StoreUrl};
use dialtone_vocab::{Epoch, NodeId, SHARDS, ShardId};

const SERVICE: &str = "alpha";
const FIRST: ShardKey = ShardKey { service: SERVICE, shard: ShardId(0) };

/// One process.
struct Process {
    chassis: Chassis,
    shards: Shards,
    leases: Leases,
}

/// What processes share: a store, a bus, and time.
struct Ground {
    chassis: Chassis,
    bus: Bus,
    db: Db,
    wall: SimWall,
    by: CheckBy,
    replicas: Option<Replicas>,
}

impl Ground {
    fn new(by: CheckBy) -> Self {
        let chassis = Chassis::for_tests(1);
        let db = Db::open_memory(&MemoryDisk::new(), LEASES, &chassis).expect("opens");
        Self { bus: Bus::local(&chassis), chassis, db, wall: SimWall::default(), by, replicas: None }
    }

    /// Over a store that may not answer.
    async fn over(replicas: &Replicas) -> Self {
        let ground = Self::new(CheckBy::Clock);
        let url = StoreUrl::Replicas(replicas.clone());
        let db = Db::open(url, LEASES, &ground.chassis).await.expect("opens");
        Self { db, replicas: Some(replicas.clone()), ..ground }
    }

    async fn start(&self, node: &str, seed: u64) -> Process {
        let chassis = Chassis::simulated(NodeId::new(node), seed, self.wall.clone());
        // What there are leases for is announced when they are about to be taken.
        let shards = Shards::start(&chassis, &self.bus, &[], &[]).await.expect("starts");
        let leases =
            Leases::start(&chassis, &self.bus, &shards, self.db.clone(), self.by, vec![SERVICE]).await;
        Process { chassis, shards, leases: leases.expect("starts") }
    }

    /// Time passes, for the clocks as for the timers.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(10);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.chassis.clock.sleep(step).await;
            let step = u64::try_from(step.as_millis()).expect("small");
            let now = self.wall.fetch_add(step, std::sync::atomic::Ordering::Relaxed) + step;
            if let Some(replicas) = &self.replicas {
                replicas.advance(Duration::from_millis(now));
            }
        }
    }
}

impl Process {
    fn held(&self) -> BTreeSet<ShardId> {
        self.leases.all_held(SERVICE).into_iter().collect()
    }
}

fn everything() -> BTreeSet<ShardId> {
    (0..SHARDS).map(ShardId).collect()
}

#[tokio::test(start_paused = true)]
async fn one_process_gets_everything_and_hears_of_each_shard_once() {
    let ground = Ground::new(CheckBy::Clock);
    let one = ground.start("one", 1).await;
    assert!(!one.chassis.ready.is_ready(), "no lease yet");
    let mut opened = one.leases.opened(SERVICE);
    ground.pass(Duration::from_secs(4)).await;
    assert_eq!(one.held(), everything());
    assert!(one.chassis.ready.is_ready());
    let heard = opened.next().await.expect("opened");
    assert_eq!(heard.len(), usize::from(SHARDS), "once");
    assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), everything());
    assert_eq!(one.leases.held(FIRST), Some(Epoch(1)));
    assert!(one.leases.held_for(FIRST) > Duration::from_secs(1));
    assert!(one.leases.check(Holding { key: FIRST, epoch: Epoch(1) }).await);
    assert!(!one.leases.check(Holding { key: FIRST, epoch: Epoch(2) }).await, "not in that epoch");
    let other = ShardKey { service: "beta", ..FIRST };
    assert_eq!((one.leases.held(other), one.leases.held_for(other)), (None, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_comes_gets_its_share_and_who_leaves_gives_it_back_without_a_wait() {
    let ground = Ground::new(CheckBy::Clock);
    let one = ground.start("one", 1).await;
    ground.pass(Duration::from_secs(4)).await;
    let two = ground.start("two", 2).await;
    ground.pass(Duration::from_secs(5)).await;
    let (ones, twos) = (one.held(), two.held());
    assert!(twos.len() > 400 && ones.is_disjoint(&twos), "{} and {}", ones.len(), twos.len());
    assert_eq!(&ones | &twos, everything());
    let moved = ShardKey { service: SERVICE, shard: *twos.first().expect("some") };
    assert_eq!(two.leases.held(moved), Some(Epoch(2)));
    assert!(!one.leases.check(Holding { key: moved, epoch: Epoch(1) }).await, "it is another's");
    let leaving = two.chassis.tasks.shutdown(Duration::from_secs(5));
    let (left, ()) = tokio::join!(leaving, ground.pass(Duration::from_millis(3_500)));
    assert!(left, "it gives back and ends");
    assert_eq!(one.held(), everything(), "sooner than a lease runs out and is waited for");
    assert!(Duration::from_millis(3_500) < WAIT);
    assert_eq!(one.leases.held(moved), Some(Epoch(3)));
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_clock_ran_on_unseen_owns_nothing_until_it_begins_anew() {
    let ground = Ground::new(CheckBy::Clock);
    let one = ground.start("one", 1).await;
    ground.pass(Duration::from_secs(4)).await;
    let held = Holding { key: FIRST, epoch: Epoch(1) };
    assert!(one.leases.check(held).await);
    // The host was asleep: the clock says so before any timer does.
    ground.wall.fetch_add(10_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!((one.leases.held(FIRST), one.held().len()), (None, 0));
    assert_eq!(one.leases.held_for(FIRST), Duration::ZERO);
    assert!(!one.leases.check(held).await, "nothing is settled any more");
    ground.pass(Duration::from_secs(2)).await;
    assert_eq!(one.held(), everything(), "its own row it closes itself");
    assert_eq!(one.leases.held(FIRST), Some(Epoch(2)), "and every acquisition is a new epoch");
    assert!(!one.leases.check(held).await);
}

#[tokio::test(start_paused = true)]
async fn by_reading_a_check_is_answered_from_the_store() {
    let ground = Ground::new(CheckBy::Read);
    let one = ground.start("one", 1).await;
    ground.pass(Duration::from_secs(4)).await;
    let held = Holding { key: FIRST, epoch: Epoch(1) };
    let (settled, ()) = tokio::join!(one.leases.check(held), ground.pass(Duration::from_millis(500)));
    assert!(settled);
    let stale = Holding { epoch: Epoch(0), ..held };
    let (settled, ()) = tokio::join!(one.leases.check(stale), ground.pass(Duration::from_millis(500)));
    assert!(!settled);
}

#[tokio::test(start_paused = true)]
async fn who_comes_is_heard_of_when_it_takes_its_share_and_ready_when_it_has_all_of_it() {
    let ground = Ground::new(CheckBy::Clock);
    let one = ground.start("one", 1).await;
    ground.pass(Duration::from_secs(4)).await;
    let two = ground.start("two", 2).await;
    ground.pass(SETTLE_IN - Duration::from_millis(100)).await;
    assert_eq!(one.shards.nodes(SERVICE), [NodeId::new("one")], "it could not do anything yet");
    assert_eq!((one.held(), two.chassis.ready.is_ready()), (everything(), false));
    while !two.chassis.ready.is_ready() {
        ground.pass(Duration::from_millis(20)).await;
    }
    assert_eq!(one.shards.nodes(SERVICE), ["one", "two"].map(NodeId::new));
    assert_eq!((&one.held() | &two.held(), two.held().is_empty()), (everything(), false));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_costs_no_lease() {
    let replicas = Replicas::new(&Chassis::for_tests(2).rng, Duration::ZERO);
    let ground = Ground::over(&replicas).await;
    let one = ground.start("one", 1).await;
    ground.pass(Duration::from_secs(9)).await;
    assert_eq!(one.held(), everything());
    for _ in 0..20 {
        replicas.set_way(Way { lost: 100, ..Way::default() });
        ground.pass(RENEW_EVERY).await;
        replicas.set_way(Way::default());
        ground.pass(2 * RENEW_EVERY).await;
    }
    assert_eq!(one.leases.held(FIRST), Some(Epoch(1)));
}

/// Five come at once, over a store whose one machine is busy with each request for so long that renewals alone want a third
/// of its time. Without rests between requests for shards leases run out, and all begin anew, for ever.
#[tokio::test(start_paused = true)]
async fn taking_shards_leaves_a_busy_store_time_for_renewals() {
    let replicas = Replicas::new(&Chassis::for_tests(2).rng, Duration::ZERO);
    replicas.set_weather(Weather { work: Duration::from_millis(35), ..Weather::fair() });
    let ground = Ground::over(&replicas).await;
    let mut all = Vec::new();
    for seed in 1..=5 {
        all.push(ground.start(&format!("node-{seed}"), seed).await);
    }
    let mut had = [0; 5];
    for _ in 0..400 {
        ground.pass(Duration::from_secs(1)).await;
        let has = [0, 1, 2, 3, 4].map(|n| all[n].held().len());
        assert!(had.iter().zip(&has).all(|(had, has)| *had == 0 || *has > 0), "a lease was lost");
        had = has;
    }
    assert_eq!(had.iter().sum::<usize>(), usize::from(SHARDS), "{had:?}");
}
