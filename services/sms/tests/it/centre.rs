//! The embedded centre, as whoever binds to it sees it.

use std::time::Duration;

use dialtone_chassis::{Channel, Chassis, server};
use dialtone_proto::sms::sim::v1::handsets_client::HandsetsClient;
use dialtone_proto::sms::sim::v1::{SendSmsRequest, SetPowerRequest};
use dialtone_sms::centre::Centre;
use dialtone_sms::limits::{CENTRE_BINDS, CENTRE_MO, HANDSET_SMS};
use rusmpp::pdus::{BindTransmitter, DeliverSm, DeliverSmResp, SubmitSm};
use rusmpp::{CommandId, Pdu};

use crate::peer::*;
use crate::world::{POOL, STRANGER};

/// A centre, and its chassis.
pub(crate) fn alone() -> (Chassis, Centre) {
    let chassis = Chassis::for_tests(1);
    let (centre, _) = crate::world::centre(&chassis);
    (chassis, centre)
}

/// A connection whose pipe holds so much.
pub(crate) fn connect_with(centre: &Centre, pipe: usize) -> Peer {
    let (ours, theirs) = tokio::io::duplex(pipe);
    centre.serve(theirs);
    Peer::new(ours)
}

pub(crate) fn connect(centre: &Centre) -> Peer {
    connect_with(centre, 64 * 1024)
}

pub(crate) async fn bound(centre: &Centre) -> Peer {
    let mut peer = connect(centre);
    assert_eq!(peer.bind("anybody", "secret").await, Status::EsmeRok);
    peer
}

async fn text(chassis: &Chassis, centre: &Centre, text: &str) {
    let channel = Channel::Local(server::layers(chassis, centre.handsets(), None, &[]));
    let sms = SendSmsRequest { from: STRANGER.into(), to: POOL[0].into(), text: text.into() };
    HandsetsClient::new(channel).send_sms(sms).await.expect("sent");
}

/// The next deliver, not yet answered.
async fn deliver(peer: &mut Peer) -> (u32, DeliverSm) {
    let command = peer.next_of(CommandId::DeliverSm, None).await;
    let Some(Pdu::DeliverSm(deliver)) = command.pdu() else { panic!("a deliver without a body") };
    (command.sequence_number(), deliver.clone())
}

