//! The cases, over all engines.

use dialtone_chassis::Chassis;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_store::{MemoryDisk, StoreError, StoreUrl};
use dialtone_vocab::NodeId;
use tokio::sync::Semaphore;

use super::super::SCHEMA;

/// Times that a busy server is asked to make the tables.
const TRIES: usize = 20;

/// A keyspace that nobody else has, if there is a server. One is made at a time: servers make one table at a time anyway,
/// and who waits for that runs into a time-out.
async fn keyspace() -> Option<StoreUrl> {
    static ONE: Semaphore = Semaphore::const_new(1);
    let nodes = dialtone_testkit::cql_nodes("sms over a CQL server")?;
    let keyspace = format!("t{:016x}", Chassis::real(NodeId::new("test")).rng.u64());
    let (config, chassis) =
        (ScyllaConfig { nodes, keyspace, ..ScyllaConfig::default() }, Chassis::for_tests(1));
    let _turn = ONE.acquire().await.expect("open");
    for _ in 0..TRIES {
        match Scylla::migrate(&config, &[SCHEMA], 1, &chassis).await {
            Err(StoreError::Unreachable { .. } | StoreError::Unknown { .. }) => {}
            made => {
                made.expect("made");
                return Some(StoreUrl::Scylla(Scylla::open(&config).await.expect("opens")));
            }
        }
    }
    panic!("the server makes no tables");
}

macro_rules! suite {
    ($($from:ident: $($case:ident)*;)*) => {
        mod over_memory {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                super::super::$from::$case(&StoreUrl::memory(&MemoryDisk::new())).await;
            })*)*
        }
        mod over_a_folder {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                let folder = tempfile::TempDir::new().expect("a folder for the test");
                super::super::$from::$case(&StoreUrl::Folder(folder.path().join("store"))).await;
            })*)*
        }
        mod over_a_cql_server {
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                if let Some(url) = keyspace().await {
                    super::super::$from::$case(&url).await;
                }
            })*)*
        }
    };
}

suite! {
    itself:
        an_sms_is_taken_once_and_queued_until_something_became_of_it
        of_processes_that_take_or_submit_the_same_sms_one_does
        a_receipt_finds_its_sms_and_counts_once
        results_stay_until_they_are_taken_each_kind_for_itself
        whoever_opted_out_is_out_until_it_is_undone
        the_text_and_the_numbers_go_when_the_operator_has_them
        what_is_to_be_done_is_found_page_by_page_and_hours_without_any_close
        what_is_past_its_time_is_swept_in_steps_behind_what_stays
        hours_that_are_past_are_swept;
    numbers:
        a_number_belongs_to_one_user_for_each_phone_and_stays
        an_hour_has_so_many_sms_also_of_several_at_once_and_over_a_restart
        an_hour_with_many_sms_is_taken_in_portions_and_never_overdrawn;
    torn:
        a_queued_sms_that_was_never_taken_is_dropped_when_its_hour_is_over
        a_step_that_is_said_again_is_done_once
        what_follows_from_a_submit_is_done_by_whoever_finds_it_undone
        rows_that_stand_in_two_hours_of_the_queue_both_go;
}
