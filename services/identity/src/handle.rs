//! What identity does, in domain words: flows here, logins and accounts beside.

mod account;
mod login;

use std::time::Duration;

use dialtone_chassis::auth::{Caller, Signer};
use dialtone_chassis::{Backoff, Chassis, Error, NumberKey, Secrets};
use dialtone_proto::identity::v1 as proto;
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UnixMillis, UserId};
use tokio::sync::broadcast;

use crate::bus::CodeSender;
use crate::config::Config;
use crate::error;
use crate::limits::{
    ACCESS_LIFE, CAS_PAUSE, CAS_PAUSE_MOST, CAS_TRIES, DEVICES, FLOW_EVENTS, NAME_CHARS, REFRESH_LIFE,
};
use crate::metrics;
use crate::rows::{BudgetRow, DeviceRow, FlowRow, SessionRow};
use crate::state::{CodeVerdict, Stage};
use crate::store::{Enroll, Enrolled, Enrolment, FlowId, Seen, Store, number_budget, prefix_budget};

/// A prefix's budget is for an hour.
const PREFIX_PERIOD: Duration = Duration::from_secs(3_600);
/// Letters and digits of an MO text that can't be mistaken for each other.
const MO_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// 20 of 32 letters: 100 bits.
const MO_LETTERS: usize = 20;
/// What an MO text begins with.
pub(crate) const MO_PREFIX: &str = "DT ";

/// Whether a nickname or a device's name is short enough.
fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    if name.chars().count() > NAME_CHARS {
        return Err(error::field(field, "at most 64 characters"));
    }
    Ok(())
}

/// A compare-and-set is tried so often, and those who want the same at once spread out.
struct Tries<'a> {
    chassis: &'a Chassis,
    left: usize,
    backoff: Backoff,
}

impl Tries<'_> {
    /// Before each try.
    async fn next(&mut self) -> Result<(), Error> {
        if self.left == 0 {
            return Err(error::busy());
        }
        if self.left < CAS_TRIES {
            self.chassis.clock.sleep(self.backoff.pause(&self.chassis.rng)).await;
        }
        self.left -= 1;
        Ok(())
    }
}

/// Identity's operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) chassis: Chassis,
    pub(crate) store: Store,
    config: Config,
    key: NumberKey,
    signer: Signer,
    codes: CodeSender,
    changes: broadcast::Sender<FlowId>,
    ended: crate::bus::SessionsEnded,
}

impl Handle {
    pub(crate) fn new(
        chassis: &Chassis,
        store: Store,
        config: &Config,
        secrets: &Secrets,
        codes: CodeSender,
        ended: crate::bus::SessionsEnded,
    ) -> Self {
        let (changes, _) = broadcast::channel(FLOW_EVENTS);
        Self {
            chassis: chassis.clone(),
            store,
            config: config.clone(),
            key: secrets.number_key.clone(),
            signer: secrets.signer(),
            codes,
            changes,
            ended,
        }
    }

    fn now(&self) -> UnixMillis {
        self.chassis.clock.now()
    }

    fn code_mac(&self, flow: &FlowId, code: &str) -> [u8; 16] {
        self.key.mac(b"code", &[&flow[..], code.as_bytes()].concat())
    }

