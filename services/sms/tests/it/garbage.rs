//! What no client of SMPP says: each is answered or closed, and costs nobody else anything.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_sms::limits::CENTRE_BINDS;
use rusmpp::{CommandId, Pdu};

use crate::centre::{alone, bound, connect, connect_with};
use crate::peer::*;
use crate::world::STRANGER;

/// Seconds until the other side closes, reading all that it says before.
async fn closed_after(chassis: &Chassis, peer: &mut Peer) -> u64 {
    let began = chassis.clock.instant();
    while peer.next().await.is_some() {}
    (chassis.clock.instant() - began).as_secs()
}

/// A submit to the stranger that says its text is so long.
fn submit_to_stranger(length: u8, text: &[u8]) -> Vec<u8> {
    // Addresses are: the sender's, empty, and the receiver's, an international number.
    let addresses = [&[0, 1, 1, 0, 1, 1][..], &STRANGER.as_bytes()[1..], &[0]].concat();
    let body = [&addresses[..], &[0; 9], &[length], text].concat();
    raw_pdu(16 + u32::try_from(body.len()).expect("short"), 4, 0, 7, &body)
}

#[tokio::test(start_paused = true)]
async fn a_length_that_no_pdu_has_is_refused_and_closed_before_a_bind_and_after() {
    let (_chassis, centre) = alone();
    let mut healthy = bound(&centre).await;
    for length in [0, 3, 15, 8_193, u32::MAX] {
        for mut peer in [connect(&centre), bound(&centre).await] {
            assert!(peer.raw(&raw_pdu(length, 4, 0, 77, b"and so on")).await);
            let nack = peer.next().await.expect("answered");
            let said = (nack.id(), nack.status(), nack.sequence_number());
            assert_eq!(said, (CommandId::GenericNack, Status::EsmeRinvcmdlen, 77), "{length}");
            assert!(peer.next().await.is_none(), "closed");
        }
    }
    assert_eq!(healthy.submitted(STRANGER, b"not touched").await.0, Status::EsmeRok);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_command_and_a_damaged_body_are_refused_and_the_bind_lives() {
    let (_chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    for (octets, status) in [
        (raw_pdu(18, 0x0bad, 0, 7, b"xx"), Status::EsmeRinvcmdid),
        (raw_pdu(16, 0x03, 0, 7, &[]), Status::EsmeRinvcmdid),
        // A submit that ends within its addresses, and one that says its text is longer than it is.
        (raw_pdu(20, 4, 0, 7, &[0, 1, 1, b'x']), Status::EsmeRinvcmdlen),
        (submit_to_stranger(200, b"damaged"), Status::EsmeRinvcmdlen),
    ] {
        assert!(peer.raw(&octets).await);
        let nack = peer.next().await.expect("answered");
        let said = (nack.id(), nack.status(), nack.sequence_number());
        assert_eq!(said, (CommandId::GenericNack, status, 7), "{octets:?}");
    }
    // With the right length it is taken, and nothing was before.
    assert!(peer.raw(&submit_to_stranger(5, b"alive")).await);
    assert_eq!(peer.next_of(CommandId::SubmitSmResp, Some(7)).await.status(), Status::EsmeRok);
    let shown = centre.sms_of(STRANGER).await;
    assert_eq!(shown.iter().map(|sms| sms.text.as_str()).collect::<Vec<_>>(), ["alive"]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_bind_is_refused_and_closed() {
    let (_chassis, centre) = alone();
    let mut peer = connect(&centre);
    // It ends within its password.
    assert!(peer.raw(&raw_pdu(24, 9, 0, 7, b"x\0secret")).await);
    let nack = peer.next().await.expect("answered");
    let said = (nack.id(), nack.status(), nack.sequence_number());
    assert_eq!(said, (CommandId::GenericNack, Status::EsmeRinvcmdlen, 7));
    assert!(peer.next().await.is_none(), "closed");
}

#[tokio::test(start_paused = true)]
async fn random_octets_end_at_most_their_own_connection() {
    let (chassis, centre) = alone();
    let mut healthy = bound(&centre).await;
    for _ in 0..200 {
        let mut peer = connect(&centre);
        let octets: Vec<u8> = (0..8).flat_map(|_| chassis.rng.bytes::<32>()).collect();
        peer.raw(&octets).await;
        assert!(closed_after(&chassis, &mut peer).await <= 5, "refused, or no bind in time");
        assert_eq!(healthy.submitted(STRANGER, b"not touched").await.0, Status::EsmeRok);
        let (sequence, _) = {
            let receipt = healthy.next_of(CommandId::DeliverSm, None).await;
            (receipt.sequence_number(), receipt)
        };
        healthy.say(Status::EsmeRok, sequence, rusmpp::pdus::DeliverSmResp::default()).await;
    }
    assert_eq!(centre.sms_of(STRANGER).await.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn half_a_pdu_and_then_silence_is_closed_after_its_time() {
    let (chassis, centre) = alone();
    let mut peer = connect(&centre);
    assert_eq!(closed_after(&chassis, &mut peer).await, 5, "nothing at all");
    let mut peer = connect(&centre);
    assert!(peer.raw(&raw_pdu(60, 9, 0, 1, b"half")).await);
    assert_eq!(closed_after(&chassis, &mut peer).await, 5, "half a bind");
    let mut peer = bound(&centre).await;
    let submit = submit_to_stranger(5, b"alive");
    assert!(peer.raw(&submit[..submit.len() - 1]).await);
    let passed = closed_after(&chassis, &mut peer).await;
    assert!((45..=46).contains(&passed), "all but an octet of a submit: {passed}");
    assert!(centre.sms_of(STRANGER).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn slow_octets_are_read_as_long_as_they_come_in_time() {
    let (chassis, centre) = alone();
    let mut peer = connect(&centre);
    // A bind of 32 octets with the right password, an octet each tenth of a second.
    let body = [&b"x\0secret\0\0"[..], &[0x34, 0, 0, 0]].concat();
    let octets = raw_pdu(16 + u32::try_from(body.len()).expect("short"), 9, 0, 1, &body);
    for octet in octets {
        chassis.clock.sleep(Duration::from_millis(100)).await;
        assert!(peer.raw(&[octet]).await);
    }
    let answer = peer.next().await.expect("answered");
    assert_eq!((answer.id(), answer.status()), (CommandId::BindTransceiverResp, Status::EsmeRok));
    // Too slow: at an octet each second this is not whole within the limit of silence.
    let submit = submit_to_stranger(100, &[b'a'; 100]);
    let mut sent = 0;
    while peer.raw(&submit[sent..=sent]).await {
        chassis.clock.sleep(Duration::from_secs(1)).await;
        sent += 1;
    }
    assert!((45..=47).contains(&sent), "{sent}");
    assert!(peer.next().await.is_none(), "closed without a word");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_closed_and_gives_its_place_back() {
    let (chassis, centre) = alone();
    let mut others = Vec::new();
    for _ in 1..CENTRE_BINDS {
        others.push(bound(&centre).await);
    }
    let mut deaf = connect_with(&centre, 64);
    assert_eq!(deaf.bind("deaf", "secret").await, Status::EsmeRok);
    let flood = async {
        while deaf.raw(&raw_pdu(16, 0x15, 0, 1, &[])).await {}
        chassis.clock.instant()
    };
    let began = chassis.clock.instant();
    let passed = (flood.await - began).as_secs();
    assert!((10..=11).contains(&passed), "{passed}");
    bound(&centre).await;
    assert_eq!(others[0].submitted(STRANGER, b"not touched").await.0, Status::EsmeRok);
}

#[tokio::test(start_paused = true)]
async fn an_unbind_is_answered_and_closed() {
    let (_chassis, centre) = alone();
    let mut peer = bound(&centre).await;
    let sequence = peer.ask(Pdu::Unbind).await;
    let answer = peer.next().await.expect("answered");
    assert_eq!((answer.id(), answer.sequence_number()), (CommandId::UnbindResp, sequence));
    assert!(peer.next().await.is_none(), "closed");
}
