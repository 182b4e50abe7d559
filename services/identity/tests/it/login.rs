//! Logging in again: by the device's key, and without SIM by a one-time password.

use std::time::Duration;

use dialtone_identity::limits::{CODE_LIFE, LOGIN_TRIES, NONCE_LIFE, REFRESH_LIFE};
use dialtone_proto::identity::v1::flow_state::Stage;
use dialtone_proto::identity::v1::with_code_response::Outcome;
use dialtone_proto::identity::v1::{self as proto, FlowState};
use dialtone_vocab::Reason;
use ed25519_dalek::Signer;
use futures::future::join_all;
use tonic::Status;

use crate::world::*;

impl World {
    pub(crate) async fn challenge(&self, number: &str, device: u32) -> Vec<u8> {
        let ask = proto::ChallengeRequest { number: typed(number), device };
        self.login().challenge(ask).await.expect("challenged").into_inner().nonce
    }

    /// Answers a challenge with the key made of `seed`.
    pub(crate) async fn answer(
        &self,
        number: &str,
        device: u32,
        nonce: &[u8],
        seed: u8,
    ) -> Result<proto::LoggedIn, Status> {
        let message = [&b"dialtone-login-v1"[..], nonce, &device.to_be_bytes()].concat();
        self.with_signature(number, device, nonce, &device_key(seed).sign(&message).to_bytes()).await
    }

    /// A whole login by the key made of `seed`.
    pub(crate) async fn by_key(&self, number: &str, device: u32, seed: u8) -> proto::Tokens {
        let nonce = self.challenge(number, device).await;
        self.answer(number, device, &nonce, seed).await.expect("logged in").tokens.expect("tokens")
    }

    async fn with_signature(
        &self,
        number: &str,
        device: u32,
        nonce: &[u8],
        signature: &[u8],
    ) -> Result<proto::LoggedIn, Status> {
        let ask = proto::WithKeyRequest {
            number: typed(number),
            device,
            nonce: nonce.to_vec(),
            signature: signature.to_vec(),
        };
        Ok(self.login().with_key(ask).await?.into_inner().logged_in.expect("logged in"))
    }

    pub(crate) async fn with_code(
        &self,
        flow: &[u8],
        code: &str,
        key: &[u8],
        name: &str,
    ) -> Result<Outcome, Status> {
        let ask = proto::WithCodeRequest {
            flow_id: flow.to_vec(),
            code: code.to_owned(),
            device_public_key: key.to_vec(),
            device_name: name.to_owned(),
        };
        Ok(self.login().with_code(ask).await?.into_inner().outcome.expect("an outcome"))
    }
}

fn left(attempts_left: u32) -> Outcome {
    Outcome::NotPassed(proto::NotPassed { attempts_left })
}

#[tokio::test(start_paused = true)]
async fn a_device_logs_in_by_the_key_made_at_registration() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await;
    let first = anna.tokens.expect("tokens");
    let world = world.restart().await;
    let nonce = world.challenge(ANNA, 1).await;
    let again = world.answer(ANNA, 1, &nonce, 1).await.expect("logged in");
    assert_eq!((again.user, again.device, again.number.as_str()), (anna.user, 1, ANNA));
    let second = again.tokens.expect("tokens");
    assert_eq!(second.session_id, first.session_id, "its session goes on");
    world.get(&second.access).await.expect("let in");
}

#[tokio::test(start_paused = true)]
async fn two_who_hold_a_devices_key_do_not_end_each_other() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let rotated = world.refresh(&anna.refresh).await.expect("rotated");
    let first = world.by_key(ANNA, 1, 1).await;
    // Long after: an access token would be of no use any more, and nobody is in a grace.
    world.pass(REFRESH_LIFE - Duration::from_secs(60)).await;
    let second = world.by_key(ANNA, 1, 1).await;
    let again = world.by_key(ANNA, 1, 1).await;
    for old in [&anna, &rotated, &first, &second] {
        assert_eq!(reason(world.refresh(&old.refresh).await), Reason::TokenInvalid, "replaced, not stolen");
    }
    world.get(&second.access).await.expect("the one who was first is still let in");
    world.pass(Duration::from_secs(120)).await;
    let last = world.refresh(&again.refresh).await.expect("it lives as long as one of a new session");
    for tokens in [&rotated, &first, &second, &again, &last] {
        assert_eq!(tokens.session_id, anna.session_id, "one device, one session");
    }
    assert_eq!(world.sessions(&last.access).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn logins_at_once_share_the_session_that_one_of_them_begins() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    world.logout(&anna.access).await;
    let logins = join_all((0..4).map(|_| world.by_key(ANNA, 1, 1))).await;
    for login in &logins {
        assert_eq!(login.session_id, logins[0].session_id);
        assert_ne!(login.session_id, anna.session_id, "what has ended does not go on");
        world.get(&login.access).await.expect("let in");
    }
    let good = join_all(logins.iter().map(|login| world.refresh(&login.refresh))).await;
    assert_eq!(good.iter().filter(|outcome| outcome.is_ok()).count(), 1, "the last one's refresh token");
}

