//! `sms.send`: taken once per message id, refused with a word, its results told until they are taken.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::{SmsSubmit, SmsTaken, sms_submit};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::{Db, MemoryDisk};

use crate::peer::*;
use crate::world::*;

fn refused(reason: &str) -> SmsTaken {
    SmsTaken { refused: reason.into(), retry_after_ms: 0 }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_the_same_and_sent_once_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends((0..3).map(|_| message(1, "once"))).await;
    peer.taken("a").await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    world.sends([message(1, "once")]).await;
    no_submit(&world, &mut peer).await;
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "once")]).await;
    no_submit(&world, &mut peer).await;
    world.no_result(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_stays_taken_when_its_receiver_opts_out_and_the_hour_is_used_up() {
    let setup = Setup { config: dialtone_sms::Config { per_hour: 2, ..config() }, ..Setup::default() };
    let mut world = start(setup).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "before")]).await;
    peer.taken("a").await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"STOP")).await, Status::EsmeRok);
    peer.taken("b").await;
    assert_eq!(world.send(message(2, "after")).await, refused("OPTED_OUT"));
    assert_eq!(world.send(message(1, "before")).await, SmsTaken::default(), "not both sent and refused");
}

#[tokio::test(start_paused = true)]
async fn more_than_an_hour_may_have_waits_for_the_next_hour() {
    let setup = Setup { config: dialtone_sms::Config { per_hour: 2, ..config() }, ..Setup::default() };
    let world = start(setup).await;
    world.sends([message(1, "one"), message(2, "two")]).await;
    let capped = world.send(message(3, "three")).await;
    assert_eq!(capped.refused, "SMS_BUDGET");
    assert!((1..=3_600_000).contains(&capped.retry_after_ms), "{}", capped.retry_after_ms);
    world.sends([message(2, "two")]).await;
    world.chassis.clock.sleep(Duration::from_millis(capped.retry_after_ms - 1)).await;
    assert_eq!(world.send(message(3, "three")).await.refused, "SMS_BUDGET");
    world.chassis.clock.sleep(Duration::from_millis(1)).await;
    world.sends([message(3, "three")]).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_sent_is_refused_with_a_word() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    for to in ["", "14155550101", "+0155550101", "Dialtone"] {
        let submit = SmsSubmit { to: to.into(), ..message(1, "to whom?") };
        assert_eq!(world.send(submit).await, refused("NUMBER_MALFORMED"), "{to}");
    }
    assert_eq!(world.send(message(1, &"a".repeat(1_531))).await, refused("SMS_TOO_LONG"));
    no_submit(&world, &mut peer).await;
    // Nothing was taken: the same id may come with something that can be.
    world.sends([message(1, "short")]).await;
    peer.taken("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_result_is_told_every_second_until_it_is_taken_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    world.sends([message(1, "told")]).await;
    let mut peer = world.operator().await;
    peer.taken("a").await;
    let first = world.told().await;
    let fates = (first.message_id.clone(), first.kind(), first.sent_idx, first.reply_node.as_str());
    assert_eq!(fates, (vec![1; 16], FateKind::SmsSubmitted, 1, "test"));
    assert_eq!((first.outbox.clone(), first.user.clone()), (vec![9; 16], ANNA.to_vec()));
    let began = world.chassis.clock.instant();
    for _ in 0..5 {
        assert_eq!(world.told().await, first);
    }
    let passed = (world.chassis.clock.instant() - began).as_secs();
    assert!((4..=5).contains(&passed), "{passed}");
    world.stop().await;
    let mut world = world_on(&disk).await;
    assert_eq!(world.told().await, first);
    world.take_result(&first).await;
    // One may be on its way.
    world.chassis.clock.sleep(Duration::from_secs(1)).await;
    let clock = world.chassis.clock.clone();
    while clock.timeout(Duration::from_millis(10), world.told()).await.is_ok() {}
    assert!(clock.timeout(Duration::from_secs(60), world.told()).await.is_err(), "taken is not told again");
}

#[tokio::test(start_paused = true)]
async fn what_a_process_has_left_another_takes_when_it_was_not_heard_of_for_a_minute() {
    let disk = MemoryDisk::new();
    let on_disk = || Setup { disk: disk.clone(), ..Setup::default() };
    let mut one = start_as("one", on_disk()).await;
    let mut peer = one.operator().await;
    one.sends((1..=3).map(|n| message(n, "left"))).await;
    // Of one the operator has answered and nobody has heard, one is on its way, one waits.
    peer.taken("a").await;
    let told = one.told().await;
    peer.submit().await;
    let third = peer.submit().await.0;
    peer.refuse(third, Status::EsmeRthrottled).await;
    one.chassis.clock.sleep(Duration::from_millis(100)).await;
    let left = one;
    let mut other = start_as("other", on_disk()).await;
    drop((left, peer));
    let mut peer = other.operator().await;
    let clock = other.chassis.clock.clone();
    let began = clock.instant();
    tokio::select! {
        biased;
        result = other.told() => panic!("it may come back: {result:?}"),
        () = peer.idle() => unreachable!("without end"),
        () = clock.sleep(Duration::from_secs(59)) => {}
    }
    let submit = peer.taken("c").await;
    assert_eq!(submit.short_message().as_ref(), b"left");
    let passed = (clock.instant() - began).as_secs();
    assert!((59..=121).contains(&passed), "{passed}");
    let mut results = Vec::new();
    while results.len() < 3 {
        let result = other.told().await;
        assert_eq!(result.reply_node, "other", "who is to hear that it was taken");
        other.take_result(&result).await;
        if !results.contains(&(result.message_id[0], result.kind())) {
            results.push((result.message_id[0], result.kind()));
        }
    }
    results.sort_unstable_by_key(|(n, _)| *n);
    assert_eq!(told.message_id[0], 1);
    let kinds = [FateKind::SmsSubmitted, FateKind::SmsUnknown, FateKind::SmsSubmitted];
    assert_eq!(results.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(), kinds);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_what_became_of_a_code() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    let code = SmsSubmit { kind: sms_submit::Kind::Code.into(), ..message(1, "Dialtone code: 595413.") };
    world.sends([code]).await;
    let submit = peer.taken("a").await;
    world.pass(&mut peer, Duration::from_secs(1)).await;
    assert_eq!(peer.delivered(receipt("id:a stat:DELIVRD")).await, Status::EsmeRok);
    assert_eq!(submit.short_message().as_ref(), b"Dialtone code: 595413.");
    world.no_result(&mut peer).await;
}

/// What is on disk of an SMS so long after it was taken.
async fn rows_after(age: Duration) -> Vec<Vec<u8>> {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "dinner at eight?")]).await;
    peer.taken("a").await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    tokio::time::advance(age).await;
    world.chassis.clock.sleep(Duration::from_secs(60)).await;
    // The process is stopped: its disk is read.
    world.stop().await;
    let db = Db::open_memory(&disk, dialtone_sms::SCHEMA, &Chassis::for_tests(9)).expect("opens");
    let mut rows = Vec::new();
    for table in ["sms_taken", "dlr_map"] {
        rows.extend(db.walk(table, &[], usize::MAX).await.expect("read"));
    }
    rows.into_iter().map(|(_, value)| value.to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn that_it_was_taken_is_known_for_40_days_and_what_it_said_only_until_the_operator_has_it() {
    let day = Duration::from_secs(24 * 3_600);
    let says = |row: &[u8], what: &str| row.windows(what.len()).any(|octets| octets == what.as_bytes());
    let rows = rows_after(39 * day).await;
    assert_eq!(rows.len(), 2);
    for row in rows {
        for what in ["dinner at eight?", STRANGER, "+14155550101"] {
            assert!(!says(&row, what), "{what}");
        }
    }
    assert!(rows_after(41 * day).await.is_empty());
}
