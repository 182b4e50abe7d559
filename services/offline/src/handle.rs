//! What offline does, in domain words.

use dialtone_chassis::Error;
use dialtone_log::LogStore;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::log::v1::InboxEntry;
use dialtone_proto::log::v1::inbox_entry::Entry as Kind;
use dialtone_proto::offline::v1::{GetCursorResponse, Item, ListResponse, item};
use dialtone_proto::types::v1::Cursor;
use dialtone_shards::Hive;
use dialtone_vocab::{DeviceId, LogId, Reason, UnixMillis, UserId};
use prost::Message as _;
use std::collections::BTreeSet;
use tokio::sync::oneshot;

use crate::inbox::{Message, Resides, Standing, frame_of};
use crate::limits::{LIST_DEFAULT, LIST_MOST};
use crate::metrics;

/// Offline's operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    hive: Hive<Resides>,
    logs: LogStore,
}

impl Handle {
    pub(crate) fn new(hive: Hive<Resides>, logs: LogStore) -> Self {
        Self { hive, logs }
    }

    /// Something happens to a user's inbox; what does not fit is repeated by whoever sent it.
    pub(crate) fn tell(&self, user: UserId, message: Message) {
        if self.hive.send(user, message).is_err() {
            metrics::busy();
        }
    }

    /// Where the log stands and how far a device is.
    pub(crate) async fn cursor(&self, user: UserId, device: DeviceId) -> Result<Standing, Error> {
        let (sender, answer) = oneshot::channel();
        let busy = || Error::new(Reason::Busy, "too much is waiting for this inbox");
        self.hive.send(user, Message::Cursor(device, sender)).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())
    }

    pub(crate) async fn get_cursor(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<GetCursorResponse, Error> {
        let Standing { log, acked, tail, .. } = self.cursor(user, device).await?;
        Ok(GetCursorResponse { acked: Some(Cursor { log_id: log.to_vec(), idx: acked }), head: tail })
    }

    /// A page of the history after a cursor.
    pub(crate) async fn list(
        &self,
        user: UserId,
        device: DeviceId,
        after: &Cursor,
        limit: u32,
        now: UnixMillis,
    ) -> Result<ListResponse, Error> {
        let limit = match limit {
            0 => LIST_DEFAULT,
            1..=LIST_MOST => limit,
            _ => return Err(Error::new(Reason::FieldInvalid, "at most 500").with("field", "limit")),
        };
        let Standing { log, epoch, acked_by_any, tail, .. } = self.cursor(user, device).await?;
        if !after.log_id.is_empty() && after.log_id != log.as_bytes() || after.idx > tail {
            return Err(Error::new(Reason::FieldInvalid, "the cursor is not of this inbox")
                .with("field", "after")
                .with("head", tail));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let page = self.logs.read(log, after.idx + 1, tail, limit, now).await?;
        let entries: Vec<_> = page
            .entries
            .iter()
            .filter_map(|entry| Some((entry.idx, InboxEntry::decode(&entry.content[..]).ok()?)))
            .collect();
        let stubs = self.stubs(log, after.idx + 1, tail, now).await?;
        if !self.logs.may_tell(user.as_bytes(), epoch).await {
            return Err(Error::new(Reason::Busy, "the inbox has another owner now"));
        }
        let item = |(idx, entry): &(u64, InboxEntry)| match frame_of(
            *idx,
            entry,
            stubs.contains(idx),
            *idx <= acked_by_any,
        ) {
            Frame::Message(message) => Item { item: Some(item::Item::Message(message)) },
            Frame::Gone(gone) => Item { item: Some(item::Item::Gone(gone)) },
            _ => Item::default(),
        };
        let next = entries.last().map_or(after.idx.max(page.expired_to), |(idx, _)| *idx);
        let items = entries.iter().map(item).collect();
        Ok(ListResponse { items, next: Some(Cursor { log_id: log.to_vec(), idx: next }), end: next >= tail })
    }

    /// The messages that a later entry withdraws: read to the end, because a stub may stand anywhere behind.
    async fn stubs(
        &self,
        log: LogId,
        first: u64,
        tail: u64,
        now: UnixMillis,
    ) -> Result<BTreeSet<u64>, Error> {
        let mut stubs = BTreeSet::new();
        let mut from = first;
        while from <= tail {
            let page = self.logs.read(log, from, tail, crate::limits::PAGE, now).await?;
            for entry in &page.entries {
                if let Ok(InboxEntry { entry: Some(Kind::Withdrawn(withdrawal)), .. }) =
                    InboxEntry::decode(&entry.content[..])
                {
                    stubs.insert(withdrawal.of);
                }
            }
            from = page.next(from);
        }
        Ok(stubs)
    }
}
