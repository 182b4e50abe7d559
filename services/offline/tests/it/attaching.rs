//! Devices: windows, cursors, repairs.

use std::time::Duration;

use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::types::v1::Cursor;

use crate::world::*;

fn indexes(entries: &[(u64, String)]) -> Vec<u64> {
    entries.iter().map(|(idx, _)| *idx).collect()
}

#[tokio::test(start_paused = true)]
async fn a_device_gets_what_waits_in_order_and_resumes_where_it_was() {
    let mut world = world().await;
    world.keeps(1, 3).await;
    let phone = world.open(1, Cursor::default()).await;
    let all = world.shown(phone);
    assert_eq!(indexes(&all), [1, 2, 3, 3]);
    assert_eq!(all.last(), Some(&(3, "caught up".into())));
    world.ack(phone, 2);
    world.close(phone);
    world.keeps(4, 5).await;
    let cursor = Cursor { idx: 2, ..world.session(phone).cursor.clone() };
    let phone = world.open(1, cursor).await;
    assert_eq!(indexes(&world.entries(phone)), [3, 4, 5], "after its cursor, and nothing twice");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_stops_the_pushes_at_256() {
    let mut world = world().await;
    world.keeps(1, 600).await;
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(indexes(&world.entries(phone)), (1..=256).collect::<Vec<_>>());
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.entries(phone), [], "the window is full");
    world.ack(phone, 100);
    world.pass(Duration::from_millis(50)).await;
    assert_eq!(indexes(&world.entries(phone)), (257..=356).collect::<Vec<_>>());
    world.ack(phone, 356);
    world.pass(Duration::from_millis(50)).await;
    assert_eq!(indexes(&world.entries(phone)), (357..=600).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_log_or_from_the_future_is_told_where_it_stands() {
    let mut world = world().await;
    world.keeps(1, 2).await;
    let stranger = world.open(1, Cursor { log_id: vec![7; 16], idx: 1 }).await;
    let shown = world.shown(stranger);
    assert_eq!(shown[0], (0, "resync".into()));
    assert_eq!(indexes(&shown[1..]), [1, 2, 2]);
    let log_id = world.client().get_cursor(world.from(1, <_>::default())).await.expect("answered");
    let log_id = log_id.into_inner().acked.expect("a cursor").log_id;
    let ahead = world.open(2, Cursor { log_id: log_id.clone(), idx: 9 }).await;
    assert_eq!(world.shown(ahead), [(2, "resync".into()), (2, "caught up".into())]);
    for device in [1, 2] {
        let answer = world.client().get_cursor(world.from(device, <_>::default())).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!((answer.acked.expect("a cursor").idx, answer.head), (0, 2), "such a cursor is no ack");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_stream_of_a_device_closes_the_older_one() {
    let mut world = world().await;
    let (old, other) = (world.open(1, Cursor::default()).await, world.open(2, Cursor::default()).await);
    world.pass(Duration::from_millis(100)).await;
    let new = world.open(1, Cursor::default()).await;
    assert_eq!(world.session(old).closed.as_deref(), Some("REPLACED"));
    assert!([other, new].into_iter().all(|ticket| world.session(ticket).closed.is_none()));
    world.keeps(1, 1).await;
    let counts = [old, other, new].map(|ticket| world.entries(ticket).len());
    assert_eq!(counts, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_push_is_repaired_by_the_beat_even_if_it_was_the_last() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.keeps(1, 1).await;
    world.ack(phone, 1);
    world.pass(Duration::from_secs(1)).await;
    world.shown(phone);
    world.lose_next(phone);
    world.keeps(2, 2).await;
    assert_eq!(world.entries(phone), [], "lost");
    world.pass(Duration::from_secs(4)).await;
    assert_eq!(world.entries(phone), [(2, "0/2".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_gateway_is_silent_for_three_seconds_is_gone() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.offered(0, 0, vec![urgent(0, 1)]).await, [(1, Kind::Kept)]);
    world.silence(phone);
    world.pass(Duration::from_millis(1_500)).await;
    assert_eq!(world.offered(0, 1, vec![urgent(0, 2)]).await, [(2, Kind::Kept)]);
    world.pass(Duration::from_millis(2_500)).await;
    assert_eq!(world.offered(0, 2, vec![urgent(0, 3)]).await, [(3, Kind::Declined)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_passed_on_is_no_ack_when_it_attaches_again() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.keeps(1, 2).await;
    assert_eq!(world.entries(phone).len(), 2, "on its way to a device that takes nothing any more");
    world.lose_next(phone);
    world.keeps(3, 3).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.entries(phone), [(3, "0/3".into())], "attached again after what was passed on");
    assert_eq!(world.watermark(0), (0, 0), "the device has stored nothing");
    assert_eq!(world.offered(0, 3, vec![withdraw(4, 2)]).await, [(4, Kind::Withdrawn)]);
    world.ack(phone, 1);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.watermark(0), (1, 0));
}
