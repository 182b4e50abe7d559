//! Access tokens: PASETO v4.public, short-lived, checked at every door.

use std::sync::Arc;

use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UnixMillis, UserId};
use ed25519_dalek::SigningKey;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Keeps our tokens apart from others made with the same key.
const ASSERTION: &[u8] = b"dialtone-access-v1";
/// Longer tokens are not ours.
const MAX_TOKEN_BYTES: usize = 1_024;

/// Who calls: what a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The device within the user.
    pub device: DeviceId,
    /// The login it belongs to.
    pub session: SessionId,
    /// The user's number.
    pub number: PhoneNumber,
    /// Until when the token is good.
    pub expires: UnixMillis,
}

/// A token's payload, as JSON.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// User, in hexadecimal.
    sub: String,
    /// Device.
    dev: u32,
    /// Session, in hexadecimal.
    sid: String,
    /// Number, in E.164.
    num: String,
    /// Unix milliseconds at which it runs out.
    exp: u64,
}

impl From<&Caller> for Claims {
    fn from(caller: &Caller) -> Self {
        Self {
            sub: caller.user.to_string(),
            dev: caller.device.0,
            sid: caller.session.to_string(),
            num: caller.number.to_string(),
            exp: caller.expires.0,
        }
    }
}

impl Claims {
    fn caller(&self) -> Option<Caller> {
        Some(Caller {
            user: UserId::from_slice(&hex::decode(&self.sub).ok()?).ok()?,
            device: DeviceId(self.dev),
            session: SessionId::from_slice(&hex::decode(&self.sid).ok()?).ok()?,
            number: PhoneNumber::parse_e164(&self.num).ok()?,
            expires: UnixMillis(self.exp),
        })
    }
}

/// Makes tokens; identity alone has one.
#[derive(Clone)]
pub struct Signer(Arc<AsymmetricSecretKey<V4>>);

impl Signer {
    /// From the 32-byte Ed25519 seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let pair = AsymmetricSecretKey::from(&key.to_keypair_bytes()).expect("64 bytes of a key pair");
        Self(Arc::new(pair))
    }

    /// A token for this caller, until `caller.expires`.
    pub fn sign(&self, caller: &Caller) -> String {
        let claims = serde_json::to_vec(&Claims::from(caller)).expect("plain fields become JSON");
        PublicToken::sign(&self.0, &claims, None, Some(ASSERTION))
            .expect("claims are not empty and the key is whole")
    }
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Verifier(Arc<AsymmetricPublicKey<V4>>);

impl Verifier {
    /// For tokens made by the signer of this seed.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        Self(Arc::new(AsymmetricPublicKey::from(&public).expect("32 bytes of a public key")))
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// `TOKEN_INVALID` for a token that is not ours or damaged, `TOKEN_EXPIRED` by our clock.
    pub fn verify(&self, token: &str, now: UnixMillis) -> Result<Caller, Error> {
        let caller =
            self.read(token).ok_or_else(|| Error::new(Reason::TokenInvalid, "the token is not ours"))?;
        if now >= caller.expires {
            return Err(Error::new(Reason::TokenExpired, "the token has run out"));
        }
        Ok(caller)
    }

    fn read(&self, token: &str) -> Option<Caller> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let untrusted = UntrustedToken::<pasetors::Public, V4>::try_from(token).ok()?;
        let trusted = PublicToken::verify(&self.0, &untrusted, None, Some(ASSERTION)).ok()?;
        serde_json::from_str::<Claims>(trusted.payload()).ok()?.caller()
    }
}

/// The token of an `authorization: Bearer …` header.
pub fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// What the layer found out about a call's token.
#[derive(Clone)]
pub(crate) struct Authentication(pub(crate) Result<Caller, Error>);

/// Who calls, as the layer of [`crate::server`] found out.
///
/// # Errors
/// `TOKEN_MISSING`, `TOKEN_INVALID` or `TOKEN_EXPIRED`.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Error> {
    match request.extensions().get::<Authentication>() {
        Some(Authentication(outcome)) => outcome.clone(),
        None => Err(Error::new(Reason::TokenMissing, "this call needs an access token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn caller() -> Caller {
        Caller {
            user: UserId::new([1; 16]),
            device: DeviceId(2),
            session: SessionId::new([3; 16]),
            number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
            expires: UnixMillis(1_000),
        }
    }

    fn reason(outcome: Result<Caller, Error>) -> Option<Reason> {
        outcome.err().map(|error| error.reason)
    }

    #[test]
    fn a_token_speaks_for_its_caller_until_it_expires() {
        let token = Signer::from_seed(&SEED).sign(&caller());
        let verifier = Verifier::of_seed(&SEED);
        assert_eq!(verifier.verify(&token, UnixMillis(999)), Ok(caller()));
        assert_eq!(reason(verifier.verify(&token, UnixMillis(1_000))), Some(Reason::TokenExpired));
    }

    #[test]
    fn another_key_a_damaged_token_and_garbage_are_refused() {
        let token = Signer::from_seed(&SEED).sign(&caller());
        let other = Verifier::of_seed(&[8; 32]);
        assert_eq!(reason(other.verify(&token, UnixMillis(0))), Some(Reason::TokenInvalid));
        let verifier = Verifier::of_seed(&SEED);
        let middle = token.len() / 2;
        let flipped = if &token[middle..=middle] == "A" { "B" } else { "A" };
        let damaged = format!("{}{flipped}{}", &token[..middle], &token[middle + 1..]);
        for bad in [damaged.as_str(), "", "v4.public.", "x", &"a".repeat(2_000)] {
            assert_eq!(reason(verifier.verify(bad, UnixMillis(0))), Some(Reason::TokenInvalid), "{bad}");
        }
    }

    #[test]
    fn bearer_reads_the_header_and_no_other_scheme() {
        let mut headers = http::HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert("authorization", "Bearer abc".parse().expect("header"));
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert("authorization", "Basic abc".parse().expect("header"));
        assert_eq!(bearer(&headers), None);
    }
}
