//! SMS from phones: whose they are, and when they are answered.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_sms::limits::{MO_PARTS, MO_PARTS_OF_ONE};
use dialtone_store::{Db, MemoryDisk};
use rusmpp::values::DataCoding;

use crate::peer::*;
use crate::world::*;

const SOMEBODY: &str = "+14155550188";
/// How long a slow disk takes.
const SLOW: Duration = Duration::from_secs(1);

/// A world in which Anna has written to the stranger, who can reply.
async fn conversation(disk: &MemoryDisk) -> (World, Peer) {
    let mut world = world_on(disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "dinner?")]).await;
    let submit = peer.taken("a").await;
    assert_eq!(submit.source_addr.as_str(), &POOL[0][1..]);
    (world, peer)
}

fn shown(text: &str) -> Vec<(dialtone_vocab::UserId, String, String)> {
    vec![(ANNA, STRANGER.to_owned(), text.to_owned())]
}

#[tokio::test(start_paused = true)]
async fn an_open_registration_goes_before_a_keyword_and_a_conversation() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    world.identity.claim(STRANGER);
    for text in [&b"STOP"[..], b"DT 648VP3PSBEPPDKZYYD7Q", b"yes"] {
        assert_eq!(peer.delivered(mo(STRANGER, POOL[0], text)).await, Status::EsmeRok);
    }
    world.no_offer(&mut peer).await;
    world.sends([message(2, "not stopped")]).await;
    assert_eq!(peer.taken("b").await.short_message().as_ref(), b"not stopped");
}

#[tokio::test(start_paused = true)]
async fn a_keyword_goes_before_a_conversation_and_only_alone() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    for (text, answer) in
        [("HELP", "Somebody"), (" stop\n", "You will get no"), ("Start", "You will get mess")]
    {
        assert_eq!(peer.delivered(mo(STRANGER, POOL[1], text.as_bytes())).await, Status::EsmeRok);
        let submit = peer.taken("k").await;
        assert_eq!(submit.source_addr.as_str(), &POOL[1][1..], "it can be answered");
        assert!(submit.short_message().as_ref().starts_with(answer.as_bytes()), "{text}");
        assert_eq!(submit.destination_addr.as_str(), &STRANGER[1..]);
    }
    world.no_offer(&mut peer).await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"stop by at eight")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("stop by at eight"));
}

#[tokio::test(start_paused = true)]
async fn a_keyword_to_a_number_that_is_not_ours_is_answered_by_name() {
    let (_world, mut peer) = conversation(&MemoryDisk::new()).await;
    assert_eq!(peer.delivered(mo(STRANGER, "+18005559999", b"HELP")).await, Status::EsmeRok);
    assert_eq!(peer.taken("k").await.source_addr.as_str(), "Dialtone");
}

