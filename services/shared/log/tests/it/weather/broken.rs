//! Builds with one rule broken: the weather must catch each. Where it takes long in the weather of every day, the plan is
//! aimed at what the rule is for.

use dialtone_log::Defect;
use dialtone_shards::lease;

use super::plan::{Breakage, Plan};
use super::setting;
use super::world::play;

/// Episodes in which a broken build must be caught.
const WITHIN: u64 = 40;

/// Plays the same episodes with both builds: the good one holds in each, until the broken one is caught. With
/// WEATHER_RATES=N counts in how many of N it is.
#[track_caller]
fn assert_caught(plan: impl Fn(u64) -> Plan, breakage: Breakage) {
    let rates = setting("WEATHER_RATES", 0);
    if rates > 0 {
        let caught = (1..=rates).filter(|seed| !play(&plan(*seed), breakage).wrongs.is_empty()).count();
        println!("{breakage:?}: caught in {caught} of {rates}");
    }
    for seed in 1..=WITHIN {
        let good = play(&plan(seed), Breakage::None).wrongs;
        assert_eq!(good, Vec::<String>::new(), "seed {seed}: the good one fails too");
        if let Some(wrong) = play(&plan(seed), breakage).wrongs.first() {
            println!("{breakage:?} is caught in episode {seed}: {wrong}");
            return;
        }
    }
    panic!("{breakage:?} was not caught in {WITHIN} episodes");
}

/// The plans that are aimed at something, and the good build.
#[test]
fn what_was_told_is_found_in_weather_that_is_aimed_at_it() {
    let (first, seeds) = (setting("WEATHER_FIRST", 1), setting("WEATHER_AIMED", 3));
    let plans = [Plan::unanswered, Plan::thaws, Plan::torn, Plan::forgetful, Plan::expiring, Plan::apart]
        .iter()
        .zip(1..);
    let mut failed = Vec::new();
    for (plan, aim) in plans {
        for seed in first..first + seeds {
            let played = play(&plan(seed), Breakage::None);
            if !played.wrongs.is_empty() {
                println!("aim {aim}, seed {seed}: {:#?}", played.wrongs);
                if seeds == 1 {
                    played.trace.iter().for_each(|line| println!("{line}"));
                }
                failed.push((aim, seed));
            }
        }
    }
    assert_eq!(failed, [], "{seeds} seeds of each aim");
}

#[test]
fn settling_without_a_check_is_caught() {
    assert_caught(Plan::thaws, Breakage::Log(Defect::NoCheck));
}

#[test]
fn taking_over_without_a_wait_is_caught() {
    assert_caught(Plan::thaws, Breakage::Lease(lease::Defect::NoWait));
}

#[test]
fn opening_without_a_carry_is_caught() {
    assert_caught(Plan::torn, Breakage::Log(Defect::NoCarry));
}

#[test]
fn a_tail_that_is_not_written_again_is_caught() {
    assert_caught(Plan::expiring, Breakage::Log(Defect::TailNotCarried));
}

#[test]
fn reading_a_tail_at_one_replica_is_caught() {
    assert_caught(Plan::torn, Breakage::ReadsAtOne);
}

#[test]
fn using_the_indexes_of_an_unanswered_write_again_is_caught() {
    assert_caught(Plan::unanswered, Breakage::Log(Defect::GivesUp));
}

#[test]
fn walking_from_the_tail_row_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::WalkFromTail));
}

#[test]
fn beginning_again_when_everything_is_past_its_time_is_caught() {
    assert_caught(Plan::expiring, Breakage::Log(Defect::BeginsAgain));
}

#[test]
fn a_time_to_be_kept_that_goes_down_is_caught() {
    assert_caught(Plan::apart, Breakage::Log(Defect::KeepGoesDown));
}

#[test]
fn a_due_row_that_comes_after_its_entry_is_caught() {
    assert_caught(Plan::torn, Breakage::Log(Defect::DueAfter));
}

#[test]
fn a_due_row_that_is_missing_is_caught() {
    assert_caught(Plan::of, Breakage::Log(Defect::DueMissing));
}

#[test]
fn marks_that_are_not_written_again_are_caught() {
    assert_caught(Plan::forgetful, Breakage::Log(Defect::MarksNotAgain));
}

#[test]
fn epochs_that_go_down_are_caught() {
    assert_caught(Plan::thaws, Breakage::Log(Defect::EpochsGoDown));
}
