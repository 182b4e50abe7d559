//! The store: one suite over all engines, and what each can do alone.

mod contract;
mod cql;
mod faults;
mod folder;
mod memory;
mod secured;

/// Runs every case of the contract over a disk of memory, a slow one, and a folder; the first ones over a CQL server too.
macro_rules! suite {
    (everywhere { $($shared:ident)* } embedded { $($own:ident)* }) => {
        suite! { $($shared)* $($own)* }
        mod over_a_cql_server {
            $(#[tokio::test]
            async fn $shared() {
                let rooms = [crate::contract::ALPHA];
                let what = "the store over a CQL server";
                let Some(store) = dialtone_testkit::CqlStore::fresh(what, &rooms).await else { return };
                crate::contract::$shared(&store.open().await).await;
                store.remove().await;
            })*
        }
    };
    ($($case:ident)*) => {
        mod over_memory {
            $(#[tokio::test]
            async fn $case() {
                let disk = dialtone_store::MemoryDisk::new();
                crate::contract::$case(&dialtone_store::StoreUrl::memory(&disk)).await;
            })*
        }
        mod over_slow_memory {
            use std::time::Duration;
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                let delay = Duration::from_millis(1)..=Duration::from_millis(30);
                let disk = dialtone_store::MemoryDisk::with_delay(delay);
                crate::contract::$case(&dialtone_store::StoreUrl::memory(&disk)).await;
            })*
        }
        mod over_a_folder {
            $(#[tokio::test]
            async fn $case() {
                let folder = tempfile::TempDir::new().expect("a folder for the test");
                let url = dialtone_store::StoreUrl::Folder(folder.path().join("store"));
                crate::contract::$case(&url).await;
            })*
        }
    };
}

suite! {
    everywhere {
    a_new_store_has_nothing
    what_was_answered_is_there_after_reopening
    a_put_replaces
    a_delete_stays_deleted
    a_batch_spans_tables
    the_last_change_of_a_key_wins
    an_empty_value_is_a_value
    a_megabyte_comes_back
    a_maximum_only_grows
    maxima_of_a_group_all_count
    expect_absent_lets_only_the_first_pass
    expect_value_compares_the_whole_value
    what_one_condition_refuses_writes_nothing
    conditions_hold_before_the_batchs_own_changes
    a_call_that_is_dropped_hurts_nobody
    scans_keep_to_bounds_order_and_limit
    ranges_that_hold_nothing_are_empty
    prefixes_end_where_they_end
    tables_do_not_see_each_other
    an_unknown_table_is_named
    what_is_too_large_is_refused
    another_schema_is_refused_and_harms_nothing
    delete_range_drops_the_range_and_counts
    a_refused_batch_changes_none_of_its_rows
    a_condition_of_what_is_not_changed_counts_too
    what_is_not_one_partition_is_a_defect
    partitions_are_scanned_apart_and_walked_together
    of_a_few_that_claim_one_key_exactly_one_wins
    what_a_condition_removed_takes_no_place_in_a_page
    what_may_expire_is_there_meanwhile
    }
    embedded {
    of_a_group_that_claims_one_key_exactly_one_wins
    a_table_may_be_added
    maxima_merge_within_a_batch
    a_maximum_over_something_else_is_refused_whole
    a_group_counts_up_by_compare_and_swap
    commits_that_wait_share_a_group
    an_empty_batch_waits_for_those_before
    services_do_not_see_each_other
    each_opening_is_a_new_epoch
    after_the_stop_nothing_is_pretended
    }
}
