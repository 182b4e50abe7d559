//! The limits of presence, each with a name.

use std::time::Duration;

/// How long a user without a session still looks as before.
pub const OFFLINE_GRACE: Duration = Duration::from_secs(15);
/// How long a peer is shown as typing.
pub const TYPING_LIFE: Duration = Duration::from_secs(6);
/// How long a subscription at a peer's owner lives without being asked for again. (The table itself lives with its
/// session's attachment, which every beat renews and which is lost after 3 s without one.)
pub const WATCH_LEASE: Duration = Duration::from_secs(90);
/// How often a subscription is asked for again: what was lost on the way is repaired by then.
pub const SUBSCRIBE_EVERY: Duration = Duration::from_secs(10);
/// Until a subscription that was never answered is asked for again.
pub const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);
/// How long a snapshot waits for peers that were not heard yet; they are offline in it then.
pub const SNAPSHOT_WAIT: Duration = Duration::from_secs(1);
/// How long after users have moved between processes one who has no session yet may still have one that attaches anew: it
/// is not said to be offline, and snapshots wait for it.
pub const UNSURE: Duration = Duration::from_secs(3);
/// Between two looks at leases.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// Between two updates about a peer to the same session.
pub const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// How long a peer is believed without a word of its owner.
pub const PEER_LIFE: Duration = Duration::from_secs(35);
/// Between two notes of a typing user to the same peer.
pub const TYPING_EVERY: Duration = Duration::from_secs(2);
/// Peers that a user types to, remembered for that.
pub const TYPING_PEERS: usize = 64;
/// Between two notes in the store that an attached user is here.
pub const SEEN_EVERY: Duration = Duration::from_secs(12 * 3_600);
/// Questions to contacts that wait; one more is asked later.
pub const GRAPH_QUEUE: usize = 4_096;
/// Questions to contacts at once.
pub const GRAPH_AT_ONCE: usize = 64;
/// How long an answer of contacts about a watcher holds.
pub const MAY_SEE_LIFE: Duration = Duration::from_secs(30);
/// Until contacts is asked again after it did not answer.
pub const MAY_SEE_RETRY: Duration = Duration::from_secs(2);
/// How long contacts may take to answer.
pub const MAY_SEE_WITHIN: Duration = Duration::from_secs(2);
/// Sessions of a user.
pub const SESSIONS: usize = 64;
/// Users that watch a user; one more sees it as offline.
pub const WATCHERS: usize = 10_000;
/// Peers in an interaction table at most, whatever the configuration says.
pub const TABLE_MAX: u32 = 1_024;
/// Characters of a status text.
pub const STATUS_CHARS: usize = 140;
/// How long a user's actor may take to answer its gRPC door.
pub const USER_WITHIN: Duration = Duration::from_secs(3);
/// Within this long a user was seen recently; then a week, a month, long ago.
pub const RECENTLY: Duration = Duration::from_secs(3 * 86_400);
/// A week, for last-seen.
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// A month, for last-seen.
pub const MONTH: Duration = Duration::from_secs(30 * 86_400);
