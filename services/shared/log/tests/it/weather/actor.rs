//! A process, and its actor for the log of one owner: opens it when it may, appends, marks, and tells what is settled.

use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::Chassis;
use dialtone_log::limits::WRITE_ENTRIES;
use dialtone_log::{Due, DueRow, Entry, Log, LogError, LogKind, LogStore, TABLES, Write};
use dialtone_shards::{LEASES, Leases, Shards, Trial};
use dialtone_store::replicas::Replicas;
use dialtone_store::{Db, Schema, StoreUrl};
use dialtone_vocab::{Epoch, UnixMillis, shard_of};
use tokio::sync::mpsc;

use super::journal::{Journal, due_at};
use super::plan::{Breakage, Plan};

/// Whose logs there are.
pub(super) fn owners(plan: &Plan) -> impl Iterator<Item = [u8; 16]> + use<> {
    (1..=u8::try_from(plan.logs).unwrap_or(u8::MAX)).map(|n| [n; 16])
}
/// A mark that is told when it is on disk.
pub(super) const ACK: &[u8] = b"ack/1";
/// A mark that goes along: the last settled index.
pub(super) const SEQ: &[u8] = b"seq";
const ROOM: Schema = Schema { service: "alpha", tables: &TABLES, version: 1 };
/// The last byte of an entry about which something is due.
const IS_DUE: u8 = b'!';
/// How long whoever can't open a log waits until the next try.
const AGAIN: Duration = Duration::from_millis(100);

/// What is due because of an entry.
pub(super) fn due_of(entry: &Entry) -> Option<Due> {
    (entry.content.last() == Some(&IS_DUE)).then(|| due_at(entry.idx))
}

/// Who wrote an entry first, by its content.
pub(super) fn written_in(content: &[u8]) -> Option<Epoch> {
    let digits = content.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Epoch)
}

/// What every process of an episode is given.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) breakage: Breakage,
    pub(super) bus: Bus,
    pub(super) journal: Journal,
}

/// One process.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) chassis: Chassis,
    pub(super) logs: LogStore,
    ground: Ground,
}

impl Process {
    /// Starts what holds leases and logs.
    pub(super) async fn start(ground: &Ground, chassis: &Chassis, replicas: Replicas, name: &str) -> Self {
        let (url, bus) = (StoreUrl::Replicas(replicas), &ground.bus);
        let shards = Shards::start(chassis, bus, &[ROOM.service], &[]).await.expect("subscribes");
        let db = Db::open(url.clone(), LEASES, chassis).await.expect("opens");
        let mut sabotage = dialtone_shards::lease::Sabotage::default();
        let mut defect = None;
        match ground.breakage {
            Breakage::Lease(broken) => sabotage.0 = Some(broken),
            Breakage::Log(broken) => defect = Some(broken),
            Breakage::None | Breakage::ReadsAtOne => {}
        }
        let trial = Trial { shards: owners(&ground.plan).map(|owner| shard_of(&owner)).collect(), sabotage };
        let services = vec![ROOM.service];
        let leases = Leases::start_trial(chassis, bus, &shards, db, ground.plan.by, services, trial);
        let leases = leases.await.expect("subscribes");
        let db = Db::open(url, ROOM, chassis).await.expect("opens");
        let logs = LogStore::new(db, LogKind::Inbox, ground.plan.keep, Some(leases), chassis);
        let (chassis, ground) = (chassis.clone(), ground.clone());
        Self { name: name.to_owned(), chassis, logs: logs.sabotaged(defect), ground }
    }

    /// Begins to serve all owners.
    pub(super) fn serve(&self) {
        let mut awake = Vec::new();
        for owner in owners(&self.ground.plan) {
            let (sender, rows) = mpsc::unbounded_channel();
            awake.push((owner, sender));
            self.chassis.tasks.spawn("actor", Actor { process: self.clone(), owner, rows }.run());
        }
        let (logs, journal, name) = (self.logs.clone(), self.ground.journal.clone(), self.name.clone());
        self.chassis.tasks.spawn(
            "awake",
            logs.keep_awake(move |row| {
                journal.due_found(&name, &row);
                for (_, sender) in awake.iter().filter(|(owner, _)| *owner == row.owner()) {
                    let _actor_has_ended = sender.send(row);
                }
            }),
        );
    }

