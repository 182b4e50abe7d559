//! Service numbers: one for each who writes to the same phone, so that each reply finds its conversation.

use dialtone_proto::sms::internal::v1::QuoteRequest;
use dialtone_store::MemoryDisk;
use dialtone_vocab::Reason;
use rusmpp::values::Ton;

use crate::peer::*;
use crate::world::*;

/// The service number that a message goes out from.
async fn sent_from(world: &World, peer: &mut Peer, submit: dialtone_proto::bus::v1::SmsSubmit) -> String {
    world.sends([submit]).await;
    let submit = peer.taken("x").await;
    match submit.source_addr_ton {
        Ton::International => format!("+{}", submit.source_addr.as_str()),
        Ton::Alphanumeric => submit.source_addr.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_write_to_the_same_phone_have_two_numbers_and_each_gets_its_reply() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    let annas = sent_from(&world, &mut peer, message(1, "dinner?")).await;
    let bens = sent_from(&world, &mut peer, by(BEN, message(2, "your parcel"))).await;
    assert_ne!(annas, bens);
    assert_eq!(peer.delivered(mo(STRANGER, &bens, b"at the door")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, [(BEN, STRANGER.to_owned(), "at the door".to_owned())]);
    assert_eq!(peer.delivered(mo(STRANGER, &annas, b"at eight")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, [(ANNA, STRANGER.to_owned(), "at eight".to_owned())]);
    world.no_offer(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_number_stays_with_its_conversation_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    let bens = sent_from(&world, &mut peer, by(BEN, message(1, "first"))).await;
    let annas = sent_from(&world, &mut peer, message(2, "second")).await;
    assert_eq!(sent_from(&world, &mut peer, by(BEN, message(3, "again"))).await, bens);
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    assert_eq!(sent_from(&world, &mut peer, message(4, "again")).await, annas);
    assert_eq!(sent_from(&world, &mut peer, by(BEN, message(5, "again"))).await, bens);
    assert_eq!(peer.delivered(mo(STRANGER, &annas, b"yes")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, [(ANNA, STRANGER.to_owned(), "yes".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn one_number_serves_conversations_with_different_phones() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    let other = "+14155550177";
    let annas = sent_from(&world, &mut peer, message(1, "to one")).await;
    let to_other = dialtone_proto::bus::v1::SmsSubmit { to: other.into(), ..message(2, "to another") };
    assert_eq!(sent_from(&world, &mut peer, by(BEN, to_other)).await, annas);
    assert_eq!(peer.delivered(mo(other, &annas, b"for Ben")).await, Status::EsmeRok);
    assert_eq!(world.offered().await, [(BEN, other.to_owned(), "for Ben".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn with_all_numbers_taken_it_can_not_be_answered_and_the_quote_says_so() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    for user in [ANNA, BEN] {
        assert!(world.quote(user, "hello").await.expect("quoted").answerable);
    }
    let annas = sent_from(&world, &mut peer, message(1, "one")).await;
    assert!(world.quote(CARLA, "hello").await.expect("quoted").answerable, "one is left, a quote takes none");
    let bens = sent_from(&world, &mut peer, by(BEN, message(2, "two"))).await;
    assert!(!world.quote(CARLA, "hello").await.expect("quoted").answerable);
    assert_eq!(sent_from(&world, &mut peer, by(CARLA, message(3, "three"))).await, "Dialtone");
    for user in [ANNA, BEN] {
        assert!(world.quote(user, "hello").await.expect("quoted").answerable, "they have theirs");
    }
    // Nobody lost a number to the third.
    for (number, user) in [(annas, ANNA), (bens, BEN)] {
        assert_eq!(peer.delivered(mo(STRANGER, &number, b"yes")).await, Status::EsmeRok);
        assert_eq!(world.offered().await[0].0, user);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quote_for_no_number_is_refused() {
    let world = world().await;
    let ask = QuoteRequest { to: "eight".into(), ..QuoteRequest::default() };
    assert_eq!(world.quoted(ask).await.expect_err("refused"), Reason::NumberMalformed);
}
