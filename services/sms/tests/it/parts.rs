//! Texts in parts, as they go over the wire.

use dialtone_sms::limits::SMS_PARTS;
use dialtone_sms::segment::{Encoding, text};
use dialtone_vocab::Reason;
use rusmpp::pdus::SubmitSm;
use rusmpp::values::{DataCoding, GsmFeatures, Npi, RegisteredDelivery, Ton};

use crate::world::*;

/// A text as it arrives at the operator: how many parts, how encoded, and what they say together.
struct Arrived {
    parts: usize,
    encoding: Encoding,
    text: String,
}

/// Checks one part: its header, its size, and how it is addressed.
fn content(submit: &SubmitSm, total: usize, place: usize) -> Vec<u8> {
    let octets = submit.short_message().as_ref();
    assert_eq!((submit.dest_addr_ton, submit.dest_addr_npi), (Ton::International, Npi::Isdn));
    assert_eq!(submit.destination_addr.as_str(), &STRANGER[1..]);
    assert_eq!(submit.registered_delivery, RegisteredDelivery::request_all());
    let has_header = submit.esm_class.gsm_features == GsmFeatures::UdhiIndicator;
    assert_eq!(has_header, total > 1);
    let content = if has_header {
        let (header, content) = octets.split_at(6);
        let (total, place) = (u8::try_from(total).expect("few"), u8::try_from(place).expect("few"));
        assert_eq!(header, [5, 0, 3, 1, total, place]);
        content
    } else {
        octets
    };
    let most = match (submit.data_coding, has_header) {
        (DataCoding::Ucs2, false) => 140,
        (DataCoding::Ucs2, true) => 134,
        (_, false) => 160,
        (_, true) => 153,
    };
    assert!(content.len() <= most, "{} octets", content.len());
    content.to_vec()
}

async fn arrives(content_sent: &str, parts: usize) -> Arrived {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, content_sent)]).await;
    let (mut shown, mut encoding) = (String::new(), Encoding::Gsm7);
    for place in 1..=parts {
        let submit = peer.taken(&place.to_string()).await;
        if submit.data_coding == DataCoding::Ucs2 {
            encoding = Encoding::Ucs2;
        }
        // Each part alone is text: nothing was cut within a character.
        shown.push_str(&text(encoding, &content(&submit, parts, place)));
    }
    no_submit(&world, &mut peer).await;
    let quote = world.quote(ANNA, content_sent).await.expect("quoted");
    assert_eq!((quote.segments as usize, quote.encoding.as_str()), (parts, encoding.name()), "as quoted");
    Arrived { parts, encoding, text: shown }
}

#[tokio::test(start_paused = true)]
async fn texts_arrive_whole_in_as_few_parts_as_there_can_be() {
    let cases = [
        (String::new(), 1, Encoding::Gsm7),
        ("a".repeat(160), 1, Encoding::Gsm7),
        ("a".repeat(161), 2, Encoding::Gsm7),
        ("a".repeat(306), 2, Encoding::Gsm7),
        ("a".repeat(307), 3, Encoding::Gsm7),
        ("a".repeat(1_530), SMS_PARTS, Encoding::Gsm7),
        // From the extension table: two septets each.
        ("[€]".repeat(26), 1, Encoding::Gsm7),
        ("[€]".repeat(27), 2, Encoding::Gsm7),
        (format!("{}€{}", "a".repeat(152), "b".repeat(20)), 2, Encoding::Gsm7),
        ("你".repeat(70), 1, Encoding::Ucs2),
        ("你".repeat(71), 2, Encoding::Ucs2),
        ("你".repeat(134), 2, Encoding::Ucs2),
        ("你".repeat(135), 3, Encoding::Ucs2),
        ("你".repeat(670), SMS_PARTS, Encoding::Ucs2),
        ("😀".repeat(35), 1, Encoding::Ucs2),
        ("😀".repeat(36), 2, Encoding::Ucs2),
        ("😀".repeat(67), 3, Encoding::Ucs2),
        (format!("{}😀{}", "你".repeat(66), "好".repeat(10)), 2, Encoding::Ucs2),
    ];
    for (sent, parts, encoding) in cases {
        let arrived = arrives(&sent, parts).await;
        assert_eq!((arrived.text, arrived.parts, arrived.encoding), (sent, parts, encoding));
    }
}

#[tokio::test(start_paused = true)]
async fn an_eleventh_part_is_refused_and_quoted_as_too_long() {
    let world = world().await;
    for (n, long) in [(1, "a".repeat(1_531)), (2, "你".repeat(671)), (3, "😀".repeat(331))] {
        assert_eq!(world.send(message(n, &long)).await.refused, "SMS_TOO_LONG");
        assert_eq!(world.quote(ANNA, &long).await.expect_err("refused"), Reason::NoSmsText);
    }
}

#[tokio::test(start_paused = true)]
async fn the_prefix_is_part_of_the_text_and_of_its_quote() {
    let config = dialtone_sms::Config { prefix: "{number}: ".into(), ..config() };
    let mut world = start(Setup { config, ..Setup::default() }).await;
    let mut peer = world.operator().await;
    let quote = world.quote(ANNA, &"a".repeat(147)).await.expect("quoted");
    assert_eq!((quote.segments, quote.price_micros, quote.currency.as_str()), (2, 15_000, "USD"));
    assert_eq!(world.quote(ANNA, &"a".repeat(146)).await.expect("quoted").segments, 1);
    world.sends([message(1, "dinner?")]).await;
    assert_eq!(peer.taken("a").await.short_message().as_ref(), b"+14155550101: dinner?");
}