#[tokio::test(start_paused = true)]
async fn a_login_after_the_session_has_run_out_begins_another() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    world.pass(REFRESH_LIFE).await;
    let next = world.by_key(ANNA, 1, 1).await;
    assert_ne!(next.session_id, anna.session_id);
    assert_eq!(reason(world.refresh(&anna.refresh).await), Reason::TokenInvalid);
    world.refresh(&next.refresh).await.expect("rotated");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_together_is_refused_in_one_word() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.register(BEN, 2, "").await;
    let nonce = world.challenge(ANNA, 1).await;
    assert_eq!(reason(world.answer(ANNA, 1, &nonce, 2).await), Reason::LoginRefused, "another key");
    assert_eq!(
        reason(world.answer(ANNA, 1, &nonce, 1).await),
        Reason::LoginRefused,
        "a challenge is good for one try, whoever tries"
    );
    let nonce = world.challenge(ANNA, 1).await;
    assert_eq!(reason(world.answer(BEN, 1, &nonce, 2).await), Reason::LoginRefused, "a challenge of Anna's");
    let nonce = world.challenge(ANNA, 2).await;
    assert_eq!(reason(world.answer(ANNA, 2, &nonce, 1).await), Reason::LoginRefused, "no such device");
    let (asked, signed) = (world.challenge(ANNA, 1).await, world.challenge(ANNA, 1).await);
    let message = [&b"dialtone-login-v1"[..], &signed, &1u32.to_be_bytes()].concat();
    let signature = device_key(1).sign(&message).to_bytes();
    let refused = world.with_signature(ANNA, 1, &asked, &signature).await;
    assert_eq!(reason(refused), Reason::LoginRefused, "the signature of another challenge");
    for bad in [&[][..], &[0; 64], &[0; 63]] {
        let nonce = world.challenge(ANNA, 1).await;
        assert_eq!(reason(world.with_signature(ANNA, 1, &nonce, bad).await), Reason::LoginRefused);
    }
    for nonce in [&[][..], &[7; 31], &[7; 32]] {
        assert_eq!(reason(world.answer(ANNA, 1, nonce, 1).await), Reason::LoginRefused, "not our challenge");
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_good_once_and_for_a_minute() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    let nonce = world.challenge(ANNA, 1).await;
    world.answer(ANNA, 1, &nonce, 1).await.expect("logged in");
    assert_eq!(reason(world.answer(ANNA, 1, &nonce, 1).await), Reason::LoginRefused, "replayed");
    // Between two sweeps: it is the door that says no, not the sweep.
    world.pass(Duration::from_secs(30)).await;
    let (nearly, late) = (world.challenge(ANNA, 1).await, world.challenge(ANNA, 1).await);
    world.pass(NONCE_LIFE / 2 + Duration::from_secs(5)).await;
    world.pass(NONCE_LIFE / 2 - Duration::from_secs(6)).await;
    world.answer(ANNA, 1, &nearly, 1).await.expect("in time");
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(reason(world.answer(ANNA, 1, &late, 1).await), Reason::LoginRefused, "too late");
}

#[tokio::test(start_paused = true)]
async fn nobody_learns_who_is_a_user() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.pass(Duration::from_secs(86_400)).await;
    let nonce = world.challenge(BEN, 1).await;
    assert_eq!(nonce.len(), world.challenge(ANNA, 1).await.len());
    assert_eq!(reason(world.answer(BEN, 1, &nonce, 1).await), Reason::LoginRefused);

    let same = |state: &FlowState| FlowState { flow_id: Vec::new(), expires_ms: 0, ..state.clone() };
    let (known, unknown) =
        (world.request_code(ANNA).await.expect("asked"), world.request_code(BEN).await.expect("asked"));
    assert_eq!(same(&known), same(&unknown));
    assert_eq!((known.stage(), known.attempts_left), (Stage::CodeSent, LOGIN_TRIES));
    assert_eq!(wait(world.request_code(ANNA).await).0, Reason::SmsBudget);
    assert_eq!(wait(world.request_code(BEN).await).0, Reason::SmsBudget, "the pause is the same");
    let sms = world.sms().await;
    assert_eq!(sms.to, ANNA);
    world.no_sms().await;
    let guess = wrong(&code(&sms));
    for flow in [&known.flow_id, &unknown.flow_id] {
        for tries in (0..LOGIN_TRIES).rev() {
            assert_eq!(world.with_code(flow, &guess, &[], "").await.expect("answered"), left(tries));
        }
        assert_eq!(reason(world.with_code(flow, &guess, &[], "").await), Reason::FlowExpired);
    }
}

