//! The good build in thousands of episodes, and each broken one caught by the same.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::referee::Tally;
use super::weather::{Plan, edges, flaps, frozen_clocks, stalls, storms, thaws};
use super::world::{Broken, play};
use crate::lease::CheckBy;
use crate::lease::defect::Defect;

/// So many times the usual number of episodes; `PROPTEST_CASES` sets what is usual.
fn cases(times: u32) -> Config {
    let usual = Config::default();
    Config { cases: times * usual.cases, failure_persistence: None, ..usual }
}

fn holds(plan: &Plan) -> Result<(), TestCaseError> {
    match play(plan, None).wrong {
        Some(wrong) => Err(TestCaseError::fail(wrong)),
        None => Ok(()),
    }
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn by_the_clock_no_shard_has_two_owners_and_each_has_one_after_the_storm(plan in storms(CheckBy::Clock)) {
        holds(&plan)?;
    }
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn at_the_edge_of_what_is_assumed_of_clocks_it_still_holds(plan in edges()) {
        holds(&plan)?;
    }

    #[test]
    fn owners_that_change_all_the_time_never_share_an_epoch(plan in flaps()) {
        holds(&plan)?;
    }

    #[test]
    fn by_reads_nothing_settled_is_lost_though_clocks_stand_still(plan in frozen_clocks(CheckBy::Read)) {
        holds(&plan)?;
    }

    #[test]
    fn by_reads_a_late_write_is_not_settled_after_a_thaw(plan in thaws()) {
        holds(&plan)?;
    }

    #[test]
    fn a_store_that_stalls_for_everybody_costs_little_more_than_the_stall(plan in stalls()) {
        holds(&plan)?;
    }
}

#[test]
fn clocks_that_stand_still_for_longer_than_is_assumed_break_the_check_by_the_clock() {
    let mut runner = TestRunner::deterministic();
    let wrong = (0..200).find_map(|_| play(&draw(&frozen_clocks(CheckBy::Clock), &mut runner), None).wrong);
    assert!(
        wrong.is_some(),
        "so reads are needed there, and the simulation would see it if they did not help"
    );
}

#[test]
fn the_weather_reaches_every_rule() {
    let mut runner = TestRunner::deterministic();
    let episodes = 200;
    let mut sum = Tally::default();
    for _ in 0..episodes {
        sum.add(&play(&draw(&storms(CheckBy::Clock), &mut runner), None).tally);
    }
    println!("{episodes} episodes: {sum:?}");
    assert!(sum.opened > 3 * episodes && sum.settled > 50 * episodes, "{sum:?}");
    assert!(sum.stopped > episodes && sum.given_back > episodes / 2, "{sum:?}");
    assert!(sum.closed_by_another > episodes / 4 && sum.left > episodes / 10, "{sum:?}");
    assert!(sum.late > episodes / 4 && sum.unsettled > episodes / 10, "{sum:?}");
}

fn draw(plans: &impl Strategy<Value = Plan>, runner: &mut TestRunner) -> Plan {
    plans.new_tree(runner).expect("a plan").current()
}

/// Plays the same episodes with both builds: the good one holds in each, until the broken one is caught.
#[track_caller]
fn assert_caught(plans: &impl Strategy<Value = Plan>, broken: Broken) {
    let mut runner = TestRunner::deterministic();
    for n in 0..1_000 {
        let plan = draw(plans, &mut runner);
        let good = play(&plan, None).wrong;
        assert_eq!(good, None, "{plan:?}");
        if let Some(wrong) = play(&plan, Some(broken)).wrong {
            println!("{broken:?} is caught in episode {n}: {wrong}");
            return;
        }
    }
    panic!("{broken:?} was not caught");
}

#[test]
fn closing_another_without_waiting_is_caught() {
    assert_caught(&storms(CheckBy::Clock), Broken::Rule(Defect::NoWait));
}

#[test]
fn waiting_without_listening_is_caught() {
    assert_caught(&storms(CheckBy::Clock), Broken::Rule(Defect::CounterReadOnce));
}

#[test]
fn taking_a_shard_while_the_old_row_is_open_is_caught() {
    assert_caught(&storms(CheckBy::Clock), Broken::Rule(Defect::OldRowLeftOpen));
}

#[test]
fn a_lease_that_counts_from_the_answer_is_caught() {
    assert_caught(&edges(), Broken::Rule(Defect::LeaseFromAnswer));
}

#[test]
fn a_lease_that_counts_from_the_last_try_is_caught() {
    assert_caught(&edges(), Broken::Rule(Defect::LeaseFromLastTry));
}

#[test]
fn an_own_row_left_open_is_caught() {
    assert_caught(&stalls(), Broken::Rule(Defect::OwnRowLeftOpen));
}

#[test]
fn holding_again_in_the_same_epoch_is_caught() {
    assert_caught(&flaps(), Broken::Rule(Defect::SameEpochAgain));
}

#[test]
fn releasing_after_the_row_is_caught() {
    assert_caught(&storms(CheckBy::Clock), Broken::Rule(Defect::ReleasedAfterRow));
}

#[test]
fn a_check_before_the_answer_is_caught() {
    assert_caught(&storms(CheckBy::Clock), Broken::CheckBeforeAnswer);
}

#[test]
fn a_read_sent_before_the_answer_is_caught() {
    assert_caught(&thaws(), Broken::Rule(Defect::CheckUnderWay));
}
