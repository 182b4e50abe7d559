//! What other services ask identity, and what it tells them.

use std::collections::BTreeSet;
use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_proto::bus::v1::FactTaken;
use dialtone_proto::identity::internal::v1::{NumbersRequest, ResolveRequest, Resolved, UserNumbers};
use dialtone_vocab::Reason;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn numbers_are_resolved_in_the_order_asked() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "Anna").await.user.expect("a user").id;
    let ben = world.register(BEN, 2, "").await.user.expect("a user").id;
    assert_ne!(anna, ben);
    let numbers = [BEN, "+14155550199", "Anna", ANNA, BEN].map(str::to_owned).to_vec();
    let answers = world.directory().resolve(ResolveRequest { numbers }).await.expect("answered").into_inner();
    let of =
        |user: &[u8], nickname: &str| Resolved { user: user.to_vec(), epoch: 1, nickname: nickname.into() };
    let (anna, ben, nobody) = (of(&anna, "Anna"), of(&ben, ""), Resolved::default());
    assert_eq!(answers.answers, [ben.clone(), nobody.clone(), nobody, anna, ben]);
}

#[tokio::test(start_paused = true)]
async fn users_are_answered_with_their_number() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "Anna").await.user.expect("a user").id;
    let users = vec![vec![7; 16], anna, vec![7; 3]];
    let answers = world.directory().numbers(NumbersRequest { users }).await.expect("answered").into_inner();
    let known = UserNumbers { primary: ANNA.into(), epoch: 1, nickname: "Anna".into() };
    assert_eq!(answers.answers, [UserNumbers::default(), known, UserNumbers::default()]);
}

#[tokio::test(start_paused = true)]
async fn a_question_has_a_limit() {
    let world = world().await;
    let many = |n: usize| ResolveRequest { numbers: vec![ANNA.to_owned(); n] };
    let answered = world.directory().resolve(many(1_000)).await.expect("answered").into_inner();
    assert_eq!(answered.answers.len(), 1_000);
    assert_eq!(reason(world.directory().resolve(many(1_001)).await), Reason::TooLarge);
    let users = NumbersRequest { users: vec![vec![7; 16]; 1_001] };
    assert_eq!(reason(world.directory().numbers(users).await), Reason::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_gets_a_user_is_told_until_it_is_taken_across_a_restart() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "Anna").await.user.expect("a user").id;
    let mut world = world.restart().await;
    let mut facts =
        world.bus.subscribe_group(&subjects::contacts_fact(), "contacts").await.expect("subscribed");
    let first = world.next(&mut facts).await.message;
    assert_eq!((first.number.as_str(), first.epoch), (ANNA, 1));
    assert_eq!((&first.user, first.nickname.as_str()), (&anna, "Anna"));
    let again = world.next(&mut facts).await;
    assert_eq!(again.message, first);
    again.reply(FactTaken {}).await;
    // A further device is nothing new about the number.
    world.pass(PAUSE).await;
    world.register(ANNA, 2, "").await;
    let more = world.chassis.clock.timeout(Duration::from_secs(60), facts.next()).await;
    assert!(more.is_err(), "what was taken is not told again");
    let ben = world.register(BEN, 3, "").await.user.expect("a user").id;
    let other = world.next(&mut facts).await;
    assert_eq!((other.message.number.as_str(), &other.message.user), (BEN, &ben));
    other.reply(FactTaken {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_not_taken_holds_up_no_other() {
    let mut world = world().await;
    // The first and the second are told one after the other; the third beside them.
    let (first, others) = (ANNA, ["+14155550165", BEN]);
    for (number, seed) in [(first, 1), (others[0], 2), (others[1], 3)] {
        world.register(number, seed, "").await;
    }
    let mut facts =
        world.bus.subscribe_group(&subjects::contacts_fact(), "contacts").await.expect("subscribed");
    let (mut taken, mut refused) = (BTreeSet::new(), 0);
    while taken.len() < others.len() {
        let fact = world.next(&mut facts).await;
        let number = fact.message.number.clone();
        if number == first {
            refused += 1;
            assert!(refused < 9, "the others are not told");
            continue;
        }
        fact.reply(FactTaken {}).await;
        assert!(taken.insert(number), "what was taken is not told again");
    }
    loop {
        let fact = world.next(&mut facts).await;
        assert_eq!(fact.message.number, first, "until it is taken");
        refused += 1;
        if refused > 2 {
            break fact.reply(FactTaken {}).await;
        }
    }
    let more = world.chassis.clock.timeout(Duration::from_secs(60), facts.next()).await;
    assert!(more.is_err(), "nothing is left");
}
