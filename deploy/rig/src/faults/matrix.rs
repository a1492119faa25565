//! The table of faults.

use std::time::Duration;

use super::{
    Demand, Fault, aborts, control, kills, links, readers, restore, scale, scaled, storage, storm, topologies,
};
use crate::stack::{Builder, Topology};
use crate::{Plan, Stack};

/// Gateways and workers of the matrix.
const GATEWAYS: usize = 2;
const WORKERS: usize = 3;
/// Workers where they come and go.
const SCALED_WORKERS: usize = 4;
/// Clients of a storm, and the messages a second that go on meanwhile. Every message goes to hundreds of streams: more of
/// them would be a test of the machine.
const STORM_CLIENTS: usize = 5_000;
const STORM_PER_S: f64 = 40.0;
/// Readers that read beside one in ten that does not, and the messages a second.
const READERS: usize = 900;
const READERS_PER_S: f64 = 200.0;

/// Demanded of 99 takeovers in 100.
const TAKEOVER_P99: Duration = Duration::from_secs(3);
/// Demanded of 99 planned hand-overs in 100.
const HAND_OVER_P99: Duration = Duration::from_millis(300);
/// Demanded of every message whose notification is lost: two seconds, and the time the commit and the way take anyway.
const SHOWN_WITHIN: Duration = Duration::from_millis(2_500);
/// Demanded of every message beside poison.
const STOPS_AT_MOST: Duration = Duration::from_secs(1);

/// A stack before a fault has its say.
pub(super) fn stack() -> Builder {
    Stack::builder().without_limits().gateways(GATEWAYS).workers(WORKERS)
}

/// What most rows have in common.
const USUAL: Fault = Fault {
    code: "",
    title: "",
    demanded: 0,
    each: Duration::from_millis(650),
    needs: |stack| stack,
    load: |plan, _| plan,
    strike: |_, _| Box::pin(async { Ok(()) }),
    demand: Demand::Nothing,
};

