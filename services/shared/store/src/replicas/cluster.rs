//! The replicas, and what is under way to, among and from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Rng;
use tokio::sync::oneshot;

use super::cells::{Cell, Partition, Place};
use super::{Seen, Way, Weather};
use crate::limits::CQL_REQUEST;
use crate::table::Slice;
use crate::{Rows, StoreError};

/// How many replicas there are.
const REPLICAS: usize = 3;
/// How many must have a write until it counts as done.
const QUORUM: usize = 2;

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<T>;
/// What happens at a time.
type Event = Box<dyn FnOnce(&mut Cluster) + Send>;

/// One replica, which coordinates too.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<Place, Partition>,
    /// It does nothing until then.
    still_until: Duration,
    /// Its clock, and the last timestamp it gave.
    ahead: Duration,
    last: i64,
}

pub(super) struct Cluster {
    pub(super) store_id: [u8; 16],
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) lines: BTreeMap<usize, Way>,
    pub(super) seen: Seen,
    /// Rows of conditional tables.
    pub(super) serial: BTreeMap<Place, BTreeMap<Vec<u8>, Bytes>>,
    now: Duration,
    busy_until: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    replicas: [Replica; REPLICAS],
    writes: BTreeMap<u64, (usize, Answer<Result<(), StoreError>>)>,
    reads: BTreeMap<u64, Read>,
}

/// A read under way: what has come of it so far, and from whom.
struct Read {
    place: Place,
    found: Vec<(usize, Partition)>,
    wanted: usize,
    line: usize,
    answer: Answer<Partition>,
}

