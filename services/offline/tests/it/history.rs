//! `List` and `GetCursor`.

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_proto::offline::v1::item::Item as Listed;
use dialtone_proto::offline::v1::{ListRequest, ListResponse};
use dialtone_proto::types::v1::Cursor;
use dialtone_vocab::Reason;
use tonic::Status;

use crate::world::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn list(world: &World, after: Cursor, limit: u32) -> Result<ListResponse, Status> {
    let ask = ListRequest { after: Some(after), limit };
    Ok(world.client().list(world.from(1, ask)).await?.into_inner())
}

fn told_items(page: &ListResponse) -> Vec<String> {
    let told = page.items.iter().filter_map(|item| match &item.item {
        Some(Listed::Message(message)) => {
            let body = message.body.clone().unwrap_or_default().content;
            Some(String::from_utf8(body.to_vec()).expect("text"))
        }
        Some(Listed::Gone(gone)) => Some(format!("gone {}", gone.of)),
        None => None,
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_pages_through_everything_with_stubs_over_what_was_withdrawn() {
    let mut world = world().await;
    world.keeps(1, 700).await;
    world.offered(0, 700, vec![withdraw(701, 3)]).await;
    let (mut cursor, mut all, mut pages) = (Cursor::default(), Vec::new(), 0);
    loop {
        let page = list(&world, cursor, 300).await.expect("listed");
        all.extend(told_items(&page));
        pages += 1;
        cursor = page.next.expect("a cursor");
        if page.end {
            break;
        }
    }
    assert_eq!((all.len(), pages), (701, 3));
    assert_eq!((all[1].as_str(), all[2].as_str(), all[700].as_str()), ("0/2", "gone 3", "gone 3"));
    assert_eq!(list(&world, Cursor::default(), 0).await.expect("listed").items.len(), 100);
    assert_eq!(list(&world, cursor, 5).await.expect("listed").items, []);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_acknowledged_is_listed_with_its_limit() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    let mut limited = [urgent(0, 1), urgent(0, 2)];
    limited.iter_mut().for_each(limit);
    world.offered(0, 0, limited.to_vec()).await;
    world.ack(phone, 1);
    world.pass(Duration::from_millis(20)).await;
    let listed = list(&world, Cursor::default(), 10).await.expect("listed");
    let limits = listed.items.iter().filter_map(|item| match &item.item {
        Some(Listed::Message(message)) => Some(message.show_until_ms),
        _ => None,
    });
    assert_eq!(limits.collect::<Vec<_>>(), [0, u64::MAX], "it may still be withdrawn and go as SMS");
}

#[tokio::test(start_paused = true)]
async fn a_list_refuses_what_is_not_of_this_inbox() {
    let mut world = world().await;
    world.keeps(1, 2).await;
    for (after, limit) in [
        (Cursor { log_id: vec![7; 16], idx: 1 }, 0),
        (Cursor { log_id: Vec::new(), idx: 3 }, 0),
        (Cursor::default(), 501),
    ] {
        let refused = list(&world, after, limit).await.expect_err("refused");
        assert_eq!(Error::from_status(&refused).reason, Reason::FieldInvalid);
    }
    let nobody = world.client().list(ListRequest::default()).await.expect_err("refused");
    assert_eq!(Error::from_status(&nobody).reason, Reason::TokenMissing);
}

#[tokio::test(start_paused = true)]
async fn after_thirty_days_it_is_gone_and_the_index_goes_on() {
    let mut world = world().await;
    world.keeps(1, 2).await;
    tokio::time::advance(29 * DAY).await;
    world.keeps(3, 3).await;
    assert_eq!(told_items(&list(&world, Cursor::default(), 0).await.expect("listed")), ["0/1", "0/2", "0/3"]);
    tokio::time::advance(2 * DAY).await;
    let page = list(&world, Cursor::default(), 0).await.expect("listed");
    assert_eq!((told_items(&page), page.next.expect("a cursor").idx), (vec!["0/3".to_owned()], 3));
    world.keeps(4, 4).await;
}
