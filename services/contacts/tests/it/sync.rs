//! Chunks, verdicts, tokens, the budget.

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_proto::contacts::v1::{self as proto, Verdict};
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::Reason;
use tonic::Code;

use crate::world::*;

fn verdicts(answer: &proto::SyncResponse) -> Vec<Verdict> {
    answer.verdicts.iter().map(proto::EntryVerdict::verdict).collect()
}

#[tokio::test(start_paused = true)]
async fn every_entry_gets_its_verdict_and_matches_become_friends_when_acknowledged() {
    let world = world().await;
    let added = ["(415) 555-0102", NOBODY, "555-0102", "Anna", "+1 415-555-0102", CARLA_NUMBER];
    let answer = world.sync(ANNA, &[], &added, &[], false).await.expect("answered");
    let (matched, not_user) = (Verdict::Matched, Verdict::NotUser);
    let expected = [matched, not_user, Verdict::Ambiguous, Verdict::Invalid, matched, matched];
    assert_eq!(verdicts(&answer), expected);
    assert_eq!(answer.verdicts[0].number, BEN_NUMBER);
    assert_eq!(answer.verdicts[0].nickname, "Ben");
    assert_eq!(answer.verdicts[0].user.as_ref().map(|user| user.id.clone()), Some(BEN.to_vec()));
    assert_eq!((answer.verdicts[1].number.as_str(), &answer.verdicts[1].user), (NOBODY, &None));
    assert_eq!(answer.budget_left, 10_000 - 3);
    assert_eq!(world.friends(ANNA).await, Vec::<String>::new(), "nothing counts before it is acknowledged");
    world.acknowledge(ANNA, &answer.next_token).await.expect("acknowledged");
    assert_eq!(world.friends(ANNA).await, [BEN_NUMBER, CARLA_NUMBER]);
    assert_eq!(world.friends(BEN).await, Vec::<String>::new());

    let local = proto::SyncRequest { added: typed(&["0151 12345678"]), ..Default::default() };
    let answer = world.contacts().sync(world.from(BEN, local)).await.expect("answered").into_inner();
    assert_eq!(verdicts(&answer), [Verdict::NeedsCountry]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_chunk_is_answered_as_before_and_an_acknowledgement_may_repeat() {
    let world = world().await;
    let first = world.sync(ANNA, &[], &[BEN_NUMBER, NOBODY], &[], false).await.expect("answered");
    let again = world.sync(ANNA, &[], &[BEN_NUMBER, NOBODY], &[], false).await.expect("answered");
    assert_eq!(first, again);
    world.acknowledge(ANNA, &first.next_token).await.expect("acknowledged");
    world.acknowledge(ANNA, &first.next_token).await.expect("and again");
    let empty = world.sync(ANNA, &first.next_token, &[], &[], false).await.expect("answered");
    assert_eq!(empty.budget_left, 10_000 - 2, "charged once");
}

#[tokio::test(start_paused = true)]
async fn only_an_acknowledged_token_is_a_base() {
    let world = world().await;
    let first = world.sync(ANNA, &[], &[BEN_NUMBER], &[], false).await.expect("answered");
    for foreign in [first.next_token.as_slice(), &[7; 16]] {
        let refused = world.sync(ANNA, foreign, &[NOBODY], &[], false).await.expect_err("refused");
        assert_eq!((refused.code(), reason(&refused)), (Code::Aborted, Reason::SyncBaseUnknown));
    }
    let refused = world.acknowledge(ANNA, &[7; 16]).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::SyncBaseUnknown);
    let refused = world.acknowledge(ANNA, &[]).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::SyncBaseUnknown);
    world.acknowledge(ANNA, &first.next_token).await.expect("acknowledged");
    assert_eq!(
        reason(&world.acknowledge(BEN, &first.next_token).await.expect_err("not Ben's")),
        Reason::SyncBaseUnknown
    );
}

#[tokio::test(start_paused = true)]
async fn only_additions_and_deletions_are_exchanged() {
    let world = world().await;
    let base = world.synced(ANNA, &[], &[BEN_NUMBER, NOBODY]).await;
    let answer = world.sync(ANNA, &base, &[CARLA_NUMBER], &["415 555 0102"], false).await.expect("answered");
    assert_eq!(answer.verdicts.len(), 1);
    world.acknowledge(ANNA, &answer.next_token).await.expect("acknowledged");
    assert_eq!(world.friends(ANNA).await, [CARLA_NUMBER]);
}