impl Cluster {
    pub(super) fn new(rng: &Rng, apart: Duration) -> Self {
        let replica = |_| Replica { ahead: rng.jitter(apart), ..Replica::default() };
        Self {
            store_id: rng.bytes(),
            weather: Weather::fair(),
            lines: BTreeMap::new(),
            seen: Seen::default(),
            serial: BTreeMap::new(),
            now: Duration::ZERO,
            busy_until: Duration::ZERO,
            events: BTreeMap::new(),
            number: 0,
            replicas: [0, 1, 2].map(replica),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            rng: rng.clone(),
        }
    }

    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(next) = self.events.first_entry().filter(|next| next.key().0 <= now) {
            self.now = self.now.max(next.key().0);
            let event = next.remove();
            event(self);
        }
        self.now = now;
    }

    pub(super) fn stand_still(&mut self, replica: usize, time: Duration) {
        let until = self.now + time;
        let still_until = &mut self.replicas[replica % REPLICAS].still_until;
        *still_until = until.max(*still_until);
    }

    pub(super) fn percent(&self, of_a_hundred: u64) -> bool {
        of_a_hundred > 0 && self.rng.below(100) < of_a_hundred
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn at(&mut self, time: Duration, event: Event) {
        let number = self.next_number();
        self.events.insert((time, number), event);
    }

    /// How long something is on its way; `None` if it is lost.
    fn takes(&self, way: Way) -> Option<Duration> {
        if self.percent(way.lost) {
            return None;
        }
        Some(self.rng.jitter(if self.percent(way.late) { way.late_by } else { way.slow }))
    }

    /// Something is on its way, and happens where it arrives.
    fn send(&mut self, way: Way, event: impl FnOnce(&mut Self) + Send + 'static) {
        if let Some(takes) = self.takes(way) {
            self.at(self.now + takes, Box::new(event));
        }
    }

    /// As before; what reaches a replica that stands still waits.
    fn send_to(&mut self, replica: usize, way: Way, event: impl FnOnce(&mut Self) + Send + 'static) {
        self.send(way, move |cluster| cluster.arrived(replica, Box::new(event)));
    }

    fn arrived(&mut self, replica: usize, event: Event) {
        let still_until = self.replicas[replica].still_until;
        if still_until > self.now {
            self.at(still_until, Box::new(move |cluster| cluster.arrived(replica, event)));
        } else {
            event(self);
        }
    }

    fn line(&self, line: usize) -> Way {
        self.lines.get(&line).copied().unwrap_or_default()
    }

    /// A request goes to a coordinator, by chance.
    pub(super) fn request(&mut self, line: usize, event: impl FnOnce(&mut Self, usize) + Send + 'static) {
        let via = self.any_replica();
        self.send_to(via, self.line(line), move |cluster| {
            cluster.work(Box::new(move |cluster| event(cluster, via)));
        });
    }

    /// A request is done after those that came before it.
    fn work(&mut self, event: Event) {
        if self.weather.work.is_zero() {
            return event(self);
        }
        self.busy_until = self.busy_until.max(self.now) + self.weather.work;
        self.at(self.busy_until, event);
    }

    /// An answer goes back.
    pub(super) fn answer<T: Send + 'static>(&mut self, line: usize, to: Answer<T>, what: T) {
        self.send(self.line(line), move |_| {
            let _gave_up = to.send(what);
        });
    }

    fn any_replica(&self) -> usize {
        usize::try_from(self.rng.below(REPLICAS as u64)).unwrap_or(0)
    }

    /// Whether so many are awake that something can be decided.
    pub(super) fn has_quorum(&self) -> bool {
        self.replicas.iter().filter(|replica| replica.still_until <= self.now).count() >= QUORUM
    }

    /// The time on a coordinator's clock, later each time.
    fn timestamp(&mut self, via: usize) -> i64 {
        let replica = &mut self.replicas[via];
        let clock = i64::try_from((self.now + replica.ahead).as_micros()).unwrap_or(i64::MAX);
        replica.last = clock.max(replica.last + 1);
        replica.last
    }

    /// A plain write of one partition has reached a coordinator. A row without a time of its own gets the coordinator's.
    pub(super) fn write(
        &mut self,
        (via, line): (usize, usize),
        place: &Place,
        rows: Vec<(Vec<u8>, Option<i64>, Option<Bytes>)>,
        answer: Answer<Result<(), StoreError>>,
    ) {
        if !self.has_quorum() && self.percent(50) {
            let why = "not enough replicas are alive".to_owned();
            return self.answer(line, answer, Err(StoreError::Unknown { why }));
        }
        let now = self.timestamp(via);
        let cell = |(rest, at, value): (_, Option<i64>, _)| (rest, Cell { at: at.unwrap_or(now), value });
        let rows: Arc<Vec<(Vec<u8>, Cell)>> = Arc::new(rows.into_iter().map(cell).collect());
        let (number, began) = (self.next_number(), self.now);
        self.writes.insert(number, (0, answer));
        for replica in 0..REPLICAS {
            if self.percent(self.weather.dropped) {
                self.seen.lost += 1;
                continue;
            }
            let (rows, place) = (rows.clone(), place.clone());
            self.send_to(replica, self.weather.between, move |cluster| {
                cluster.seen.late += u64::from(cluster.now > began + CQL_REQUEST);
                let there = cluster.replicas[replica].rows.entry(place).or_default();
                there.merge(rows.iter().map(|(rest, cell)| (rest, cell)));
                cluster.send_to(via, cluster.weather.between, move |cluster| cluster.written(number, line));
            });
        }
    }

    /// One more replica has it.
    fn written(&mut self, number: u64, line: usize) {
        let Some((count, _)) = self.writes.get_mut(&number) else { return };
        *count += 1;
        if *count == QUORUM
            && let Some((_, answer)) = self.writes.remove(&number)
        {
            self.answer(line, answer, Ok(()));
        }
    }

    /// A plain read has reached a coordinator, which asks replicas that are awake, as far as there are.
    pub(super) fn read(
        &mut self,
        (via, line): (usize, usize),
        place: &Place,
        slice: &Arc<Slice>,
        answer: Answer<Partition>,
    ) {
        let first = self.any_replica();
        let mut asked: Vec<usize> = (0..REPLICAS).map(|n| (first + n) % REPLICAS).collect();
        asked.sort_by_key(|replica| self.replicas[*replica].still_until > self.now);
        let (number, wanted) = (self.next_number(), self.weather.reads_from);
        self.reads.insert(number, Read { place: place.clone(), found: Vec::new(), wanted, line, answer });
        for replica in asked.into_iter().take(wanted) {
            let (place, slice) = (place.clone(), slice.clone());
            self.send_to(replica, self.weather.between, move |cluster| {
                let there = cluster.replicas[replica].rows.get(&place);
                let found = there.map(|rows| rows.part(&slice.lower, slice.upper.as_deref()));
                cluster.send_to(via, cluster.weather.between, move |cluster| {
                    cluster.found(number, replica, found.unwrap_or_default());
                });
            });
        }
    }

    /// One more replica has answered a read.
    fn found(&mut self, number: u64, replica: usize, part: Partition) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        read.found.push((replica, part));
        if read.found.len() < read.wanted {
            return;
        }
        let Some(Read { place, found, line, answer, .. }) = self.reads.remove(&number) else { return };
        let mut merged = Partition::default();
        found.iter().for_each(|(_, part)| merged.merge(&part.0));
        self.seen.unequal += u64::from(found.iter().any(|(_, part)| *part != merged));
        if self.percent(self.weather.repaired) {
            for (replica, _) in found {
                self.replicas[replica].rows.entry(place.clone()).or_default().merge(&merged.0);
            }
        }
        self.answer(line, answer, merged);
    }

    pub(super) fn at_all(&self, service: &'static str, table: &'static str) -> Rows {
        let mut merged = BTreeMap::<&Vec<u8>, Partition>::new();
        for replica in &self.replicas {
            let of_table = replica.rows.iter().filter(|((of, name, _), _)| (*of, *name) == (service, table));
            for ((_, _, partition), rows) in of_table {
                merged.entry(partition).or_default().merge(&rows.0);
            }
        }
        let whole = |partition: &[u8], rest: &[u8]| Bytes::from([partition, rest].concat());
        let rows = merged.iter().flat_map(|(partition, rows)| {
            rows.rows().map(move |(rest, value)| (whole(partition, rest), value.clone()))
        });
        rows.collect()
    }
}