#[tokio::test(start_paused = true)]
async fn a_keyword_over_the_hours_budget_is_obeyed_and_not_answered() {
    let setup = Setup { config: dialtone_sms::Config { per_hour: 1, ..config() }, ..Setup::default() };
    let mut world = start(setup).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "dinner?")]).await;
    peer.taken("a").await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"STOP")).await, Status::EsmeRok);
    assert_eq!(world.send(message(2, "hello?")).await.refused, "OPTED_OUT");
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"START")).await, Status::EsmeRok);
    assert_eq!(world.send(message(2, "hello?")).await.refused, "SMS_BUDGET", "no longer opted out");
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn stop_holds_for_everybody_over_a_restart_until_start() {
    let disk = MemoryDisk::new();
    let (world, mut peer) = conversation(&disk).await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"STOP")).await, Status::EsmeRok);
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    for user in [ANNA, BEN] {
        assert_eq!(world.send(by(user, message(2, "hello?"))).await.refused, "OPTED_OUT");
    }
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"START")).await, Status::EsmeRok);
    world.sends([message(2, "hello!")]).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_claims_is_answered_and_dropped() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    // From somebody else, at another service number, at none, from no number.
    for (from, to) in
        [(SOMEBODY, POOL[0]), (STRANGER, POOL[1]), (STRANGER, "+18005559999"), ("Bank", POOL[0])]
    {
        assert_eq!(peer.delivered(mo(from, to, b"hello?")).await, Status::EsmeRok, "{from} to {to}");
    }
    world.no_offer(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn while_identity_can_not_be_asked_the_operator_keeps_it() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    world.identity.set_away(true);
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"STOP")).await, Status::EsmeRxTAppn);
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"yes")).await, Status::EsmeRxTAppn);
    world.identity.set_away(false);
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"yes")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("yes"));
    world.no_offer(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn each_of_too_many_at_once_is_answered_that_it_is_too_early() {
    let (world, mut peer) = conversation(&MemoryDisk::new()).await;
    // Every claim takes as long as it may: more wait than there is room for, of delivers and of answers.
    world.identity.set_away(true);
    let mut sequences = Vec::new();
    for _ in 0..400 {
        sequences.push(peer.ask(mo(STRANGER, POOL[0], b"yes")).await);
    }
    for sequence in sequences {
        assert_eq!(peer.answer_to_deliver(sequence).await, Status::EsmeRxTAppn, "{sequence}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_answered_when_its_entry_is_settled_and_a_crash_before_makes_one_message() {
    let disk = MemoryDisk::with_delay(SLOW..=SLOW);
    let (crashed, mut peer) = conversation(&disk).await;
    let clock = crashed.chassis.clock.clone();
    // Anna's number is written by now, and nothing else is under way.
    crashed.pass(&mut peer, Duration::from_secs(60)).await;
    let sequence = peer.ask(mo(STRANGER, POOL[0], b"yes")).await;
    let moment = Duration::from_millis(1);
    assert!(clock.timeout(moment, peer.answer_to_deliver(sequence)).await.is_err(), "not yet");
    // Another process opens the disk before the write is done, which it then never is.
    let mut world = world_on(&disk).await;
    let mut again = world.operator().await;
    assert!(clock.timeout(Duration::from_secs(20), peer.answer_to_deliver(sequence)).await.is_err(), "never");
    let began = clock.instant();
    assert_eq!(again.delivered(mo(STRANGER, POOL[0], b"yes")).await, Status::EsmeRok);
    assert!(clock.instant() - began >= SLOW, "when it is on disk");
    assert_eq!(world.offered().await, shown("yes"));
    world.no_offer(&mut again).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_replies_that_are_being_written_and_they_are_not_delivered_again() {
    let slow = Duration::from_millis(60);
    let disk = MemoryDisk::with_delay(slow..=slow);
    let (stopped, mut peer) = conversation(&disk).await;
    stopped.pass(&mut peer, Duration::from_secs(60)).await;
    // One is being written at the stop; the other waits for the next write.
    let written = peer.ask(mo(STRANGER, POOL[0], b"yes")).await;
    stopped.chassis.clock.sleep(Duration::from_millis(10)).await;
    let waits = peer.ask(mo(STRANGER, POOL[0], b"at eight")).await;
    stopped.chassis.clock.sleep(Duration::from_millis(10)).await;
    let answers = async { [peer.answer_to_deliver(written).await, peer.answer_to_deliver(waits).await] };
    let ((), answers) = tokio::join!(stopped.stop(), answers);
    assert_eq!(answers, [Status::EsmeRok; 2]);
    let mut world = world_on(&disk).await;
    let replies = [shown("yes"), shown("at eight")].concat();
    assert_eq!(world.offered().await, replies);
}

#[tokio::test(start_paused = true)]
async fn it_is_offered_until_the_inbox_has_it_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let (mut world, mut peer) = conversation(&disk).await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"yes")).await, Status::EsmeRok);
    let first = world.offer().await;
    assert_eq!(world.offer().await.entries, first.entries, "nobody answered");
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    let again = world.offer().await;
    assert_eq!((&again.source, &again.entries), (&first.source, &first.entries));
    world.keep(&again).await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"no")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("no"));
    world.no_offer(&mut peer).await;
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.no_offer(&mut peer).await;
}

