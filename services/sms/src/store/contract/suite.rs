//! The cases, over all engines.

use super::numbers::*;
use super::torn::*;
use super::*;

dialtone_testkit::over_every_store! { "sms over a CQL server", [crate::SCHEMA], {
    an_sms_is_taken_once_and_queued_until_something_became_of_it
    of_processes_that_take_or_submit_the_same_sms_one_does
    a_receipt_finds_its_sms_and_counts_once
    results_stay_until_they_are_taken_each_kind_for_itself
    whoever_opted_out_is_out_until_it_is_undone
    the_text_and_the_numbers_go_when_the_operator_has_them
    what_is_to_be_done_is_found_page_by_page_and_hours_without_any_close
    what_is_past_its_time_is_swept_in_steps_behind_what_stays
    hours_that_are_past_are_swept
    a_number_belongs_to_one_user_for_each_phone_and_stays
    an_hour_has_so_many_sms_also_of_several_at_once_and_over_a_restart
    an_hour_with_many_sms_is_taken_in_portions_and_never_overdrawn
    a_queued_sms_that_was_never_taken_is_dropped_when_its_hour_is_over
    a_step_that_is_said_again_is_done_once
    what_follows_from_a_submit_is_done_by_whoever_finds_it_undone
    rows_that_stand_in_two_hours_of_the_queue_both_go
} }