#[tokio::test(start_paused = true)]
async fn a_book_from_nothing_replaces_the_old_one_with_its_last_chunk() {
    let world = world().await;
    world.synced(ANNA, &[], &[BEN_NUMBER]).await;
    let first = world.sync(ANNA, &[], &[CARLA_NUMBER], &[], true).await.expect("answered");
    world.acknowledge(ANNA, &first.next_token).await.expect("acknowledged");
    assert_eq!(world.friends(ANNA).await, [BEN_NUMBER], "the old book until the new one is whole");
    let last = world.sync(ANNA, &first.next_token, &[NOBODY], &[], false).await.expect("answered");
    world.acknowledge(ANNA, &last.next_token).await.expect("acknowledged");
    assert_eq!(world.friends(ANNA).await, [CARLA_NUMBER]);
    // Ben's number changes hands: the dropped book is not concerned, the new one has nothing of it.
    world.tell(BEN_NUMBER, Some(CARLA), 2).await;
    assert_eq!(world.friends(ANNA).await, [CARLA_NUMBER]);
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_on_numbers_never_asked_and_comes_back() {
    let world = start(StoreUrl::memory(&MemoryDisk::new()), 3).await;
    let base = world.synced(ANNA, &[], &[BEN_NUMBER, NOBODY]).await;
    let over = [CARLA_NUMBER, "+14155550111"];
    let refused = world.sync(ANNA, &base, &over, &[], false).await.expect_err("refused");
    let error = Error::from_status(&refused);
    assert_eq!((refused.code(), error.reason), (Code::ResourceExhausted, Reason::ContactBudget));
    let wait = error.retry_after.expect("RetryInfo");
    assert!(wait <= Duration::from_secs(30 * 86_400) && wait > Duration::from_secs(29 * 86_400));
    let again =
        world.sync(ANNA, &base, &[BEN_NUMBER, NOBODY], &[], false).await.expect("known numbers are free");
    assert_eq!(again.budget_left, 1);
    tokio::time::advance(wait).await;
    world.sync(ANNA, &base, &over, &[], false).await.expect("a new period");
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_and_given_up_is_charged_too() {
    let world = start(StoreUrl::memory(&MemoryDisk::new()), 2).await;
    world.sync(ANNA, &[], &[BEN_NUMBER], &[], false).await.expect("answered");
    let second = world.sync(ANNA, &[], &[CARLA_NUMBER], &[], false).await.expect("answered");
    assert_eq!(second.budget_left, 0);
    let refused = world.sync(ANNA, &[], &[NOBODY], &[], false).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::ContactBudget);
    world.acknowledge(ANNA, &second.next_token).await.expect("the refusal left the last answer");
    assert_eq!(world.friends(ANNA).await, [CARLA_NUMBER]);
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_nothing_is_charged_or_changed() {
    let world = start(StoreUrl::memory(&MemoryDisk::new()), 2).await;
    world.directory.set_down(true);
    let refused = world.sync(ANNA, &[], &[BEN_NUMBER, NOBODY], &[], false).await.expect_err("down");
    assert_eq!(refused.code(), Code::Unavailable);
    world.directory.set_down(false);
    let answer = world.sync(ANNA, &[], &[BEN_NUMBER, NOBODY], &[], false).await.expect("answered");
    assert_eq!((answer.budget_left, verdicts(&answer)), (0, vec![Verdict::Matched, Verdict::NotUser]));
}

#[tokio::test(start_paused = true)]
async fn sizes_and_tokens_are_checked_at_the_door() {
    let world = world().await;
    let many = vec![NOBODY; 1_001];
    let refused = world.sync(ANNA, &[], &many, &[], false).await.expect_err("too many");
    assert_eq!((refused.code(), reason(&refused)), (Code::InvalidArgument, Reason::TooLarge));
    let anonymous = world.contacts().sync(proto::SyncRequest::default()).await.expect_err("no token");
    assert_eq!((anonymous.code(), reason(&anonymous)), (Code::Unauthenticated, Reason::TokenMissing));
}

#[tokio::test(start_paused = true)]
async fn friends_come_in_pages() {
    let world = world().await;
    let numbers: Vec<_> = (0..5).map(|n| format!("+1415555020{n}")).collect();
    for (n, number) in (10..).zip(&numbers) {
        world.directory.put(number, dialtone_vocab::UserId::new([n; 16]), 1, "");
    }
    world.synced(ANNA, &[], &numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut found, mut page_token, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let ask = proto::ListFriendsRequest { page_token, page_size: 2 };
        let page = world.contacts().list_friends(world.from(ANNA, ask)).await.expect("listed").into_inner();
        found.extend(page.friends.into_iter().map(|friend| friend.number));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    found.sort();
    assert_eq!((found, pages), (numbers, 3));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_book_is_gone_but_the_budget_is_used() {
    let world = start(StoreUrl::memory(&MemoryDisk::new()), 5).await;
    let base = world.synced(ANNA, &[], &[BEN_NUMBER, NOBODY]).await;
    world.contacts().forget_book(world.from(ANNA, proto::ForgetBookRequest {})).await.expect("forgotten");
    assert_eq!(world.friends(ANNA).await, Vec::<String>::new());
    let refused = world.sync(ANNA, &base, &[], &[], false).await.expect_err("no base any more");
    assert_eq!(reason(&refused), Reason::SyncBaseUnknown);
    let again = world.sync(ANNA, &[], &[BEN_NUMBER], &[], false).await.expect("answered");
    assert_eq!(again.budget_left, 2);
}

#[tokio::test]
async fn a_book_survives_a_restart_and_no_number_is_at_rest() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let url = StoreUrl::Folder(folder.path().join("store"));
    let base = {
        let world = start(url.clone(), 100).await;
        let base = world.synced(ANNA, &[], &[BEN_NUMBER]).await;
        world.sync(ANNA, &base, &[NOBODY], &[CARLA_NUMBER], false).await.expect("answered, not acknowledged");
        let tasks = world.chassis.tasks.clone();
        drop(world);
        assert!(tasks.shutdown(Duration::from_secs(10)).await);
        base
    };
    let mut looked = 0;
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            // Journals are made long in advance.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let bytes = &bytes[..used];
            looked += bytes.len();
            for digits in ["4155550102", "4155550199", "4155550103"] {
                let number = format!("1{digits}").parse::<u64>().expect("digits");
                for trace in [digits.as_bytes(), &number.to_be_bytes()[3..], &number.to_le_bytes()[..5]] {
                    let found = bytes.windows(trace.len()).any(|window| window == trace);
                    assert!(!found, "a number is in {}", path.display());
                }
            }
        }
    }
    assert!(looked > 500, "there was something to look at");
    let world = start(url, 100).await;
    assert_eq!(world.friends(ANNA).await, [BEN_NUMBER]);
    world.sync(ANNA, &base, &[NOBODY], &[CARLA_NUMBER], false).await.expect("the base is known");
}
