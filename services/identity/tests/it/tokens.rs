//! Tokens, sessions, and how they end.

use std::time::Duration;

use dialtone_bus::{Subscription, subjects};
use dialtone_chassis::Secrets;
use dialtone_chassis::auth::Caller;
use dialtone_identity::limits::{ACCESS_LIFE, REFRESH_GRACE, REFRESH_LIFE, SESSIONS_LISTED, SWEEP_EVERY};
use dialtone_proto::bus::v1::SessionEnded;
use dialtone_proto::identity::v1::{self as proto, Tokens};
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UserId};
use tonic::Code;

use crate::world::*;

impl World {
    pub(crate) async fn sessions(&self, token: &str) -> Vec<proto::Session> {
        let ask = with(token, proto::ListSessionsRequest {});
        self.account().list_sessions(ask).await.expect("listed").into_inner().sessions
    }

    pub(crate) async fn logout(&self, token: &str) {
        self.account().logout(with(token, proto::LogoutRequest {})).await.expect("out");
    }

    pub(crate) async fn revoke(&self, token: &str, session: &[u8]) {
        let ask = proto::RevokeSessionRequest { session_id: session.to_vec() };
        self.account().revoke_session(with(token, ask)).await.expect("answered");
    }

    async fn ended(&self) -> Subscription<SessionEnded> {
        self.bus.subscribe(&subjects::gateway_fact()).await.expect("subscribed")
    }

    /// Nothing ends within ten seconds of the stopped clock.
    async fn no_end(&self, ended: &mut Subscription<SessionEnded>) {
        let waited = self.chassis.clock.timeout(Duration::from_secs(10), ended.next()).await;
        assert!(waited.is_err(), "a session was ended");
    }