/// All faults, in their order. Those that end in `s` strike an installation that answers a post when it is stored.
pub static MATRIX: [Fault; 23] = [
    Fault {
        code: "F1",
        title: "worker kill -9",
        demanded: 200,
        strike: |field, count| Box::pin(kills::workers(field, count)),
        demand: Demand::Takeover(TAKEOVER_P99),
        ..USUAL
    },
    Fault {
        code: "F1s",
        title: "worker kill -9, --ack stored",
        demanded: 50,
        needs: acknowledging_what_is_stored,
        strike: |field, count| Box::pin(kills::workers(field, count)),
        ..USUAL
    },
    Fault {
        code: "F2",
        title: "gateway kill -9",
        demanded: 200,
        strike: |field, count| Box::pin(kills::gateways(field, count)),
        ..USUAL
    },
    Fault {
        code: "F3",
        title: "Redis kill -9",
        demanded: 100,
        each: Duration::from_millis(1_200),
        needs: Builder::disks,
        strike: |field, count| Box::pin(kills::redis(field, count)),
        ..USUAL
    },
    Fault {
        code: "F3s",
        title: "Redis kill -9, --ack stored",
        demanded: 30,
        each: Duration::from_millis(1_200),
        needs: |stack| acknowledging_what_is_stored(stack.disks()),
        strike: |field, count| Box::pin(kills::redis(field, count)),
        ..USUAL
    },
    Fault {
        code: "F4",
        title: "database kill -9",
        demanded: 100,
        each: Duration::from_millis(3_500),
        needs: Builder::disks,
        strike: |field, count| Box::pin(kills::database(field, count)),
        ..USUAL
    },
    Fault {
        code: "F5",
        title: "worker SIGSTOP",
        demanded: 50,
        each: Duration::from_millis(3_800),
        strike: |field, count| Box::pin(kills::pauses(field, count)),
        ..USUAL
    },
    Fault {
        code: "F6",
        title: "everything kill -9",
        demanded: 30,
        each: Duration::from_secs(7),
        strike: |field, count| Box::pin(kills::everything(field, count)),
        ..USUAL
    },
    Fault {
        code: "F7",
        title: "links cut, dark, slow",
        demanded: 100,
        each: Duration::from_millis(4_300),
        needs: Builder::links,
        strike: |field, count| Box::pin(links::cuts(field, count)),
        ..USUAL
    },
    Fault {
        code: "F8",
        title: "replies lost",
        demanded: 1_000,
        each: Duration::from_millis(180),
        needs: Builder::links,
        strike: |field, count| Box::pin(links::lost_replies(field, count)),
        ..USUAL
    },
    Fault {
        code: "F8s",
        title: "replies lost, --ack stored",
        demanded: 200,
        each: Duration::from_millis(180),
        needs: |stack| acknowledging_what_is_stored(stack.links()),
        strike: |field, count| Box::pin(links::lost_replies(field, count)),
        ..USUAL
    },
    Fault {
        code: "F9",
        title: "disk full, Redis full",
        demanded: 5,
        each: Duration::from_secs(35),
        needs: Builder::disks,
        strike: |field, count| Box::pin(storage::shortage(field, count)),
        ..USUAL
    },
    Fault {
        code: "F10",
        title: "notifications dropped",
        demanded: 200,
        each: Duration::from_millis(510),
        needs: Builder::links,
        strike: |field, count| Box::pin(links::dropped_notifications(field, count)),
        demand: Demand::Shown(SHOWN_WITHIN),
        ..USUAL
    },
    Fault {
        code: "F11",
        title: "copies come and go",
        demanded: 20,
        each: Duration::from_secs(11),
        needs: |stack| stack.workers(SCALED_WORKERS),
        strike: |field, count| Box::pin(scale::cycles(field, count)),
        demand: Demand::HandOver(HAND_OVER_P99),
        ..USUAL
    },
    Fault {
        code: "F12",
        title: "all streams cut at once",
        demanded: 5,
        each: Duration::from_secs(15),
        needs: |stack| stack.links().telling_statements(),
        load: |plan, share| Plan {
            steady_per_room: scaled(STORM_CLIENTS, share) / plan.rooms,
            per_second: plan.per_second.min(STORM_PER_S),
            // What they read of history they ask for: it would be counted.
            visitors: 0,
            returners: 0,
            ..plan
        },
        strike: |field, count| Box::pin(storm::storms(field, count)),
        ..USUAL
    },
    Fault {
        code: "F13",
        title: "readers that read nothing",
        demanded: 100,
        each: Duration::from_millis(500),
        load: |plan, share| Plan {
            steady_per_room: scaled(READERS, share).div_ceil(plan.rooms),
            per_second: plan.per_second.min(READERS_PER_S),
            ..plan
        },
        strike: |field, count| Box::pin(readers::stopped_readers(field, count)),
        ..USUAL
    },
    Fault {
        code: "F14",
        title: "poison in the log",
        demanded: 60,
        each: Duration::from_millis(500),
        strike: |field, count| Box::pin(links::poison(field, count)),
        demand: Demand::Shown(STOPS_AT_MOST),
        ..USUAL
    },
    Fault {
        code: "F15",
        title: "requests broken off",
        demanded: 100_000,
        each: Duration::from_micros(1_200),
        strike: |field, count| Box::pin(aborts::aborts(field, count)),
        ..USUAL
    },
    Fault {
        code: "F16",
        title: "control: must lose",
        demanded: 3,
        each: Duration::from_secs(12),
        needs: Builder::disks,
        strike: |field, count| Box::pin(control::lose_on_purpose(field, count)),
        demand: Demand::Loss,
        ..USUAL
    },
    Fault {
        code: "F17",
        title: "Sentinel failover, --ack stored",
        demanded: 10,
        each: Duration::from_secs(20),
        needs: |stack| acknowledging_what_is_stored(stack.topology(Topology::Sentinels)),
        strike: |field, count| Box::pin(topologies::failovers(field, count)),
        ..USUAL
    },
    Fault {
        code: "F18",
        title: "Cluster master kill -9",
        demanded: 30,
        each: Duration::from_secs(6),
        needs: |stack| stack.topology(Topology::Cluster),
        strike: |field, count| Box::pin(topologies::masters(field, count)),
        ..USUAL
    },
    Fault {
        code: "F19",
        title: "database restored",
        demanded: 6,
        each: Duration::from_secs(16),
        // What they did to rooms and members after the copy is undone with it.
        load: |plan, _| Plan {
            visitors: 0,
            returners: 0,
            landlords: 0,
            ..plan
        },
        strike: |field, count| Box::pin(restore::restores(field, count)),
        ..USUAL
    },
    Fault {
        code: "F20",
        title: "gateway SIGSTOP",
        demanded: 40,
        each: Duration::from_millis(2_500),
        strike: |field, count| Box::pin(kills::sleeping_gateways(field, count)),
        ..USUAL
    },
];

fn acknowledging_what_is_stored(stack: Builder) -> Builder {
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
    fn the_whole_matrix_takes_about_two_hours_on_both_back_ends() {
        let one: Duration = MATRIX.iter().map(|fault| fault.planned(1.0)).sum();
        assert!(one * 2 <= Duration::from_mins(125), "{} minutes", one.as_secs() * 2 / 60);
    }
}
