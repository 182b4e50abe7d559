//! The limits of the SMS service, each with a name.

use std::time::Duration;

/// Submits without an answer on a bind.
pub const WINDOW: usize = 16;
/// Submits that wait for the window.
pub const SUBMIT_QUEUE: usize = 4_096;
/// How long an answer to a submit may take; then what became of it is unknown.
pub const SUBMIT_WITHIN: Duration = Duration::from_secs(60);
/// How long a bind may take.
pub const BIND_WITHIN: Duration = Duration::from_secs(5);
/// A sign of life on an idle bind.
pub const ENQUIRE_EVERY: Duration = Duration::from_secs(15);
/// How long the other side may be silent.
pub const SILENT_MOST: Duration = Duration::from_secs(45);
/// The first pause before a rebind; it doubles to [`REBIND_MAX`].
pub const REBIND_FIRST: Duration = Duration::from_millis(200);
/// The longest one.
pub const REBIND_MAX: Duration = Duration::from_secs(10);
/// Binds at the embedded centre.
pub const CENTRE_BINDS: usize = 16;
/// SMS kept on a simulated handset.
pub const HANDSET_SMS: usize = 1_000;
/// Simulated handsets.
pub const HANDSETS: usize = 100_000;
/// MO messages that wait at the centre for a bind.
pub const CENTRE_MO: usize = 10_000;
/// How long the centre waits for an answer to a deliver before it delivers again.
pub const DELIVER_WITHIN: Duration = Duration::from_secs(10);
/// Between two tellings of a result that was not taken, and two tries of anything else that is repeated.
pub const REPEAT_EVERY: Duration = Duration::from_secs(1);
/// Results told in one round.
pub const RESULTS: usize = 256;
/// Characters of a text that a simulated handset sends.
pub const HANDSET_CHARS: usize = 1_000;
/// How long identity may take to claim an MO.
pub const CLAIM_WITHIN: Duration = Duration::from_secs(2);
/// Parts of an MO that wait for the others.
pub const MO_PARTS: usize = 1_024;
