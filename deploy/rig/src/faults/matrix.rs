//! The table of faults.

use std::time::Duration;

use super::fault::{Fault, TimeBound, scaled};
use super::{
    aborts, kills, links, mass_reconnect, negative_control, out_of_space, redis_failover, restore, scaling,
    stalled_readers,
};
use crate::failure::{Failure, Result};
use crate::stack::{RedisMode, StackBuilder};
use crate::traffic::TrafficPlan;

/// Workers where they come and go.
const SCALED_WORKERS: usize = 4;
/// Subscribers that reconnect at once.
const RECONNECTING_CLIENTS: usize = 5_000;
/// Devices that follow all rooms and reconnect with them.
const RECONNECTING_DEVICES: usize = 10;
/// Messages a second while subscribers reconnect. Every message goes to hundreds of streams: more of them would be a test of the
/// machine.
const RECONNECTING_PER_S: f64 = 40.0;
/// Readers that read beside one in ten that does not.
const READERS: usize = 900;
/// Messages a second that these readers get.
const READERS_PER_S: f64 = 200.0;

/// The silence of a room after 99 of 100 kills of a worker must end within this time.
const SILENCE_P99: Duration = Duration::from_secs(3);
/// 99 of 100 planned hand-overs must end within this time.
const HAND_OVER_P99: Duration = Duration::from_millis(300);
/// Every message whose notification is lost must be shown within this time: two seconds, and what commit and delivery take anyway.
const SHOWN_WITHIN: Duration = Duration::from_millis(2_500);
/// Every message beside poison must be shown within this time.
const STOPS_AT_MOST: Duration = Duration::from_secs(1);

/// The fault with this code.
pub fn find(code: &str) -> Result<&'static Fault> {
    let found = MATRIX.iter().find(|fault| fault.code.eq_ignore_ascii_case(code.trim()));
    found.ok_or_else(|| Failure::new(format!("there is no fault {code}")))
}

/// What most rows have in common.
const USUAL: Fault = Fault {
    code: "",
    title: "",
    trials_required: 0,
    each: Duration::from_millis(650),
    needs: |stack| stack,
    load: |plan, _| plan,
    inject: |_, _| Box::pin(async { Ok(()) }),
    time_bound: TimeBound::Nothing,
};

