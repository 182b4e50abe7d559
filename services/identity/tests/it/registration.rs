//! Registration by nothing but the number: by a text of the phone (MO) and by a code that we send (MT).

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_identity::limits::{CODE_LIFE, DEVICES, FLOW_LIFE, REGISTRATION_TRIES};
use dialtone_proto::bus::v1::sms_submit::Kind;
use dialtone_proto::identity::v1::check_code_response::Outcome as Checked;
use dialtone_proto::identity::v1::flow_state::Stage;
use dialtone_proto::identity::v1::{self as proto, FlowState};
use dialtone_proto::types::v1::TypedNumber;
use dialtone_vocab::Reason;
use futures::future::join_all;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_phone_registers_by_texting() {
    let mut world = world().await;
    let opened = world.create("").await;
    assert_eq!((opened.stage(), opened.attempts_left), (Stage::Open, REGISTRATION_TRIES));
    assert_eq!(reason(world.send_code(&opened.flow_id).await), Reason::FlowStep, "to which number?");
    let told = world.start_mo(&opened.flow_id).await.expect("told");
    assert_eq!(told.service_number, SERVICE);
    let again = world.start_mo(&opened.flow_id).await.expect("told again");
    assert_eq!(again.text, told.text, "what was texted already still counts");

    assert!(world.text(ANNA, &format!(" {}\n", told.text)).await);
    let sms = world.sms().await;
    assert_eq!((sms.to.as_str(), sms.kind()), (ANNA, Kind::Code));
    let code = code(&sms);
    assert_eq!(world.check(&opened.flow_id, &wrong(&code)).await.expect("answered"), not_passed(4));
    assert_eq!(world.check(&opened.flow_id, &code).await.expect("answered"), passed(ANNA));
    assert_eq!(world.state(&opened.flow_id).await.attempts_left, 3, "the right one took a try too");

    let anna = world.complete(&opened.flow_id, 1, "").await.expect("registered");
    assert_eq!((anna.number.as_str(), anna.device), (ANNA, 1));
    let account = world.get(&anna.tokens.expect("tokens").access).await.expect("let in");
    assert_eq!((account.numbers, account.nickname), (vec![ANNA.to_owned()], String::new()));
    assert_eq!(account.user, anna.user);
    assert_eq!(reason(world.complete(&opened.flow_id, 1, "").await), Reason::FlowExpired);
}

