//! Two processes over one store: a CQL server, if there is one.

use dialtone_identity::SCHEMA;
use dialtone_proto::identity::v1::flow_state::Stage;
use dialtone_proto::identity::v1::{self as proto};
use dialtone_testkit::CqlStore;
use dialtone_vocab::Reason;
use futures::future::{join, join_all};

use crate::world::*;

/// Two processes that share a keyspace nobody else has.
async fn processes(what: &str) -> Option<(CqlStore, World, World)> {
    let store = CqlStore::fresh(what, &[SCHEMA]).await?;
    let (one, other) = two(store.open().await).await;
    Some((store, one, other))
}

/// One test for all: it takes longer to make a keyspace.
#[tokio::test]
async fn what_one_process_begins_another_goes_on_with() {
    let Some((store, mut one, other)) = processes("identity in two processes").await else { return };
    let phone = a_registration_goes_from_process_to_process(&mut one, &other).await;
    sessions_are_one_in_both(&one, &other, phone).await;
    a_flow_makes_one_device_wherever_it_is_completed(&mut one, &other).await;
    store.remove().await;
}

async fn a_registration_goes_from_process_to_process(one: &mut World, other: &World) -> proto::Tokens {
    let flow = one.create("").await.flow_id;
    let ask = proto::WatchSessionRequest { flow_id: flow.clone() };
    let mut states = other.registration().watch_session(ask).await.expect("watched").into_inner();
    let clock = &other.chassis.clock;
    let mut stage = async || {
        let told = clock.timeout(SOON, states.message()).await.expect("soon");
        told.expect("told").expect("a state").stage()
    };
    assert_eq!(stage().await, Stage::Open);
    let text = other.start_mo(&flow).await.expect("told").text;
    assert_eq!(one.start_mo(&flow).await.expect("told").text, text);
    assert!(one.text(ANNA, &text).await, "whichever process hears it");
    let code = code(&one.sms().await);
    assert_eq!(stage().await, Stage::CodeSent);
    assert_eq!(wait(other.send_code(&flow).await).0, Reason::SmsBudget, "one budget");
    let left = one.state(&flow).await.attempts_left;
    assert_eq!(one.check(&flow, &wrong(&code)).await.expect("answered"), not_passed(left - 1));
    assert_eq!(other.check(&flow, &wrong(&code)).await.expect("answered"), not_passed(left - 2));
    assert_eq!(other.check(&flow, &code).await.expect("answered"), passed(ANNA));
    let anna = one.complete(&flow, 1, "Anna").await.expect("registered");
    assert_eq!(anna.device, 1);
    while stage().await != Stage::Ended {}
    anna.tokens.expect("tokens")
}

async fn sessions_are_one_in_both(one: &World, other: &World, phone: proto::Tokens) {
    assert_eq!(other.get(&phone.access).await.expect("let in").nickname, "Anna");
    let (a, b) = join(one.by_key(ANNA, 1, 1), other.by_key(ANNA, 1, 1)).await;
    assert_eq!((&a.session_id, &b.session_id), (&phone.session_id, &phone.session_id));
    assert_eq!(reason(other.refresh(&phone.refresh).await), Reason::TokenInvalid, "renewed since");
    one.logout(&a.access).await;
    assert_eq!(reason(other.get(&b.access).await), Reason::SessionRevoked);
    // At once at both: one begins a session, the other one has it too.
    let nonces = join(one.challenge(ANNA, 1), other.challenge(ANNA, 1)).await;
    let (a, b) = join(other.answer(ANNA, 1, &nonces.0, 1), one.answer(ANNA, 1, &nonces.1, 1)).await;
    let (a, b) = (a.expect("in").tokens.expect("tokens"), b.expect("in").tokens.expect("tokens"));
    assert_eq!(a.session_id, b.session_id);
    assert_eq!(one.sessions(&a.access).await.len(), 1);
    assert_eq!(reason(one.refresh(&phone.refresh).await), Reason::SessionRevoked);
}

async fn a_flow_makes_one_device_wherever_it_is_completed(one: &mut World, other: &World) {
    let flow = one.create(BEN).await.flow_id;
    other.send_code(&flow).await.expect("sent");
    let code = code(&one.sms().await);
    assert_eq!(one.check(&flow, &code).await.expect("answered"), passed(BEN));
    let all = [one.complete(&flow, 2, ""), other.complete(&flow, 2, ""), other.complete(&flow, 2, "")];
    let mut answers = Vec::new();
    for answer in join_all(all).await {
        match answer {
            Ok(registered) => answers.push((registered.device, registered.tokens.expect("tokens"))),
            // It came when the others were done.
            Err(refused) => assert_eq!(reason(Err::<(), _>(refused)), Reason::FlowExpired),
        }
    }
    assert!(!answers.is_empty());
    for (device, tokens) in &answers {
        assert_eq!((*device, &tokens.refresh), (1, &answers[0].1.refresh), "the same answer");
    }
    assert_eq!(other.sessions(&answers[0].1.access).await.len(), 1);
    one.refresh(&answers[0].1.refresh).await.expect("rotated");
}
