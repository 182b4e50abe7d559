//! Taking messages back.

use std::time::Duration;

use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::routing::v1::RevokeRequest;
use dialtone_proto::routing::v1::revoke_response::{AlreadyDelivered, AlreadySms, Ended, Outcome, Withdrawn};
use dialtone_proto::types::v1::{Cursor, FateKind};
use dialtone_routing::Sabotage;
use dialtone_store::MemoryDisk;
use dialtone_vocab::Reason;

use crate::world::*;

const WITHDRAWN: Outcome = Outcome::Withdrawn(Withdrawn {});
const DELIVERED: Outcome = Outcome::AlreadyDelivered(AlreadyDelivered {});
const SMS: Outcome = Outcome::AlreadySms(AlreadySms {});

#[tokio::test(start_paused = true)]
async fn a_kept_message_is_withdrawn_and_a_delivered_one_is_not() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.send(request(1, BEN_NUMBER)).await;
    world.send(request(2, BEN_NUMBER)).await;
    assert_eq!(world.revoke(1).await.expect("answered"), WITHDRAWN);
    assert_eq!(world.revoke(1).await.expect("answered"), WITHDRAWN, "the same again");
    world.pass(MOMENT).await;
    assert_eq!(world.fates(phone), [(1, FateKind::Revoked, String::new(), 4)]);
    world.inbox.withdraw = Some(Kind::Delivered);
    assert_eq!(world.revoke(2).await.expect("answered"), DELIVERED, "its inbox says so");
    world.send(request(3, BEN_NUMBER)).await;
    world.watermarks(6, 0);
    world.pass(MOMENT).await;
    assert_eq!(world.revoke(6).await.expect("answered"), DELIVERED, "known by its watermark");
    assert_eq!(world.inbox.positions(), [1, 2, 3, 5, 6], "at most one withdraw, and none in vain");
}

#[tokio::test(start_paused = true)]
async fn what_goes_as_sms_or_has_ended_is_told_as_that() {
    let mut world = world().await;
    world.send(request(1, NOBODY)).await;
    assert_eq!(world.revoke(1).await.expect("answered"), SMS);
    world.inbox.message = Some((Kind::Declined, "NOT_ATTACHED"));
    world.send(urgent(2)).await;
    assert_eq!(world.revoke(2).await.expect("answered"), SMS);
    world.inbox.message = Some((Kind::NumberMoved, ""));
    let moved = world.send(request(3, BEN_NUMBER)).await.sent_idx;
    let Outcome::Ended(Ended { fate }) = world.revoke(moved).await.expect("answered") else { panic!() };
    assert_eq!(fate.expect("a fate").reason, "NUMBER_MOVED");
    for unknown in [0, 3, 99] {
        let refused = world.revoke(unknown).await.expect_err("refused");
        assert_eq!(reason(&refused), Reason::FieldInvalid, "{unknown} is no message");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_answered_from_the_decision_and_not_by_a_watermark() {
    let mut world = world().await;
    world.send(request(1, BEN_NUMBER)).await;
    world.send(request(2, BEN_NUMBER)).await;
    world.inbox.withdraw = None;
    let call = {
        let (mut client, ask) = (world.client(), world.from(1, RevokeRequest { sent_idx: 1 }));
        async move { client.revoke(ask).await }
    };
    tokio::pin!(call);
    tokio::select! {
        biased;
        _ = &mut call => panic!("its inbox has not answered"),
        () = world.pass(MOMENT) => {}
    }
    // The device took the stub in its place, and the message behind it.
    world.watermarks(2, 0);
    tokio::select! {
        biased;
        answer = &mut call => panic!("told by a watermark: {answer:?}"),
        () = world.pass(MOMENT) => {}
    }
    world.inbox.withdraw = Some(Kind::Withdrawn);
    assert_eq!(world.revoke(1).await.expect("answered"), WITHDRAWN);
    assert_eq!(call.await.expect("answered").into_inner().outcome, Some(WITHDRAWN));
}

#[tokio::test(start_paused = true)]
async fn a_message_older_than_memory_can_be_taken_back_also_across_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    for seq in 1..=1_200 {
        world.send_from(1, request(seq, BEN_NUMBER)).await.expect("accepted");
    }
    world.pass(Duration::from_secs(5)).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    assert_eq!(world.revoke(3).await.expect("answered"), WITHDRAWN);
    world.inbox.withdraw = None;
    let waiting = world.revoke(4).await.expect_err("its inbox is silent");
    assert_eq!(reason(&waiting), Reason::Timeout);
    world.inbox.withdraw = Some(Kind::Withdrawn);
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(10)).await;
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(world.revoke(4).await.expect("answered"), WITHDRAWN, "its withdraw was found and offered");
    assert_eq!(world.fates(phone), [], "decided before, and told to nobody twice");
}
