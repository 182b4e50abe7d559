//! The rules of codes, budgets and refresh tokens. Pure: events and a time in, a new state and a verdict out.

use std::time::Duration;

use dialtone_vocab::{PhoneNumber, UnixMillis};
use subtle::ConstantTimeEq;

use crate::limits::{
    CODE_LIFE, FLOW_LIFE, LOGIN_TRIES, REFRESH_GRACE, REFRESH_LIFE, REGISTRATION_TRIES, SMS_FORGET,
    SMS_PAUSES, SMS_PER_DAY,
};
use crate::rows::{BudgetRow, FlowRow, SessionRow, is_past};

/// How far a flow is; the numbers of `identity.v1.FlowState.Stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open = 1,
    CodeSent = 2,
    Verified = 3,
    Ended = 4,
}

/// What came of a code that was returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeVerdict {
    Passed,
    NotPassed { left: u32 },
}

impl FlowRow {
    /// A new flow.
    pub(crate) fn begin(login: bool, number: Option<PhoneNumber>, now: UnixMillis) -> Self {
        Self {
            login,
            number: number.map_or(0, PhoneNumber::as_u64),
            stage: Stage::Open as u32,
            expires_ms: now.plus(FLOW_LIFE).0,
            tries_left: if login { LOGIN_TRIES } else { REGISTRATION_TRIES },
            ..Self::default()
        }
    }

    pub(crate) fn stage(&self, now: UnixMillis) -> Stage {
        match self.stage {
            _ if is_past(self.expires_ms, now) => Stage::Ended,
            1 => Stage::Open,
            2 => Stage::CodeSent,
            3 => Stage::Verified,
            _ => Stage::Ended,
        }
    }

    pub(crate) fn number(&self) -> Option<PhoneNumber> {
        PhoneNumber::from_u64(self.number).ok()
    }

    /// A code is on its way: the tries begin anew, the code before is dead.
    pub(crate) fn code_sent(&mut self, code: [u8; 16], now: UnixMillis) {
        self.code = code.to_vec();
        self.code_expires_ms = now.plus(CODE_LIFE).0;
        self.tries_left = if self.login { LOGIN_TRIES } else { REGISTRATION_TRIES };
        self.stage = Stage::CodeSent as u32;
    }

    /// Takes one try. Written before the code is compared, so that a crash gives none back.
    pub(crate) fn take_try(&mut self, now: UnixMillis) -> bool {
        let may =
            self.stage(now) == Stage::CodeSent && self.tries_left > 0 && !is_past(self.code_expires_ms, now);
        if may {
            self.tries_left -= 1;
        }
        may
    }

    /// Compares, after [`FlowRow::take_try`] was written.
    pub(crate) fn compare(&mut self, code: [u8; 16]) -> CodeVerdict {
        if bool::from(self.code.ct_eq(&code)) {
            self.stage = Stage::Verified as u32;
            return CodeVerdict::Passed;
        }
        CodeVerdict::NotPassed { left: self.tries_left }
    }

    /// Whether this code has passed already: who did not hear so asks again. Whoever guesses here has proved it before.
    pub(crate) fn has_passed(&self, code: [u8; 16], now: UnixMillis) -> bool {
        self.stage(now) == Stage::Verified && bool::from(self.code.ct_eq(&code))
    }
}

impl BudgetRow {
    /// When the next SMS to this number may go; `None`: now.
    pub(crate) fn wait(&self, now: UnixMillis) -> Option<Duration> {
        if self.count == 0 || now.since(UnixMillis(self.last_ms)) >= SMS_FORGET {
            return None;
        }
        let pause = SMS_PAUSES[(self.count as usize - 1).min(SMS_PAUSES.len() - 1)];
        let next = UnixMillis(self.last_ms).plus(pause);
        let next = if self.count >= SMS_PER_DAY {
            next.max(UnixMillis(self.began_ms).plus(SMS_FORGET))
        } else {
            next
        };
        (next > now).then(|| next.since(now))
    }

    /// Takes one, if the number may have one.
    pub(crate) fn take(&mut self, now: UnixMillis) -> Result<(), Duration> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        let stale = now.since(UnixMillis(self.last_ms)) >= SMS_FORGET
            || now.since(UnixMillis(self.began_ms)) >= SMS_FORGET;
        if self.count == 0 || stale {
            *self = Self { began_ms: now.0, count: 0, last_ms: now.0 };
        }
        self.count += 1;
        self.last_ms = now.0;
        Ok(())
    }

    /// Takes one of a flat budget of `most` within `period`.
    pub(crate) fn take_flat(&mut self, most: u32, period: Duration, now: UnixMillis) -> Result<(), Duration> {
        if now.since(UnixMillis(self.began_ms)) >= period {
            *self = Self { began_ms: now.0, count: 0, last_ms: now.0 };
        }
        if self.count >= most {
            return Err(UnixMillis(self.began_ms).plus(period).since(now));
        }
        self.count += 1;
        self.last_ms = now.0;
        Ok(())
    }
}

/// What came of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// A new one takes its place.
    Rotated,
    /// Too old, or not of this session.
    Refused,
    /// Used twice: somebody has a copy. The session ends.
    Stolen,
}

impl SessionRow {
    /// Whether it goes on: neither ended, nor has its refresh token run out.
    pub(crate) fn is_live(&self, now: UnixMillis) -> bool {
        !self.revoked && !is_past(self.refresh_expires_ms, now)
    }