    /// Anna's number on another device: its tokens.
    async fn second_device(&mut self, number: &str) -> Tokens {
        self.pass(PAUSE).await;
        self.register(number, 2, "").await.tokens.expect("tokens")
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_needs_a_token_of_ours_that_has_not_run_out() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await;
    let tokens = anna.tokens.expect("tokens");
    let user = UserId::from_slice(&anna.user.expect("a user").id).expect("16 bytes");
    let caller = Caller {
        user,
        device: DeviceId(1),
        session: SessionId::from_slice(&tokens.session_id).expect("16 bytes"),
        number: PhoneNumber::parse_e164(ANNA).expect("a number"),
        expires: world.chassis.clock.now().plus(ACCESS_LIFE),
    };
    let foreign = Secrets { token_seed: [9; 32], ..Secrets::for_tests() }.signer().sign(&caller);
    let missing = world.account().get(proto::GetRequest {}).await.expect_err("refused");
    assert_eq!(missing.code(), Code::Unauthenticated);
    assert_eq!(reason::<()>(Err(missing)), Reason::TokenMissing);
    assert_eq!(reason(world.get("nonsense").await), Reason::TokenInvalid);
    assert_eq!(reason(world.get(&tokens.refresh).await), Reason::TokenInvalid, "not a refresh token");
    assert_eq!(reason(world.get(&foreign).await), Reason::TokenInvalid, "signed by another key");
    let unknown = Caller { session: SessionId::new([5; 16]), ..caller.clone() };
    let unknown = world.secrets.signer().sign(&unknown);
    assert_eq!(reason(world.get(&unknown).await), Reason::TokenInvalid, "of no session");
    let update = proto::UpdateRequest { nickname: "Anna".into() };
    assert_eq!(reason(world.account().update(update).await), Reason::TokenMissing);
    assert_eq!(reason(world.account().logout(proto::LogoutRequest {}).await), Reason::TokenMissing);

    world.get(&tokens.access).await.expect("let in");
    let life = tokens.access_expires_ms - world.chassis.clock.now().0;
    assert!(life <= 900_000 && life > 899_000, "15 minutes, and the client knows: {life}");
    world.pass(ACCESS_LIFE).await;
    assert_eq!(reason(world.get(&tokens.access).await), Reason::TokenExpired);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_rotates_and_a_lost_answer_may_be_asked_for_again() {
    let mut world = world().await;
    let first = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    world.pass(ACCESS_LIFE).await;
    let second = world.refresh(&first.refresh).await.expect("rotated");
    assert_ne!(second.refresh, first.refresh);
    assert_eq!(second.session_id, first.session_id, "the same session");
    world.get(&second.access).await.expect("let in");
    // The answer was lost: the client has the first one only.
    let third = world.refresh(&first.refresh).await.expect("asked again at once");
    assert_eq!(reason(world.refresh(&second.refresh).await), Reason::TokenInvalid, "nobody has it");
    let world = world.restart().await;
    world.refresh(&third.refresh).await.expect("and goes on");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_used_again_later_ends_the_session() {
    let mut world = world().await;
    let first = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let mut ended = world.ended().await;
    let second = world.refresh(&first.refresh).await.expect("rotated");
    world.pass(REFRESH_GRACE).await;
    assert_eq!(reason(world.refresh(&first.refresh).await), Reason::SessionRevoked, "somebody has a copy");
    let told = world.next(&mut ended).await.message;
    assert_eq!(told.session_id, first.session_id, "its streams are closed");
    assert_eq!(reason(world.refresh(&second.refresh).await), Reason::SessionRevoked, "for both of them");
    assert_eq!(reason(world.get(&second.access).await), Reason::SessionRevoked);
    let world = world.restart().await;
    assert_eq!(reason(world.refresh(&second.refresh).await), Reason::SessionRevoked);
}

#[tokio::test(start_paused = true)]
async fn refresh_tokens_that_are_not_ours_or_too_old_are_refused() {
    let mut world = world().await;
    let anna = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let ben = world.register(BEN, 2, "").await.tokens.expect("tokens");
    let (session, secret) = anna.refresh.split_once('.').expect("two parts");
    let (_, of_ben) = ben.refresh.split_once('.').expect("two parts");
    let unknown = "0".repeat(32);
    for bad in [
        String::new(),
        "nonsense".into(),
        anna.access.clone(),
        format!("{session}."),
        format!("{session}.{of_ben}"),
        format!("{unknown}.{secret}"),
        format!("{session}.{}", "é".repeat(32)),
    ] {
        assert_eq!(reason(world.refresh(&bad).await), Reason::TokenInvalid, "{bad}");
    }
    world.refresh(&anna.refresh).await.expect("still good: a wrong secret is nobody's copy");
    world.pass(REFRESH_LIFE).await;
    assert_eq!(reason(world.refresh(&ben.refresh).await), Reason::TokenInvalid, "60 days");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_until_they_are_revoked() {
    let mut world = world().await;
    let phone = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let laptop = world.second_device(ANNA).await;
    let ben = world.register(BEN, 3, "").await.tokens.expect("tokens");
    let mut ended = world.ended().await;
    let listed = world.sessions(&laptop.access).await;
    let current = |id: &[u8]| listed.iter().find(|session| session.session_id == id).map(|s| s.current);
    assert_eq!(listed.len(), 2, "one's own");
    assert_eq!((current(&phone.session_id), current(&laptop.session_id)), (Some(false), Some(true)));
    assert!(listed.iter().all(|session| session.device_name == "phone" && session.created_ms > 0));

    world.revoke(&ben.access, &phone.session_id).await;
    world.no_end(&mut ended).await;
    world.get(&phone.access).await.expect("it was not Ben's to end");
    world.revoke(&laptop.access, &phone.session_id).await;
    let told = world.next(&mut ended).await.message;
    assert_eq!(told.session_id, phone.session_id);
    assert_eq!(world.sessions(&laptop.access).await.len(), 1);
    assert_eq!(reason(world.refresh(&phone.refresh).await), Reason::SessionRevoked);
    let refused = world.account().list_sessions(with(&phone.access, proto::ListSessionsRequest {})).await;
    assert_eq!(reason(refused), Reason::SessionRevoked, "its access token is good for nothing here");
    let back = proto::RevokeSessionRequest { session_id: laptop.session_id.clone() };
    assert_eq!(
        reason(world.account().revoke_session(with(&phone.access, back)).await),
        Reason::SessionRevoked,
        "who was thrown out does not throw out others"
    );
    let short = proto::RevokeSessionRequest { session_id: vec![1; 3] };
    let refused = world.account().revoke_session(with(&laptop.access, short)).await;
    assert_eq!(reason(refused), Reason::FieldInvalid);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_goes_on_is_listed_however_many_have_ended() {
    let mut world = world().await;
    let mut phone = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let laptop = world.second_device(ANNA).await;
    for _ in 0..4 * SESSIONS_LISTED {
        world.logout(&phone.access).await;
        phone = world.by_key(ANNA, 1, 1).await;
    }
    let listed = world.sessions(&laptop.access).await;
    let ids: Vec<_> = listed.iter().map(|session| &session.session_id).collect();
    assert_eq!(ids, [&laptop.session_id, &phone.session_id], "one's own first");
    world.pass(REFRESH_LIFE - Duration::from_secs(60)).await;
    let renewed = world.by_key(ANNA, 1, 1).await;
    world.pass(Duration::from_secs(60)).await;
    let listed = world.sessions(&renewed.access).await;
    assert_eq!(listed.len(), 1, "the laptop's has run out");
    assert!(listed[0].current);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_ended_is_forgotten_when_its_refresh_token_has_run_out() {
    let mut world = world().await;
    let phone = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    world.logout(&phone.access).await;
    let told = async |world: &World| reason(world.refresh(&phone.refresh).await);
    let soon = SWEEP_EVERY + Duration::from_secs(1);
    world.pass(REFRESH_LIFE - 2 * soon).await;
    // Sleeping, not only letting time pass: the sweep has its turn.
    world.chassis.clock.sleep(soon).await;
    assert_eq!(told(&world).await, Reason::SessionRevoked);
    world.chassis.clock.sleep(2 * soon).await;
    assert_eq!(told(&world).await, Reason::TokenInvalid, "as if it had never been");
}

#[tokio::test(start_paused = true)]
async fn a_logout_ends_the_session_that_calls_and_no_other() {
    let mut world = world().await;
    let phone = world.register(ANNA, 1, "").await.tokens.expect("tokens");
    let laptop = world.second_device(ANNA).await;
    let mut ended = world.ended().await;
    world.logout(&phone.access).await;
    assert_eq!(world.next(&mut ended).await.message.session_id, phone.session_id);
    let world = world.restart().await;
    assert_eq!(reason(world.refresh(&phone.refresh).await), Reason::SessionRevoked);
    assert_eq!(reason(world.get(&phone.access).await), Reason::SessionRevoked);
    world.get(&laptop.access).await.expect("let in");
    world.refresh(&laptop.refresh).await.expect("rotated");
}

#[tokio::test(start_paused = true)]
async fn a_nickname_is_ones_own_to_change() {
    let mut world = world().await;
    let tokens = world.register(ANNA, 1, "Anna").await.tokens.expect("tokens");
    for name in ["Änne", "", &"n".repeat(64)] {
        let ask = proto::UpdateRequest { nickname: name.to_owned() };
        world.account().update(with(&tokens.access, ask)).await.expect("changed");
        assert_eq!(world.get(&tokens.access).await.expect("let in").nickname, name);
    }
    let long = proto::UpdateRequest { nickname: "n".repeat(65) };
    assert_eq!(reason(world.account().update(with(&tokens.access, long)).await), Reason::FieldInvalid);
}