#[tokio::test(start_paused = true)]
async fn a_phone_registers_by_a_code_sent_to_it_and_may_have_a_nickname() {
    let mut world = world().await;
    let number = TypedNumber { text: "(415) 555-0102".into(), region: "us".into() };
    let ask = proto::CreateSessionRequest { number: Some(number) };
    let opened = world.registration().create_session(ask).await.expect("opened").into_inner();
    let flow = opened.state.expect("a state").flow_id;
    let sent = world.send_code(&flow).await.expect("sent");
    assert_eq!((sent.stage(), sent.next_sms_seconds), (Stage::CodeSent, 30));
    let sms = world.sms().await;
    assert_eq!(sms.to, BEN);
    assert_eq!(
        reason(world.complete(&flow, 2, "Ben").await),
        Reason::FlowStep,
        "not before the code is back"
    );
    assert_eq!(world.check(&flow, &code(&sms)).await.expect("answered"), passed(BEN));
    assert_eq!(reason(world.complete(&flow, 2, &"B".repeat(65)).await), Reason::FieldInvalid);
    let ben = world.complete(&flow, 2, "Ben").await.expect("registered");
    let account = world.get(&ben.tokens.expect("tokens").access).await.expect("let in");
    assert_eq!((account.nickname.as_str(), account.numbers), ("Ben", vec![BEN.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_source_address_is_only_a_claim() {
    let mut world = world().await;
    let flow = world.create("").await.flow_id;
    let text = world.start_mo(&flow).await.expect("told").text;
    // Somebody texts with Ben's number forged: the code goes to Ben, and Ben does not return it.
    assert!(world.text(BEN, &text).await);
    let to_ben = world.sms().await;
    assert_eq!(to_ben.to, BEN);
    assert_eq!(reason(world.complete(&flow, 1, "").await), Reason::FlowStep);
    // A code that went to their own number proves nothing about Ben's.
    let own = world.create(ANNA).await.flow_id;
    world.send_code(&own).await.expect("sent");
    let to_anna = code(&world.sms().await);
    assert_ne!(to_anna, code(&to_ben));
    assert_eq!(world.check(&flow, &to_anna).await.expect("answered"), not_passed(4));
    // Nor can the flow be taken to another number by texting again.
    world.pass(PAUSE).await;
    assert!(world.text(ANNA, &text).await);
    world.no_sms().await;
    assert_eq!(world.check(&flow, &code(&to_ben)).await.expect("answered"), passed(BEN));
}

#[tokio::test(start_paused = true)]
async fn a_text_from_another_number_than_the_flows_is_taken_and_does_nothing() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    let text = world.start_mo(&flow).await.expect("told").text;
    assert!(world.text(BEN, &text).await, "it is ours, so it is nobody's message");
    world.no_sms().await;
    assert_eq!(world.state(&flow).await.stage(), Stage::Open);
    assert!(world.text(ANNA, &text).await);
    assert_eq!(world.sms().await.to, ANNA);
    assert!(world.text(ANNA, &text).await, "texting twice within the pause");
    world.no_sms().await;
}

#[tokio::test(start_paused = true)]
async fn texts_of_no_open_flow_are_not_claimed() {
    let mut world = world().await;
    let flow = world.create("").await.flow_id;
    let text = world.start_mo(&flow).await.expect("told").text;
    let token = text.strip_prefix("DT ").expect("a prefix");
    for foreign in ["", "hello", "DT ", "DT AAAAAAAAAAAAAAAAAAAA", token] {
        assert!(!world.text(ANNA, foreign).await, "{foreign:?}");
    }
    assert!(!world.text("Bank", &text).await, "no number can be proven by an alphanumeric source");
    world.pass(FLOW_LIFE - Duration::from_secs(30)).await;
    world.pass(Duration::from_secs(30)).await;
    assert!(!world.text(ANNA, &text).await, "the flow is over");
    world.pass(Duration::from_secs(60)).await;
    assert!(!world.text(ANNA, &text).await, "and swept away");
    world.no_sms().await;
}

#[tokio::test(start_paused = true)]
async fn five_wrong_codes_use_a_code_up_and_the_next_one_begins_anew() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    world.send_code(&flow).await.expect("sent");
    let first = code(&world.sms().await);
    for left in (0..REGISTRATION_TRIES).rev() {
        assert_eq!(world.check(&flow, &wrong(&first)).await.expect("answered"), not_passed(left));
    }
    assert_eq!(reason(world.check(&flow, &first).await), Reason::FlowExpired, "even the right one");
    world.pass(PAUSE).await;
    assert_eq!(world.send_code(&flow).await.expect("sent").attempts_left, REGISTRATION_TRIES);
    let second = code(&world.sms().await);
    assert_ne!(first, second);
    assert_eq!(world.check(&flow, &first).await.expect("answered"), not_passed(4), "the code before is dead");
    assert_eq!(world.check(&flow, &second).await.expect("answered"), passed(ANNA));
    assert_eq!(
        world.check(&flow, &second).await.expect("answered"),
        passed(ANNA),
        "a lost answer is told again"
    );
    assert_eq!(reason(world.check(&flow, &wrong(&second)).await), Reason::FlowExpired);
    world.complete(&flow, 1, "").await.expect("registered");
    assert_eq!(reason(world.check(&flow, &second).await), Reason::FlowExpired, "until it has ended");
}

#[tokio::test(start_paused = true)]
async fn tries_are_taken_durably_before_anything_is_compared() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    world.send_code(&flow).await.expect("sent");
    let code = code(&world.sms().await);
    for answer in [&wrong(&code), &code] {
        world.disk.fail_next(1);
        // Right or wrong, it is the same: what can't be counted is not compared.
        assert_eq!(reason(world.check(&flow, answer).await), Reason::StoreUnavailable);
        world = world.restart().await;
        let state = world.state(&flow).await;
        assert_eq!((state.stage(), state.attempts_left), (Stage::CodeSent, REGISTRATION_TRIES));
    }
    assert_eq!(world.check(&flow, &wrong(&code)).await.expect("answered"), not_passed(4));
    assert_eq!(world.check(&flow, &wrong(&code)).await.expect("answered"), not_passed(3));
    let world = world.restart().await;
    assert_eq!(world.state(&flow).await.attempts_left, 3, "a restart gives none back");
    assert_eq!(world.check(&flow, &wrong(&code)).await.expect("answered"), not_passed(2));
    assert_eq!(world.check(&flow, &code).await.expect("answered"), passed(ANNA));
}

#[tokio::test(start_paused = true)]
async fn tries_at_once_are_counted_one_by_one() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    world.send_code(&flow).await.expect("sent");
    let guess = wrong(&code(&world.sms().await));
    let guesses = (0..20).map(|_| world.check(&flow, &guess));
    let mut left = Vec::new();
    for outcome in join_all(guesses).await {
        match outcome {
            Ok(Checked::NotPassed(not_passed)) => left.push(not_passed.attempts_left),
            other => assert_eq!(reason(other), Reason::FlowExpired, "no try is left for it"),
        }
    }
    left.sort_unstable();
    assert_eq!(left, Vec::from_iter(0..REGISTRATION_TRIES), "as many answers as tries, each took its own");
    assert_eq!(world.state(&flow).await.attempts_left, 0);
}