/// All faults, in their order. Those that end in `s` concern an installation that answers a post when it is stored.
pub static MATRIX: [Fault; 23] = [
    Fault {
        code: "F1",
        title: "worker kill -9",
        trials_required: 200,
        inject: |run, count| Box::pin(kills::workers(run, count)),
        time_bound: TimeBound::Silence(SILENCE_P99),
        ..USUAL
    },
    Fault {
        code: "F1s",
        title: "worker kill -9, --ack stored",
        trials_required: 50,
        needs: acknowledging_stored,
        inject: |run, count| Box::pin(kills::workers(run, count)),
        ..USUAL
    },
    Fault {
        code: "F2",
        title: "gateway kill -9",
        trials_required: 200,
        inject: |run, count| Box::pin(kills::gateways(run, count)),
        ..USUAL
    },
    Fault {
        code: "F3",
        title: "Redis kill -9",
        trials_required: 100,
        each: Duration::from_millis(1_200),
        needs: StackBuilder::disks,
        inject: |run, count| Box::pin(kills::redis(run, count)),
        ..USUAL
    },
    Fault {
        code: "F3s",
        title: "Redis kill -9, --ack stored",
        trials_required: 30,
        each: Duration::from_millis(1_200),
        needs: |stack| acknowledging_stored(stack.disks()),
        inject: |run, count| Box::pin(kills::redis(run, count)),
        ..USUAL
    },
    Fault {
        code: "F4",
        title: "database kill -9",
        trials_required: 100,
        each: Duration::from_millis(3_500),
        needs: StackBuilder::disks,
        inject: |run, count| Box::pin(kills::database(run, count)),
        ..USUAL
    },
    Fault {
        code: "F5",
        title: "worker SIGSTOP",
        trials_required: 50,
        each: Duration::from_millis(3_800),
        inject: |run, count| Box::pin(kills::worker_pauses(run, count)),
        ..USUAL
    },
    Fault {
        code: "F6",
        title: "everything kill -9",
        trials_required: 30,
        each: Duration::from_secs(7),
        inject: |run, count| Box::pin(kills::everything(run, count)),
        ..USUAL
    },
    Fault {
        code: "F7",
        title: "links cut, blocked, slow",
        trials_required: 100,
        each: Duration::from_millis(4_300),
        needs: StackBuilder::links,
        inject: |run, count| Box::pin(links::cuts(run, count)),
        ..USUAL
    },
    Fault {
        code: "F8",
        title: "replies lost",
        trials_required: 1_000,
        each: Duration::from_millis(180),
        needs: StackBuilder::links,
        inject: |run, count| Box::pin(links::lost_replies(run, count)),
        ..USUAL
    },
    Fault {
        code: "F8s",
        title: "replies lost, --ack stored",
        trials_required: 200,
        each: Duration::from_millis(180),
        needs: |stack| acknowledging_stored(stack.links()),
        inject: |run, count| Box::pin(links::lost_replies(run, count)),
        ..USUAL
    },
    Fault {
        code: "F9",
        title: "disk full, Redis full",
        trials_required: 5,
        each: Duration::from_secs(35),
        needs: StackBuilder::disks,
        inject: |run, count| Box::pin(out_of_space::shortages(run, count)),
        ..USUAL
    },
    Fault {
        code: "F10",
        title: "notifications dropped",
        trials_required: 200,
        each: Duration::from_millis(510),
        needs: StackBuilder::links,
        inject: |run, count| Box::pin(links::dropped_notifications(run, count)),
        time_bound: TimeBound::Shown(SHOWN_WITHIN),
        ..USUAL
    },
    Fault {
        code: "F11",
        title: "replicas come and go",
        trials_required: 20,
        each: Duration::from_secs(11),
        needs: |stack| stack.workers(SCALED_WORKERS),
        inject: |run, count| Box::pin(scaling::cycles(run, count)),
        time_bound: TimeBound::Handover(HAND_OVER_P99),
        ..USUAL
    },
    Fault {
        code: "F12",
        title: "all streams cut at once",
        trials_required: 5,
        each: Duration::from_secs(15),
        needs: |stack| stack.links().logging_statements(),
        load: |plan, share| TrafficPlan {
            steady_per_room: scaled(RECONNECTING_CLIENTS, share) / plan.rooms,
            per_second: plan.per_second.min(RECONNECTING_PER_S),
            // They would read history themselves, and that would be counted.
            transient_readers: 0,
            rejoiners: 0,
            devices_per_user: RECONNECTING_DEVICES,
            devices_roam: false,
            ..plan.without_editors()
        },
        inject: |run, count| Box::pin(mass_reconnect::cut_all_streams(run, count)),
        ..USUAL
    },
    Fault {
        code: "F13",
        title: "readers that read nothing",
        trials_required: 100,
        each: Duration::from_millis(500),
        load: |plan, share| TrafficPlan {
            steady_per_room: scaled(READERS, share).div_ceil(plan.rooms),
            per_second: plan.per_second.min(READERS_PER_S),
            // What followers have replayed would count as memory of the readers.
            ..plan.without_editors()
        },
        inject: |run, count| Box::pin(stalled_readers::stall(run, count)),
        ..USUAL
    },
    Fault {
        code: "F14",
        title: "poison in the log",
        trials_required: 60,
        each: Duration::from_millis(500),
        inject: |run, count| Box::pin(links::poison(run, count)),
        time_bound: TimeBound::Shown(STOPS_AT_MOST),
        ..USUAL
    },
    Fault {
        code: "F15",
        title: "requests broken off",
        trials_required: 100_000,
        each: Duration::from_micros(1_200),
        inject: |run, count| Box::pin(aborts::aborts(run, count)),
        ..USUAL
    },
    Fault {
        code: "F16",
        title: "control: must lose",
        trials_required: 3,
        each: Duration::from_secs(12),
        needs: StackBuilder::disks,
        inject: |run, count| Box::pin(negative_control::lose_on_purpose(run, count)),
        time_bound: TimeBound::Loss,
        ..USUAL
    },
    Fault {
        code: "F17",
        title: "Sentinel failover, --ack stored",
        trials_required: 10,
        each: Duration::from_secs(20),
        needs: |stack| acknowledging_stored(stack.redis_mode(RedisMode::Sentinels)),
        inject: |run, count| Box::pin(redis_failover::sentinel_failovers(run, count)),
        ..USUAL
    },
    Fault {
        code: "F18",
        title: "Cluster master kill -9",
        trials_required: 30,
        each: Duration::from_secs(6),
        needs: |stack| stack.redis_mode(RedisMode::Cluster),
        inject: |run, count| Box::pin(redis_failover::cluster_master_kills(run, count)),
        ..USUAL
    },
    Fault {
        code: "F19",
        title: "database restored",
        trials_required: 6,
        each: Duration::from_secs(16),
        // What they do to rooms and members after the copy is undone with it.
        load: |plan, _| TrafficPlan {
            transient_readers: 0,
            rejoiners: 0,
            room_recreators: 0,
            ..plan
        },
        inject: |run, count| Box::pin(restore::restores(run, count)),
        ..USUAL
    },
    Fault {
        code: "F20",
        title: "gateway SIGSTOP",
        trials_required: 40,
        each: Duration::from_millis(2_500),
        inject: |run, count| Box::pin(kills::gateway_pauses(run, count)),
        ..USUAL
    },
];

fn acknowledging_stored(stack: StackBuilder) -> StackBuilder {
    stack.gateway("ACK", "stored")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_code_and_a_documented_row() {
        let page = include_str!("../../../docs/guarantees.md");
        let mut codes = HashSet::new();
        for fault in &MATRIX {
            assert!(codes.insert(fault.code), "{} twice", fault.code);
            assert!(page.contains(&format!("\n| {} |", fault.code)), "guarantees.md lacks {}", fault.code);
        }
    }

    #[test]
    fn whole_matrix_takes_about_two_hours_on_both_back_ends() {
        let one: Duration = MATRIX.iter().map(|fault| fault.planned(1.0)).sum();
        assert!(one * 2 <= Duration::from_mins(125), "{} minutes", one.as_secs() * 2 / 60);
    }
}
