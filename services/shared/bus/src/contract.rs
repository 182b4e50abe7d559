//! What every bus does: plain async functions, run over each kind.

use std::time::Duration;

use dialtone_proto::bus::v1::{self as bus, Heartbeat, MoClaim, MoClaimed, SessionEnded, SmsItem, sms_item};
use dialtone_vocab::NodeId;

use crate::limits::{BATCH_ITEMS, MAX_MESSAGE};
use crate::{Bus, BusError, subjects};

const SOON: Duration = Duration::from_secs(5);

fn beat(n: u64) -> Heartbeat {
    Heartbeat { node: "n".into(), incarnation: n, ..Default::default() }
}

fn claim(text: &str) -> MoClaim {
    MoClaim { text: text.into(), ..Default::default() }
}

/// Messages of one publisher reach a subscription in order.
pub async fn order_is_kept(bus: &Bus) {
    let mut listener = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    for n in 0..200 {
        bus.publish(&subjects::heartbeat(), beat(n)).await.expect("published");
    }
    for n in 0..200 {
        assert_eq!(listener.next().await.expect("open").message.incarnation, n);
    }
}

/// Every plain subscriber gets every message.
pub async fn everybody_hears(bus: &Bus) {
    let mut one = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    let mut two = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    bus.publish(&subjects::heartbeat(), beat(7)).await.expect("published");
    assert_eq!(one.next().await.expect("open").message, beat(7));
    assert_eq!(two.next().await.expect("open").message, beat(7));
}