#[tokio::test(start_paused = true)]
async fn two_completions_at_once_make_one_device() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    world.send_code(&flow).await.expect("sent");
    let code = code(&world.sms().await);
    world.check(&flow, &code).await.expect("passed");
    let outcomes = join_all([world.complete(&flow, 1, ""), world.complete(&flow, 2, "")]).await;
    let registered: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(registered.len(), 1);
    assert_eq!(registered[0].device, 1);
}

#[tokio::test(start_paused = true)]
async fn codes_and_flows_have_an_end() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    let verified = world.create(BEN).await.flow_id;
    for flow in [&flow, &verified] {
        world.send_code(flow).await.expect("sent");
    }
    let (first, second) = (code(&world.sms().await), code(&world.sms().await));
    world.check(&verified, &second).await.expect("passed");
    world.pass(CODE_LIFE).await;
    assert_eq!(reason(world.check(&flow, &first).await), Reason::FlowExpired, "the code is too old");
    world.send_code(&flow).await.expect("a new one may be asked for");
    let late = code(&world.sms().await);
    world.pass(FLOW_LIFE - CODE_LIFE).await;
    assert_eq!(reason(world.check(&flow, &late).await), Reason::FlowExpired);
    assert_eq!(reason(world.send_code(&flow).await), Reason::FlowExpired);
    assert_eq!(reason(world.start_mo(&flow).await), Reason::FlowExpired);
    assert_eq!(
        reason(world.complete(&verified, 1, "").await),
        Reason::FlowExpired,
        "proven, but too long ago"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_every_stage_and_then_the_end() {
    let mut world = world().await;
    let flow = world.create(ANNA).await.flow_id;
    let ask = proto::WatchSessionRequest { flow_id: flow.clone() };
    let mut states = world.registration().watch_session(ask).await.expect("watched").into_inner();
    let mut stages = vec![states.message().await.expect("told").expect("a state").stage()];
    world.send_code(&flow).await.expect("sent");
    stages.push(states.message().await.expect("told").expect("a state").stage());
    let code = code(&world.sms().await);
    world.check(&flow, &code).await.expect("passed");
    stages.push(states.message().await.expect("told").expect("a state").stage());
    world.complete(&flow, 1, "").await.expect("registered");
    stages.push(states.message().await.expect("told").expect("a state").stage());
    assert_eq!(stages, [Stage::Open, Stage::CodeSent, Stage::Verified, Stage::Ended]);
    assert_eq!(states.message().await.expect("ended"), None);
}

#[tokio::test(start_paused = true)]
async fn known_and_unknown_numbers_are_answered_alike() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "Anna").await;
    world.pass(Duration::from_secs(86_400)).await;
    let mut answers = Vec::new();
    for number in [ANNA, BEN] {
        let opened = world.create(number).await;
        let sent = world.send_code(&opened.flow_id).await.expect("sent");
        assert_eq!(world.sms().await.to, number);
        let forget = |state: FlowState| FlowState { flow_id: Vec::new(), expires_ms: 0, ..state };
        answers.push([forget(opened), forget(sent)]);
    }
    assert_eq!(answers[0], answers[1]);
    // Who registers a number that has a user becomes a further device of that user.
    world.pass(PAUSE).await;
    let again = world.register(ANNA, 2, "").await;
    assert_eq!((again.user, again.device), (anna.user, 2));
    let account = world.get(&again.tokens.expect("tokens").access).await.expect("let in");
    assert_eq!(account.nickname, "Anna", "no nickname given, none taken");
}

