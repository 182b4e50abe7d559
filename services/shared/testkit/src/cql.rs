//! A CQL server for tests: the one named.

use crate::servers::left_out;

/// The `host:port`s of `DIALTONE_TEST_CQL`, with or without `scylla://` before them. `None` if it is not set: then
/// stderr says that `what` was left out.
///
/// # Panics
/// If it is not set and `DIALTONE_TEST_REQUIRE` names `cql`.
pub fn cql_nodes(what: &str) -> Option<Vec<String>> {
    let Ok(url) = std::env::var("DIALTONE_TEST_CQL") else {
        left_out(what, "cql");
        return None;
    };
    let nodes = url.trim_start_matches("scylla://");
    Some(nodes.split(',').map(str::to_owned).collect())
}