    /// A login by key in a session that goes on. The refresh tokens before are forgotten: who has one is refused, but
    /// is no thief.
    pub(crate) fn renew(&mut self, login: Self) {
        *self = Self { created_ms: self.created_ms, ..login };
    }

    /// Presents a refresh token's hash; with `next` in its place if it is good.
    pub(crate) fn refresh(&mut self, presented: [u8; 16], next: [u8; 16], now: UnixMillis) -> Refreshed {
        if !self.is_live(now) {
            return Refreshed::Refused;
        }
        let current = bool::from(self.refresh.ct_eq(&presented));
        let before = bool::from(self.refresh_before.ct_eq(&presented));
        if !current && !before {
            return Refreshed::Refused;
        }
        if before && now.since(UnixMillis(self.rotated_ms)) >= REFRESH_GRACE {
            self.revoked = true;
            return Refreshed::Stolen;
        }
        if current {
            self.refresh_before = std::mem::take(&mut self.refresh);
            self.rotated_ms = now.0;
        }
        self.refresh = next.to_vec();
        self.refresh_expires_ms = now.plus(REFRESH_LIFE).0;
        self.last_seen_ms = now.0;
        Refreshed::Rotated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);
    const CODE: [u8; 16] = [7; 16];

    fn try_code(flow: &mut FlowRow, code: [u8; 16], now: UnixMillis) -> Option<CodeVerdict> {
        flow.take_try(now).then(|| flow.compare(code))
    }

    #[test]
    fn the_right_code_passes_and_once_only() {
        let mut flow = FlowRow::begin(false, None, NOW);
        assert_eq!(try_code(&mut flow, CODE, NOW), None, "none was sent");
        flow.code_sent(CODE, NOW);
        assert_eq!(try_code(&mut flow, [1; 16], NOW), Some(CodeVerdict::NotPassed { left: 4 }));
        assert_eq!(try_code(&mut flow, CODE, NOW), Some(CodeVerdict::Passed));
        assert_eq!(try_code(&mut flow, CODE, NOW), None);
        assert_eq!(flow.stage(NOW), Stage::Verified);
        assert!(flow.has_passed(CODE, NOW) && !flow.has_passed([1; 16], NOW));
        assert!(!flow.has_passed(CODE, NOW.plus(FLOW_LIFE)), "it has ended");
        flow.stage = Stage::CodeSent as u32;
        assert!(!flow.has_passed(CODE, NOW), "another way than that to pass");
    }

    #[test]
    fn pauses_grow_and_a_day_has_its_limit() {
        let mut budget = BudgetRow::default();
        let mut now = NOW;
        assert_eq!(budget.take(now), Ok(()));
        for pause in SMS_PAUSES {
            assert_eq!(budget.take(now), Err(pause));
            now = now.plus(pause);
            assert_eq!(budget.take(now), Ok(()));
        }
        for _ in budget.count..SMS_PER_DAY {
            now = now.plus(Duration::from_secs(3_600));
            assert_eq!(budget.take(now), Ok(()));
        }
        now = now.plus(Duration::from_secs(3_600));
        assert!(budget.take(now).is_err(), "the day is used up");
        assert_eq!(budget.take(NOW.plus(SMS_FORGET)), Ok(()));
    }

    #[test]
    fn a_refresh_token_used_again_ends_the_session_but_a_lost_answer_does_not() {
        let row = SessionRow { refresh: vec![1; 16], refresh_expires_ms: u64::MAX, ..Default::default() };
        let mut lost = row.clone();
        assert_eq!(lost.refresh([1; 16], [2; 16], NOW), Refreshed::Rotated);
        assert_eq!(lost.refresh([1; 16], [3; 16], NOW), Refreshed::Rotated, "the answer was lost");
        assert_eq!(lost.refresh([2; 16], [4; 16], NOW), Refreshed::Refused, "never told");
        let mut stolen = row.clone();
        assert_eq!(stolen.refresh([1; 16], [2; 16], NOW), Refreshed::Rotated);
        assert_eq!(stolen.refresh([1; 16], [3; 16], NOW.plus(REFRESH_GRACE)), Refreshed::Stolen);
        assert_eq!(stolen.refresh([2; 16], [5; 16], NOW), Refreshed::Refused, "the session has ended");
    }

    proptest! {
        /// However codes are tried and time goes: never more tries than allowed, never a pass after the code's life.
        #[test]
        fn tries_and_time_are_bounded(login: bool, tries in proptest::collection::vec((any::<bool>(), 0u64..120_000), 0..40)) {
            let mut flow = FlowRow::begin(login, None, NOW);
            flow.code_sent(CODE, NOW);
            let most = if login { LOGIN_TRIES } else { REGISTRATION_TRIES };
            let (mut now, mut compared) = (NOW, 0);
            for (right, later) in tries {
                now = now.plus(Duration::from_millis(later));
                let verdict = try_code(&mut flow, if right { CODE } else { [0; 16] }, now);
                compared += u32::from(verdict.is_some());
                prop_assert!(compared <= most);
                if verdict == Some(CodeVerdict::Passed) {
                    prop_assert!(now.since(NOW) < CODE_LIFE);
                    break;
                }
            }
        }
    }
}
