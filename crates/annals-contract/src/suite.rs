//! The list of scenarios, and the macro that makes tests of them.

use super::{EventStore, PositionStore, SnapshotStore};

/// A scenario: its name, and a function that takes a new and empty backend.
pub type Scenario<B> = (&'static str, fn(&B));

/// A scenario that opens the same place several times. Each call of its argument opens it, after
/// what was opened before has been dropped.
pub type Place<B> = (&'static str, fn(&dyn Fn() -> B));

/// Makes tests of the scenarios: a module of this name, in it one for each kind, and in that a test
/// for each scenario.
///
/// The last argument is evaluated for each test, and must return a function that opens a backend.
/// It is called once, on a new place, and lives as long as the backend does, so a directory that it
/// owns stays. In the kind `durability` it is called several times, and must then open the same
/// place again.
///
/// | kind | is about | needs |
/// |---|---|---|
/// | `events` | streams, commits, queries | [`EventStore`](crate::EventStore) |
/// | `writers` | concurrent writers | the same |
/// | `editions` | timelines that diverge from the main one | the same |
/// | `durability` | what is there after a reopen | the same |
/// | `positions` | positions of handlers | [`PositionStore`](crate::PositionStore) |
/// | `edition_positions` | positions when an edition is deleted | both |
/// | `snapshots` | states of streams | [`SnapshotStore`](crate::SnapshotStore) |
/// | `large_snapshots` | one of 64 MiB: takes a second | the same |
///
/// ```
/// use annals::Store;
/// annals_contract::contract!(in_memory, [events, writers, editions], Store::in_memory);
/// annals_contract::contract!(directory, [events, writers, editions, durability], {
///     let dir = tempfile::tempdir().unwrap();
///     move || Store::open(dir.path()).unwrap()
/// });
/// ```
#[macro_export]
macro_rules! contract {
    ($name:ident, [$($kind:ident),+ $(,)?], $open:expr) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "what the place is made of stands around the macro, or in it")]
            use super::*;
            $($crate::each_scenario! { $kind, contract_tests, $kind, $open })+
        }
    };
}

