//! The bridge and the embedded centre together: what a phone shows and sends, over SMPP.
#![expect(clippy::disallowed_methods, reason = "the real TCP connection has no stopped clock to wait by")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dialtone_chassis::{Channel, Chassis, Error, listen, server};
use dialtone_proto::bus::v1::SmsSubmit;
use dialtone_proto::sms::sim::v1::handsets_client::HandsetsClient;
use dialtone_proto::sms::sim::v1::{SendSmsRequest, SetPowerRequest};
use dialtone_proto::types::v1::FateKind;
use dialtone_sms::Dial;
use dialtone_sms::centre::Centre;
use dialtone_sms::limits::HANDSET_SMS;
use dialtone_vocab::Reason;
use tokio::sync::watch;

use crate::world::*;

fn handsets(chassis: &Chassis, centre: &Centre) -> HandsetsClient<Channel> {
    HandsetsClient::new(Channel::Local(server::layers(chassis, centre.handsets(), None, &[])))
}

fn text(to: &str, text: &str) -> SendSmsRequest {
    SendSmsRequest { from: STRANGER.into(), to: to.into(), text: text.into() }
}

/// A bridge and a centre, each a process of its own.
async fn with_centre() -> (World, Chassis, Centre) {
    let operator = Chassis::for_tests(2);
    let (centre, dial) = centre(&operator);
    let world = start(Setup { dial: Some(dial), ..Setup::default() }).await;
    (world, operator, centre)
}

#[tokio::test(start_paused = true)]
async fn a_long_text_with_emoji_is_shown_whole_and_reported() {
    let (mut world, _operator, centre) = with_centre().await;
    let long = "dinner at eight 😀 ".repeat(20);
    world.sends([message(1, &long)]).await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    let sms = centre.sms_of(STRANGER).await;
    assert_eq!(sms.len(), 1);
    assert_eq!((sms[0].from.as_str(), sms[0].text.as_str(), sms[0].parts), (POOL[0], long.as_str(), 6));
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_off_gets_it_when_it_is_on_and_only_then_it_is_delivered() {
    let (mut world, operator, centre) = with_centre().await;
    let mut phone = handsets(&operator, &centre);
    let power = |on| SetPowerRequest { number: STRANGER.into(), on };
    phone.set_power(power(false)).await.expect("off");
    world.sends([message(1, "later")]).await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    let clock = world.chassis.clock.clone();
    assert!(clock.timeout(Duration::from_secs(120), world.result()).await.is_err(), "it is not delivered");
    assert!(centre.sms_of(STRANGER).await.is_empty());
    phone.set_power(power(true)).await.expect("on");
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    assert_eq!(centre.sms_of(STRANGER).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_sms_from_phone_to_phone_waits_too_until_it_is_on_and_only_so_many() {
    let (mut world, operator, centre) = with_centre().await;
    let mut phone = handsets(&operator, &centre);
    let off = "+14155550177";
    let power = |on| SetPowerRequest { number: off.into(), on };
    phone.set_power(power(false)).await.expect("off");
    let long = "later 😀".repeat(20);
    phone.send_sms(text(off, &long)).await.expect("sent");
    world.sends([SmsSubmit { to: off.into(), ..message(1, "between") }]).await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    for _ in 0..HANDSET_SMS - 5 {
        phone.send_sms(text(off, "more")).await.expect("sent");
    }
    let refused = phone.send_sms(text(off, &long)).await.expect_err("three parts, and not all have room");
    assert_eq!(Error::from_status(&refused).reason, Reason::Busy);
    assert!(centre.sms_of(off).await.is_empty());
    phone.set_power(power(true)).await.expect("on");
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    let shown = centre.sms_of(off).await;
    let shown: Vec<_> = shown.iter().map(|sms| (sms.from.as_str(), sms.text.as_str())).collect();
    assert_eq!(shown[..3], [(STRANGER, long.as_str()), (POOL[0], "between"), (STRANGER, "more")]);
    assert_eq!(shown.len(), HANDSET_SMS - 3, "as they were sent, nothing of the refused one");
    phone.send_sms(text(off, "now")).await.expect("sent");
    assert_eq!(centre.sms_of(off).await.last().expect("some").text, "now");
}

#[tokio::test(start_paused = true)]
async fn a_reply_of_ten_parts_finds_its_conversation_and_an_eleventh_is_refused_by_the_phone() {
    let (mut world, operator, centre) = with_centre().await;
    let mut phone = handsets(&operator, &centre);
    world.sends([message(1, "tell me all")]).await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    let all = "😀你".repeat(220);
    phone.send_sms(text(POOL[0], &all)).await.expect("sent");
    assert_eq!(world.offered().await, [(ANNA, STRANGER.to_owned(), all)]);
    let refused = phone.send_sms(text(POOL[0], &"😀".repeat(331))).await.expect_err("eleven parts");
    assert_eq!(Error::from_status(&refused).reason, Reason::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn an_sms_that_identity_could_not_be_asked_about_comes_again_by_itself() {
    let (mut world, operator, centre) = with_centre().await;
    world.sends([message(1, "dinner?")]).await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    world.identity.set_away(true);
    handsets(&operator, &centre).send_sms(text(POOL[0], "yes")).await.expect("sent");
    let clock = world.chassis.clock.clone();
    let minute = Duration::from_secs(60);
    assert!(clock.timeout(minute, world.offer()).await.is_err(), "not while nobody knows whose it is");
    world.identity.set_away(false);
    assert_eq!(world.offered().await, [(ANNA, STRANGER.to_owned(), "yes".to_owned())]);
    assert!(clock.timeout(minute, world.offer()).await.is_err(), "once");
}

/// Waits in real time until something is there.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come");
}

/// Makes a centre listen; where.
async fn listening(centre: &Centre) -> SocketAddr {
    let listener = listen::bind(([127, 0, 0, 1], 0).into(), "centre.listen").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    centre.listen(listener);
    addr
}

#[tokio::test]
async fn over_a_real_tcp_connection_there_and_back_and_again_after_the_centre_was_away() {
    let operator = Chassis::for_tests(2);
    let (centre, _) = centre(&operator);
    // Where the operator is now. While it is away nobody is dialled: its port may be another's by then.
    let (at, there) = watch::channel(Some(listening(&centre).await));
    let dial: Dial = Arc::new(move || match *there.borrow() {
        Some(addr) => dialtone_sms::tcp(addr.to_string())(),
        None => Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) }),
    });
    let mut world = start(Setup { dial: Some(dial), ..Setup::default() }).await;
    world.patience = Duration::from_secs(30);
    world.sends([message(1, &"over TCP 😀 ".repeat(20))]).await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    handsets(&operator, &centre).send_sms(text(POOL[0], "and back")).await.expect("sent");
    assert_eq!(world.offered().await, [(ANNA, STRANGER.to_owned(), "and back".to_owned())]);
    at.send_replace(None);
    assert!(operator.tasks.shutdown(Duration::from_secs(10)).await, "the centre goes away");
    until(async || world.missing()).await;
    world.sends([message(2, "waits for the operator")]).await;
    let operator = Chassis::for_tests(3);
    let (centre, _) = self::centre(&operator);
    at.send_replace(Some(listening(&centre).await));
    assert_eq!(world.result().await, (2, FateKind::SmsSubmitted, String::new()));
    assert_eq!(centre.sms_of(STRANGER).await[0].text, "waits for the operator");
}
