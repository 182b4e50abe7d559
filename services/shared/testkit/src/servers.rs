//! Servers that tests want and that may not be there.

use std::io::Write;

/// Says straight to the terminal what is not tested (the test runner keeps what passes to itself), or fails if it is
/// required.
pub(crate) fn left_out(what: &str, server: &str) {
    let required = std::env::var("DIALTONE_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == server), "{server} is required and not there");
    writeln!(std::io::stderr().lock(), "left out: {what} (no {server} server)").expect("stderr");
}
