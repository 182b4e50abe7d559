//! The limits of the SMS service, each with a name.

use std::time::Duration;

/// Octets of a PDU; one that says it is longer is garbage.
pub const PDU_OCTETS: usize = 8_192;
/// How long the other side may take to read what we say.
pub const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Parts of one SMS.
pub const SMS_PARTS: usize = 10;
/// Submits without an answer on a bind.
pub const WINDOW: usize = 16;
/// SMS on their way to the operator, with those that it refused for now and that wait to be tried again.
pub const UNDER_WAY: usize = 1_024;
/// Submits that wait for the window.
pub const SUBMIT_QUEUE: usize = 4_096;
/// How long an answer to a submit may take; then what became of it is unknown.
pub const SUBMIT_WITHIN: Duration = Duration::from_secs(60);
/// Ids of receipts that came before the answer to their submit; more are answered "later" and not remembered.
pub const EARLY_RECEIPTS: usize = 4_096;
/// The first pause before what the operator refused for now is submitted again; it doubles to [`THROTTLED_MAX`].
pub const THROTTLED_FIRST: Duration = Duration::from_secs(1);
/// The longest one.
pub const THROTTLED_MAX: Duration = Duration::from_secs(30);
/// How long the operator may refuse an SMS for now; then it has failed.
pub const THROTTLED_WITHIN: Duration = Duration::from_secs(3_600);
/// How long a bind is kept when the process stops, for texts that have begun to leave and replies that are being
/// written; the store takes what becomes of them little longer.
pub const DRAIN_WITHIN: Duration = Duration::from_millis(150);
/// How long a bind may take.
pub const BIND_WITHIN: Duration = Duration::from_secs(5);
/// A sign of life on an idle bind.
pub const ENQUIRE_EVERY: Duration = Duration::from_secs(15);
/// How long the other side may be silent.
pub const SILENT_MOST: Duration = Duration::from_secs(45);
/// The first pause before a rebind; it doubles to [`REBIND_MAX`].
pub const REBIND_FIRST: Duration = Duration::from_millis(200);
/// The longest one; a bind that lasted this long begins with the first again.
pub const REBIND_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what should have come.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at replies whose offer was not answered, and at parts whose others do not come.
pub const INBOUND_EVERY: Duration = Duration::from_millis(250);
/// Between two looks whether the inbound log is this process's.
pub const OWNER_EVERY: Duration = Duration::from_millis(250);
/// Binds at the embedded centre.
pub const CENTRE_BINDS: usize = 16;
/// SMS kept on a simulated handset, and as many for it while it is off.
pub const HANDSET_SMS: usize = 1_000;
/// Simulated handsets.
pub const HANDSETS: usize = 100_000;
/// Texts on a simulated handset that wait for their other parts, for as long as an operator may refuse these.
pub const HANDSET_PARTS: usize = 64;
/// SMS from handsets and receipts that wait at the centre for a bind.
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
/// Texts from phones that wait for their other parts.
pub const MO_PARTS: usize = 1_024;
/// So many of one phone.
pub const MO_PARTS_OF_ONE: usize = 16;
/// How long they wait after the last part that was new.
pub const MO_PARTS_WITHIN: Duration = Duration::from_secs(60);
/// How often a part that waits may come again; whoever delivers it yet again is refused for now.
pub const PART_REPEATS: usize = 16;
/// How long it is known that an SMS was taken: longer than the log of whoever asks for it, and than receipts take.
pub const TAKEN_KEEP: Duration = Duration::from_secs(40 * 24 * 3_600);
/// How long it is known how many SMS were taken in an hour, should the clock be set back.
pub const SPEND_KEEP: Duration = Duration::from_secs(24 * 3_600);
/// SMS that a process takes of an hour at once, at most.
pub const SPEND_AT_ONCE: u32 = 64;
/// An hour is taken in at least so many portions, or one by one.
pub const SPEND_PORTIONS: u32 = 1_024;
/// How often a service number is looked for while others are given away; then the SMS is tried again.
pub const ASSIGN_TRIES: usize = 16;
/// How often a receipt is counted anew because something else became of its SMS meanwhile; then it must come again.
pub const RECEIPT_TRIES: usize = 8;
/// The first pause before something is done again that the store could not do; it doubles to [`STORE_MAX`].
pub const STORE_FIRST: Duration = Duration::from_millis(100);
/// The longest one.
pub const STORE_MAX: Duration = Duration::from_secs(2);
/// Between two looks at what processes that are gone have left, and at what could not be written.
pub const LOOK_AROUND: Duration = Duration::from_secs(60);
/// How long a process must not be heard of until others take what it has left.
pub const GONE_AFTER: Duration = Duration::from_secs(60);
/// Rows that one read of what is to be done brings.
pub const OPEN_ROWS: usize = 512;
/// Hours that are looked through at once.
pub const OPEN_HOURS: usize = 4_096;
/// Results that a process tells at the same time; more wait until it looks around.
pub const TELLING: usize = 4_096;
/// Between two steps of the sweep.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Rows of each table that one step looks at.
pub const SWEEP_ROWS: usize = 1_024;
/// Rows that a sweep deletes together.
pub const SWEEP_BATCH: usize = 64;
/// Rows that a sweep deletes at the same time.
pub const SWEEP_AT_ONCE: usize = 32;
/// How long the centre keeps a deliver that was refused for now.
pub const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Commands that wait for the simulated network.
pub const COMMANDS: usize = 4_096;
/// Events that wait for the inbound log, and entries of it that one read brings.
pub const EVENTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u64) -> String {
        let digits = n.to_string();
        match digits.len() {
            4.. => format!("{},{}", &digits[..digits.len() - 3], &digits[digits.len() - 3..]),
            _ => digits,
        }
    }

    fn many(n: usize) -> String {
        number(n as u64)
    }

    fn seconds(time: Duration) -> String {
        format!("{} s", number(time.as_secs()))
    }

    #[test]
    fn the_readme_says_what_the_limits_are() {
        let readme = include_str!("../README.md");
        let rows = [
            ("parts of a text", many(SMS_PARTS)),
            ("submits without an answer", many(WINDOW)),
            ("SMS on their way, with those refused for now", many(UNDER_WAY)),
            ("an answer to a submit", seconds(SUBMIT_WITHIN)),
            ("an SMS or a later part refused for now", seconds(THROTTLED_WITHIN)),
            ("texts from phones that wait for parts", many(MO_PARTS)),
            ("of these of one phone", many(MO_PARTS_OF_ONE)),
            ("repetitions of a part that waits", many(PART_REPEATS)),
            ("a text's wait after its last new part", seconds(MO_PARTS_WITHIN)),
            ("ids of receipts before their submit's answer", many(EARLY_RECEIPTS)),
            ("identity's claim of an SMS", seconds(CLAIM_WITHIN)),
            ("it is known that an SMS was taken", format!("{} days", TAKEN_KEEP.as_secs() / (24 * 3_600))),
            ("what a process has left, until others take it", seconds(GONE_AFTER)),
            ("SMS on a handset", many(HANDSET_SMS)),
            ("parts that wait for a handset that is off", many(HANDSET_SMS)),
            ("characters that a handset sends", many(HANDSET_CHARS)),
            ("handsets", many(HANDSETS)),
            ("SMS and receipts that wait for a bind to the centre", many(CENTRE_MO)),
            ("connections to the centre", many(CENTRE_BINDS)),
        ];
        for (what, most) in rows {
            let row = format!("| {what} | {most} |");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
