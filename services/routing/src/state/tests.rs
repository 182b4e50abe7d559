mod event;
mod model;

use dialtone_proto::log::v1::DataRoute;
use dialtone_testkit::assert_caught;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use event::{Broken, Event, event};
use model::Model;

const DEVICE: DeviceId = DeviceId(1);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn entry(kind: Kind) -> OutboxEntry {
    OutboxEntry { entry: Some(kind) }
}

fn decided(of: u64, kind: decision::Kind) -> OutboxEntry {
    entry(Kind::Decision(Decision { of, kind: kind.into(), ..Default::default() }))
}

fn data(seq: u64, receiver: UserId) -> OutboxMessage {
    let route = Route::Data(DataRoute { receiver: receiver.to_vec(), ..Default::default() });
    OutboxMessage { device: DEVICE.0, client_seq: seq, route: Some(route), ..Default::default() }
}

#[test]
fn of_several_decisions_the_first_in_log_order_wins() {
    let mut outbox = Outbox::default();
    outbox.restore(1, &entry(Kind::Message(data(1, user(2)))));
    for (idx, kind) in [(2, decision::Kind::Revoked), (3, decision::Kind::SmsClaimed)] {
        outbox.pushed(idx, &decided(1, kind));
    }
    outbox.settle(2, &decided(1, decision::Kind::Revoked));
    outbox.settle(3, &decided(1, decision::Kind::SmsClaimed));
    assert!(matches!(outbox.sent[&1].decision, Some((decision::Kind::Revoked, _, true))));
    assert!(!outbox.sent[&1].is_sms(), "the second one is not carried out");
    for why in [withdraw::Why::Revoke, withdraw::Why::Fallback] {
        let withdraw = Withdraw { of: 1, why: why.into(), receiver: user(2).to_vec() };
        outbox.pushed(4, &entry(Kind::Withdraw(withdraw)));
    }
    assert_eq!(outbox.sent[&1].withdraw, Some((4, withdraw::Why::Revoke)));
}

#[test]
fn an_answer_asks_for_what_the_table_says() {
    use decision::Kind::{Failed, Revoked};
    use withdraw::Why::{Fallback, Revoke};
    let decide = |kind, why: &str| Verdict::Decide(kind, why.to_owned());
    for (answer, why, sms, withdrawn, expected) in [
        (Answer::Kept, "", true, None, Verdict::Done),
        (Answer::Delivered, "", true, Some(Fallback), Verdict::Done),
        (Answer::NumberMoved, "", true, None, decide(Failed, "NUMBER_MOVED")),
        (Answer::Declined, "NOT_ATTACHED", true, None, Verdict::Claim),
        (Answer::Declined, "MAILBOX_FULL", true, None, Verdict::Claim),
        (Answer::Declined, "MAILBOX_FULL", false, None, decide(Failed, "MAILBOX_FULL")),
        (Answer::Declined, "NOT_ATTACHED", true, Some(Revoke), decide(Revoked, "")),
        (Answer::Withdrawn, "", true, Some(Fallback), Verdict::Claim),
        (Answer::Withdrawn, "", true, Some(Revoke), decide(Revoked, "")),
    ] {
        let mut outbox = Outbox::default();
        let message = OutboxMessage { sms_if_offline: sms, ..data(1, user(2)) };
        outbox.restore(1, &entry(Kind::Message(message)));
        if let Some(why) = withdrawn {
            let withdraw = Withdraw { of: 1, why: why.into(), receiver: user(2).to_vec() };
            outbox.restore(2, &entry(Kind::Withdraw(withdraw)));
        }
        let position = if matches!(answer, Answer::Withdrawn | Answer::Delivered) { 2 } else { 1 };
        assert_eq!(outbox.answered(position, answer, why), expected, "{answer:?} {sms} {withdrawn:?}");
        outbox.pushed(3, &decided(1, Failed));
        assert_eq!(outbox.answered(position, answer, why), Verdict::Decided, "decided once");
    }
}

#[test]
fn what_is_taken_back_stays_in_memory_until_that_is_answered() {
    let mut outbox = Outbox::default();
    let last = FINISHED as u64 + 10;
    for idx in 1..=last {
        outbox.restore(idx, &entry(Kind::Message(data(idx, user(2)))));
        assert_eq!(outbox.answered(idx, Answer::Kept, ""), Verdict::Done);
        outbox.done(user(2), idx);
    }
    let withdraw = Withdraw { of: 5, receiver: user(2).to_vec(), ..Default::default() };
    outbox.restore(last + 1, &entry(Kind::Withdraw(withdraw)));
    assert_eq!(outbox.floor(), 5);
    assert!(!outbox.sent.contains_key(&4) && outbox.sent.contains_key(&5));
    assert_eq!(outbox.message_at(last + 1), 5);
    outbox.answered(last + 1, Answer::Delivered, "");
    assert_eq!(outbox.floor(), 5, "answered, and not settled");
    outbox.done(user(2), last + 1);
    assert_eq!((outbox.floor(), outbox.sent.len()), (last + 1, FINISHED));
}

#[test]
fn watermarks_only_grow_and_say_nothing_about_what_is_taken_back() {
    let mut outbox = Outbox::default();
    for idx in 1..=3 {
        outbox.restore(idx, &entry(Kind::Message(data(idx, user(2)))));
    }
    let withdraw = Withdraw { of: 1, receiver: user(2).to_vec(), ..Default::default() };
    outbox.pushed(4, &entry(Kind::Withdraw(withdraw)));
    outbox.pushed(5, &decided(2, decision::Kind::Revoked));
    assert!(outbox.watermark(user(2), 3, 9), "news");
    assert_eq!(outbox.watermarks[&user(2)], Watermark { delivered: 3, read: 3 }, "read is delivered");
    assert!(!outbox.watermark(user(2), 2, 1));
    assert_eq!(outbox.watermarks[&user(2)], Watermark { delivered: 3, read: 3 });
    assert_eq!([1, 2, 3].map(|idx| outbox.is_delivered(idx)), [false, false, true]);
    outbox.answered(4, Answer::Delivered, "");
    assert!(outbox.is_delivered(1), "the answer to its withdraw says so");
}

/// A whole episode.
fn play(events: Vec<Event>, broken: Option<Broken>) -> TestCaseResult {
    let mut model = Model::new(broken);
    events.into_iter().for_each(|event| model.happens(event));
    prop_assert_eq!(model.ledger().difference(), 0);
    model.clears();
    prop_assert!(model.outbox.is_level(), "nothing is left to do");
    prop_assert_eq!(model.ledger(), model.fates());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_ends_as_one_fate_whatever_happens(events in vec(event(), 1..150)) {
        play(events, None)?;
    }
}

#[test]
fn a_decision_without_an_entry_is_caught() {
    assert_caught(&vec(event(), 1..150), |events| play(events, Some(Broken::DecidedWithoutEntry)));
}

#[test]
fn two_withdrawals_of_one_message_are_caught() {
    assert_caught(&vec(event(), 1..150), |events| play(events, Some(Broken::WithdrawnAgain)));
}

#[test]
fn an_sms_before_its_claim_is_settled_is_caught() {
    assert_caught(&vec(event(), 1..150), |events| play(events, Some(Broken::SmsBeforeClaim)));
}