    /// Reads all that was told, and there is no hole in it.
    pub(super) async fn audit(&self) {
        for owner in owners(&self.ground.plan) {
            let told = self.ground.journal.all_told(&owner);
            let last = told.last_key_value().map_or(0, |(last, _)| *last);
            let page = self.logs.read(self.logs.log_id(&owner), 1, last, usize::MAX, self.now()).await;
            match page {
                Ok(page) => self.ground.journal.audited(&self.name, &owner, &told, &page),
                Err(error) => self.ground.journal.wrong(&format!("log {}: {error}", owner[0])),
            }
        }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.chassis.clock.now()
    }

    fn percent(&self, of_a_hundred: u64) -> bool {
        self.chassis.rng.below(100) < of_a_hundred
    }
}

struct Actor {
    process: Process,
    owner: [u8; 16],
    rows: mpsc::UnboundedReceiver<DueRow>,
}

impl Actor {
    async fn run(mut self) {
        let Process { chassis, logs, ground, name } = self.process.clone();
        while !chassis.tasks.is_stopping() {
            match logs.open(&self.owner, self.process.now()).await {
                Ok(opened) => {
                    ground.journal.opened(&name, &opened, ground.plan.is_expiring());
                    let (ack, seq) = (opened.marks.get(ACK), opened.marks.get(SEQ));
                    self.reign(opened.log, ack.max(seq)).await;
                }
                Err(LogError::NotOwner | LogError::Store(_)) => {}
                Err(error) => ground.journal.wrong(&format!("{name}: {error}")),
            }
            chassis.clock.sleep(AGAIN).await;
        }
    }

    /// Goes on with a log until it is not this process's any more, or forgotten.
    async fn reign(&mut self, mut log: Log, mut ack: u64) {
        let Process { chassis, logs, ground, .. } = self.process.clone();
        // What was found is settled.
        log.mark(SEQ, log.tail());
        if self.process.percent(50) {
            chassis.clock.sleep(chassis.rng.jitter(ground.plan.idle)).await;
        }
        while logs.owns(&log) && !chassis.tasks.is_stopping() {
            while let Ok(row) = self.rows.try_recv() {
                log.adopt(row);
            }
            self.push(&mut log);
            if self.process.percent(ground.plan.extras) {
                ack += 1;
                log.mark_now(ACK, ack);
            }
            if self.process.percent(ground.plan.extras)
                && let Some(due) = ground.journal.due(&self.owner).first()
            {
                ground.journal.done(&self.owner, *due);
                log.due_done(*due);
            }
            while let Some(write) = log.next_write(self.process.now()) {
                // An actor that fails: its write goes on, and nobody hears what came of it.
                if self.process.percent(2) {
                    logs.submit(write, |_, _| {});
                    return;
                }
                if !self.write(&mut log, &write).await {
                    return;
                }
            }
            if self.process.percent(3) {
                return;
            }
            chassis.clock.sleep(chassis.rng.jitter(ground.plan.pause)).await;
        }
    }

    fn push(&self, log: &mut Log) {
        let rng = &self.process.chassis.rng;
        let count = match rng.below(40) {
            0 => WRITE_ENTRIES as u64 * 3,
            1..4 => 0,
            _ => 1 + rng.below(4),
        };
        for _ in 0..count {
            let idx = log.last() + 1;
            let due = if self.process.percent(self.process.ground.plan.extras) { "!" } else { "" };
            let Epoch(epoch) = log.epoch();
            log.push(1, format!("{epoch} by {}: {idx} {:x}{due}", self.process.name, rng.u64()));
            if !due.is_empty() {
                log.due(due_at(idx));
            }
        }
    }

    /// Writes, and tells what is settled then.
    async fn write(&self, log: &mut Log, write: &Write) -> bool {
        let (journal, name) = (&self.process.ground.journal, &self.process.name);
        match self.process.logs.write(write).await {
            Ok(()) => {
                let settled = log.settled(write);
                journal.told(&self.owner, log.epoch(), &settled.entries);
                for (mark, value) in &settled.marks {
                    journal.mark_told(&self.owner, log.epoch(), mark, *value);
                }
                log.mark(SEQ, log.tail());
                true
            }
            Err(error) => {
                journal.trace(&format!("{name} lost {}: {error}", self.owner[0]));
                journal.count(|tally| tally.stale += 1);
                false
            }
        }
    }
}
