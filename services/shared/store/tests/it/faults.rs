//! What a CQL server's slowness, silence and errors become: by a proxy between the driver and a real one.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::limits::CQL_REQUEST;
use dialtone_store::scylla::Scylla;
use dialtone_store::{Batch, Commit, Db, StoreError};
use dialtone_testkit::{CQL_MESSAGE, CqlError, CqlProxy, CqlStore, Fault};
use dialtone_vocab::NodeId;

use crate::contract::ALPHA;

/// Every fault, and a word of what is said of it.
const FAULTS: [(Fault, &str); 8] = [
    (Fault::Late(Duration::from_millis(2_500)), "no answer in time"),
    (Fault::Lost, "no answer in time"),
    (Fault::Denied(CqlError::Overloaded), "overloaded"),
    (Fault::Denied(CqlError::WriteTimeout), "in time"),
    (Fault::Denied(CqlError::Unavailable), "alive"),
    (Fault::Refused(CqlError::Overloaded), "overloaded"),
    (Fault::Refused(CqlError::WriteTimeout), "in time"),
    (Fault::Refused(CqlError::Unavailable), "alive"),
];

/// Whether the server did what it was asked, whatever it said.
fn is_done(fault: Fault) -> bool {
    !matches!(fault, Fault::Refused(_))
}

struct Ground {
    store: CqlStore,
    proxy: CqlProxy,
    /// By the proxy, and past it.
    by: Db,
    past: Db,
}

impl Ground {
    async fn find(what: &str) -> Option<Self> {
        let store = CqlStore::fresh(what, &[ALPHA]).await?;
        let proxy = CqlProxy::before(&store).await;
        let chassis = Chassis::real(NodeId::new("test"));
        let by = Db::open(proxy.open(&store).await, ALPHA, &chassis).await.expect("opens");
        let past = Db::open(store.open().await, ALPHA, &chassis).await.expect("opens");
        Some(Self { store, proxy, by, past })
    }

    /// Commits under a fault: nobody knows what became of it, and why is said in our words.
    async fn unknown(&self, batch: Batch, table: &str, (fault, word): (Fault, &str)) {
        self.proxy.inflict(&format!("alpha_{table}"), fault);
        let outcome = self.by.commit(batch).await;
        self.proxy.heal();
        let Err(StoreError::Unknown { why }) = outcome else { panic!("{fault:?}: {outcome:?}") };
        assert!(why.contains(word) && !why.contains(CQL_MESSAGE), "{fault:?}: {why}");
    }
}

#[tokio::test]
async fn a_write_without_a_good_answer_is_unknown_and_the_same_again_makes_it_known() {
    let Some(ground) = Ground::find("writes without an answer of a CQL server").await else { return };
    const { assert!(2_500 > CQL_REQUEST.as_millis(), "later than is waited for") };
    for (place, fault) in FAULTS.into_iter().enumerate() {
        let key = [u8::try_from(place).expect("few")];
        // One write, and several as one.
        for table in ["one", "split"] {
            let keys = [[&key[..], &key, b"a"].concat(), [&key[..], &key, b"b"].concat()];
            let of = if table == "one" { &keys[..1] } else { &keys[..] };
            let write = || of.iter().fold(Batch::new(), |batch, key| batch.put(table, key.clone(), "value"));
            ground.unknown(write(), table, fault).await;
            for key in of {
                let found = ground.past.get(table, key).await.expect("reads");
                assert_eq!(found.is_some(), is_done(fault.0), "{fault:?}");
            }
            assert_eq!(ground.by.commit(write()).await, Ok(Commit::Applied), "{fault:?}");
            for key in of {
                assert_eq!(ground.past.get(table, key).await.expect("reads").as_deref(), Some(&b"value"[..]));
            }
        }
    }
    ground.store.remove().await;
}

#[tokio::test]
async fn a_conditional_write_is_asked_once_and_a_serial_read_tells_its_outcome() {
    let Some(ground) = Ground::find("conditional writes without an answer of a CQL server").await else {
        return;
    };
    for (place, fault) in FAULTS.into_iter().enumerate() {
        let key = [u8::try_from(place).expect("few")];
        let claim = || Batch::new().expect_absent("cas", key).put("cas", key, "mine");
        let before = ground.proxy.hits();
        ground.unknown(claim(), "cas", fault).await;
        assert_eq!(ground.proxy.hits(), before + 1, "{fault:?}: asked again, it could have refused its own");
        let found = ground.by.get_serial("cas", &key).await.expect("reads");
        assert_eq!(found.as_deref(), is_done(fault.0).then_some(&b"mine"[..]), "{fault:?}");
        let again = if is_done(fault.0) { Commit::Refused } else { Commit::Applied };
        assert_eq!(ground.by.commit(claim()).await, Ok(again), "{fault:?}");
    }
    ground.store.remove().await;
}

#[tokio::test]
async fn a_read_without_a_good_answer_is_an_error_that_says_so_and_quotes_nothing() {
    let Some(ground) = Ground::find("reads without an answer of a CQL server").await else { return };
    for (fault, word) in FAULTS.into_iter().rev() {
        ground.proxy.inflict("alpha_one", fault);
        let outcome = ground.by.get("one", b"key").await;
        ground.proxy.heal();
        let Err(StoreError::Read { why }) = outcome else { panic!("{fault:?}: {outcome:?}") };
        assert!(why.contains(word) && !why.contains(CQL_MESSAGE), "{fault:?}: {why}");
        assert_eq!(ground.by.get("one", b"key").await, Ok(None), "quick again");
    }
    ground.store.remove().await;
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_found_again() {
    let Some(ground) = Ground::find("a CQL server that goes and comes back").await else { return };
    let write = || Batch::new().put("one", "key", "value");
    assert_eq!(ground.by.commit(write()).await, Ok(Commit::Applied));
    ground.proxy.cut().await;
    let outcome = ground.by.commit(write()).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    let outcome = ground.by.get("one", b"key").await;
    assert!(matches!(outcome, Err(StoreError::Read { .. })), "{outcome:?}");
    ground.proxy.mend().await;
    let chassis = Chassis::real(NodeId::new("test"));
    let again = async {
        while ground.by.commit(write()).await.is_err() {
            chassis.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    chassis.clock.timeout(Duration::from_secs(30), again).await.expect("it connects again");
    assert!(ground.by.get("one", b"key").await.expect("reads").is_some());
    ground.store.remove().await;
}

#[tokio::test]
async fn a_server_that_has_not_heard_of_a_keyspace_yet_is_asked_again_for_its_tables() {
    let Some(store) = CqlStore::name("a CQL server that hears of a keyspace late") else { return };
    let proxy = CqlProxy::before(&store).await;
    for made in ["schema_lock (id text", "alpha_one (p blob"] {
        proxy.inflict_times(made, Fault::Refused(CqlError::Invalid), 2);
    }
    let chassis = Chassis::real(NodeId::new("test"));
    let made = Scylla::migrate(&proxy.config(&store), &[ALPHA], 1, &chassis, || true).await;
    assert_eq!((made, proxy.hits()), (Ok(true), 4));
    store.remove().await;
}
