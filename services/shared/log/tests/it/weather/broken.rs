//! Builds with one rule broken: the weather must catch each. Where it takes long in the weather of every day, the plan is
//! aimed at what the rule is for.

use dialtone_log::Defect;
use dialtone_shards::lease;

use super::plan::{Breakage, Plan};
use super::setting;
use super::world::play;

/// Episodes in which a broken build must be caught.
const WITHIN: u64 = 40;

/// Plays until the broken build is caught; with WEATHER_RATES=N counts in how many of N.
#[track_caller]
fn assert_caught(plan: impl Fn(u64) -> Plan, breakage: Breakage) {
    let rates = setting("WEATHER_RATES", 0);
    if rates > 0 {
        let caught = (1..=rates).filter(|seed| !play(&plan(*seed), breakage).wrongs.is_empty()).count();
        println!("{breakage:?}: caught in {caught} of {rates}");
    }
    let found = (1..=WITHIN).find_map(|seed| {
        let wrong = play(&plan(seed), breakage).wrongs.into_iter().next()?;
        Some((seed, wrong))
    });
    let (seed, wrong) = found.unwrap_or_else(|| panic!("{breakage:?} was not caught in {WITHIN} episodes"));
    println!("{breakage:?} is caught in episode {seed}: {wrong}");
}

#[test]
fn settling_without_a_check_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::NoCheck));
}

#[test]
fn taking_over_without_a_wait_is_caught() {
    assert_caught(Plan::of, Breakage::Lease(lease::Defect::NoWait));
}

#[test]
fn opening_without_a_carry_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::NoCarry));
}

#[test]
fn a_tail_that_is_not_written_again_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::TailNotCarried));
}

#[test]
fn reading_a_tail_at_one_replica_is_caught() {
    assert_caught(Plan::of, Breakage::ReadsAtOne);
}

#[test]
fn using_the_indexes_of_an_unanswered_write_again_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::GivesUp));
}

#[test]
fn walking_from_the_tail_row_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::WalkFromTail));
}

#[test]
fn beginning_again_when_everything_is_past_its_time_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::BeginsAgain));
}

#[test]
fn a_time_to_be_kept_that_goes_down_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::KeepGoesDown));
}

#[test]
fn a_due_row_that_comes_after_its_entry_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::DueAfter));
}

#[test]
fn marks_that_are_not_written_again_are_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::MarksNotAgain));
}

#[test]
fn epochs_that_go_down_are_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::EpochsGoDown));
}
