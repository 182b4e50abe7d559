mod model;

use dialtone_proto::types::v1::Body;
use dialtone_testkit::assert_caught;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use model::{Broken, Event, Model, event};

const AROUND: Circumstances =
    Circumstances { attached: true, settling_in: false, full: false, moved: false, blocked: false };
const A: LogId = LogId::new([1; 16]);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn message(position: u64, sender: UserId, sms_if_offline: bool) -> OfferEntry {
    let body = Some(Body { content: position.to_be_bytes().to_vec().into(), ..Body::default() });
    let message = OfferedMessage { sender: sender.to_vec(), body, sms_if_offline, ..Default::default() };
    OfferEntry { position, entry: Some(offer_entry::Entry::Message(message)) }
}

fn withdraw(position: u64, of: u64) -> OfferEntry {
    OfferEntry { position, entry: Some(offer_entry::Entry::Withdraw(OfferedWithdraw { of })) }
}

fn verdict(inbox: &Inbox, offered: &OfferEntry, around: Circumstances) -> Option<Answer> {
    match inbox.decide(A, 0, offered, around) {
        Verdict::Append(_, answer) => Some(answer),
        Verdict::Wait => None,
        Verdict::LookFor(of) => panic!("{of} is known"),
    }
}

#[test]
fn a_message_is_taken_as_its_receiver_is_found() {
    let (keep, sms) = (message(1, user(9), false), message(1, user(9), true));
    let away = Circumstances { attached: false, ..AROUND };
    for (around, kept, fallback) in [
        (AROUND, Some(Answer::Kept), Some(Answer::Kept)),
        (away, Some(Answer::Kept), Some(Answer::NotAttached)),
        (Circumstances { full: true, ..AROUND }, Some(Answer::MailboxFull), Some(Answer::MailboxFull)),
        (Circumstances { moved: true, full: true, ..away }, Some(Answer::Moved), Some(Answer::Moved)),
        (
            Circumstances { blocked: true, moved: true, full: true, ..away },
            Some(Answer::Kept),
            Some(Answer::Kept),
        ),
        (Circumstances { settling_in: true, ..away }, Some(Answer::Kept), None),
        (Circumstances { settling_in: true, full: true, ..AROUND }, None, None),
    ] {
        let inbox = Inbox::default();
        assert_eq!(verdict(&inbox, &keep, around), kept, "{around:?}");
        assert_eq!(verdict(&inbox, &sms, around), fallback, "{around:?}");
    }
    let unknown = OfferEntry { position: 1, entry: None };
    assert_eq!(verdict(&Inbox::default(), &unknown, AROUND), Some(Answer::Moved));
}

#[test]
fn memory_is_bounded_and_what_left_it_counts_when_it_is_read_back() {
    let mut inbox = Inbox::default();
    let mut log = Vec::new();
    let last = CACHE as u64 + 100;
    for position in 1..=last {
        // The first 100 are of another sender, who has nothing later.
        let sender = if position <= 100 { user(8) } else { user(9) };
        let source = if position <= 100 { LogId::new([8; 16]) } else { A };
        let offered = message(position, sender, false);
        let Verdict::Append(entry, answer) = inbox.decide(source, position - 1, &offered, AROUND) else {
            panic!("taken")
        };
        log.push((*entry).clone());
        inbox.taking(position, *entry, answer);
    }
    inbox.settled(last, &[]);
    assert_eq!(inbox.first_in_memory(), Some(101));
    assert_eq!(inbox.ack(DeviceId(1), last, last), Some(last));
    inbox.acked_by(DeviceId(1), last);
    assert_eq!(inbox.uncounted(), Some(1..=100));
    for idx in 1..=100 {
        inbox.count(idx, &log[usize::try_from(idx - 1).expect("small")]);
    }
    inbox.counted_to(100);
    let told: Vec<_> = inbox.untold().map(|(_, user, mark)| (user, mark.delivered)).collect();
    assert_eq!(told, [(user(9), last), (user(8), 100)]);
    assert_eq!((inbox.uncounted(), inbox.counted()), (None, last));
    assert_eq!(inbox.read(user(8), 90), Some(1..=90));
}

fn play(events: Vec<Event>, broken: Option<Broken>) {
    let mut model = Model::new(broken);
    events.into_iter().for_each(|event| model.happens(event));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_position_is_taken_once_and_answered_the_same_whatever_happens(events in vec(event(), 1..120)) {
        play(events, None);
    }
}

#[test]
fn an_ack_beside_a_withdrawal_under_way_is_caught() {
    assert_caught(&vec(event(), 1..120), |events| {
        play(events, Some(Broken::AckBesideWithdrawal));
        Ok(())
    });
}

#[test]
fn a_withdrawal_beside_an_ack_under_way_is_caught() {
    assert_caught(&vec(event(), 1..120), |events| {
        play(events, Some(Broken::WithdrawalBesideAck));
        Ok(())
    });
}
