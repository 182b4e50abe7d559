//! Whether every index that phones were told is in the logs, read from all replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::Chassis;
use dialtone_log::{Entry, LogError, LogKind, LogStore};
use dialtone_proto::log::v1::{InboxEntry, OutboxEntry, inbox_entry, outbox_entry};
use dialtone_shards::lease::CheckBy;
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_store::{Db, Schema, StoreUrl};
use dialtone_vocab::{NodeId, UserId};
use prost::Message as _;

use crate::weather::content;

/// How long all replicas may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// What a user's phone was told: the number of the message at each index.
pub(crate) struct Told {
    pub(crate) user: UserId,
    /// Of its outbox.
    pub(crate) accepted: BTreeMap<u64, usize>,
    /// Of its inbox.
    pub(crate) shown: BTreeMap<u64, usize>,
}

/// What the logs lack, or have something else for.
pub(crate) async fn missing(config: &ScyllaConfig, told: &[Told]) -> Vec<String> {
    let chassis = Chassis::real(NodeId::new("reader"));
    let url = StoreUrl::Scylla(Scylla::open_at_all(config).await.expect("all replicas answer"));
    let outboxes = logs(&chassis, &url, dialtone_routing::SCHEMA, LogKind::Outbox).await;
    let inboxes = logs(&chassis, &url, dialtone_offline::SCHEMA, LogKind::Inbox).await;
    let mut missing = Vec::new();
    for (place, told) in told.iter().enumerate() {
        let user = told.user.as_bytes();
        let found = read(&outboxes, user, &told.accepted, sent, &chassis).await;
        missing.extend(differences(&told.accepted, &found, &format!("outbox of phone {place}")));
        let found = read(&inboxes, user, &told.shown, received, &chassis).await;
        missing.extend(differences(&told.shown, &found, &format!("inbox of phone {place}")));
    }
    assert!(chassis.tasks.shutdown(PATIENCE).await, "the reader ends");
    missing
}

/// Logs to read, of which nobody here owns any.
async fn logs(chassis: &Chassis, url: &StoreUrl, schema: Schema, kind: LogKind) -> LogStore {
    let bus = Bus::local(chassis);
    let shards = Shards::start(chassis, &bus, &[], &[]).await.expect("subscribes");
    let open = async |schema| Db::open(url.clone(), schema, chassis).await;
    let leases = persistently(chassis, async || open(LEASES).await, |_| true).await;
    let leases = Leases::start(chassis, &bus, &shards, leases, CheckBy::Clock, Vec::new()).await;
    let db = persistently(chassis, async || open(schema).await, |_| true).await;
    LogStore::new(db, kind, Duration::MAX, Some(leases.expect("subscribes")), chassis)
}

/// The numbers in a log, as far as it was told.
async fn read(
    logs: &LogStore,
    user: &[u8; 16],
    told: &BTreeMap<u64, usize>,
    number: fn(&Entry) -> Option<String>,
    chassis: &Chassis,
) -> BTreeMap<u64, usize> {
    let last = told.last_key_value().map_or(0, |(last, _)| *last);
    let (id, now) = (logs.log_id(user), chassis.clock.now());
    let page = async || logs.read(id, 1, last, usize::MAX, now).await;
    let page = persistently(chassis, page, |error| matches!(error, LogError::Store(_))).await;
    let numbers = page
        .entries
        .iter()
        .filter_map(|entry| Some((entry.idx, number(entry)?.parse().unwrap_or(usize::MAX))));
    numbers.collect()
}

/// All replicas have to answer, and one may be busy, or not back yet in the eyes of another.
async fn persistently<T, E: std::fmt::Debug>(
    chassis: &Chassis,
    ask: impl AsyncFn() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> T {
    let until = chassis.clock.instant() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if passes(&error) && chassis.clock.instant() < until => {
                chassis.clock.sleep(AGAIN).await;
            }
            answer => return answer.expect("what all replicas have"),
        }
    }
}

fn sent(entry: &Entry) -> Option<String> {
    match OutboxEntry::decode(entry.content.clone()).expect("an entry").entry {
        Some(outbox_entry::Entry::Message(message)) => Some(content(message.body)),
        _ => None,
    }
}

fn received(entry: &Entry) -> Option<String> {
    match InboxEntry::decode(entry.content.clone()).expect("an entry").entry {
        Some(inbox_entry::Entry::Message(message)) => Some(content(message.body)),
        _ => None,
    }
}

fn differences(told: &BTreeMap<u64, usize>, found: &BTreeMap<u64, usize>, log: &str) -> Vec<String> {
    let differs = told.iter().filter(|(idx, number)| found.get(idx) != Some(number));
    differs
        .map(|(idx, number)| format!("{log}: at {idx} is {:?}, told was {number}", found.get(idx)))
        .collect()
}

#[test]
fn what_the_log_lacks_or_has_something_else_for_is_seen() {
    let told = BTreeMap::from([(1, 0), (2, 1), (4, 2)]);
    let found = |pairs: &[(u64, usize)]| pairs.iter().copied().collect();
    assert_eq!(differences(&told, &found(&[(1, 0), (2, 1), (3, 7), (4, 2)]), "log"), Vec::<String>::new());
    assert_eq!(differences(&told, &found(&[(1, 0), (2, 1)]), "log").len(), 1);
    assert_eq!(differences(&told, &found(&[(1, 0), (2, 2), (4, 1)]), "log").len(), 2);
}
