use proptest::prelude::*;

use super::*;
use crate::limits::{BUCKET, KEEP};

const NOW: UnixMillis = UnixMillis(1_000_000);

fn log_at(tail: u64) -> Log {
    let bucket = (tail > 0).then(|| bucket_of(tail));
    let end = End { tail, bucket, keep_until: UnixMillis(0) };
    Log::new(LogId::new([1; 16]), [2; 16], (Epoch(3), 4), KEEP, end)
}

fn indexes(write: &Write) -> Vec<u64> {
    write.entries().map(|entry| entry.idx).collect()
}

fn next(log: &mut Log) -> Write {
    log.next_write(NOW).expect("something waits")
}

#[test]
fn one_write_at_a_time_and_what_arrives_goes_into_the_next() {
    let mut log = log_at(0);
    assert!(log.next_write(NOW).is_none(), "nothing waits");
    assert_eq!((log.push(0, "a"), log.push(0, "b")), (1, 2));
    let first = next(&mut log);
    assert_eq!(log.push(0, "c"), 3);
    assert!(log.next_write(NOW).is_none(), "one is under way");
    assert_eq!((log.tail(), log.last()), (0, 3));
    let settled = log.settled(&first);
    assert_eq!(settled.entries.iter().map(|entry| &entry.content[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(log.tail(), 2);
    assert_eq!(log.settled(&first), Settled::default(), "once");
    let second = next(&mut log);
    assert_eq!(indexes(&second), [3]);
    assert_eq!(log.settled(&first), Settled::default(), "an old answer settles nothing");
    assert_eq!((log.settled(&second).entries.len(), log.is_idle()), (1, true));
}

#[test]
fn a_write_stays_in_its_bucket_and_says_when_it_begins_one() {
    let mut log = log_at(BUCKET - 2);
    assert_eq!((0..70).map(|_| log.push(0, "x")).last(), Some(BUCKET + 68));
    let end = next(&mut log);
    assert_eq!((indexes(&end), end.0.begins), (vec![511, 512], None));
    log.settled(&end);
    let begin = next(&mut log);
    assert_eq!((begin.0.rows.len(), begin.0.begins), (64, Some(1)));
    log.settled(&begin);
    assert_eq!(next(&mut log).0.begins, None);
}

#[test]
fn bytes_end_a_write_too_but_never_below_one_entry() {
    let mut log = log_at(0);
    assert_eq!((0..3).map(|_| log.push(0, vec![0; WRITE_BYTES])).last(), Some(3));
    for idx in 1..=3 {
        let write = next(&mut log);
        assert_eq!(indexes(&write), [idx]);
        log.settled(&write);
    }
}

#[test]
fn the_time_to_keep_never_goes_down() {
    let mut log = log_at(0);
    let mut last = UnixMillis(0);
    for now in [NOW, UnixMillis(5), UnixMillis(NOW.0 + 1)] {
        log.push(0, "x");
        let write = log.next_write(now).expect("waits");
        assert!(write.0.rows[0].keep_until >= last);
        last = write.0.rows[0].keep_until;
        log.settled(&write);
    }
    assert_eq!(last, NOW.plus(KEEP).plus(Duration::from_millis(1)));
}

#[test]
fn lazy_marks_wait_for_a_reason_and_urgent_ones_make_a_write() {
    let mut log = log_at(1);
    log.mark("taken/a", 5);
    log.mark("taken/a", 4);
    assert!(log.next_write(NOW).is_none(), "no reason alone");
    log.push(0, "x");
    let write = next(&mut log);
    assert_eq!(write.0.marks, vec![]);
    log.settled(&write);
    log.mark_now("ack/1", 9);
    let write = next(&mut log);
    let marks = vec![(b"ack/1".to_vec(), 9), (b"taken/a".to_vec(), 5)];
    assert_eq!((indexes(&write), &write.0.marks), (vec![], &marks));
    assert_eq!(log.settled(&write).marks, marks);
    log.flush_marks();
    assert!(log.is_idle(), "nothing to flush");
    log.mark("taken/a", 6);
    log.flush_marks();
    assert_eq!(next(&mut log).0.marks, vec![(b"taken/a".to_vec(), 6)]);
}

#[test]
fn due_rows_go_with_the_write_that_takes_their_entry() {
    let mut log = log_at(0);
    let due = Due { at: NOW, idx: log.push(0, "x"), kind: 1 };
    log.due(due);
    let write = next(&mut log);
    assert_eq!(write.0.due.iter().map(|row| row.due).collect::<Vec<_>>(), [due]);
    log.settled(&write);
    log.due_done(due);
    let write = next(&mut log);
    assert_eq!((write.0.done.len(), indexes(&write).len()), (1, 0));
}

#[derive(Debug, Clone)]
enum Op {
    Push(u8),
    Mark(u8, u64),
    MarkNow(u8, u64),
    Write,
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1..100_u8).prop_map(Op::Push),
        2 => (0..4_u8, 0..99_u64).prop_map(|(name, value)| Op::Mark(name, value)),
        1 => (4..6_u8, 0..99_u64).prop_map(|(name, value)| Op::MarkNow(name, value)),
        4 => Just(Op::Write),
        4 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn indexes_have_no_gap_and_marks_are_there_before_the_next_bucket(
        ops in proptest::collection::vec(op(), 1..200), tail in 0..2_000_u64,
    ) {
        let mut log = log_at(tail);
        let mut under_way: Option<Write> = None;
        let mut given = tail;
        let mut written = tail;
        let mut wanted: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut disk: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Push(count) => {
                    for _ in 0..count {
                        given += 1;
                        prop_assert_eq!(log.push(0, "x"), given);
                    }
                }
                Op::Mark(name, value) | Op::MarkNow(name, value) => {
                    if name >= 4 { log.mark_now([name], value) } else { log.mark([name], value) }
                    let mark = wanted.entry(vec![name]).or_default();
                    *mark = value.max(*mark);
                }
                Op::Write => {
                    let write = log.next_write(NOW);
                    prop_assert!(write.is_none() || under_way.is_none());
                    let Some(write) = write else { continue };
                    let found = indexes(&write);
                    prop_assert!(found.len() <= WRITE_ENTRIES);
                    prop_assert_eq!(&found, &(written + 1..=written + found.len() as u64).collect::<Vec<_>>());
                    prop_assert!(found.iter().all(|idx| bucket_of(*idx) == bucket_of(found[0])));
                    for (name, value) in &write.0.marks {
                        let mark = disk.entry(name.clone()).or_default();
                        *mark = *value.max(mark);
                    }
                    if found.first().is_some_and(|first| (first - 1) % BUCKET == 0) {
                        prop_assert_eq!(&disk, &wanted, "all marks before the first entry of a bucket");
                        prop_assert_eq!(write.0.begins, Some(bucket_of(found[0])));
                    }
                    for name in [4, 5] {
                        prop_assert_eq!(disk.get(&vec![name]), wanted.get(&vec![name]), "urgent marks at once");
                    }
                    written += found.len() as u64;
                    under_way = Some(write);
                }
                Op::Settle => {
                    let Some(write) = under_way.take() else { continue };
                    let settled = log.settled(&write);
                    prop_assert_eq!(settled.entries.len(), write.0.rows.len());
                    prop_assert_eq!(log.tail(), written);
                }
            }
        }
    }
}