/// Of a group one member gets a message; a plain subscriber gets it too.
pub async fn a_group_shares(bus: &Bus) {
    let mut plain = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    let mut one = bus.subscribe_group(&subjects::heartbeat(), "group").await.expect("subscribed");
    let mut two = bus.subscribe_group(&subjects::heartbeat(), "group").await.expect("subscribed");
    for n in 0..40 {
        bus.publish(&subjects::heartbeat(), beat(n)).await.expect("published");
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        tokio::select! {
            biased;
            from_one = one.next() => seen.push(from_one.expect("open").message.incarnation),
            from_two = two.next() => seen.push(from_two.expect("open").message.incarnation),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>(), "each message went to one member");
    for n in 0..40 {
        assert_eq!(plain.next().await.expect("open").message.incarnation, n);
    }
}

/// Publishing to nobody is not an error: the bus never remembers.
pub async fn nobody_listens_to_a_publish(bus: &Bus) {
    bus.publish(&subjects::heartbeat(), beat(1)).await.expect("published");
    let mut late = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    bus.publish(&subjects::heartbeat(), beat(2)).await.expect("published");
    assert_eq!(late.next().await.expect("open").message, beat(2));
}

/// A request to nobody fails at once.
pub async fn nobody_answers_fails_fast(bus: &Bus) {
    let asked: Result<MoClaimed, _> =
        bus.request(&subjects::identity_mo(), claim("x"), Duration::from_secs(60)).await;
    assert_eq!(asked, Err(BusError::NoResponder));
}

/// A request is answered by who got it, and carries its deadline.
pub async fn a_request_is_answered(bus: &Bus) {
    let mut door = bus.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
    let subject = subjects::identity_mo();
    let asking = bus.request::<_, MoClaimed>(&subject, claim("hello"), SOON);
    let answering = async {
        let asked = door.next().await.expect("open");
        assert_eq!(asked.message.text, "hello");
        let now = bus.chassis().clock.now();
        assert!(!asked.is_late(now) && asked.is_late(now.plus(Duration::from_secs(60))));
        asked.reply(MoClaimed { claimed: true }).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer, Ok(MoClaimed { claimed: true }));
}

/// Answers find their own request.
pub async fn answers_do_not_mix(bus: &Bus) {
    let mut door = bus.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
    let subject = subjects::identity_mo();
    let ask = |text| bus.request::<_, MoClaimed>(&subject, claim(text), SOON);
    let answering = async {
        let (one, two) = (door.next().await.expect("open"), door.next().await.expect("open"));
        for asked in [two, one] {
            let claimed = asked.message.text == "yes";
            asked.reply(MoClaimed { claimed }).await;
        }
    };
    let (yes, no, ()) = tokio::join!(ask("yes"), ask("no"), answering);
    assert_eq!((yes, no), (Ok(MoClaimed { claimed: true }), Ok(MoClaimed { claimed: false })));
}

/// Silence is a time-out: the outcome is unknown.
pub async fn silence_times_out(bus: &Bus) {
    let _door = bus.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
    let asked: Result<MoClaimed, _> =
        bus.request(&subjects::identity_mo(), claim("x"), Duration::from_millis(100)).await;
    assert_eq!(asked, Err(BusError::Timeout));
}

/// A message too large is refused where it is sent.
pub async fn too_large_is_refused(bus: &Bus) {
    let _listener = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
    let huge = Heartbeat { node: "x".repeat(MAX_MESSAGE + 1), ..Default::default() };
    assert!(matches!(bus.publish(&subjects::heartbeat(), huge).await, Err(BusError::TooLarge(_))));
}

/// Requests are shared out within a group, not asked of one member alone.
pub async fn a_group_shares_requests(bus: &Bus) {
    let subject = subjects::identity_mo();
    let mut one = bus.subscribe_group(&subject, "identity").await.expect("subscribed");
    let mut two = bus.subscribe_group(&subject, "identity").await.expect("subscribed");
    let mut answered = [0; 2];
    for _ in 0..40 {
        let answering = async {
            let (member, request) = tokio::select! {
                request = one.next() => (0, request),
                request = two.next() => (1, request),
            };
            answered[member] += 1;
            request.expect("open").reply(MoClaimed::default()).await;
        };
        let asking = bus.request::<_, MoClaimed>(&subject, claim("x"), SOON);
        let (asked, ()) = tokio::join!(asking, answering);
        assert_eq!(asked, Ok(MoClaimed::default()));
    }
    assert!(answered.iter().all(|count| *count > 0), "{answered:?}");
}

/// A dropped subscription hears nothing and answers nothing.
pub async fn dropping_unsubscribes(bus: &Bus) {
    drop(bus.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed"));
    // What is dropped is gone on the server before the next one is made.
    drop(bus.subscribe(&subjects::lease()).await.expect("subscribed"));
    let asked: Result<MoClaimed, _> = bus.request(&subjects::identity_mo(), claim("x"), SOON).await;
    assert_eq!(asked, Err(BusError::NoResponder));
}

/// Subjects of different nodes are apart.
pub async fn nodes_are_apart(bus: &Bus) {
    let mut here = bus.subscribe(&subjects::sms(&NodeId::new("here"))).await.expect("subscribed");
    let item = |n| bus::ToSms { items: vec![SmsItem { item: Some(taken(n)) }] };
    bus.publish(&subjects::sms(&NodeId::new("there")), item(1)).await.expect("published");
    bus.publish(&subjects::sms(&NodeId::new("here")), item(2)).await.expect("published");
    assert_eq!(here.next().await.expect("open").message, item(2));
}

fn taken(n: u8) -> sms_item::Item {
    sms_item::Item::ResultTaken(bus::SmsResultTaken { message_id: vec![n; 16], kind: 0 })
}

/// Items of a batcher arrive in order, in batches of at most 64.
pub async fn batches_keep_order_and_size(bus: &Bus) {
    let node = NodeId::new("batch");
    let mut listener = bus.subscribe(&subjects::sms(&node)).await.expect("subscribed");
    let fan = bus.fan(subjects::sms);
    for n in 0..200 {
        fan.push(&node, SmsItem { item: Some(taken(n)) }).expect("room");
    }
    let (mut seen, mut messages) = (Vec::new(), 0);
    while seen.len() < 200 {
        let batch = listener.next().await.expect("open").message.items;
        assert!((1..=BATCH_ITEMS).contains(&batch.len()));
        messages += 1;
        seen.extend(batch.into_iter().filter_map(|item| item.item));
    }
    assert_eq!(seen, (0..200).map(taken).collect::<Vec<_>>());
    assert!(messages <= 10, "{messages} messages for 200 items");
}

/// Types of different subjects do not meet; a broadcast reaches every gateway.
pub async fn a_broadcast_reaches_all(bus: &Bus) {
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(bus.subscribe(&subjects::gateway_fact()).await.expect("subscribed"));
    }
    let ended = SessionEnded { session_id: vec![1; 16], user: vec![2; 16] };
    bus.publish(&subjects::gateway_fact(), ended.clone()).await.expect("published");
    for gateway in &mut gateways {
        assert_eq!(gateway.next().await.expect("open").message, ended);
    }
}
