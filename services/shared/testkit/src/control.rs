//! Negative controls: what holds of a good build must fail for a broken one, else it could not fail at all.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner};

/// Cases among which there must be one that shows the defect.
const CASES: u32 = 2_000;

/// A property, which holds of the good build, with a rule broken: one of the cases, always the same ones, has to fail.
///
/// # Panics
/// If none does.
#[track_caller]
pub fn assert_caught<S: Strategy>(cases: &S, holds: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases: CASES, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    match runner.run(cases, holds) {
        Err(TestError::Fail(why, _)) => println!("caught: {why}"),
        Err(TestError::Abort(why)) => panic!("no cases: {why}"),
        Ok(()) => panic!("not caught in {CASES} cases"),
    }
}
