//! A number gets or loses its user.

use std::time::Duration;

use dialtone_proto::types::v1::UserRef;
use dialtone_vocab::UserId;

use crate::world::*;

const NEW: UserId = UserId::new([8; 16]);

#[tokio::test(start_paused = true)]
async fn who_has_the_number_of_a_new_user_has_a_friend_and_is_not_told() {
    let mut world = world().await;
    world.synced(ANNA, &[], &[NOBODY]).await;
    world.synced(BEN, &[], &[CARLA_NUMBER]).await;
    world.directory.put(NOBODY, NEW, 1, "New");
    world.tell(NOBODY, Some(NEW), 1).await;
    assert_eq!(world.friends(ANNA).await, [NOBODY]);
    assert_eq!(world.friends(BEN).await, [CARLA_NUMBER]);
    world.no_event().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_when_both_have_each_other() {
    let mut world = world().await;
    world.synced(ANNA, &[], &["+14155550150"]).await;
    // The number becomes Ben's second one: Ben has Anna's number, so Anna is told.
    world.synced(BEN, &[], &[ANNA_NUMBER]).await;
    world.directory.put("+14155550150", BEN, 1, "Ben");
    world.tell("+14155550150", Some(BEN), 1).await;
    let event = world.event().await;
    assert_eq!(event.user, ANNA.to_vec());
    let contact = event.contact.expect("a contact");
    assert_eq!((contact.number.as_str(), contact.user), ("+14155550150", Some(UserRef { id: BEN.to_vec() })));
    world.tell("+14155550150", Some(BEN), 1).await;
    world.no_event().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_users_book_tells_those_who_had_its_number() {
    let mut world = world().await;
    let number = CARLA_NUMBER;
    // Anna has the number before it is Carla's.
    world.directory.remove(number);
    world.synced(ANNA, &[], &[number]).await;
    world.directory.put(number, CARLA, 1, "Carla");
    world.tell(number, Some(CARLA), 1).await;
    world.no_event().await;
    let base = world.synced(CARLA, &[], &[BEN_NUMBER]).await;
    world.no_event().await;
    world.synced(CARLA, &base, &[ANNA_NUMBER]).await;
    let event = world.event().await;
    assert_eq!(event.user, ANNA.to_vec());
    let contact = event.contact.expect("a contact");
    assert_eq!((contact.number.as_str(), contact.nickname.as_str()), (number, "Carla"));
    assert_eq!(contact.user, Some(UserRef { id: CARLA.to_vec() }));
    // Carla's whole book once more: nobody is told twice.
    world.synced(CARLA, &[], &[ANNA_NUMBER]).await;
    world.no_event().await;
}

#[tokio::test(start_paused = true)]
async fn a_number_that_gets_a_user_between_answer_and_acknowledgement_is_a_friend() {
    let world = world().await;
    let answer = world.sync(ANNA, &[], &[NOBODY], &[], false).await.expect("answered");
    world.directory.put(NOBODY, NEW, 1, "");
    world.tell(NOBODY, Some(NEW), 1).await;
    world.acknowledge(ANNA, &answer.next_token).await.expect("acknowledged");
    assert_eq!(world.friends(ANNA).await, [NOBODY]);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_loses_its_user_is_no_friend_and_old_facts_change_nothing() {
    let mut world = world().await;
    world.synced(ANNA, &[], &[BEN_NUMBER]).await;
    world.tell(BEN_NUMBER, None, 2).await;
    assert_eq!(world.friends(ANNA).await, Vec::<String>::new());
    let event = world.event().await;
    assert_eq!((event.user, event.contact.and_then(|contact| contact.user)), (ANNA.to_vec(), None));
    world.tell(BEN_NUMBER, Some(BEN), 1).await;
    assert_eq!(world.friends(ANNA).await, Vec::<String>::new(), "an older fact");
    world.tell(BEN_NUMBER, Some(CARLA), 3).await;
    let listed = world.contacts().list_friends(world.from(ANNA, <_>::default())).await.expect("listed");
    let friends = listed.into_inner().friends;
    assert_eq!(friends.len(), 1);
    assert_eq!(friends[0].user, Some(UserRef { id: CARLA.to_vec() }));
    assert_eq!(friends[0].number, "", "another number of hers is not given away");
}

#[tokio::test(start_paused = true)]
async fn a_fact_that_waits_for_a_book_holds_up_no_other() {
    let world = world().await;
    world.synced(ANNA, &[], &[NOBODY]).await;
    world.synced(BEN, &[], &[CARLA_NUMBER]).await;
    // Anna's book waits for identity's answer, and a fact for Anna's book.
    world.directory.be_slow(true);
    let sync = world.sync(ANNA, &[], &[BEN_NUMBER], &[], false);
    let first = async {
        world.directory.asked().await;
        world.tell(NOBODY, Some(NEW), 1).await;
    };
    let second = async {
        world.directory.asked().await;
        // Behind the first.
        world.chassis.clock.sleep(Duration::from_millis(1)).await;
        world.tell(CARLA_NUMBER, None, 2).await;
        world.directory.be_slow(false);
    };
    let (answer, (), ()) = tokio::join!(sync, first, second);
    answer.expect("answered");
    assert_eq!(world.friends(BEN).await, Vec::<String>::new());
}