#[tokio::test(start_paused = true)]
async fn three_wrong_one_time_passwords_refuse_even_the_right_one() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await;
    world.pass(PAUSE).await;
    let flow = world.request_code(ANNA).await.expect("asked").flow_id;
    let right = code(&world.sms().await);
    assert_eq!(world.with_code(&flow, &wrong(&right), &[], "").await.expect("answered"), left(2));
    let mut world = world.restart().await;
    for tries in [1, 0] {
        assert_eq!(world.with_code(&flow, &wrong(&right), &[], "").await.expect("answered"), left(tries));
    }
    assert_eq!(reason(world.with_code(&flow, &right, &[], "").await), Reason::FlowExpired);

    world.pass(Duration::from_secs(61)).await;
    let flow = world.request_code(ANNA).await.expect("asked again").flow_id;
    let right = code(&world.sms().await);
    let key = device_key(9).verifying_key().to_bytes();
    let outcome = world.with_code(&flow, &right, &key, "laptop").await.expect("answered");
    let Outcome::Passed(laptop) = outcome else { panic!("the right one: {outcome:?}") };
    assert_eq!((laptop.user, laptop.device, laptop.number.as_str()), (anna.user, 2, ANNA));
    assert_eq!(reason(world.with_code(&flow, &right, &[], "").await), Reason::FlowExpired, "once");
    let nonce = world.challenge(ANNA, 2).await;
    world.answer(ANNA, 2, &nonce, 9).await.expect("and by its key from now on");
}

#[tokio::test(start_paused = true)]
async fn a_device_without_a_key_can_not_log_in_by_one() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.pass(PAUSE).await;
    let flow = world.request_code(ANNA).await.expect("asked").flow_id;
    let right = code(&world.sms().await);
    let outcome = world.with_code(&flow, &right, &[], "").await.expect("answered");
    assert!(matches!(outcome, Outcome::Passed(_)));
    let nonce = world.challenge(ANNA, 2).await;
    assert_eq!(reason(world.answer(ANNA, 2, &nonce, 1).await), Reason::LoginRefused);
}

#[tokio::test(start_paused = true)]
async fn a_one_time_password_ends() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.pass(PAUSE).await;
    let flow = world.request_code(ANNA).await.expect("asked").flow_id;
    let right = code(&world.sms().await);
    world.pass(CODE_LIFE).await;
    assert_eq!(reason(world.with_code(&flow, &right, &[], "").await), Reason::FlowExpired);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_takes_no_try() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.pass(PAUSE).await;
    let flow = world.request_code(ANNA).await.expect("asked").flow_id;
    let right = code(&world.sms().await);
    let long = "n".repeat(65);
    for (key, name) in [(&[][..], long.as_str()), (&[7; 31], "laptop")] {
        assert_eq!(reason(world.with_code(&flow, &right, key, name).await), Reason::FieldInvalid);
    }
    assert_eq!(world.with_code(&flow, &wrong(&right), &[], "").await.expect("answered"), left(2));
    let outcome = world.with_code(&flow, &right, &[], "laptop").await.expect("answered");
    assert!(matches!(outcome, Outcome::Passed(_)));
}

#[tokio::test(start_paused = true)]
async fn registrations_and_one_time_passwords_do_not_stand_for_each_other() {
    let mut world = world().await;
    world.register(ANNA, 1, "").await;
    world.pass(PAUSE).await;
    let login = world.request_code(ANNA).await.expect("asked").flow_id;
    let right = code(&world.sms().await);
    assert_eq!(reason(world.check(&login, &right).await), Reason::FlowStep);
    assert_eq!(reason(world.send_code(&login).await), Reason::FlowStep);
    assert_eq!(reason(world.start_mo(&login).await), Reason::FlowStep);
    assert_eq!(reason(world.complete(&login, 1, "").await), Reason::FlowStep);

    let registration = world.create(BEN).await.flow_id;
    world.send_code(&registration).await.expect("sent");
    let other = code(&world.sms().await);
    assert_eq!(reason(world.with_code(&registration, &other, &[], "").await), Reason::FlowStep);
    assert_ne!(other, right);
    assert_eq!(world.with_code(&login, &other, &[], "").await.expect("answered"), left(2));
    assert_eq!(world.check(&registration, &right).await.expect("answered"), not_passed(4));
}

#[tokio::test(start_paused = true)]
async fn malformed_logins_are_named() {
    let world = world().await;
    let login = || world.login();
    let nobody = proto::ChallengeRequest::default();
    assert_eq!(reason(login().challenge(nobody).await), Reason::FieldInvalid);
    let word = proto::ChallengeRequest { number: typed("Anna"), device: 1 };
    assert_eq!(reason(login().challenge(word).await), Reason::NumberMalformed);
    let local = proto::RequestCodeRequest { number: typed("(415) 555-0101") };
    assert_eq!(reason(login().request_code(local).await), Reason::NumberNeedsCountry);
    assert_eq!(
        reason(login().request_code(proto::RequestCodeRequest::default()).await),
        Reason::FieldInvalid
    );
    assert_eq!(reason(login().with_key(proto::WithKeyRequest::default()).await), Reason::FieldInvalid);
    assert_eq!(reason(world.with_code(&[], "000000", &[], "").await), Reason::FieldInvalid);
    assert_eq!(reason(world.with_code(&[7; 16], "000000", &[], "").await), Reason::FlowExpired);
}
