//! What every provider of the bus has to do, with real servers: one set of cases, run against each.
//! `./dev conformance` runs it and writes what came of it into docs/bus-conformance.md.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it wants, from the beginning to the end"
)]

mod cases;
mod servers;
mod table;
mod world;

/// Declares the cases, each as a test against each provider. `not` says of which a case cannot be
/// asked, and why.
macro_rules! conformance {
    ($($group:ident :: $case:ident: $title:literal $(, not $provider:ident: $why:literal)*;)+) => {
        /// All cases, in the order of the table.
        pub const CASES: &[table::Case] = &[$(table::Case {
            name: stringify!($case),
            title: $title,
            not: &[$((happening::config::Provider::$provider, $why)),*],
        }),+];

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let provider = happening::config::Provider::Redis;
                crate::table::run(provider, stringify!($case), crate::cases::$group::$case).await;
            })+
        }

        mod on_nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let provider = happening::config::Provider::Nats;
                crate::table::run(provider, stringify!($case), crate::cases::$group::$case).await;
            })+
        }

        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let provider = happening::config::Provider::Memory;
                crate::table::run(provider, stringify!($case), crate::cases::$group::$case).await;
            })+
        }
    };
}

conformance! {
    publish::a_batch_is_published_in_order: "A batch is published in order, over several streams";
    publish::oversized_ones_are_refused:
        "A message over the limit is refused, its neighbours are not";
    publish::a_second_copy_has_the_same_id:
        "A message that is published twice can be told by its id";
    publish::shards_are_streams_of_their_own: "Shards of a type are streams of their own";
    read::messages_come_in_order: "Messages come in order, whatever the size of a read";
    read::consumers_compete: "Consumers of a group share the messages, each goes to one";
    read::groups_do_not_compete: "Every group sees every message";
    read::a_late_group_sees_the_beginning: "A group that is created late sees the beginning";
    read::one_subscription_reads_many_streams:
        "One type, those of a pattern, or all are read at once";
    read::a_busy_stream_starves_none: "A busy stream does not starve the others";
    read::a_waiting_reader_holds_up_nobody: "A reader that waits holds up nobody, and is woken";
    retry::a_retry_comes_after_its_delay: "A retry comes after its delay, its neighbours before";
    retry::attempts_are_counted: "Attempts are counted";
    retry::a_retry_is_seen_to_be_late: "Reordered delivery shows in the positions";
    retry::a_waiting_retry_is_not_idle: "What waits for its retry is not claimed as idle";
    crash::what_a_crash_left_comes_again:
        "A crash between effect and acknowledgement: it comes again";
    crash::its_own_come_first: "A consumer that comes back is given first what it had",
        not Nats:
        "NATS does not know consumers by name: it comes to anybody, after `claim_idle_ms`";
    crash::idle_ones_are_claimed: "What a consumer lets lie goes to another one";
    crash::a_closed_reader_gives_back: "A reader that is closed gives back at once what it had";
    crash::a_dropped_read_loses_nothing: "A read that is given up half way loses nothing";
    keep::replay_begins_anywhere: "Replay from the start, a position or a time, for nobody's group";
    keep::lag_is_told: "Lag, pending, age and last position are told";
    keep::a_trim_keeps_what_is_not_acknowledged: "A trim keeps what a group has not acknowledged";
    keep::a_trim_keeps_by_time: "A trim keeps what is young";
    junk::foreign_junk_is_delivered: "Foreign junk is delivered once to be parked, neighbours flow",
        not Memory: "nobody else can put anything there";
    junk::a_flood_of_junk_is_bounded: "Long junk is cut, and not read all at once",
        not Memory: "nobody else can put anything there";
    broken::the_broker_is_killed: "The broker is killed and started again: what it confirmed comes",
        not Memory: "it ends with the process";
    broken::the_broker_is_paused: "The broker is paused: nobody hangs, nothing is lost",
        not Memory: "it ends with the process";
    broken::the_stream_is_deleted: "The stream is deleted under way: declared anew, and on it goes",
        not Memory: "nobody else can delete it";
    broken::the_group_is_deleted: "The group is deleted under way: it begins again at the start",
        not Memory: "nobody else can delete it";
    broken::the_stream_is_deleted_for_the_publisher:
        "Publishing to a deleted stream is told truthfully",
        not Memory: "nobody else can delete it";
    broken::entries_are_deleted: "Messages are deleted under way: the others flow, none hangs",
        not Memory: "nobody else can delete them";
    broken::the_scripts_are_forgotten: "The server forgets our scripts: nobody notices",
        not Nats: "it has none", not Memory: "it has none";
    broken::a_full_broker_takes_nothing: "A full broker says so, and can still be read",
        not Nats: "its limit is the disk: not tried", not Memory: "it has no limit";
    broken::health_is_told: "Health is told, without hanging",
        not Memory: "it is always well";
}
