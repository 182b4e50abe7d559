//! Servers that tests want and that may not be there.

use std::io::Write;

/// Whether this machine is to run a whole cluster of processes for tests: only if `DIALTONE_TEST_CLUSTER` is set, because
/// that wants the machine for itself. Otherwise stderr says that `what` was left out.
///
/// # Panics
/// If it is not set and `DIALTONE_TEST_REQUIRE` names `cluster`.
pub fn may_be_cluster(what: &str) -> bool {
    let may_be = std::env::var_os("DIALTONE_TEST_CLUSTER").is_some();
    if !may_be {
        left_out(what, "cluster");
    }
    may_be
}

/// Says straight to the terminal what is not tested (the test runner keeps what passes to itself), or fails if it is
/// required.
pub(crate) fn left_out(what: &str, server: &str) {
    let required = std::env::var("DIALTONE_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == server), "{server} is required and not there");
    writeln!(std::io::stderr().lock(), "left out: {what} (no {server})").expect("stderr");
}