#[tokio::test(start_paused = true)]
async fn a_user_with_too_many_devices_is_told_so() {
    let mut world = world().await;
    for device in 1..=DEVICES {
        assert_eq!(world.register(ANNA, 1, "").await.device, device);
        world.pass(Duration::from_secs(86_400)).await;
    }
    let flow = world.create(ANNA).await.flow_id;
    world.send_code(&flow).await.expect("sent");
    let code = code(&world.sms().await);
    world.check(&flow, &code).await.expect("passed");
    let refused = Error::from_status(&world.complete(&flow, 1, "").await.expect_err("refused"));
    assert_eq!(refused.reason, Reason::TooLarge, "and not that it may work in a moment");
    assert_eq!(refused.details, [("limit".to_owned(), DEVICES.to_string())]);
}

#[tokio::test(start_paused = true)]
async fn numbers_that_are_none_and_fields_that_are_missing_are_named() {
    let world = world().await;
    let number = |text: &str, region: &str| {
        let number = Some(TypedNumber { text: text.to_owned(), region: region.to_owned() });
        proto::CreateSessionRequest { number }
    };
    for (ask, expected) in [
        (number("Anna", "US"), Reason::NumberMalformed),
        (number("+1415", ""), Reason::NumberMalformed),
        (number("555-0102", "US"), Reason::NumberMalformed),
        (number("(415) 555-0101", ""), Reason::NumberNeedsCountry),
        (number("(415) 555-0101", "USA"), Reason::FieldInvalid),
    ] {
        assert_eq!(reason(world.registration().create_session(ask.clone()).await), expected, "{ask:?}");
    }
    let unknown = [7; 16];
    assert_eq!(reason(world.start_mo(&unknown).await), Reason::FlowExpired);
    assert_eq!(reason(world.send_code(&unknown).await), Reason::FlowExpired);
    assert_eq!(reason(world.check(&unknown, "000000").await), Reason::FlowExpired);
    assert_eq!(reason(world.complete(&unknown, 1, "").await), Reason::FlowExpired);
    let watch = |flow: &[u8]| proto::WatchSessionRequest { flow_id: flow.to_vec() };
    assert_eq!(reason(world.registration().watch_session(watch(&unknown)).await), Reason::FlowExpired);
    for short in [&[][..], &[7; 15]] {
        assert_eq!(reason(world.start_mo(short).await), Reason::FieldInvalid);
        assert_eq!(reason(world.send_code(short).await), Reason::FieldInvalid);
        assert_eq!(reason(world.check(short, "000000").await), Reason::FieldInvalid);
        assert_eq!(reason(world.complete(short, 1, "").await), Reason::FieldInvalid);
        assert_eq!(reason(world.registration().watch_session(watch(short)).await), Reason::FieldInvalid);
    }
    let flow = world.create(ANNA).await.flow_id;
    assert_eq!(reason(world.check(&flow, "000000").await), Reason::FlowStep, "no code was sent");
    let keyless = proto::CompleteRequest { flow_id: flow, ..Default::default() };
    assert_eq!(reason(world.registration().complete(keyless).await), Reason::FieldInvalid);
}