/// Passes the names of the scenarios of a kind to another macro of this crate, after its arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! each_scenario {
    (events, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            events_come_back_in_order,
            content_comes_back_to_the_byte,
            a_mebibyte_comes_back,
            odd_roots_are_roots,
            streams_are_apart,
            nothing_is_read_where_nothing_is,
            ranges_limits_and_backwards,
            the_whole_store_in_order_of_positions,
            the_next_sequence_counts,
            a_stale_writer_is_refused,
            a_future_sequence_is_refused,
            a_gap_inside_a_call_is_refused_whole,
            a_repeat_inside_a_call_is_refused_whole,
            expectations_hold,
            an_append_of_nothing_changes_nothing,
            a_commit_of_several_streams_is_stored,
            a_commit_of_several_streams_is_refused_whole,
            as_of_a_position,
            as_of_a_time,
            a_repeated_key_stores_nothing,
            a_key_belongs_to_its_streams,
            the_key_of_a_refused_commit_is_free,
            queries_find_what_fits,
            correlated_events_come_by_stream,
        }
    };
    (writers, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            of_those_who_expect_the_same_one_wins,
            of_those_who_expect_nothing_all_win,
            of_racing_repeats_one_is_stored,
            racing_commits_of_several_streams_are_whole,
        }
    };
    (editions, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            main_has_two_names,
            an_edition_reads_as_main_until_it_diverges,
            the_first_event_sets_the_point,
            an_expectation_sets_the_point,
            nothing_diverges_beyond_main,
            an_edition_goes_on_like_any_stream,
            later_appends_to_main_do_not_show_through,
            main_sees_nothing_of_editions,
            editions_are_apart,
            ranges_limits_and_backwards_of_composites,
            diverging_at_reads_as_if,
            as_of_sees_what_had_diverged_by_then,
            folds_agree_with_reads,
            queries_see_main_unless_an_edition_is_named,
            queries_of_an_edition_see_the_composite,
            correlated_events_are_of_all_editions,
            keys_belong_to_their_edition,
            editions_are_listed,
            main_cannot_be_deleted,
            deleting_gives_back_main,
            deleting_one_domain_leaves_the_others,
            deleting_what_is_not_there_gives_0,
            positions_of_deleted_events_are_holes,
            deleted_events_are_not_found,
            deleted_editions_may_begin_again,
            appends_deletes_and_reads_race,
        }
    };
    (durability, $then:ident, $($given:tt)*) => {
        $crate::$then! { place $($given)*;
            events_are_there_after_a_reopen,
            keys_are_known_after_a_reopen,
            editions_diverge_where_they_did_after_a_reopen,
            what_was_deleted_stays_deleted,
        }
    };
    (positions, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            nothing_put_is_not_0,
            put_never_goes_back,
            reset_goes_back,
            any_sequence_can_be_put,
            handlers_are_apart,
            domains_are_apart,
            roots_are_apart,
            editions_are_apart,
            main_has_two_names,
            list_gives_all_of_a_handler,
            delete_forgets,
            racing_puts_leave_the_highest,
        }
    };
    (edition_positions, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            positions_go_with_their_edition,
            positions_go_with_their_domain,
        }
    };
    (snapshots, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            a_state_comes_back,
            a_hundred_kibibytes_come_back,
            none_is_no_error,
            the_latest_has_the_highest_sequence,
            at_gives_the_highest_not_above,
            at_a_time_gives_what_was_recorded_by_then,
            one_of_the_same_sequence_is_replaced,
            a_snapshot_needs_its_event,
            delete_takes_all_of_a_stream,
            a_newer_one_removes_transient_ones,
            persistent_ones_stay_and_keep_their_tag,
            the_newest_default_ones_stay,
            the_newest_is_never_removed,
            domains_are_apart,
            roots_are_apart,
            editions_are_apart,
            main_has_two_names,
            what_an_edition_shadows_is_not_used,
            snapshots_go_with_their_edition,
        }
    };
    (large_snapshots, $then:ident, $($given:tt)*) => {
        $crate::$then! { $($given)*;
            sixty_four_mebibytes_come_back,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($kind:ident, $open:expr; $($scenario:ident),+ $(,)?) => {
        mod $kind {
            #[allow(unused_imports, reason = "as above")]
            use super::*;
            $(#[test]
            fn $scenario() {
                let open = $open;
                $crate::$kind::$scenario(&open());
            })+
        }
    };
    (place $kind:ident, $open:expr; $($scenario:ident),+ $(,)?) => {
        mod $kind {
            #[allow(unused_imports, reason = "as above")]
            use super::*;
            $(#[test]
            fn $scenario() {
                let open = $open;
                $crate::$kind::$scenario(&open);
            })+
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_list {
    ($kind:ident; $($scenario:ident),+ $(,)?) => {
        vec![$((stringify!($scenario), $crate::$kind::$scenario::<B> as fn(&B))),+]
    };
    (place $kind:ident; $($scenario:ident),+ $(,)?) => {
        vec![$((stringify!($scenario), |open| $crate::$kind::$scenario(open))),+]
    };
}

/// The scenarios of the kinds `events` and `writers`, for other uses than tests.
pub fn of_events<B: EventStore>() -> Vec<Scenario<B>> {
    let mut scenarios: Vec<Scenario<B>> = each_scenario!(events, contract_list, events);
    scenarios.extend::<Vec<Scenario<B>>>(each_scenario!(writers, contract_list, writers));
    scenarios
}

/// The scenarios of the kind `editions`.
pub fn of_editions<B: EventStore>() -> Vec<Scenario<B>> {
    each_scenario!(editions, contract_list, editions)
}

/// The scenarios of the kind `durability`.
pub fn of_durability<B: EventStore>() -> Vec<Place<B>> {
    each_scenario!(durability, contract_list, durability)
}

/// The scenarios of the kind `positions`.
pub fn of_positions<B: PositionStore>() -> Vec<Scenario<B>> {
    each_scenario!(positions, contract_list, positions)
}

/// The scenarios of the kind `edition_positions`.
pub fn of_edition_positions<B: EventStore + PositionStore>() -> Vec<Scenario<B>> {
    each_scenario!(edition_positions, contract_list, edition_positions)
}

/// The scenarios of the kinds `snapshots` and `large_snapshots`.
pub fn of_snapshots<B: SnapshotStore>() -> Vec<Scenario<B>> {
    let mut scenarios: Vec<Scenario<B>> = each_scenario!(snapshots, contract_list, snapshots);
    scenarios.extend::<Vec<Scenario<B>>>(each_scenario!(large_snapshots, contract_list, large_snapshots));
    scenarios
}
