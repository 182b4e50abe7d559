//! What a process leaves that ends between two steps, and what comes of doing a step again whose answer was lost.

use super::*;

pub(super) async fn a_queued_sms_that_was_never_taken_is_dropped_when_its_hour_is_over(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    // The first step of taking, and no more.
    let key = super::super::open_key(NOW, &[1; 16]);
    store.open_hour(NOW).await.expect("written");
    store
        .write(dialtone_store::Batch::new().put(super::super::QUEUE, key.clone(), NODE))
        .await
        .expect("written");
    assert_eq!(queued(&store).await, [(key.clone(), NODE.to_owned())]);
    store.drop_untaken(&key, UnixMillis(NOW.0 + 2 * HOUR_MS - 1)).await.expect("no error");
    assert_eq!(queued(&store).await.len(), 1, "whoever wrote it may be about to take it");
    let again = store.take(&submit(1), NODE, NOW).await.expect("no error");
    assert_eq!(again, Some(key.clone()), "the same again takes it");
    store.drop_untaken(&key, UnixMillis(NOW.0 + 2 * HOUR_MS)).await.expect("no error");
    assert!(queued(&store).await.is_empty());
}

pub(super) async fn a_step_that_is_said_again_is_done_once(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    let key = taken(&store, 1).await;
    assert_eq!(store.take(&submit(1), NODE, NOW).await, Ok(Some(key)), "the answer was lost");
    assert_eq!(other.take(&submit(1), "other", NOW).await, Ok(None));
    let before = sms(&store, 1).await;
    for _ in 0..2 {
        assert_eq!(store.submitting(&mut before.clone(), NODE).await, Ok(true));
    }
    assert_eq!(other.submitting(&mut before.clone(), "other").await, Ok(false));
    assert_eq!(store.requeue(&mut before.clone()).await, Ok(false), "from what it no longer is");
    let before = sms(&store, 1).await;
    let told = result(0x0101, FateKind::SmsSubmitted);
    let ids = ["a".to_owned(), "b".to_owned()];
    for _ in 0..2 {
        assert_eq!(store.submitted(&mut before.clone(), &ids, Some(&told)).await, Ok(true));
    }
    // Somebody else thought that nobody had it.
    let unknown = result(0x0101, FateKind::SmsUnknown);
    assert_eq!(other.ended(&mut before.clone(), Some(&unknown)).await, Ok(false));
    let before = sms(&store, 1).await;
    for _ in 0..2 {
        assert_eq!(store.reported(&mut before.clone(), "a", true, None).await, Ok(true));
    }
    let row = sms(&store, 1).await.row;
    assert_eq!((row.delivered, row.waiting.len()), (1, 1), "once");
}

pub(super) async fn what_follows_from_a_submit_is_done_by_whoever_finds_it_undone(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    let told_of = result(0x0101, FateKind::SmsSubmitted);
    let key = taken(&store, 1).await;
    let mut seen = sms(&store, 1).await;
    assert!(store.submitting(&mut seen, NODE).await.expect("written"));
    assert!(store.submitted(&mut seen, &["a".to_owned()], Some(&told_of)).await.expect("written"));
    // The process ends here.
    assert_eq!(other.of_receipt("a").await, Ok(None));
    assert_eq!(queued(&other).await, [(key.clone(), NODE.to_owned())]);
    for _ in 0..2 {
        let found = sms(&other, 1).await;
        let told = other.follow(&found, &key, NOW).await.expect("written");
        assert_eq!(told.map(|told| told.result), Some(told_of.clone()));
        assert_eq!(other.of_receipt("a").await, Ok(Some(vec![1; 16])));
        assert_eq!(results(&other).await, std::slice::from_ref(&told_of));
        assert!(queued(&other).await.is_empty());
    }
}

pub(super) async fn rows_that_stand_in_two_hours_of_the_queue_both_go(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    taken(&store, 1).await;
    let later = UnixMillis(NOW.0 + HOUR_MS);
    assert_eq!(other.take(&submit(1), "other", later).await, Ok(None), "it came twice, an hour apart");
    let found = queued(&store).await;
    assert_eq!(found.len(), 2);
    let mut seen = sms(&store, 1).await;
    assert!(store.ended(&mut seen, None).await.expect("written"));
    let foreign = found.iter().find(|(_, node)| node == "other").expect("there");
    store.follow(&seen, &foreign.0, later).await.expect("written");
    assert!(queued(&store).await.is_empty());
}