/// How many inboxes of this process lost something so far.
fn receivers_lost() -> f64 {
    let families = telemetry().registry.gather();
    let family = families.iter().find(|family| family.name() == "dialtone_sms_receiver_lost_total");
    family.map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_lost_what_it_had_taken_is_counted_and_gets_it_again_and_nobody_elses() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    world.sends([by(BEN, message(2, "your parcel"))]).await;
    peer.taken("b").await;
    for (to, text) in [(POOL[0], "yes"), (POOL[1], "for Ben"), (POOL[0], "at eight")] {
        assert_eq!(peer.delivered(mo(STRANGER, to, text.as_bytes())).await, Status::EsmeRok);
        world.offered().await;
    }
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"or nine")).await, Status::EsmeRok);
    // Anna's inbox had taken entries 1 and 3 of the log.
    let offer = world.offer().await;
    assert_eq!((offer.prev, offer.entries.len()), (3, 1));
    world.expects(&offer, 1).await;
    let again = world.offer().await;
    assert_eq!((again.prev, again.settled), (1, 1));
    world.keep(&again).await;
    let positions: Vec<_> = again.entries.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [3, 4], "hers, in order");
    // No other test of this process has such an inbox.
    assert!((receivers_lost() - 1.0).abs() < 0.1);
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"ten?")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("ten?"), "it goes on");
    world.no_offer(&mut peer).await;
}