/// The next deliver, taken; what it says.
async fn received(peer: &mut Peer) -> String {
    let (sequence, deliver) = deliver(peer).await;
    peer.say(Status::EsmeRok, sequence, DeliverSmResp::default()).await;
    String::from_utf8(deliver.short_message().as_ref().to_vec()).expect("text")
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_answered_as_such_and_closed_and_any_system_id_will_do() {
    let (_chassis, centre) = alone();
    let mut peer = connect(&centre);
    assert_eq!(peer.bind("dialtone", "guess").await, Status::EsmeRinvpaswd);
    assert!(peer.next().await.is_none(), "closed");
    let mut peer = connect(&centre);
    assert_eq!(peer.bind("", "secret").await, Status::EsmeRok);
    assert_eq!(peer.bind("twice", "secret").await, Status::EsmeRalybnd);
    assert_eq!(peer.submitted(STRANGER, b"still bound").await.0, Status::EsmeRok);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_a_bind_is_refused_and_closed() {
    let (_chassis, centre) = alone();
    let (submit, transmitter) = (SubmitSm::default(), BindTransmitter::default());
    for pdu in [submit.into(), transmitter.into(), Pdu::EnquireLink, Pdu::Unbind] {
        let mut peer = connect(&centre);
        let sequence = peer.ask(pdu).await;
        let nack = peer.next().await.expect("answered");
        let said = (nack.id(), nack.status(), nack.sequence_number());
        assert_eq!(said, (CommandId::GenericNack, Status::EsmeRinvbndsts, sequence));
        assert!(peer.next().await.is_none(), "closed");
    }
    let mut peer = connect(&centre);
    assert!(peer.raw(&raw_pdu(16, 0x0bad, 0, 7, &[])).await);
    let nack = peer.next().await.expect("answered");
    assert_eq!((nack.id(), nack.status()), (CommandId::GenericNack, Status::EsmeRinvbndsts));
    assert!(peer.next().await.is_none(), "closed");
    assert!(centre.sms_of("").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_answered_goes_to_the_next_bind_in_order() {
    let (chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    // More than a window: some are out, one is on its way to the bind, some wait.
    for n in 0..40 {
        text(&chassis, &centre, &n.to_string()).await;
    }
    for n in 0..10 {
        assert_eq!(received(&mut peer).await, n.to_string());
    }
    chassis.clock.sleep(Duration::from_millis(1)).await;
    drop(peer);
    chassis.clock.sleep(Duration::from_millis(1)).await;
    let mut peer = bound(&centre).await;
    for n in 10..40 {
        assert_eq!(received(&mut peer).await, n.to_string(), "nothing lost, nothing twice");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_a_bind_that_ends_is_not_lost() {
    let (chassis, centre) = alone();
    for n in 0..50 {
        // Ends in the very moment in which something is handed to it.
        let mut peer = bound(&centre).await;
        let sent = text(&chassis, &centre, "here");
        let garbage = raw_pdu(3, 0, 0, 0, &[]);
        let ((), _) = tokio::join!(sent, peer.raw(&garbage));
        drop(peer);
        let mut peer = bound(&centre).await;
        assert_eq!(received(&mut peer).await, "here", "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deliver_without_an_answer_comes_again_after_10_seconds_also_when_others_flow() {
    let (chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    text(&chassis, &centre, "first").await;
    text(&chassis, &centre, "second").await;
    let began = chassis.clock.instant();
    deliver(&mut peer).await;
    deliver(&mut peer).await;
    let again = loop {
        chassis.clock.sleep(Duration::from_secs(1)).await;
        text(&chassis, &centre, "flows").await;
        match received(&mut peer).await.as_str() {
            "flows" => {}
            other => break other.to_owned(),
        }
    };
    let passed = (chassis.clock.instant() - began).as_secs();
    assert!((10..=12).contains(&passed), "{passed}");
    assert_eq!((again.as_str(), received(&mut peer).await.as_str()), ("first", "second"));
}

#[tokio::test(start_paused = true)]
async fn later_is_again_and_for_good_is_never_with_a_body_or_without() {
    let (chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    text(&chassis, &centre, "yes").await;
    let (sequence, _) = deliver(&mut peer).await;
    peer.say(Status::EsmeRxTAppn, sequence, DeliverSmResp::default()).await;
    let began = chassis.clock.instant();
    assert_eq!(peer.submitted(STRANGER, b"not held up").await.0, Status::EsmeRok);
    let (sequence, receipt) = deliver(&mut peer).await;
    assert!(receipt.short_message().as_ref().starts_with(b"id:"), "others go out meanwhile");
    assert_eq!(chassis.clock.instant(), began);
    peer.say(Status::EsmeRok, sequence, DeliverSmResp::default()).await;
    let (sequence, _) = deliver(&mut peer).await;
    assert_eq!((chassis.clock.instant() - began).as_millis(), 200);
    assert!(peer.raw(&raw_pdu(16, 0x8000_0005, 0x64, sequence, &[])).await);
    let (sequence, _) = deliver(&mut peer).await;
    assert!(peer.raw(&raw_pdu(16, 0x8000_0005, 0x65, sequence, &[])).await);
    let clock = chassis.clock.clone();
    assert!(clock.timeout(Duration::from_secs(30), deliver(&mut peer)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_for_now_goes_to_the_next_bind_when_this_one_ends() {
    let (chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    for n in ["first", "second"] {
        text(&chassis, &centre, n).await;
    }
    let (sequence, _) = deliver(&mut peer).await;
    peer.say(Status::EsmeRxTAppn, sequence, DeliverSmResp::default()).await;
    chassis.clock.sleep(Duration::from_millis(1)).await;
    drop(peer);
    chassis.clock.sleep(Duration::from_millis(1)).await;
    let mut peer = bound(&centre).await;
    assert_eq!([received(&mut peer).await, received(&mut peer).await], ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn at_most_16_connections_are_served_and_one_more_is_closed_at_once() {
    let (chassis, centre) = alone();
    let mut peers = Vec::new();
    for _ in 0..CENTRE_BINDS {
        peers.push(bound(&centre).await);
    }
    let mut refused = connect(&centre);
    assert!(!refused.raw(b"hello").await || refused.next().await.is_none(), "closed");
    for peer in &mut peers {
        assert_eq!(peer.submitted(STRANGER, b"not touched").await.0, Status::EsmeRok);
    }
    peers.pop();
    chassis.clock.sleep(Duration::from_millis(1)).await;
    bound(&centre).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_never_takes_its_receipts_is_refused_for_now_and_others_are_served() {
    let (_chassis, centre) = alone();
    let mut greedy = connect_with(&centre, 16 * 1024 * 1024);
    assert_eq!(greedy.bind("greedy", "secret").await, Status::EsmeRok);
    let mut taken = 0;
    let status = loop {
        match greedy.submitted(STRANGER, b"more").await.0 {
            Status::EsmeRok => taken += 1,
            refused => break refused,
        }
        assert!(taken < 2 * CENTRE_MO, "without end");
    };
    assert_eq!(status, Status::EsmeRmsgqful);
    assert!(taken >= CENTRE_MO, "{taken}");
    let mut other = bound(&centre).await;
    for _ in 0..100 {
        assert!(received(&mut other).await.starts_with("id:"));
    }
    assert_eq!(other.submitted(STRANGER, b"there is room").await.0, Status::EsmeRok);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_was_cut_within_a_character_is_shown_whole() {
    let (_chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    let octets: Vec<u8> = "at 😀".encode_utf16().flat_map(u16::to_be_bytes).collect();
    // Within the emoji, the end first.
    for (place, octets) in [(2, &octets[8..]), (1, &octets[..8])] {
        let part = mo_part(POOL[0], STRANGER, &[5, 0, 3, 7, 2, place], octets);
        let submit = SubmitSm::builder()
            .dest_addr_ton(part.dest_addr_ton)
            .destination_addr(part.destination_addr.clone())
            .esm_class(part.esm_class)
            .data_coding(part.data_coding)
            .short_message(part.short_message().clone())
            .build();
        peer.ask(submit).await;
        peer.next_of(CommandId::SubmitSmResp, None).await;
    }
    let shown = centre.sms_of(STRANGER).await;
    assert_eq!((shown.len(), shown[0].text.as_str(), shown[0].parts), (1, "at 😀", 2));
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_off_has_a_limit_for_what_waits() {
    let (chassis, centre) = alone();
    let channel = Channel::Local(server::layers(&chassis, centre.handsets(), None, &[]));
    let off = SetPowerRequest { number: STRANGER.into(), on: false };
    HandsetsClient::new(channel).set_power(off).await.expect("off");
    let mut peer = bound(&centre).await;
    for _ in 0..HANDSET_SMS {
        assert_eq!(peer.submitted(STRANGER, b"waits").await.0, Status::EsmeRok);
    }
    assert_eq!(peer.submitted(STRANGER, b"too much").await.0, Status::EsmeRmsgqful);
    assert_eq!(peer.submitted("+14155550177", b"another phone").await.0, Status::EsmeRok);
}