    /// Tries of something that others may be quicker at.
    fn tries(&self) -> Tries<'_> {
        Tries { chassis: &self.chassis, left: CAS_TRIES, backoff: Backoff::new(CAS_PAUSE, CAS_PAUSE_MOST) }
    }

    pub(crate) async fn seen(&self, id: &FlowId) -> Result<Seen<FlowRow>, Error> {
        self.store.flow(id).await.map_err(|error| error::store(&error))?.ok_or_else(error::flow_expired)
    }

    /// Opens a flow; the same for known and unknown numbers.
    pub(crate) async fn open_flow(
        &self,
        login: bool,
        number: Option<PhoneNumber>,
    ) -> Result<(FlowId, FlowRow), Error> {
        let (id, row) = (self.chassis.rng.bytes(), FlowRow::begin(login, number, self.now()));
        if !self.store.add_flow(&id, &row).await.map_err(|error| error::store(&error))? {
            return Err(error::busy());
        }
        metrics::flow(login, "opened");
        Ok((id, row))
    }

    /// What to text where.
    pub(crate) async fn start_mo(&self, id: &FlowId) -> Result<(String, String, FlowRow), Error> {
        let mut seen = self.seen(id).await?;
        if seen.row.login {
            return Err(error::flow_step("this is a login: the code comes by RequestCode"));
        }
        if seen.row.stage(self.now()) == Stage::Ended {
            return Err(error::flow_expired());
        }
        if seen.row.mo_token.is_empty() {
            let letters = (0..MO_LETTERS).map(|_| self.chassis.rng.below(MO_ALPHABET.len() as u64));
            seen.row.mo_token = letters
                .filter_map(|place| MO_ALPHABET.get(usize::try_from(place).ok()?))
                .map(|b| char::from(*b))
                .collect();
            if !self.store.add_mo(id, &seen).await.map_err(|error| error::store(&error))? {
                return Err(error::busy());
            }
        }
        let text = format!("{MO_PREFIX}{}", seen.row.mo_token);
        Ok((self.config.service_number.clone(), text, seen.row))
    }

    /// A phone texted: is it an open flow's? The source is only a claim; the code goes there and must come back.
    pub(crate) async fn claim_mo(&self, from: PhoneNumber, text: &str) -> Result<bool, Error> {
        let Some(token) = text.trim().strip_prefix(MO_PREFIX) else { return Ok(false) };
        let found = self.store.flow_of_mo(token.trim()).await.map_err(|error| error::store(&error))?;
        let Some((id, mut seen)) = found else { return Ok(false) };
        if seen.row.stage(self.now()) == Stage::Ended {
            return Ok(false);
        }
        if seen.row.number.ne(&0) && seen.row.number != from.as_u64() {
            return Ok(true);
        }
        if seen.row.number == 0 {
            seen.row.number = from.as_u64();
            if !self.store.swap_flow(&id, &seen).await.map_err(|error| error::store(&error))? {
                return Err(error::busy());
            }
        }
        match self.send_code(&id, true).await {
            Ok(_) => Ok(true),
            // Texting twice is no reason to fail: the budget is the answer.
            Err(error)
                if matches!(error.reason, Reason::SmsBudget | Reason::FlowExpired | Reason::FlowStep) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a code to the flow's number, if budgets allow; `deliver` is false where the number has no user and must
    /// not be told apart.
    pub(crate) async fn send_code(&self, id: &FlowId, deliver: bool) -> Result<FlowRow, Error> {
        let mut seen = self.seen(id).await?;
        let stage = seen.row.stage(self.now());
        if stage >= Stage::Verified {
            return Err(error::flow_expired());
        }
        let number =
            seen.row.number().ok_or_else(|| error::flow_step("the number is not known: use StartMo"))?;
        self.take_budget(number).await?;
        let code = self.chassis.rng.code6();
        seen.row.code_sent(self.code_mac(id, &code), self.now());
        if !self.store.swap_flow(id, &seen).await.map_err(|error| error::store(&error))? {
            return Err(error::busy());
        }
        metrics::flow(seen.row.login, "code_sent");
        if deliver {
            self.codes.send(number, &code, self.chassis.rng.bytes());
        }
        self.changed(id);
        Ok(seen.row)
    }

    /// Budgets are consumed durably before anything is sent; without a store nothing is sent. The number's is first, so
    /// that who asks too often costs others nothing, and is given back if the prefix's has no more: if the process dies in
    /// between, the number has paid for an SMS that was not sent.
    async fn take_budget(&self, number: PhoneNumber) -> Result<(), Error> {
        let most = self.config.prefix_sms_per_hour;
        let own = number_budget(self.key.hash(number));
        let (before, paid) = self.charge(&own, BudgetRow::take).await?;
        let shared = prefix_budget(number);
        let charged = self.charge(&shared, |row, now| row.take_flat(most, PREFIX_PERIOD, now)).await;
        if let Err(error) = charged {
            // Nobody else has taken one since: a number has a pause. What can't be given back stays charged.
            let back = paid.with(before.row);
            let _stays_charged = self.store.swap_budget(&own, &back).await;
            return Err(error);
        }
        Ok(())
    }

    /// Charges a budget: as it was and as it is.
    async fn charge(
        &self,
        key: &[u8],
        take: impl Fn(&mut BudgetRow, UnixMillis) -> Result<(), Duration> + Send + Sync,
    ) -> Result<(Seen<BudgetRow>, Seen<BudgetRow>), Error> {
        let spent = |wait| Error::new(Reason::SmsBudget, "too many SMS to this number").retry_after(wait);
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let before = self.store.budget(key).await.map_err(|error| error::store(&error))?;
            let mut after = before.clone();
            take(&mut after.row, self.now()).map_err(spent)?;
            if self.store.swap_budget(key, &after).await.map_err(|error| error::store(&error))? {
                return Ok((before, after.written()));
            }
        }
    }

    /// Seconds until the next SMS to the flow's number.
    pub(crate) async fn next_sms_seconds(&self, row: &FlowRow) -> Result<u32, Error> {
        let Some(number) = row.number() else { return Ok(0) };
        let seen = self.store.budget(&number_budget(self.key.hash(number))).await;
        let seen = seen.map_err(|error| error::store(&error))?;
        let wait = seen.row.wait(self.now()).unwrap_or_default();
        Ok(u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    /// Takes a try, durably, then compares. A code that has passed passes again: the answer may have been lost.
    pub(crate) async fn check_code(
        &self,
        id: &FlowId,
        code: &str,
    ) -> Result<(CodeVerdict, Seen<FlowRow>), Error> {
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let mut seen = self.seen(id).await?;
            if seen.row.stage(self.now()) == Stage::Open {
                return Err(error::flow_step("no code was sent yet"));
            }
            if seen.row.has_passed(self.code_mac(id, code), self.now()) {
                return Ok((CodeVerdict::Passed, seen));
            }
            if !seen.row.take_try(self.now()) {
                return Err(error::flow_expired());
            }
            if !self.store.swap_flow(id, &seen).await.map_err(|error| error::store(&error))? {
                continue;
            }
            // The try is for the code that it was counted for: another one may have been sent meanwhile.
            let mut seen = seen.written();
            let verdict = seen.row.compare(self.code_mac(id, code));
            if verdict == CodeVerdict::Passed {
                if !self.store.swap_flow(id, &seen).await.map_err(|error| error::store(&error))? {
                    return Err(error::busy());
                }
                seen = seen.written();
            }
            metrics::flow(
                seen.row.login,
                if verdict == CodeVerdict::Passed { "passed" } else { "not_passed" },
            );
            self.changed(id);
            return Ok((verdict, seen));
        }
    }

    fn changed(&self, id: &FlowId) {
        // Nobody watches: nothing to tell.
        let _nobody = self.changes.send(*id);
    }

    pub(crate) fn watch_changes(&self) -> broadcast::Receiver<FlowId> {
        self.changes.subscribe()
    }

    /// Turns a verified flow into a user and a device.
    pub(crate) async fn complete(
        &self,
        id: &FlowId,
        device: DeviceRow,
        nickname: &str,
    ) -> Result<proto::LoggedIn, Error> {
        check_name("nickname", nickname)?;
        check_name("device_name", &device.name)?;
        let seen = self.seen(id).await?;
        if seen.row.login {
            return Err(error::flow_step("this is a login: use WithCode"));
        }
        match seen.row.stage(self.now()) {
            Stage::Verified => {}
            Stage::Ended => return Err(error::flow_expired()),
            Stage::Open | Stage::CodeSent => {
                return Err(error::flow_step("the code has not come back yet"));
            }
        }
        let logged_in = self.enroll(id, &seen, device, nickname).await?;
        metrics::flow(seen.row.login, "completed");
        self.changed(id);
        Ok(logged_in)
    }

    async fn enroll(
        &self,
        id: &FlowId,
        seen: &Seen<FlowRow>,
        device: DeviceRow,
        nickname: &str,
    ) -> Result<proto::LoggedIn, Error> {
        let number = seen.row.number().ok_or_else(error::flow_expired)?;
        // All that is drawn is drawn from the flow: who comes again, because an answer was lost on the way, gets the same.
        let drawn = |what: &[u8]| self.key.mac(what, id);
        let session = SessionId::new(drawn(b"first session"));
        let refresh = [drawn(b"first refresh, one"), drawn(b"first refresh, two")].concat();
        let refresh = <[u8; 32]>::try_from(refresh).unwrap_or_default();
        let enrolment = Enrolment {
            number,
            fresh: UserId::new(drawn(b"fresh user")),
            nickname,
            device: &device,
            session: (session, self.session_row(UserId::default(), DeviceId(0), &device.name, &refresh)),
            flow: (id, seen),
            now: self.now(),
        };
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let enrolled = self.store.enroll(&enrolment).await.map_err(|error| error::store(&error))?;
            match enrolled {
                Enroll::Done(Enrolled { user, device }) => {
                    return Ok(self.logged_in(user, device, number, session, &refresh));
                }
                Enroll::Changed => {}
                Enroll::Over => return Err(error::flow_expired()),
                Enroll::Full => {
                    let full = Error::new(Reason::TooLarge, "this user has as many devices as one may have");
                    return Err(full.with("limit", DEVICES));
                }
            }
        }
    }

    /// A session's id, its first refresh secret, and its row.
    fn new_session(&self, user: UserId, device: DeviceId, name: &str) -> (SessionId, [u8; 32], SessionRow) {
        let (id, refresh) = (SessionId::new(self.chassis.rng.bytes()), self.chassis.rng.bytes());
        (id, refresh, self.session_row(user, device, name, &refresh))
    }

    fn session_row(&self, user: UserId, device: DeviceId, name: &str, refresh: &[u8; 32]) -> SessionRow {
        let now = self.now();
        SessionRow {
            user: user.to_vec(),
            device: device.0,
            device_name: name.to_owned(),
            created_ms: now.0,
            last_seen_ms: now.0,
            refresh: self.key.mac(b"refresh", refresh).to_vec(),
            refresh_expires_ms: now.plus(REFRESH_LIFE).0,
            ..SessionRow::default()
        }
    }

    fn logged_in(
        &self,
        user: UserId,
        device: DeviceId,
        number: PhoneNumber,
        session: SessionId,
        refresh: &[u8; 32],
    ) -> proto::LoggedIn {
        proto::LoggedIn {
            user: Some(dialtone_proto::types::v1::UserRef { id: user.to_vec() }),
            device: device.0,
            number: number.to_string(),
            tokens: Some(self.tokens(
                &Caller { user, device, session, number, expires: self.now().plus(ACCESS_LIFE) },
                refresh,
            )),
        }
    }

    fn tokens(&self, caller: &Caller, refresh: &[u8; 32]) -> proto::Tokens {
        proto::Tokens {
            access: self.signer.sign(caller),
            access_expires_ms: caller.expires.0,
            refresh: format!("{}.{}", caller.session, login::hex(refresh)),
            refresh_expires_ms: self.now().plus(REFRESH_LIFE).0,
            session_id: caller.session.to_vec(),
        }
    }
}