fn octets(units: &[u16]) -> Vec<u8> {
    units.iter().flat_map(|unit| unit.to_be_bytes()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_text_in_parts_is_one_message_whatever_their_order_and_wherever_they_are_cut() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    let text: Vec<u16> = "eight 😀 then".encode_utf16().collect();
    // Cut within the emoji, as some phones do; with an 8-bit reference and with a 16-bit one.
    let (first, second) = (octets(&text[..7]), octets(&text[7..]));
    let headers: [[&[u8]; 2]; 2] =
        [[&[5, 0, 3, 7, 2, 1], &[5, 0, 3, 7, 2, 2]], [&[6, 8, 4, 1, 7, 2, 1], &[6, 8, 4, 1, 7, 2, 2]]];
    for [one, two] in headers {
        let later = peer.ask(mo_part(STRANGER, POOL[0], two, &second)).await;
        let clock = world.chassis.clock.clone();
        let early = clock.timeout(Duration::from_secs(10), peer.answer_to_deliver(later)).await;
        assert!(early.is_err(), "a part alone is not settled");
        assert_eq!(peer.delivered(mo_part(STRANGER, POOL[0], one, &first)).await, Status::EsmeRok);
        assert_eq!(peer.answer_to_deliver(later).await, Status::EsmeRok);
        assert_eq!(world.offered().await, shown("eight 😀 then"));
    }
    world.no_offer(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn parts_of_different_texts_are_never_put_together() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    let part = |from, to, header: &[u8], text: &str| {
        mo_part(from, to, header, &octets(&text.encode_utf16().collect::<Vec<_>>()))
    };
    // Another sender, service number, reference or total is another text.
    for (from, to, header) in [
        (SOMEBODY, POOL[0], [5, 0, 3, 7, 2, 2]),
        (STRANGER, POOL[1], [5, 0, 3, 7, 2, 2]),
        (STRANGER, POOL[0], [5, 0, 3, 8, 2, 2]),
        (STRANGER, POOL[0], [5, 0, 3, 7, 3, 2]),
        (STRANGER, POOL[0], [5, 0, 3, 7, 3, 1]),
    ] {
        peer.ask(part(from, to, &header, "foreign")).await;
    }
    let waits = peer.ask(part(STRANGER, POOL[0], &[5, 0, 3, 7, 2, 1], "one ")).await;
    // A repetition is no orphan: both are answered when the text is whole.
    let again = peer.ask(part(STRANGER, POOL[0], &[5, 0, 3, 7, 2, 1], "one ")).await;
    let last = part(STRANGER, POOL[0], &[5, 0, 3, 7, 2, 2], "text");
    assert_eq!(peer.delivered(last).await, Status::EsmeRok);
    assert_eq!(peer.answer_to_deliver(waits).await, Status::EsmeRok);
    assert_eq!(peer.answer_to_deliver(again).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("one text"));
}

#[tokio::test(start_paused = true)]
async fn parts_whose_others_do_not_come_go_back_to_the_operator_after_a_minute() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    let part =
        |place: u8| mo_part(STRANGER, POOL[0], &[5, 0, 3, 7, 3, place], &octets(&[u16::from(b'a'); 3]));
    let began = world.chassis.clock.instant();
    let first = peer.ask(part(1)).await;
    world.pass(&mut peer, Duration::from_secs(50)).await;
    let second = peer.ask(part(2)).await;
    assert_eq!(peer.answer_to_deliver(first).await, Status::EsmeRxTAppn);
    assert_eq!(peer.answer_to_deliver(second).await, Status::EsmeRxTAppn);
    let passed = (world.chassis.clock.instant() - began).as_secs();
    assert!((110..=111).contains(&passed), "a minute after the last that came: {passed}");
    // Nothing is left of them: all three must come.
    let late = peer.ask(part(3)).await;
    let clock = world.chassis.clock.clone();
    assert!(clock.timeout(Duration::from_secs(10), peer.answer_to_deliver(late)).await.is_err());
    peer.ask(part(1)).await;
    assert_eq!(peer.delivered(part(2)).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("aaaaaaaaa"));
}

#[tokio::test(start_paused = true)]
async fn more_texts_than_may_wait_for_parts_are_kept_by_the_operator() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    let part = |from: &str, reference: u8, place| {
        mo_part(from, POOL[0], &[5, 0, 3, reference, 2, place], &octets(&[u16::from(b'a')]))
    };
    let of_one = u8::try_from(MO_PARTS_OF_ONE).expect("few");
    for reference in 0..of_one {
        peer.ask(part(STRANGER, reference, 1)).await;
    }
    assert_eq!(peer.delivered(part(STRANGER, of_one, 1)).await, Status::EsmeRxTAppn, "one has not all");
    for n in MO_PARTS_OF_ONE..MO_PARTS {
        peer.ask(part(&format!("+1415556{n:04}"), 0, 1)).await;
        world.chassis.clock.sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(peer.delivered(part(SOMEBODY, 0, 1)).await, Status::EsmeRxTAppn);
    assert_eq!(
        peer.delivered(part(STRANGER, 0, 2)).await,
        Status::EsmeRok,
        "those that wait can still become whole"
    );
    assert_eq!(
        peer.delivered(mo(STRANGER, POOL[0], b"one")).await,
        Status::EsmeRok,
        "and others need not wait"
    );
    assert_eq!(world.offered().await, shown("aa"));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_more_than_ten_is_refused_for_good() {
    let (_world, mut peer) = conversation(&MemoryDisk::new()).await;
    for total in [11, 255] {
        let part = mo_part(STRANGER, POOL[0], &[5, 0, 3, 7, total, 1], &octets(&[u16::from(b'a')]));
        assert_eq!(peer.delivered(part).await, Status::EsmeRxPAppn);
    }
}

#[tokio::test(start_paused = true)]
async fn latin_1_is_read_as_such() {
    let (mut world, mut peer) = conversation(&MemoryDisk::new()).await;
    let mut deliver = mo(STRANGER, POOL[0], &[b'@', 0xe9]);
    deliver.data_coding = DataCoding::Latin1;
    assert_eq!(peer.delivered(deliver).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("@é"));
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], &[0, 0x05])).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("@é"), "the same in the default alphabet");
}

/// Entries of the inbound log so long after a reply.
async fn entries_after(age: Duration) -> usize {
    let disk = MemoryDisk::new();
    let (mut world, mut peer) = conversation(&disk).await;
    assert_eq!(peer.delivered(mo(STRANGER, POOL[0], b"yes")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, shown("yes"));
    tokio::time::advance(age).await;
    world.chassis.clock.sleep(Duration::from_secs(120)).await;
    // The process is stopped: its disk is read.
    world.stop().await;
    let db = Db::open_memory(&disk, dialtone_sms::SCHEMA, &Chassis::for_tests(9)).expect("opens");
    let rows = db.walk(dialtone_log::LOG, &[], usize::MAX).await.expect("read");
    // The tail stays: an index is never used twice.
    rows.len() - 1
}

#[tokio::test(start_paused = true)]
async fn the_inbound_log_keeps_for_31_days_what_came() {
    let day = Duration::from_secs(24 * 3_600);
    assert_eq!(entries_after(30 * day).await, 1);
    assert_eq!(entries_after(32 * day).await, 0);
}
