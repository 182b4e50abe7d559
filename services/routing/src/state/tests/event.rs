//! What may happen to an outbox, and what its actor may do wrong.

use proptest::prelude::*;

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Send { to: u8, sms_if_offline: bool },
    Revoke { nth: usize },
    Write { marks: bool },
    Settle,
    Offer,
    Answer { nth: usize, again: bool },
    LoseAnswer { nth: usize },
    Ack { to: u8 },
    Watermark { to: u8 },
    SmsTaken { nth: usize },
    Pass { ms: u64 },
    Find { attached: bool, full: bool },
    Move { to: u8 },
    Restart { written: bool, memory: u64 },
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let to = || 1..4_u8;
    prop_oneof![
        5 => (to(), any::<bool>()).prop_map(|(to, sms_if_offline)| Event::Send { to, sms_if_offline }),
        2 => (0..6_usize).prop_map(|nth| Event::Revoke { nth }),
        6 => any::<bool>().prop_map(|marks| Event::Write { marks }),
        6 => Just(Event::Settle),
        6 => Just(Event::Offer),
        8 => (0..8_usize, any::<bool>()).prop_map(|(nth, again)| Event::Answer { nth, again }),
        1 => (0..8_usize).prop_map(|nth| Event::LoseAnswer { nth }),
        2 => to().prop_map(|to| Event::Ack { to }),
        2 => to().prop_map(|to| Event::Watermark { to }),
        2 => (0..4_usize).prop_map(|nth| Event::SmsTaken { nth }),
        3 => (1..7_000_u64).prop_map(|ms| Event::Pass { ms }),
        2 => (any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(attached, full)| Event::Find { attached, full }),
        1 => prop_oneof![1 => 1..3_u8, 5 => Just(3)].prop_map(|to| Event::Move { to }),
        3 => (any::<bool>(), 0..6_u64).prop_map(|(written, memory)| Event::Restart { written, memory }),
    ]
}

/// A rule that the actor breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// What is decided is done without an entry that says so.
    DecidedWithoutEntry,
    /// A message that is to be taken back is, also if it was already.
    WithdrawnAgain,
    /// An SMS is handed over when it is decided.
    SmsBeforeClaim,
}
