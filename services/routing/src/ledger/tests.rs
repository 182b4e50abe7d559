use dialtone_proto::log::v1::{DataRoute, Decision, OutboxMessage, SmsRefinement, SmsRoute, Withdraw};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::MemoryDisk;
use dialtone_vocab::UserId;

use super::*;

const BEN: UserId = UserId::new([2; 16]);

fn data() -> Kind {
    let route = Route::Data(DataRoute { receiver: BEN.to_vec(), ..Default::default() });
    Kind::Message(OutboxMessage { route: Some(route), ..Default::default() })
}

fn sms() -> Kind {
    let route = Route::Sms(SmsRoute { number: "+14155550199".into() });
    Kind::Message(OutboxMessage { route: Some(route), ..Default::default() })
}

fn withdraw(of: u64) -> Kind {
    Kind::Withdraw(Withdraw { of, receiver: BEN.to_vec(), ..Default::default() })
}

fn decided(of: u64, kind: decision::Kind) -> Kind {
    Kind::Decision(Decision { of, kind: kind.into(), ..Default::default() })
}

fn reported(of: u64) -> Kind {
    Kind::Sms(SmsRefinement { of, kind: FateKind::SmsDelivered.into(), ..Default::default() })
}

/// The entries from index `first` on; how far Ben's answers are settled and delivered.
fn counted(first: u64, entries: Vec<Kind>, settled: u64, delivered: u64) -> Ledger {
    let mut count = Count::default();
    for (entry, idx) in entries.into_iter().zip(first..) {
        count.add(idx, OutboxEntry { entry: Some(entry) });
    }
    let marks = [("settled/", settled), ("delivered/", delivered)];
    let marks = marks.map(|(name, value)| (dialtone_log::mark_name(name, BEN.as_bytes()), value));
    count.finish(&marks.into_iter().collect())
}

#[test]
fn every_message_is_in_one_class() {
    use decision::Kind::{Failed, Revoked, SmsClaimed};
    let entries = vec![
        data(),                 // 1 delivered by watermark
        data(),                 // 2 claimed: its entry counts before the watermark
        sms(),                  // 3 by its route
        decided(2, SmsClaimed), // 4
        data(),                 // 5 kept
        data(),                 // 6 withdrawn too late: delivered
        data(),                 // 7 revoked
        withdraw(6),            // 8
        withdraw(7),            // 9
        decided(7, Revoked),    // 10
        data(),                 // 11 failed
        decided(11, Failed),    // 12
        reported(3),            // 13
        reported(2),            // 14
        data(),                 // 15 waits
    ];
    let ledger = counted(1, entries, 11, 2);
    let expected = Ledger { accepted: 8, waiting: 1, kept: 1, delivered: 2, sms: 2, revoked: 1, failed: 1 };
    assert_eq!((ledger, ledger.difference()), (expected, 0));
}

#[test]
fn two_fates_or_none_are_a_difference() {
    use decision::Kind::{Revoked, SmsClaimed};
    let difference = |entries| counted(1, entries, 9, 0).difference();
    assert_eq!(difference(vec![data(), decided(1, Revoked), decided(1, SmsClaimed)]), -1);
    assert_eq!(difference(vec![sms(), decided(1, Revoked)]), -1);
    assert_eq!(difference(vec![data(), reported(1)]), -1, "sent as SMS, and nobody decided it");
    assert_eq!(difference(vec![Kind::Message(OutboxMessage::default())]), 1, "no way at all");
    assert_eq!(difference(vec![data(), decided(7, Revoked)]), -1, "about nothing");
}

#[test]
fn what_is_said_about_messages_past_their_time_does_not_count() {
    let entries = vec![decided(3, decision::Kind::Revoked), reported(4), withdraw(5), data()];
    let ledger = counted(10, entries, 0, 0);
    assert_eq!(ledger, Ledger { accepted: 1, waiting: 1, ..Ledger::default() });
}

#[test]
fn ledgers_add_up() {
    let one = Ledger { accepted: 7, waiting: 1, kept: 1, delivered: 1, sms: 1, revoked: 1, failed: 2 };
    let mut sum = one;
    sum += one;
    assert_eq!((sum.accepted, sum.failed, sum.difference()), (14, 4, 0));
    assert_eq!(sum.classes().iter().map(|(_, count)| count).sum::<u64>(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_store_is_recounted_whole_in_steps_and_nothing_of_it_is_opened() {
    let chassis = Chassis::for_tests(1);
    let logs = open(StoreUrl::memory(&MemoryDisk::new()), None, &chassis).await.expect("opens");
    let (users, each) = (RECOUNT_LOGS as u64 + 4, 3 * PAGE as u64);
    for user in 0..users {
        let owner = UserId::new([u8::try_from(user).expect("small"); 16]);
        let mut log = logs.open(owner.as_bytes(), chassis.clock.now()).await.expect("opens").log;
        for idx in 1..=each {
            assert_eq!(log.push(1, OutboxEntry { entry: Some(data()) }.encode_to_vec()), idx);
        }
        log.mark_now(dialtone_log::mark_name("settled/", BEN.as_bytes()), user);
        while let Some(write) = log.next_write(chassis.clock.now()) {
            logs.write(&write).await.expect("written");
            log.settled(&write);
        }
    }
    let began = chassis.clock.now();
    let all = recount(&logs, &chassis).await.expect("counted");
    let kept = (0..users).sum();
    let accepted = users * each;
    assert_eq!(all, Ledger { accepted, kept, waiting: accepted - kept, ..Ledger::default() });
    assert!(chassis.clock.now().since(began) > 4 * RECOUNT_PAUSE, "not all at once");
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_cannot_be_read_does_not_hide_the_others() {
    let chassis = Chassis::for_tests(1);
    let logs = open(StoreUrl::memory(&MemoryDisk::new()), None, &chassis).await.expect("opens");
    for user in 1..=3 {
        let mut log = logs.open(&[user; 16], chassis.clock.now()).await.expect("opens").log;
        // The last write says that the ones before are settled: a row of theirs that is missing is a hole.
        for _ in 0..3 {
            log.push(1, OutboxEntry { entry: Some(data()) }.encode_to_vec());
            let write = log.next_write(chassis.clock.now()).expect("waits");
            logs.write(&write).await.expect("written");
            log.settled(&write);
        }
    }
    let broken = logs.log_id(&[2; 16]);
    let rows = logs
        .db()
        .scan_prefix(dialtone_log::LOG, &[broken.as_bytes(), &[0; 4][..]].concat(), 3)
        .await
        .expect("read");
    let hole = dialtone_store::Batch::new().delete(dialtone_log::LOG, rows[2].0.to_vec());
    let _always_applied = logs.db().commit(hole).await.expect("written");
    let all = recount(&logs, &chassis).await.expect("counted");
    assert_eq!(all, Ledger { accepted: 6, waiting: 6, ..Ledger::default() });
}
