//! The limits of the bus, each with a name.

use std::time::Duration;

/// Largest message in bytes, as nats-server's own default.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// Messages that wait in a subscription; more are dropped and counted.
pub const SUBSCRIPTION: usize = 65_536;
/// Items of one batch.
pub const BATCH_ITEMS: usize = 64;
/// Bytes of one batch, as far as its items' sizes tell.
pub const BATCH_BYTES: usize = 512 * 1024;
/// Items that wait for a batch to one destination; one more is refused as busy.
pub const BATCH_QUEUE: usize = 16_384;
/// How long a batch may linger under load, when it goes to another process.
pub const LINGER: Duration = Duration::from_millis(1);
/// A batch at least this full means load.
pub const LINGER_FROM: usize = 8;
/// How long connecting may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a message waits for room on its way to the server, which takes none while it is away; then it is refused as
/// busy.
pub const ROOM_WITHIN: Duration = Duration::from_secs(1);
/// After the process was told to stop: how long a batcher waits for one more item.
pub const STOP_IDLE: Duration = Duration::from_millis(200);
/// After a request came: how long a nats-server lets its answer pass. Nobody asks with more patience.
pub const ANSWER_SECONDS: u64 = 60;
